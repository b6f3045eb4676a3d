# SPDX-License-Identifier: GPL-3.0-or-later
"""`ssh_hook attach`: start an SSH daemon in one of the caller's running containers.

The processes are those of a start, and do nearly the same. The supervisor does the hook's part, also outside the
container, but keeps running: it ends the daemon with the process that it was attached to. The provisioner joins the
container before it forks the daemon. None of them is root.

A process in the container cannot trace them: they are not dumpable, and Python was executed in the node's user
namespace, over which a container's root has no capability. They keep the node's root directory until they are confined
like the container, so /proc is the node's, and no path leads through the container by accident.
"""

from __future__ import annotations

from ..confine.lsm import label_of
from ..confine.process_scheduling import ProcessScheduling
from ..errors import ATTACH_REFUSED, IMAGE_UNFIT, HookError, describe_failure, printable
from ..linux import syscalls, user_namespaces
from ..linux.fast_stdlib import TYPE_CHECKING, closing, fsdecode, os, signal
from ..linux.files import is_same
from ..linux.identity import Identity
from ..linux.ids import become
from ..linux.mounts import change_root, clone_mount, make_all_private, mount_id, move_mount, unescape
from ..linux.root_mount import RootMount
from ..linux.rootfs import MOUNT, Rootfs
from ..log import WARNING, log
from ..node.engine import read_map
from ..node.owner import Owner
from ..node.running import Rights
from ..provision.layer import missing, mount_layer
from ..provision.setup import Setup
from ..stop.rules import end_daemon, end_orphans
from .plan import Ending
from .supervisor import fork

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..confine.lsm import Labels
    from ..keys.passwd import Entry
    from ..linux.namespaces import Namespaces
    from ..linux.process import Process
    from ..node.running import RunningProcess
    from ..oci.oci_config import Container
    from ..oci.settings import Settings
    from ..stop.changes import Changes
    from .gate import Gate, OpenGate
    from .plan import OpenRoot, StartPlan

_JOINED_FIRST = ("cgroup", "ipc", "uts", "net", "pid")


class Attach:
    """The inputs of one attach.

    Attributes:
        plan: the plan of the start.
        changes: in the container.
        gate: the daemon's gate.
        target: the process to attach to.
        warnings: for the user.
    """

    def __init__(
        self, plan: StartPlan, changes: Changes, gate: Gate | OpenGate, target: RunningProcess, warnings: list[str]
    ) -> None:
        self.plan = plan
        self.changes = changes
        self.gate = gate
        self.target = target
        self.warnings = warnings


def attach(wanted: Attach) -> Process:
    """Start the daemon; return its process. The caller becomes undumpable. Raises HookError, after a rollback."""
    supervisor, target = fork(wanted.plan), wanted.target.process
    try:
        supervisor.supervise()
        assert supervisor.daemon is not None
        wanted.gate.open()
        return supervisor.daemon
    except BaseException as error:
        _undo(wanted)
        if isinstance(error, HookError) and not target.is_alive():
            raise HookError(ATTACH_REFUSED, f"process {target.pid} has exited") from None
        raise


def end(wanted: Attach, daemon: Process) -> None:
    """End the daemon and its sessions, and undo what was changed in the container."""
    end_daemon(daemon)
    end_orphans()
    wanted.plan.door.remove()
    wanted.plan.registration.remove()
    _undo(wanted)


def _undo(wanted: Attach) -> None:
    try:
        left = wanted.changes.undo(wanted.target)
        if left:
            log(WARNING, still_mounted(left))
    except HookError as error:
        log(WARNING, str(error), error.kind)


