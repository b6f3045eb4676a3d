# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages at which an OCI runtime calls the hook to start a daemon: how the hook finds the container at each."""

from __future__ import annotations

from ..errors import CONTAINER_UNFIT, SETTING_WRONG, SYSTEM, ContainerEndedError, HookError
from ..fast_stdlib import TYPE_CHECKING, os
from ..linux.files import is_same
from ..linux.namespaces import Namespaces, is_in_hosts_network
from ..linux.process import Process
from ..linux.root_mount import OuterMounts
from ..node.door import no_door

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..node.door import Door
    from .basis import Basis


class CreateRuntime:
    """The stage createRuntime: the hook is on the node, and joins the container (JOIN_NAMESPACES=true).

    Attributes:
        process: the open directory in /proc of a process in the container's namespaces.
        init: the container's first process, before its first execve(2).
        namespaces: those to join.
        has_own_network: whether the container's network namespace differs from the node's.
    """

    def __init__(self, pid: int) -> None:
        """Open the first process, whose pid is in the state. Raises HookError."""
        if pid == 0:
            raise HookError(
                CONTAINER_UNFIT, "the container's state names no process: the hook joins at the stage createRuntime"
            )
        self.process = _open_proc_directory(str(pid))
        self.namespaces = Namespaces(self.process)
        if not self.namespaces.has("mnt"):
            raise HookError(
                CONTAINER_UNFIT,
                "the container has no mount namespace of its own: what the hook mounts would stay on the host",
            )
        self.init = _started_by_runtime(pid)
        self.has_own_network = self.namespaces.has("net")

    def outside(self) -> OuterMounts | None:
        """Return the mount namespace from which the container's was cloned; None if the hook may not read it."""
        return OuterMounts()

    def make_door(self, basis: Basis) -> Door:
        """Make the door for the owner. Raises OSError and HookError."""
        return basis.make_door(basis.owner.file_owner.uid)


class CreateContainer:
    """The stage createContainer: the hook is in the container (JOIN_NAMESPACES=false).

    Attributes: as of CreateRuntime; there are no namespaces to join.
    """

    def __init__(self) -> None:
        """Find the first process, above the hook. Raises HookError."""
        _require_own_mount_namespace()
        self.process = _open_proc_directory("self")
        self.namespaces = Namespaces(None)
        self.init = _above_hook()
        self.has_own_network = not is_in_hosts_network()

    def outside(self) -> OuterMounts | None:
        """Return the mount namespace of the runtime, the parent of `init`; None if the hook may not read it."""
        try:
            return OuterMounts(Process(self.init.parent()))
        except OSError:
            return None

    def make_door(self, _basis: Basis) -> Door:
        """Return that there is none: in the container's mount namespace, paths are the container's."""
        return no_door("JOIN_NAMESPACES is false")


def _started_by_runtime(pid: int) -> Process:
    """Return the process `pid`, before its first execve(2). Raises HookError."""
    return _before_exec(
        lambda: Process(pid),
        f"the container's first process (pid {pid}) already runs a program: call the hook at the stage "
        "createRuntime, or with JOIN_NAMESPACES=false at createContainer",
    )


def _above_hook() -> Process:
    """Return the outermost ancestor of the hook in the container's mount namespace, before its first execve(2).

    It runs the hook, perhaps through another program. The state may have its pid in the container's pid namespace,
    or no pid. Raises HookError.
    """
    return _before_exec(
        _outermost_ancestor,
        "JOIN_NAMESPACES is false, but the hook was not called by a container's first process: run it at "
        "createContainer",
    )


def _outermost_ancestor() -> Process:
    process = Process(int(os.readlink("/proc/self")))
    namespace = process.mount_namespace()
    while (parent := process.parent()) > 0 and (ancestor := Process(parent)).mount_namespace() == namespace:
        process = ancestor
    return process


def _before_exec(find: Callable[[], Process], problem: str) -> Process:
    """Return the process that `find` returns. Raises HookError, with the text `problem` if it has called execve(2)."""
    try:
        process = find()
        if process.is_before_exec():
            return process
    except (FileNotFoundError, ProcessLookupError):
        raise ContainerEndedError() from None
    raise HookError(SETTING_WRONG, problem)


def _require_own_mount_namespace() -> None:
    """Raise HookError if the hook is in the host's mount namespace."""
    try:
        ours, init = os.stat("/proc/self/ns/mnt"), os.stat("/proc/1/ns/mnt")
    except (PermissionError, FileNotFoundError):  # the latter with hidepid
        return  # only the host's root can be in the host's mount namespace
    if is_same(ours, init):
        raise HookError(
            SETTING_WRONG,
            "JOIN_NAMESPACES is false, but the hook runs in the host's mount namespace: run it at createContainer, or "
            "set JOIN_NAMESPACES=true in the OCI hook's JSON file",
        )


def _open_proc_directory(name: str) -> int:
    """Open a directory in /proc. Raises HookError."""
    try:
        return os.open(f"/proc/{name}", os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise HookError(SYSTEM, f"cannot open the container's process in /proc/{name}: {error.strerror}") from None
