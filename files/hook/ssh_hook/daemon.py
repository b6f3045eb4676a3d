# SPDX-License-Identifier: GPL-3.0-or-later
"""Start Dropbear as the container's own process would run: its root, ids, limits, capabilities, and environment."""

from __future__ import annotations

import os
import resource
import time

from . import linux
from .content import DROPBEAR
from .errors import HookError
from .identity import set_groups
from .settings import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from signal import SIG_DFL, SIG_SETMASK, SIGKILL, pthread_sigmask
    from signal import signal as set_signal

    from .container import Container
    from .namespaces import Cgroups
else:  # the C half of signal: its other half imports enum
    from _signal import SIG_DFL, SIG_SETMASK, SIGKILL, pthread_sigmask
    from _signal import signal as set_signal

PROGRAM = f"{DROPBEAR}/bin/dropbear"
PIDFILE = f"{DROPBEAR}/dropbear.pid"
_START_TIMEOUT = 10.0  # seconds
_POLL = 0.0005  # seconds
_INFINITE = 2**63  # limits from here on are RLIM_INFINITY
_LAST_SIGNAL = 64
_LAST_CAPABILITY = 63

# setrlimit(2); include/uapi/asm-generic/resource.h
_LIMITS = """
CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME
"""
# capabilities(7); include/uapi/linux/capability.h
_CAPABILITIES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
# Until the runtime pivots, some milliseconds after the daemon's start, only a chroot keeps a session from the host's tree.
_WITHHELD = "CAP_SYS_CHROOT"


class Daemon:
    """What to run: the container it belongs to, its root directory, cgroups, /dev/null, Dropbear's options, and a pidfile
    to write beside Dropbear's own, or None.
    """

    def __init__(
        self, container: Container, root: int, cgroups: Cgroups, null: int, options: list[str], pidfile: int | None
    ) -> None:
        """Raises HookError for a limit or capability that the kernel does not have."""
        self.container = container
        self.root = root
        self.cgroups = cgroups
        self.null = null
        self.pidfile = pidfile
        self.arguments = ["dropbear", "-F", "-e", *options, "-P", PIDFILE]
        self.limits = [(_limit(name), _size(soft), _size(hard)) for name, soft, hard in container.rlimits]
        self.kept = {_capability(name) for name in container.bounding or () if name != _WITHHELD}

    def spawn(self) -> int:
        """Start the daemon in the pid namespace that is set for children; returns its pid as the caller sees it.

        Raises HookError with what stopped it before it ran.
        """
        reader, writer = os.pipe()
        caller = os.getpid()
        try:
            pid = self.cgroups.fork()
            if pid == 0:
                self._become()
        except Exception as error:
            if os.getpid() == caller:
                raise
            os.write(writer, _problem(error).encode("utf-8", "backslashreplace"))
        finally:
            if os.getpid() != caller:
                os._exit(127)  # a child must never return into its parent's code
        os.close(writer)
        with open(reader, encoding="utf-8") as file:
            problem = file.read()
        if problem:
            os.waitpid(pid, 0)
            raise HookError(f"cannot start the SSH daemon: {problem}")
        return pid

    def _become(self) -> None:
        container = self.container
        os.setsid()
        for descriptor in (0, 1, 2):
            os.dup2(self.null, descriptor)
        inherited = [int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2]
        for descriptor in inherited:
            try:
                os.set_inheritable(descriptor, False)
            except OSError:
                pass  # the listing's own
        set_groups(container.groups)
        os.fchdir(self.root)
        os.chroot(".")
        for number, soft, hard in self.limits:
            resource.setrlimit(number, (soft, hard))
        self._drop_capabilities()
        os.setresgid(container.gid, container.gid, container.gid)
        os.setresuid(container.uid, container.uid, container.uid)
        if container.no_new_privileges:
            linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
        for number in range(1, _LAST_SIGNAL + 1):
            try:
                set_signal(number, SIG_DFL)
            except (OSError, ValueError):
                pass  # SIGKILL, SIGSTOP, and what the C library keeps for itself
        pthread_sigmask(SIG_SETMASK, [])
        os.umask(container.umask)
        if self.pidfile is not None:
            os.write(self.pidfile, b"%d\n" % os.getpid())
        os.execve(PROGRAM, self.arguments, container.environment)

    def _drop_capabilities(self) -> None:
        for number in range(_LAST_CAPABILITY + 1):
            try:
                present = linux.prctl(linux.PR_CAPBSET_READ, number)
            except OSError:
                break  # the kernel's last was the one before
            if present and number not in self.kept:
                linux.prctl(linux.PR_CAPBSET_DROP, number)
        effective, permitted, _inheritable = linux.capget()
        linux.capset(effective, permitted, 0)


def wait_until_listening(pid: int, pidfile: int, port: int) -> None:
    """Return when the child `pid` has written its pidfile (open as `pidfile`), which it does once it listens.

    Raises HookError when it ends first or takes too long; then it is gone.
    """
    deadline = time.monotonic() + _START_TIMEOUT
    while os.fstat(pidfile).st_size == 0:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            raise HookError(
                f"the SSH daemon ended at its start ({_describe(status)}) and does not listen on port {port}"
            )
        if time.monotonic() > deadline:
            os.kill(pid, SIGKILL)
            os.waitpid(pid, 0)
            raise HookError(f"the SSH daemon does not listen on port {port} after {_START_TIMEOUT:.0f} s")
        time.sleep(_POLL)


def _problem(error: Exception) -> str:
    if not isinstance(error, OSError):
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)


def _describe(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return f"exit status {os.WEXITSTATUS(status)}"


def _limit(name: str) -> int:
    return _number(name, "RLIMIT_", _LIMITS)


def _size(value: int) -> int:
    return resource.RLIM_INFINITY if value >= _INFINITE else value


def _capability(name: str) -> int:
    return _number(name, "CAP_", _CAPABILITIES)


def _number(name: str, prefix: str, names: str) -> int:
    known = names.split()
    if name.startswith(prefix) and name[len(prefix) :] in known:
        return known.index(name[len(prefix) :])
    raise HookError(f"config.json: this hook does not know '{printable(name)}'")
