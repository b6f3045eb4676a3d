# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook's work at createRuntime: an SSH server inside the container that is being made.

The hook itself stays on the host: it reads what belongs to the user as the user, keeps the record and reports. Its
child is a process of the container's pid namespace. It joins the rest of the container, starts the daemon, and ends, so
that nothing of the hook stays there, where even a zombie would keep the container from ending.
"""

from __future__ import annotations

import posix

from . import keystore, record, userfiles
from .confinement import Confinement, raise_own_limits
from .container import Container, State
from .errors import NO_MEMORY, HookError
from .identity import ActingAs, Identity
from .inside import Plan, start_inside
from .log import INFO, WARNING, log
from .namespaces import Cgroups, Namespaces
from .owner import find_owner
from .paths import is_same
from .process import Process
from .settings import Settings

_RECORDED = b"r"
_KILLED = (
    "the container could not be set up: the hook's child was killed; has the container ended, or is the node out of "
    "memory?"
)


def start(settings: Settings, state: State, container: Container, bundle: int, packages: list[str]) -> None:
    """Start the daemon of `container` and record it in its bundle, whose directory is open as `bundle`.

    `packages` are directories that hold pyroute2. Raises HookError; then nothing stays behind.
    """
    _require_own_mount_namespace(settings)
    raise_own_limits(container)
    process = _open_process(state.pid, settings)
    init = Process(state.pid) if settings.join else None  # at createContainer runc numbers it as the container does
    namespaces = Namespaces(process) if settings.join else None
    if namespaces is not None and not namespaces.has("mnt"):
        raise HookError("the container has no mount namespace of its own: what the hook mounts would stay on the host")
    owner = find_owner(
        container,
        process if namespaces is not None and namespaces.has("user") else None,
        settings.passwd_file,
    )
    log.stdout = userfiles.log_descriptor(container.annotations.log_stdout, owner.keeper, log.stdout)
    log.stderr = userfiles.log_descriptor(container.annotations.log_stderr, owner.keeper, log.stderr)
    directory = keystore.key_directory(settings.base_dir, owner.name)
    with ActingAs(owner.keeper):
        keys = keystore.load(directory, owner.name)
    authorized_keys = keys.authorized_keys.rstrip(b"\n") + b"\n"
    if container.annotations.authorize_ssh_key:
        authorized_keys += userfiles.read_public_keys(container.annotations.authorize_ssh_key, owner.keeper)
    child = _Child()
    plan = Plan(
        container,
        owner,
        keys,
        authorized_keys,
        init,
        namespaces,
        Cgroups(process, owner.rootless),
        Confinement(container, settings.require_seccomp, owner.state_directory),
        container.annotations.port or settings.port,
        settings.listen if _is_on_nodes_network(namespaces) else [],
        settings.dropbear_dir,
        settings.overlay,
        packages,
        child.tell,
        child.await_record,
    )
    if namespaces is not None:
        namespaces.join("pid")  # of the child
    child.run(plan)
    try:
        daemon = record.record_of(
            child.daemon(),
            init,
            owner.keeper,
            container.annotations.pidfile_host,
            bundle,
            record.directory_of_copies(owner.runner),
        )
        _keep(daemon, bundle, owner.keeper, child)
    except OSError as error:
        raise HookError(f"cannot record the SSH daemon in {state.bundle}: {error.strerror}") from None
    finally:
        child.end()
    log(INFO, f"the SSH daemon of {owner.name} listens on port {plan.port} (pid {daemon.pid})")


def _keep(daemon: record.Record, bundle: int, keeper: Identity, child: _Child) -> None:
    """Record the daemon, and have it started. Raises HookError and OSError; then there is no trace of it."""
    try:
        record.write(daemon, bundle)
        if daemon.pidfile_host:
            userfiles.write_pidfile(daemon.pidfile_host, daemon.pid, keeper)
        child.go_on()
    except BaseException:
        child.take_back()
        record.remove(bundle, daemon)
        if daemon.pidfile_host:
            userfiles.remove_pidfile(daemon.pidfile_host, daemon.pid, keeper)
        raise


def _require_own_mount_namespace(settings: Settings) -> None:
    """Without joining, the hook has to be in the container's mount namespace already, and not in the host's."""
    if settings.join:
        return
    try:
        ours, init = posix.stat("/proc/self/ns/mnt"), posix.stat("/proc/1/ns/mnt")
    except PermissionError:
        return  # not the host's root, so not in the host's mount namespace
    if is_same(ours, init):
        raise HookError(
            "JOIN_NAMESPACES is false, but the hook runs in the host's mount namespace: run it at createContainer, or "
            "set JOIN_NAMESPACES=true in the OCI hook's JSON file"
        )


def _is_on_nodes_network(namespaces: Namespaces | None) -> bool:
    if namespaces is not None:
        return not namespaces.has("net")
    try:
        return is_same(posix.stat("/proc/self/ns/net"), posix.stat("/proc/1/ns/net"))
    except PermissionError:
        return True  # a rootless engine: then the addresses have to be there


def _open_process(pid: int, settings: Settings) -> int:
    """The directory in /proc of the container's first process, or of the hook if that is in the container already."""
    if settings.join and pid == 0:
        raise HookError("the container's state names no process: the hook joins at the stage createRuntime")
    name = str(pid) if settings.join else "self"
    try:
        return posix.open(f"/proc/{name}", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError as error:
        raise HookError(f"cannot open the container's process in /proc/{name}: {error.strerror}") from None


class _Child:
    """The process that does the work inside of the container.

    It starts the daemon when the hook has recorded that. Whichever of the two ends, the other one ends the daemon where
    the start is not complete.
    """

    def __init__(self) -> None:
        self._reader, self._writer = posix.pipe()
        self._recorded_reader, self._recorded = posix.pipe()
        self._received = b""
        self._pid = 0
        self._daemon: Process | None = None

    def tell(self, kind: str, text: str) -> None:
        """Send a message from the child to the hook."""
        posix.write(self._writer, f"{kind} {text}\0".encode("utf-8", "backslashreplace"))

    def await_record(self) -> None:
        """In the child: return when the hook has recorded the daemon. Raises HookError where the hook is gone."""
        if posix.read(self._recorded_reader, 1) != _RECORDED:
            raise HookError("the hook was killed")

    def run(self, plan: Plan) -> None:
        """Fork, and do the work in the child. Raises HookError."""
        try:
            self._pid = posix.fork()
        except OSError as error:
            reason = error.strerror  # of an ended pid namespace that is "Cannot allocate memory"
            raise HookError(f"cannot start a process in the container: {reason}; has the container ended?") from None
        if self._pid == 0:
            posix.close(self._reader)
            posix.close(self._recorded)
            self._work(plan)
        posix.close(self._writer)
        posix.close(self._recorded_reader)

    def _work(self, plan: Plan) -> None:
        try:
            take_back = start_inside(plan)
            try:
                self.tell("started", "")
            except OSError:  # the hook is gone
                take_back()
        except HookError as error:
            self.tell("error", str(error))
        except MemoryError:
            self.tell("error", NO_MEMORY)
        except Exception as error:
            name = getattr(error, "filename", None)
            where = f" ({name})" if name else ""
            what = error.strerror if isinstance(error, OSError) else f"{error.__class__.__name__}: {error}"
            self.tell("error", f"cannot set the container up: {what}{where}")
        finally:
            posix._exit(0)

    def daemon(self) -> tuple[int, int, int, int]:
        """The identity that the daemon will have, which waits to be recorded: as Process.identity() gives it.

        Raises HookError with what the child says, or if it says nothing.
        """
        pid, start_time, device, inode = map(int, self._await("forked").split())
        try:
            process = Process(pid)
            if process.start_time() == start_time:
                self._daemon = process
        except OSError:
            pass  # it ended meanwhile, of which the child will tell
        return pid, start_time, device, inode

    def go_on(self) -> None:
        """Tell that the daemon is recorded, and return when it listens. Raises HookError as daemon() does."""
        try:
            posix.write(self._recorded, _RECORDED)
        except BrokenPipeError:
            pass  # the child has told why it ended
        self._await("started")

    def take_back(self) -> None:
        """End the daemon."""
        if self._daemon is not None:
            self._daemon.kill()

    def end(self) -> None:
        """Wait for the child, which does not go on where it is not told to."""
        posix.close(self._recorded)
        posix.waitpid(self._pid, 0)

    def _await(self, wanted: str) -> str:
        """The text of the child's next message of this kind."""
        while True:
            kind, _blank, text = self._next().partition(" ")
            if kind == wanted:
                return text
            if kind == "error":
                raise HookError(text)
            log(WARNING, text)

    def _next(self) -> str:
        while b"\0" not in self._received:
            more = posix.read(self._reader, 1 << 16)
            if not more:
                raise HookError(_KILLED)
            self._received += more
        message, _end, self._received = self._received.partition(b"\0")
        return message.decode("utf-8", "replace")