class EndedBySupervisor(Ending):
    """Ends the daemon of an attach: the supervisor, which keeps running, with the daemon's process or by `detach`."""

    def __init__(self, target: RunningProcess, container: Container) -> None:
        """Read the scheduling of the process `target`. Raises OSError."""
        self._target = target
        self._container = container
        self._scheduling = ProcessScheduling(target.process)

    def prepare(self) -> None:
        """Become the subreaper of the sessions' processes, and die with the supervisor, even after execve(2).

        Take on the scheduling of the process: as late as possible, since SCHED_IDLE makes everything slow.
        """
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        self._scheduling.apply()

    def before_release(self) -> None:
        """Check that the process is still the one that was joined and copied."""
        self._target.require_unchanged()

    def when_listening(self, daemon: Process | None) -> None:
        """Check that the daemon has no more privileges than the process."""
        assert daemon is not None
        init = self._target.process
        try:
            rights = Rights(daemon)
            has_label = label_of(daemon) == label_of(init)
        except OSError as error:
            raise HookError(ATTACH_REFUSED, f"cannot read the rights of the SSH daemon: {error.strerror}") from None
        excess = rights.excess_over(self._target.rights)
        if self._container.seccomp is not None and not rights.has_filter:
            excess = "no seccomp filter"
        if not has_label:
            excess = "another AppArmor or SELinux label"
        if excess:
            raise HookError(ATTACH_REFUSED, f"sessions would have more rights than process {init.pid}: {excess}")

    def roll_back(self, daemon: Process | None) -> None:
        """Kill sessions too: without a closed gate, the daemon may have accepted one already."""
        if daemon is not None:
            end_daemon(daemon)


class RunningRoot:
    """The root directory of a running container: the provisioner joins the container for all processes."""

    def __init__(
        self,
        target: RunningProcess,
        container: Container,
        entry: Entry,
        settings: Settings,
        labels: Labels,
        namespaces: Namespaces,
        programs: str,
        changes: Changes,
    ) -> None:
        """Store its location.

        `entry` is the caller's passwd entry, `namespaces` are those of the process `target`, and `programs` is the path
        of Dropbear's programs on the node. `changes` has what must be undone in the container.
        """
        self._target = target
        self._container = container
        self._entry = entry
        self._settings = settings
        self._labels = labels
        self._namespaces = namespaces
        self._programs = programs
        self._changes = changes

    def open(self) -> OpenRoot:
        """Implement Root: enter the container."""
        try:
            return self._open()
        except HookError:
            raise
        except Exception as error:
            raise HookError(ATTACH_REFUSED, f"cannot enter the container: {describe_failure(error)}") from None

    def _open(self) -> OpenRoot:
        rootfs, caller, programs = self._enter()
        rootfs.mountinfo = self._target.mounts.data
        owner = Owner(self._entry, caller, rootfs.user)
        return _OpenRunningRoot(self._with_mount_points(rootfs), owner, programs, self._changes)

    def _enter(self) -> tuple[Rootfs, Identity, int]:
        """Join the container's namespaces, with a clone of the mount of Dropbear's programs.

        Return the container's root directory, the caller's ids in its user namespace, and the clone. The caller keeps
        the node's root directory, gets all capabilities over the user namespace that owns the mounts, and becomes its
        root, if it has one. Raises HookError.
        """
        target, namespaces = self._target, self._namespaces
        where = f"process {target.process.pid}"
        mounts = namespaces.take("mnt")
        if mounts is None:
            raise HookError(ATTACH_REFUSED, f"{where} has left its container")
        try:
            with closing(os.open("/", os.O_PATH | os.O_DIRECTORY)) as node:
                owner = user_namespaces.owning(mounts)
                syscalls.setns(target.user_namespaces[-1], syscalls.CLONE_NEWUSER)
                syscalls.unshare(syscalls.CLONE_NEWNS)  # a copy whose mounts the caller may clone
                programs = clone_mount(self._programs)
                namespaces.join(*_JOINED_FIRST)
                syscalls.setns(mounts, syscalls.CLONE_NEWNS)
                if not is_same(os.fstat(owner), os.fstat(target.user_namespaces[-1])):
                    syscalls.setns(owner, syscalls.CLONE_NEWUSER)
                for name in _JOINED_FIRST:
                    namespaces.take(name)
                change_root(node)
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # joining has reset it
        except OSError as error:
            raise HookError(ATTACH_REFUSED, f"cannot enter the container of {where}: {error.strerror}") from None
        caller = Identity(os.geteuid(), os.getegid())
        user = Identity(self._container.uid, self._container.gid)
        if is_same(os.fstat(owner), os.fstat(target.user_namespaces[0])):
            namespaces.take("user")  # already joined
        else:
            user = caller
        root = _become_root(user)
        return Rootfs(target.root, user, root), caller, programs

    def _with_mount_points(self, rootfs: Rootfs) -> Rootfs:
        """Return `rootfs`, or if it is read-only and lacks mount points, one with them, only for sessions."""
        mounts = self._target.mounts
        if not mounts.is_read_only:
            return rootfs
        mount_context = self._labels.mount_context
        setup = Setup(self._container, self._entry, self._settings, rootfs, mount_context, True, None)
        points = missing(rootfs, setup.mount_points())
        if not points:
            return rootfs
        with closing(os.open("/", os.O_PATH | os.O_DIRECTORY)) as node:
            # Until the root is changed back, /proc is the image's: no path but "/" may be used.
            change_root(rootfs.descriptor)
            syscalls.unshare(syscalls.CLONE_NEWNS)
            root = os.open("/", os.O_PATH | os.O_DIRECTORY)
            change_root(node)
        own = Rootfs(root, rootfs.user, rootfs.owner)
        make_all_private(root)
        return mount_layer(own, points, [unescape(fsdecode(path)) for path in dict.fromkeys(mounts.mount_points)])


