# SPDX-License-Identifier: GPL-3.0-or-later
"""The SSH daemon: a process of the container's own, beside its first one."""

from __future__ import annotations

import posix

from .confinement import Confinement
from .entry import Entry
from .errors import HookError
from .paths import fsencode
from .port import require_free
from .process import Process
from .restrictions import Restrictions
from .watch import end_in_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .target import Target

_END = b"\0"  # of an order: an argument that is empty


class Daemon:
    """The daemon of a container, until its program runs. Attributes: pidfile, a descriptor of a pidfile to write beside Dropbear's
    own, or None; words, a descriptor of what the process has to say, which ends when its program runs.
    """

    def __init__(self, target: Target, warn: Callable[[str], None]) -> None:
        """`warn` takes a message. The object is made in the hook: what a forked process changes, it has to copy first."""
        self.pidfile: int | None = None
        self._target = target
        self._warn = warn
        self._pid = 0  # as the caller's pid namespace numbers it
        self._process: Process | None = None
        self.words, self._writer = posix.pipe()
        self._reader, self._order = posix.pipe()

    def fork(self) -> None:
        """Fork the daemon's process. Beside the caller's work it becomes all that Dropbear will be, and waits.

        The caller is a process of the daemon's pid namespace, so that the daemon falls to that one's first process when
        the caller ends: it could not end while one of its processes is another namespace's to reap. Until `run` the
        process ends with the caller.
        """
        self._pid = self._target.cgroups.fork()
        if self._pid == 0:
            posix.close(self._order)
            self._become()
        posix.close(self._writer)
        posix.close(self._reader)

    def leave(self) -> None:
        """In the hook: let go of all but `words`."""
        for descriptor in (self._writer, self._reader, self._order):
            posix.close(descriptor)

    def process(self) -> Process:
        """The daemon's process. Raises HookError with what kept it from telling its pid."""
        if self._process is None:
            self._process = Process(int(self._line()))
        return self._process

    def require_startable(self) -> None:
        """Return when the process knows that the port is free, and that it can be confined as the container is.

        Raises HookError.
        """
        self._line()

    def run(self, program: str, options: list[str]) -> None:
        """Let the process run Dropbear."""
        if self.pidfile is not None:
            posix.write(self.pidfile, b"%d\n" % self._pid)
        arguments = [program, "dropbear", "-F", "-e", *options]
        try:
            posix.write(self._order, b"".join(fsencode(argument) + b"\0" for argument in arguments) + _END)
        except BrokenPipeError:
            pass  # it says why

    def take_back(self) -> None:
        """End the daemon, wherever its start has come to, and empty its pidfile."""
        if self._process is not None:
            self._process.kill()
        if self.pidfile is not None:
            posix.ftruncate(self.pidfile, 0)

    def _line(self) -> str:
        """The next line that the process writes, which may be empty; HookError with what it says where it gives up."""
        line = b""
        while not line.endswith(b"\n"):
            more = posix.read(self.words, 1)
            if not more:
                _pid, status = posix.waitpid(self._pid, 0)
                raise HookError(
                    line.decode("utf-8", "replace") or f"cannot start the SSH daemon: {end_in_words(status)}"
                )
            line += more
        return line.decode()

    def _become(self) -> None:
        """In the new process: tell its pid, as the host's /proc numbers it; be confined; on order run Dropbear."""
        try:
            posix.write(self._writer, f"{posix.readlink('/proc/self')}\n".encode())
            target, container, namespaces = self._target, self._target.container, self._target.namespaces
            _adjust_oom_score(container.oom_score_adj)
            state_directory = target.engine.state_directory
            confinement = Confinement(
                container, target.labels, target.settings.require_seccomp, state_directory, self._warn
            )
            target.cgroups.open()
            if namespaces is not None:
                namespaces.join_unrooted()
            require_free(target.port, target.listen, target.user, target.packages)
            posix.write(self._writer, b"\n")
            target.cgroups.enter()
            entry = Entry(target)
            Restrictions(container, entry, target.labels.mount_context).apply(in_kernel=True)
            if namespaces is not None:
                namespaces.join("time")  # here, so that its start time is on the host's clock
            _detach(entry.null, {self._writer, self._reader, entry.rootfs.descriptor})
            confinement.apply(entry.rootfs.descriptor)
            arguments = _read_order(self._reader)
            if arguments:
                _execute(arguments, container.environment)
        except Exception as error:
            posix.write(self._writer, _problem(error).encode("utf-8", "backslashreplace"))
        finally:
            posix._exit(0)


def _adjust_oom_score(score: int | None) -> None:
    if score is None:
        return
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="utf-8") as file:
            file.write(str(score))
    except PermissionError:
        pass  # lowering takes a right that an engine without root lacks; the session is killed the sooner


def _detach(null: int, kept: set[int]) -> None:
    """Leave the engine's session, and let go of all descriptors but those `kept`: some lead to the host."""
    posix.setsid()
    for descriptor in (0, 1, 2):
        posix.dup2(null, descriptor)
    inherited = {int(name) for name in posix.listdir("/proc/self/fd")}
    for descriptor in inherited - kept - {0, 1, 2}:
        try:
            posix.close(descriptor)
        except OSError:
            pass  # the listing's own
    for descriptor in kept:
        posix.set_inheritable(descriptor, False)


def _read_order(descriptor: int) -> list[bytes]:
    """The program to run and its arguments; none where who would tell has ended."""
    order = b""
    while not order.endswith(b"\0" + _END):
        more = posix.read(descriptor, 4096)
        if not more:
            return []
        order += more
    return order.split(b"\0")[:-2]


def _execute(order: list[bytes], environment: dict[str, str]) -> None:
    program, *arguments = order
    try:
        posix.execve(program, arguments, environment)
    except PermissionError as error:
        raise HookError(
            f"{program.decode()}: {error.strerror}: the container's AppArmor or SELinux profile, or the file system of "
            "DROPBEAR_DIR (noexec), does not allow it to run"
        ) from None
    except BlockingIOError:
        raise HookError("its user has more processes than the container's limit RLIMIT_NPROC") from None


def _problem(error: Exception) -> str:
    if not isinstance(error, OSError):
        return str(error)
    name = error.filename.decode() if isinstance(error.filename, bytes) else error.filename
    return f"{name}: {error.strerror}" if name else str(error.strerror)
