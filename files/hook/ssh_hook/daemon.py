# SPDX-License-Identifier: GPL-3.0-or-later
"""The SSH daemon: a process of the container's own, beside its first one."""

from __future__ import annotations

import posix
import time

from .content import DROPBEAR
from .errors import HookError
from .process import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .confinement import Confinement
    from .namespaces import Cgroups, Namespaces

PROGRAM = f"{DROPBEAR}/bin/dropbear"
PIDFILE = f"{DROPBEAR}/dropbear.pid"
_START_TIMEOUT = 10.0  # seconds
_POLL = 0.0005  # seconds


class Daemon:
    """What to run, and where: Dropbear's options, its environment, and descriptors of the root directory, of /dev/null, and
    of a pidfile to write beside Dropbear's own, or None.
    """

    def __init__(
        self,
        options: list[str],
        environment: dict[str, str],
        root: int,
        null: int,
        pidfile: int | None,
        confinement: Confinement,
        cgroups: Cgroups,
        namespaces: Namespaces | None,
    ) -> None:
        self.arguments = ["dropbear", "-F", "-e", *options, "-P", PIDFILE]
        self.environment = environment
        self.root = root
        self.null = null
        self.pidfile = pidfile
        self.confinement = confinement
        self.cgroups = cgroups
        self.namespaces = namespaces
        self._process: Process | None = None
        self._pid = 0  # as the caller's pid namespace numbers it

    def spawn(self, announce: Callable[[Process], None]) -> Process:
        """Start the daemon. `announce` hears of the process before it is more than a waiting copy of the caller, which ends
        with the caller.

        The caller is a process of the daemon's pid namespace, so that the daemon falls to that one's first process when
        the caller ends: it could not end while one of its processes is another namespace's to reap.

        Raises HookError with what stopped it before it ran.
        """
        reader, writer = posix.pipe()
        go_reader, go_writer = posix.pipe()
        self._pid = self.cgroups.fork()
        if self._pid == 0:
            try:
                posix.close(go_writer)
                self._run(writer, go_reader)
            except Exception as error:
                posix.write(writer, _problem(error).encode("utf-8", "backslashreplace"))
            finally:
                posix._exit(0)
        posix.close(writer)
        posix.close(go_reader)
        with open(reader, encoding="utf-8", errors="replace") as file:
            first = file.readline()
            if first[:-1].isdigit():
                process = self._process = Process(int(first))
                announce(process)
                posix.write(go_writer, b"g")
            problem = file.read() if first[:-1].isdigit() else first
        posix.close(go_writer)
        if problem or not first:
            raise HookError(f"cannot start the SSH daemon: {problem or self._end()}")
        return process

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

    def _run(self, writer: int, go: int) -> None:
        """Tell the pid, as the host's /proc numbers it, and become Dropbear when the caller holds this process's directory."""
        self.cgroups.enter()
        posix.write(writer, f"{posix.readlink('/proc/self')}\n".encode())
        if posix.read(go, 1):
            self._become()

    def _become(self) -> None:
        posix.setsid()
        for descriptor in (0, 1, 2):
            posix.dup2(self.null, descriptor)
        inherited = [int(name) for name in posix.listdir("/proc/self/fd") if int(name) > 2]
        for descriptor in inherited:
            try:
                posix.set_inheritable(descriptor, False)
            except OSError:
                pass  # the listing's own
        if self.namespaces is not None:
            self.namespaces.join("time")  # here, so that the hook reads start times on the host's clock
        if self.pidfile is not None:
            posix.write(self.pidfile, b"%d\n" % posix.getpid())
        self.confinement.apply(self.root)
        try:
            posix.execve(PROGRAM, self.arguments, self.environment)
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
