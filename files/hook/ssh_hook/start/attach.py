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
from ..fast_stdlib import TYPE_CHECKING, closing, fsdecode, fsencode, os, signal, split, stat
from ..linux import disposable_process, syscalls, user_namespaces
from ..linux.files import is_same, rewrite
from ..linux.id_maps import read_map
from ..linux.identity import ActingAs, Identity
from ..linux.ids import become
from ..linux.mounts import change_root, clone_mount, make_private, mount_id, unescape, unmount
from ..linux.root_mount import RootMount
from ..linux.rootfs import CONTENT, MOUNT, Rootfs
from ..log import WARNING, log
from ..node.owner import Owner
from ..node.running_process import MountInfo, Rights
from ..provision.layer import missing, mount_layer
from ..provision.setup import Setup
from ..stop.ending import end_daemon
from .channel import Made
from .plan import Ending
from .supervisor import fork

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..confine.lsm import Labels
    from ..keys.passwd import Entry
    from ..linux.namespaces import Namespaces
    from ..linux.process import Process
    from ..node.running_process import RunningProcess
    from ..oci.oci_config import Container
    from ..oci.settings import Settings
    from .channel import Sender
    from .imitated_gate import Gate, OpenGate
    from .plan import OpenRoot, StartPlan

_JOINED_FIRST = ("cgroup", "ipc", "uts", "net", "pid")
_UNDO_TIMEOUT = 10.0  # seconds


class Attach:
    """The inputs of one attach.

    Attributes:
        plan: the plan of the start.
        root: the container's root directory.
        gate: the daemon's gate.
        target: the process to attach to.
        warnings: for the user.
    """

    def __init__(
        self, plan: StartPlan, root: RunningRoot, gate: Gate | OpenGate, target: RunningProcess, warnings: list[str]
    ) -> None:
        self.plan = plan
        self.root = root
        self.gate = gate
        self.target = target
        self.warnings = warnings


class Attachment:
    """A running daemon in a container, and the provisioner's changes there. Attributes: daemon."""

    def __init__(self, daemon: Process, plan: StartPlan, root: RunningRoot, made: list[Made]) -> None:
        self.daemon = daemon
        self._plan = plan
        self._root = root
        self._made = made

    def undo(self) -> list[str]:
        """Unmount and remove everything created in the container; return the mount points that are left."""
        self._plan.door.remove()
        self._plan.registration.remove()
        return self._root.undo(self._made)


def attach(wanted: Attach) -> Attachment:
    """Start the daemon. The caller becomes undumpable. Raises HookError, after a rollback."""
    target = wanted.target.process
    try:
        return _attach(wanted)
    except HookError:
        if target.is_alive():
            raise
        raise HookError(ATTACH_REFUSED, f"process {target.pid} has exited") from None


def _attach(wanted: Attach) -> Attachment:
    supervisor = fork(wanted.plan)
    try:
        supervisor.supervise()
        assert supervisor.daemon is not None
        wanted.gate.open()
        return Attachment(supervisor.daemon, wanted.plan, wanted.root, supervisor.made())
    except BaseException:
        supervisor.read_to_end()
        wanted.plan.door.remove()
        wanted.plan.registration.remove()
        left = wanted.root.undo(supervisor.made())
        if left:
            log(WARNING, still_mounted(left))
        raise


