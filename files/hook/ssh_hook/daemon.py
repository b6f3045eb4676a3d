# SPDX-License-Identifier: GPL-3.0-or-later
"""The SSH daemon: a process of the container's own, beside its first one."""

from __future__ import annotations

import posix
import time

from .content import DROPBEAR
from .entry import Entry
from .errors import HookError
from .paths import fsencode
from .process import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .inside import Plan

PROGRAM = f"{DROPBEAR}/bin/dropbear"
PIDFILE = f"{DROPBEAR}/dropbear.pid"
_START_TIMEOUT = 10.0  # seconds
_POLL = 0.0002  # seconds
_END = b"\0"  # of an order: an argument that is empty


class Daemon:
    """The daemon of the container that `plan` is about. Attributes: pidfile, a descriptor of a pidfile to write beside
    Dropbear's own, or None.
    """

    def __init__(self, plan: Plan) -> None:
        self.pidfile: int | None = None
        self._plan = plan
        self._pid = 0  # as the caller's pid namespace numbers it
        self._process: Process | None = None
        self._words = self._order = -1

    def fork(self) -> None:
        """Fork the daemon's process. Beside the caller's work it becomes all that Dropbear will be, and waits.

        The caller is a process of the daemon's pid namespace, so that the daemon falls to that one's first process when
        the caller ends: it could not end while one of its processes is another namespace's to reap. Until `run` the
        process ends with the caller.
        """
        self._words, writer = posix.pipe()
        reader, self._order = posix.pipe()
        self._pid = self._plan.cgroups.fork()
        if self._pid == 0:
            posix.close(self._order)
            self._become(writer, reader)
        posix.close(writer)
        posix.close(reader)

    def process(self) -> Process:
        """The daemon's process. Raises HookError with what kept it from telling its pid."""
        if self._process is None:
            pid = b""
            while not pid.endswith(b"\n"):
                more = posix.read(self._words, 1)
                if not more:
                    raise HookError(f"cannot start the SSH daemon: {pid.decode('utf-8', 'replace') or self._end()}")
                pid += more
            self._process = Process(int(pid))
        return self._process

    def run(self, options: list[str]) -> None:
        """Let the process run Dropbear. Raises HookError with what stopped it before that."""
        if self.pidfile is not None:
            posix.write(self.pidfile, b"%d\n" % self._pid)
        arguments = ["dropbear", "-F", "-e", *options, "-P", PIDFILE]
        try:
            posix.write(self._order, b"".join(fsencode(argument) + b"\0" for argument in arguments) + _END)
        except BrokenPipeError:
            pass  # it says why
        posix.close(self._order)
        with open(self._words, encoding="utf-8", errors="replace") as file:
            problem = file.read()
        if problem:
            raise HookError(f"cannot start the SSH daemon: {problem}")

    def take_back(self) -> None:
        """End the daemon, wherever its start has come to, and empty its pidfile."""
        if self._process is not None:
            self._process.kill()
        if self.pidfile is not None:
            posix.ftruncate(self.pidfile, 0)

    def wait_until_listening(self, pidfile: int, port: int) -> None:
        """Return when the daemon has written its pidfile (open as `pidfile`), which it does once it listens.

        Raises HookError when it ends first or takes too long.
        """
        deadline = time.monotonic() + _START_TIMEOUT
        while posix.fstat(pidfile).st_size == 0:
            if self._process is None or not self._process.is_alive():
                raise HookError(f"the SSH daemon does not listen on port {port}: {self._end()}")
            if time.monotonic() > deadline:
                raise HookError(f"the SSH daemon does not listen on port {port} after {_START_TIMEOUT:.0f} s")
            time.sleep(_POLL)

    def _end(self) -> str:
        """How the daemon, which has ended, came to that, and what to do."""
        _pid, status = posix.waitpid(self._pid, 0)
        if posix.WIFSIGNALED(status):
            return (
                f"it was killed by signal {posix.WTERMSIG(status)} at its start; are the container's limits too low for it "
                "(podman: --memory, --ulimit)?"
            )
        return (
            "it ended at its start; try another port by the annotation com.hooks.ssh.port, and see whether bin/dropbear in "
            "DROPBEAR_DIR runs on this node and the container's seccomp, AppArmor or SELinux profile allows a server"
        )

    def _become(self, writer: int, order: int) -> None:
        """In the new process: tell its pid, as the host's /proc numbers it; be confined; on order run Dropbear."""
        try:
            posix.write(writer, f"{posix.readlink('/proc/self')}\n".encode())
            self._plan.cgroups.enter()
            entry = Entry(self._plan.namespaces, self._plan.container.rootfs, self._plan.user)
            _detach(entry.null)
            if self._plan.namespaces is not None:
                self._plan.namespaces.join("time")
            self._plan.confinement.apply(entry.rootfs.descriptor)
            arguments = _read_order(order)
            if arguments:
                _execute(arguments, self._plan.container.environment)
        except Exception as error:
            posix.write(writer, _problem(error).encode("utf-8", "backslashreplace"))
        finally:
            posix._exit(0)


def _detach(null: int) -> None:
    """Leave the engine's session, and let no descriptor of the hook's get to Dropbear."""
    posix.setsid()
    for descriptor in (0, 1, 2):
        posix.dup2(null, descriptor)
    inherited = [int(name) for name in posix.listdir("/proc/self/fd") if int(name) > 2]
    for descriptor in inherited:
        try:
            posix.set_inheritable(descriptor, False)
        except OSError:
            pass  # the listing's own


def _read_order(descriptor: int) -> list[bytes]:
    """The arguments to run Dropbear with; none where who would give them has ended."""
    order = b""
    while not order.endswith(b"\0" + _END):
        more = posix.read(descriptor, 4096)
        if not more:
            return []
        order += more
    return order.split(b"\0")[:-2]


def _execute(arguments: list[bytes], environment: dict[str, str]) -> None:
    try:
        posix.execve(PROGRAM, arguments, environment)
    except PermissionError as error:
        raise HookError(
            f"{PROGRAM}: {error.strerror}: the container's AppArmor or SELinux profile, or the file system of "
            "DROPBEAR_DIR (noexec), does not allow it to run"
        ) from None
    except BlockingIOError:
        raise HookError("its user has more processes than the container's limit RLIMIT_NPROC") from None


def _problem(error: Exception) -> str:
    if not isinstance(error, OSError):
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
