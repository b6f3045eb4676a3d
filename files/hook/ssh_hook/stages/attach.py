# SPDX-License-Identifier: GPL-3.0-or-later
"""`ssh_hook attach`: start an SSH server inside a container of the caller's own that runs already.

The processes are those of a start, and so is nearly all that they do. The hook's part is the supervisor's, which is
outside of the container too, but stays: it ends the daemon with the process that it was attached to. The provisioner
joins the container before it forks the daemon. None of them is root.

A process of the container cannot trace them: they are not dumpable, and Python was executed in the node's user
namespace, over which a container's root has no capability. They leave the node's root directory only when they take on
the container's confinement, so /proc is the node's, and no path leads through the container by itself.
"""

from __future__ import annotations

from ..confine.lsm import label_of
from ..errors import HookError, printable
from ..host.engine import read_map
from ..host.owner import Owner
from ..host.running import MountInfo, Rights
from ..kernel import disposable_process, syscalls, user_namespaces
from ..kernel.files import is_same, rewrite
from ..kernel.identity import ActingAs, Identity
from ..kernel.ids import become
from ..kernel.lean import TYPE_CHECKING, closing, fsdecode, fsencode, os, signal, split, stat
from ..kernel.mounts import clone_mount, make_all_private, mount_id, unescape, unmount
from ..kernel.rootfs import CONTENT, MOUNT, Rootfs
from ..log import WARNING, log
from ..provision.layer import missing, mount_layer
from ..provision.setup import Setup
from .channel import Channel, Forked, Made, Provisioned
from .create_runtime import Supervisor
from .poststop import kill_with_sessions
from .provisioner import provision

if TYPE_CHECKING:
    from typing import NoReturn

    from ..kernel.process import Process
    from ..keys.passwd import Entry
    from .attach_context import AttachContext
    from .channel import HookEnd

_JOINED_FIRST = ("cgroup", "ipc", "uts", "net", "pid")
_UNDO_TIMEOUT = 10.0  # seconds


class Attachment:
    """A daemon that runs in a container, and what its provisioner has made there. Attributes: daemon."""

    def __init__(self, context: AttachContext, daemon: Process, made: list[Made]) -> None:
        self.daemon = daemon
        self._context = context
        self._made = made

    def undo(self) -> list[str]:
        """Unmount and remove all that was made in the container; return the mount points of mounts that are left."""
        return _undo(self._context, self._made)


def attach(context: AttachContext, entry: Entry) -> Attachment:
    """Start the daemon for the user whose passwd entry is `entry`. The caller becomes undumpable.

    Raises HookError, after a rollback.
    """
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    channel = Channel()
    provisioner = syscalls.fork()
    if provisioner == 0:
        _provision(context, entry, channel)
    user = Identity(os.geteuid(), os.getegid())
    supervisor = AttachSupervisor(context, Owner(entry, user, user), channel.hook_end(), provisioner)
    try:
        return supervisor.attach()
    except HookError:
        if context.init.is_alive():
            raise
        raise HookError(f"process {context.init.pid} has ended meanwhile") from None


class AttachSupervisor(Supervisor):
    """The supervisor before it stays: as the hook at a start, but without a record."""

    def __init__(self, context: AttachContext, owner: Owner, channel: HookEnd, provisioner: int) -> None:
        """Supervise `provisioner`, the pid of a child, and the daemon that it forks."""
        super().__init__(context, owner, channel, provisioner)
        self._attach_context = context

    def attach(self) -> Attachment:
        """Supervise, and return what runs. Raises HookError, after a rollback."""
        try:
            self.supervise()
            assert self._daemon is not None
            if self._attach_context.gate is not None:
                self._attach_context.gate.open()
            return Attachment(self._attach_context, self._daemon, self._channel.made)
        except BaseException:
            while self._channel.failure(0) is not None:
                pass  # it collects what was made
            left = _undo(self._attach_context, self._channel.made)
            if left:
                log(WARNING, still_mounted(left))
            raise

    def _roll_back(self) -> None:
        """End sessions too: without a gate of its own, the daemon may have accepted one already."""
        if self._daemon is not None:
            try:
                kill_with_sessions(self._daemon)
            except HookError:
                pass  # nobody reads it
        super()._roll_back()

    def _write_record(self, daemon: Forked) -> None:
        self._daemon = self._attach_context.introduction.receive(daemon.pid)

    def _release(self, provisioned: Provisioned) -> None:
        """Release the daemon, if the process is what was joined and copied."""
        self._attach_context.target.require_unchanged()
        super()._release(provisioned)

    def _await_listening(self) -> None:
        """Wait, and make sure that the daemon may do no more than the process."""
        super()._await_listening()
        assert self._daemon is not None
        context = self._attach_context
        try:
            rights = Rights(self._daemon)
            has_label = label_of(self._daemon) == label_of(context.init)
        except OSError as error:
            raise HookError(f"cannot read what the SSH daemon may do: {error.strerror}") from None
        excess = rights.excess_over(context.target.rights)
        if context.container.seccomp is not None and not rights.has_filter:
            excess = "no seccomp filter"
        if not has_label:
            excess = "another AppArmor or SELinux label"
        if excess:
            raise HookError(f"sessions would have more rights than {context.path}: {excess}")