class EndedBySupervisor(Ending):
    """Ends the daemon of an attach: the supervisor, which keeps running instead of writing a record."""

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
    ) -> None:
        """Store its location.

        `entry` is the caller's passwd entry, `namespaces` are those of the process `target`, and `programs` is the path
        of Dropbear's programs on the node.
        """
        self._target = target
        self._container = container
        self._entry = entry
        self._settings = settings
        self._labels = labels
        self._namespaces = namespaces
        self._programs = programs

    def open(self) -> OpenRoot:
        """Implement Root: enter the container."""
        try:
            return self._open()
        except HookError:
            raise
        except Exception as error:
            raise HookError(ATTACH_REFUSED, f"cannot enter the container: {describe_failure(error)}") from None

    def _open(self) -> OpenRoot:
        rootfs, caller, programs = self._enter(for_daemon=True)
        rootfs.mountinfo = self._target.mounts.data
        owner = Owner(self._entry, caller, rootfs.user)
        return _OpenRunningRoot(self._with_mount_points(rootfs), owner, programs)

    def _enter(self, for_daemon: bool) -> tuple[Rootfs, Identity, int]:
        """Join the container's namespaces; return its root directory and the caller's ids in its user namespace.

        The caller keeps the node's root directory, gets all capabilities over the user namespace that owns the mounts,
        and becomes its root, if it has one. With `for_daemon`, first clone the mount of Dropbear's programs, and join
        all namespaces of the daemon; return the clone too, else -1. Raises HookError.
        """
        target, namespaces = self._target, self._namespaces
        where, programs = f"process {target.process.pid}", -1
        mounts = namespaces.take("mnt")
        if mounts is None:
            raise HookError(ATTACH_REFUSED, f"{where} has left its container")
        try:
            with closing(os.open("/", os.O_PATH | os.O_DIRECTORY)) as node:
                owner = user_namespaces.owning(mounts)
                syscalls.setns(target.user_namespaces[-1], syscalls.CLONE_NEWUSER)
                if for_daemon:
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
        make_private(root, syscalls.MS_REC)
        return mount_layer(own, points, [unescape(fsdecode(path)) for path in dict.fromkeys(mounts.mount_points)])

    def undo(self, made: list[Made]) -> list[str]:
        """Undo the changes in the container, in a process that enters it, and is left behind if it hangs.

        Return the mount points that are left.
        """
        if not made:
            return []
        pid = syscalls.fork()
        if pid == 0:
            try:
                rootfs, _caller, _programs = self._enter(for_daemon=False)
                for change in reversed(made):
                    try:
                        _undo_change(rootfs, change)
                    except OSError:
                        pass  # it is gone, not empty, or a mount point
            finally:
                os._exit(0)
        if disposable_process.reap(pid, _UNDO_TIMEOUT) is None:
            os.kill(pid, signal.SIGKILL)
        try:
            return MountInfo(self._target.process.directory).of_hook(self._target.mounts.ids)
        except OSError:
            return []  # the container has ended


class _OpenRunningRoot:
    """Implements OpenRoot: the calling processes are in the container."""

    def __init__(self, rootfs: Rootfs, owner: Owner, programs: int) -> None:
        self.mount = RootMount(rootfs.descriptor)
        self.owner = owner
        self._rootfs = rootfs
        self._programs = programs

    def enter(self, to_hook: Sender) -> Rootfs:
        self._rootfs.note = lambda kind, path, detail: _report_change(to_hook, self._rootfs, kind, path, detail)
        return self._rootfs

    def open_programs(self) -> Callable[[int], None]:
        return lambda target: syscalls.move_mount(self._programs, target)


def _report_change(to_hook: Sender, rootfs: Rootfs, kind: str, path: str, detail: str) -> None:
    """Report a change in the container to the hook, which must undo it, unless only sessions see it."""
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
    to_hook.send(Made(kind, path, detail))


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


def _undo_change(rootfs: Rootfs, change: Made) -> None:
    if change.kind == MOUNT:
        with closing(rootfs.open(change.path, os.O_PATH)) as mounted:
            if mount_id(mounted).decode() == change.detail:
                unmount(mounted)
        return
    if change.kind == CONTENT:
        with closing(rootfs.open(change.path, os.O_PATH)) as file:
            mount, _colon, old = change.detail.partition(":")
            if mount_id(file).decode() == mount and os.fstat(file).st_nlink == 0:
                with ActingAs(rootfs.user):
                    rewrite(file, fsencode(old))
        return
    parent_path, name = split(change.path)
    with closing(rootfs.open(parent_path, os.O_PATH | os.O_DIRECTORY)) as parent:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            os.rmdir(name, dir_fd=parent)
        elif stat.S_ISREG(status.st_mode) and status.st_size == 0:
            os.unlink(name, dir_fd=parent)
