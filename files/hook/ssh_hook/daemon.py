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
from .process import Process
from .settings import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from signal import SIG_DFL, SIG_SETMASK, pthread_sigmask
    from signal import signal as set_signal

    from .container import Container
    from .namespaces import Cgroups
else:  # the C half of signal: its other half imports enum
    from _signal import SIG_DFL, SIG_SETMASK, pthread_sigmask
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
_ROOT_NEEDS = "CAP_SETGID"  # Dropbear, as root, sets the groups of whom it logs in


class Daemon:
    """What to run: the container it belongs to, its root directory, cgroups, /dev/null, Dropbear's options, and a pidfile
    to write beside Dropbear's own, or None.
    """

    def __init__(
        self, container: Container, root: int, cgroups: Cgroups, null: int, options: list[str], pidfile: int | None
    ) -> None:
        """Raises HookError for a limit or capability that the hook does not know, and where Dropbear could log nobody in."""
        self.container = container
        self.root = root
        self.cgroups = cgroups
        self.null = null
        self.pidfile = pidfile
        self.arguments = ["dropbear", "-F", "-e", *options, "-P", PIDFILE]
        self.limits = [(_limit(name), _size(soft), _size(hard)) for name, soft, hard in container.rlimits]
        self.kept = {_capability(name) for name in container.bounding or () if name != _WITHHELD}
        if container.uid == 0 and _capability(_ROOT_NEEDS) not in self.kept:
            raise HookError(
                f"the container runs as root without {_ROOT_NEEDS}, which the SSH daemon takes to log root in: "
                "add that capability, or run it as another user"
            )

    def spawn(self) -> Process:
        """Start the daemon in the pid namespace that is set for children.

        A process between, which ends at once, is its parent, so that the daemon falls to the first process of its own
        pid namespace: that could not end while one of its processes is another namespace's to reap.

        Raises HookError with what stopped it before it ran.
        """
        reader, writer = os.pipe()
        go_reader, go_writer = os.pipe()
        middle = os.fork()
        if middle == 0:
            try:
                os.close(go_writer)
                self._run(writer, go_reader)
            except Exception as error:
                os.write(writer, _problem(error).encode("utf-8", "backslashreplace"))
            finally:
                os._exit(0)
        os.close(writer)
        os.close(go_reader)
        os.waitpid(middle, 0)
        with open(reader, encoding="utf-8", errors="replace") as file:
            first = file.readline()
            if first[:-1].isdigit():
                process = Process(int(first))
                os.write(go_writer, b"g")
            problem = file.read() if first[:-1].isdigit() else first
        os.close(go_writer)
        if problem or not first:
            raise HookError(f"cannot start the SSH daemon: {problem or 'it was killed'}")
        return process

    def _run(self, writer: int, go: int) -> None:
        """Fork the daemon, which tells its pid, and becomes Dropbear when that process is held by its directory."""
        if self.cgroups.fork() == 0:
            os.write(writer, f"{os.readlink('/proc/self')}\n".encode())  # as the host's /proc numbers it
            if os.read(go, 1):
                self._become()

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


def wait_until_listening(process: Process, pidfile: int, port: int) -> None:
    """Return when the daemon has written its pidfile (open as `pidfile`), which it does once it listens.

    Raises HookError when it ends first or takes too long; then it is gone.
    """
    deadline = time.monotonic() + _START_TIMEOUT
    while os.fstat(pidfile).st_size == 0:
        if not process.is_alive():
            raise HookError(
                f"the SSH daemon ended at its start and does not listen on port {port}: try another by the annotation "
                "com.hooks.ssh.port, and see whether bin/dropbear in DROPBEAR_DIR runs on this node"
            )
        if time.monotonic() > deadline:
            process.kill()
            raise HookError(f"the SSH daemon does not listen on port {port} after {_START_TIMEOUT:.0f} s")
        time.sleep(_POLL)


def _problem(error: Exception) -> str:
    if not isinstance(error, OSError):
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)


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
    raise HookError(f"config.json: this hook does not know '{printable(name)}': upgrade ocihooks.ssh")