def _provision(context: AttachContext, entry: Entry, channel: Channel) -> NoReturn:
    """Run the provisioner: enter the container, and do what it does at a start."""
    try:
        rootfs, file_owner = _enter(context, for_daemon=True)
        context.user = rootfs.user
        context.opened = _with_mount_points(context, entry, rootfs)
        provision(context, Owner(entry, file_owner, rootfs.user), channel)
    except Exception as error:
        channel.fail(error, "cannot enter the container")
    finally:
        os._exit(1)


def _enter(context: AttachContext, for_daemon: bool) -> tuple[Rootfs, Identity]:
    """Join the container's namespaces, and return its root directory, and the caller's ids in its user namespace.

    The caller keeps the node's root directory, has all capabilities over the user namespace that owns the mounts, and
    is its root, if it has one. `for_daemon`, clone the mount of Dropbear's programs before, and join the namespaces
    that a daemon is to be in. Raises HookError.
    """
    target, namespaces = context.target, context.namespaces
    mounts = None if namespaces is None else namespaces.take("mnt")
    if namespaces is None or mounts is None:
        raise HookError(f"{context.path} has left its container meanwhile")
    try:
        with closing(os.open("/", os.O_PATH | os.O_DIRECTORY)) as node:
            owner = user_namespaces.owning(mounts)
            syscalls.setns(target.user_namespaces[-1], syscalls.CLONE_NEWUSER)
            if for_daemon:
                syscalls.unshare(syscalls.CLONE_NEWNS)  # a copy that the caller may clone mounts of
                context.programs_mount = clone_mount(f"{context.settings.dropbear_dir}/bin")
                namespaces.join(*_JOINED_FIRST)
            syscalls.setns(mounts, syscalls.CLONE_NEWNS)
            if not is_same(os.fstat(owner), os.fstat(target.user_namespaces[-1])):
                syscalls.setns(owner, syscalls.CLONE_NEWUSER)
            for name in _JOINED_FIRST:
                namespaces.take(name)
            _change_root(node)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # joining has reset it
    except OSError as error:
        raise HookError(f"cannot enter the container of {context.path}: {error.strerror}") from None
    caller = Identity(os.geteuid(), os.getegid())
    user = Identity(context.container.uid, context.container.gid)
    if is_same(os.fstat(owner), os.fstat(target.user_namespaces[0])):
        namespaces.take("user")  # the caller is in it
    else:
        user = caller
    root = _become_root(user)
    return Rootfs(target.root, user, root), caller


def _change_root(directory: int) -> None:
    os.fchdir(directory)
    os.chroot(".")
    os.chdir("/")


def _become_root(user: Identity) -> Identity:
    """Become root of the user namespace, if it has one, else `user`; return who the caller is. Raises HookError."""
    has_root = all(read_map(f"/proc/self/{kind}").outside(0) is not None for kind in ("uid_map", "gid_map"))
    wanted = Identity(0, 0) if has_root else user
    try:
        become(wanted.uid, wanted.gid)
        _effective, permitted, inheritable = syscalls.capget()
        syscalls.capset(permitted, permitted, inheritable)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # the change of ids may have reset it
    except OSError as error:
        raise HookError(f"cannot become uid {wanted.uid} of the container: {error.strerror}") from None
    return wanted


def _with_mount_points(context: AttachContext, entry: Entry, rootfs: Rootfs) -> Rootfs:
    """Return `rootfs`, or, where it is read-only and lacks mount points, one that has them, for sessions alone."""
    mounts = context.target.mounts
    rootfs.mountinfo = mounts.data
    if not mounts.is_read_only:
        return rootfs
    points = missing(rootfs, _setup(context, entry, rootfs).mount_points())
    if not points:
        return rootfs
    with closing(os.open("/", os.O_PATH | os.O_DIRECTORY)) as node:
        # From here to there /proc is the image's: no path but "/" may be used.
        _change_root(rootfs.descriptor)
        syscalls.unshare(syscalls.CLONE_NEWNS)
        root = os.open("/", os.O_PATH | os.O_DIRECTORY)
        _change_root(node)
    own = Rootfs(root, rootfs.user, rootfs.owner)
    make_all_private(root)
    return mount_layer(own, points, [unescape(fsdecode(path)) for path in dict.fromkeys(mounts.mount_points)])


def _setup(context: AttachContext, entry: Entry, rootfs: Rootfs) -> Setup:
    mount_context = context.labels.mount_context
    return Setup(context.container, entry, context.settings, rootfs, mount_context, True, None)


def still_mounted(paths: list[str]) -> str:
    """Return a line for the user: what `undo` has left."""
    shown = ", ".join(map(printable, paths))
    return f"could not unmount {shown} in the container: what is there, keys too, stays until the container ends"


def _undo(context: AttachContext, made: list[Made]) -> list[str]:
    """Undo the changes of the container, by a process that enters it, and is left behind where it hangs.

    Return the mount points of mounts that are left.
    """
    if not made:
        return []
    pid = syscalls.fork()
    if pid == 0:
        try:
            rootfs, _caller = _enter(context, for_daemon=False)
            for change in reversed(made):
                try:
                    _undo_change(rootfs, change)
                except OSError:
                    pass  # it is gone, or not empty, or something is mounted on it
        finally:
            os._exit(0)
    if disposable_process.reap(pid, _UNDO_TIMEOUT) is None:
        os.kill(pid, signal.SIGKILL)
    try:
        return MountInfo(context.process).of_hook(context.target.mounts.ids)
    except OSError:
        return []  # the container has ended


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