class _OpenRunningRoot:
    """Implements OpenRoot: the calling processes are in the container."""

    def __init__(self, rootfs: Rootfs, owner: Owner, programs: int, changes: Changes) -> None:
        self.mount = RootMount(rootfs.descriptor)
        self.owner = owner
        self._rootfs = rootfs
        self._programs = programs
        self._changes = changes

    def enter(self) -> Rootfs:
        self._rootfs.note = self._note
        return self._rootfs

    def open_programs(self) -> Callable[[int], None]:
        return lambda target: move_mount(self._programs, target)

    def _note(self, kind: str, path: str, detail: str) -> None:
        """Note a change in the container: mountinfo shows mounts. Raises HookError and UnlistedError."""
        rootfs = self._rootfs
        if kind == MOUNT:
            if rootfs.has_layer:
                return
            try:
                with closing(rootfs.open(path, os.O_PATH)) as mounted:
                    detail = mount_id(mounted).decode()
            except OSError as error:
                raise HookError(
                    IMAGE_UNFIT, f"cannot open {path} in the container, on which the hook has mounted: {error.strerror}"
                ) from None
            before = {line.split(b" ", 1)[0] for line in (rootfs.mountinfo or b"").split(b"\n")}
            if detail.encode() in before:  # the path now leads elsewhere: not the hook's mount
                raise HookError(IMAGE_UNFIT, f"{path} in the container was moved during setup")
            return
        self._changes.note(kind, path, detail)


def _become_root(user: Identity) -> Identity:
    """Become root of the user namespace if it has one, else `user`; return the new identity. Raises HookError."""
    has_root = all(read_map(f"/proc/self/{kind}").outside(0) is not None for kind in ("uid_map", "gid_map"))
    wanted = Identity(0, 0) if has_root else user
    try:
        become(wanted.uid, wanted.gid)
        syscalls.raise_capabilities()
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # the change of ids may have reset it
    except OSError as error:
        raise HookError(ATTACH_REFUSED, f"cannot become uid {wanted.uid} of the container: {error.strerror}") from None
    return wanted


def still_mounted(paths: list[str]) -> str:
    """Return a message for the user about mounts that `undo` has left."""
    shown = ", ".join(map(printable, paths))
    return f"could not unmount {shown} in the container: its contents, including keys, stay until the container ends"
