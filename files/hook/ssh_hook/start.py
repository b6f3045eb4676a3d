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
from .errors import CONTAINER_ENDED, NO_MEMORY, HookError
from .identity import ActingAs, Identity
from .inside import Plan, start_inside
from .log import INFO, WARNING, log
from .namespaces import Cgroups, Namespaces
from .owner import find_owner
from .paths import is_same
from .process import Process
from .settings import Settings

_KEEP = b"k"
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
        namespaces,
        Cgroups(process, owner.rootless),
        Confinement(container, settings.require_seccomp, owner.state_directory),
        container.annotations.port or settings.port,
        settings.listen if _is_on_nodes_network(namespaces) else [],
        settings.dropbear_dir,
        settings.overlay,
        packages,
        child.tell,
    )
    if namespaces is not None:
        namespaces.join("pid")  # of the child
    child.run(plan)
    try:
        identity = child.daemon()
        if init is not None and not init.is_alive():
            raise HookError(CONTAINER_ENDED)
        daemon = record.record_of(
            identity,
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
    """Record the daemon and let it go on. Raises HookError and OSError; then there is no trace of it."""
    try:
        record.write(daemon, bundle)
        if daemon.pidfile_host:
            userfiles.write_pidfile(daemon.pidfile_host, daemon.pid, keeper)
        child.release()
    except BaseException:
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
    """The process that does the work inside of the container, and then waits until the hook has recorded the daemon.

    Whatever becomes of either, a daemon that is not released ends: each of them sees to that.
    """

    def __init__(self) -> None:
        self._reader, self._writer = posix.pipe()
        self._wait, self._release = posix.pipe()
        self._pid = 0
        self._spawned: list[int] = []  # pid and start time of the daemon
        self._is_released = False

    def tell(self, kind: str, text: str) -> None:
        """Send a message from the child to the hook."""
        posix.write(self._writer, f"{kind} {text}\0".encode("utf-8", "backslashreplace"))

    def run(self, plan: Plan) -> None:
        """Fork, and do the work in the child. Raises HookError."""
        try:
            self._pid = posix.fork()
        except OSError as error:
            reason = error.strerror  # of an ended pid namespace that is "Cannot allocate memory"
            raise HookError(f"cannot start a process in the container: {reason}; has the container ended?") from None
        if self._pid == 0:
            posix.close(self._release)
            self._work(plan)
        posix.close(self._writer)
        posix.close(self._wait)

    def _work(self, plan: Plan) -> None:
        try:
            process, take_back = start_inside(plan)
            try:
                self.tell("started", " ".join(map(str, process.identity())))
                posix.close(self._writer)
                is_kept = posix.read(self._wait, 1) == _KEEP
            except OSError:
                is_kept = False
            if not is_kept:
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
        """The daemon's identity. Raises HookError with what the child says, or if it says nothing."""
        with open(self._reader, encoding="utf-8", errors="replace") as file:
            messages = file.read().split("\0")[:-1]
        for message in messages:
            kind, _blank, text = message.partition(" ")
            if kind == "warning":
                log(WARNING, text)
            elif kind == "error":
                raise HookError(text)
            elif kind == "spawned":
                self._spawned = [int(number) for number in text.split()]
            else:
                pid, start_time, device, inode = map(int, text.split())
                return pid, start_time, device, inode
        raise HookError(_KILLED)

    def release(self) -> None:
        """Let the daemon go on for good. Raises HookError where the child is gone."""
        try:
            posix.write(self._release, _KEEP)
        except BrokenPipeError:
            raise HookError(_KILLED) from None
        self._is_released = True

    def end(self) -> None:
        """Wait for the child. The daemon ends, unless it was released."""
        posix.close(self._release)
        if self._spawned and not self._is_released:
            pid, start_time = self._spawned
            try:
                process = Process(pid)
                if process.start_time() == start_time:
                    process.kill()
            except OSError:
                pass  # it ended meanwhile
        posix.waitpid(self._pid, 0)
