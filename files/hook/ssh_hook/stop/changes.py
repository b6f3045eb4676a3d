# SPDX-License-Identifier: GPL-3.0-or-later
"""What an attach changes in a container that goes on: a file lists it, and whoever ends the attach undoes it.

The command makes the file before the first change, and its supervisor holds a lock on it. The provisioner adds each
change. Who undoes them removes the file last. The kernel frees the lock when supervisor and provisioner have ended,
however they have. So a file without a lock is that of an attach that was killed, and `detach` undoes what it lists.

The file is the user's, and is named after the process: pid, start time, the beginning of the boot id, and the inode of
the pid namespace that has this pid. Commands in another one, as in some jobs, leave it alone.

Format: a line with the inode of the container's mount namespace and the start time of the command, in clock ticks; then
a line for each change with its kind, path and detail, the latter two hexadecimal.
"""

from __future__ import annotations

import fcntl
import time

from ..errors import ATTACH_REFUSED, DAEMON_FAILED, NOT_TRUSTED, SYSTEM, HookError
from ..linux import disposable_process, syscalls
from ..linux.fast_stdlib import TYPE_CHECKING, closing, create_file, fsdecode, fsencode, os, split, stat
from ..linux.files import is_own, rewrite
from ..linux.mounts import change_root, mount_id, unmount
from ..linux.process import Process, is_decimal, pid_namespace
from ..linux.rootfs import CONTENT, MOUNT, open_in_root
from ..node.own_places import for_changes, open_own
from ..node.places import unlink
from ..node.record import boot_id
from ..node.running import MountInfo

if TYPE_CHECKING:
    from ..node.running import RunningProcess

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
_MAX_SIZE = 1 << 20  # bytes
_MAX_DIGITS = 10
_TIMEOUT = 20.0  # seconds; longer than the supervisor waits for sessions and for the container's file system
_POLL = 0.002  # seconds


class Changes:
    """The file of one attach, locked or not. Attributes: pid, of the process that it is attached to."""

    def __init__(self, path: str, descriptor: int) -> None:
        """`descriptor` is of the file `path`, for reading and appending."""
        self._path = path
        self._descriptor = descriptor
        self._name = split(path)[1]
        self.pid = int(self._name.partition("-")[0])

    def close(self) -> None:
        """Close the file. The lock is free when all processes have closed it that have it from a fork."""
        os.close(self._descriptor)

    def note(self, kind: str, path: str, detail: str) -> None:
        """Add a change, with words as in Rootfs.note; of a mount, the detail is its id. Raises OSError."""
        line = f"{kind} {fsencode(path).hex()} {fsencode(detail).hex()}\n".encode()
        if os.write(self._descriptor, line) < len(line):
            raise HookError(SYSTEM, f"cannot write to {self._path}")

    def is_stale(self) -> bool:
        """Return whether the process has ended, or the node has booted since."""
        try:
            process = Process(self.pid)
        except OSError:
            return True
        with closing(process.directory), closing(process.stat):
            return not process.is_alive() or _name(process) != self._name

    def is_in_container(self, process: Process) -> bool:
        """Return whether `process` is in the container. Raises OSError if it has ended, and HookError.

        The number of a mount namespace that has ended may be given again, but no process that is older than the attach
        is in the new one.
        """
        namespace, start_time = self._read()[0]
        found = process.mount_namespace()
        return found is not None and str(found[1]) == namespace and process.start_time() <= int(start_time)

    def await_lock(self) -> bool:
        """Wait for the supervisor's end, and take its lock. Return whether it was killed, so that the file is left.

        Raises HookError if it does not end.
        """
        deadline = time.monotonic() + _TIMEOUT
        while not self.try_lock():
            if time.monotonic() > deadline:
                raise HookError(
                    DAEMON_FAILED, f"the SSH daemon of process {self.pid} did not exit within {_TIMEOUT:.0f} s"
                )
            time.sleep(_POLL)
        return os.fstat(self._descriptor).st_nlink > 0

    def undo(self, target: RunningProcess) -> None:
        """Undo the changes in the container of `target`, in a process that enters it; then remove the file.

        That process is left behind if it hangs. Raises HookError, also if `target` has left the container.
        """
        (namespace, _start_time), *changes = self._read()
        what = f"cannot enter the container of process {target.process.pid}"
        if str(os.fstat(target.mount_namespace).st_ino) != namespace:
            raise HookError(ATTACH_REFUSED, f"{what}: it has another mount namespace by now")

        def work() -> bytes:
            try:
                _enter(target)
            except OSError as error:
                raise HookError(SYSTEM, f"{what}: {error.strerror}") from None
            for kind, path, detail in reversed(changes):
                try:
                    _undo_change(target.root, kind, fsdecode(bytes.fromhex(path)), fsdecode(bytes.fromhex(detail)))
                except OSError:
                    continue  # it is gone, not empty, or a mount point
            return b""

        if changes:
            kept = target.root, target.mount_namespace, target.user_namespaces[-1]
            disposable_process.run(work, what, None, kept)
        self.remove()

    def remove(self) -> None:
        """Remove the file."""
        unlink(self._path)

    def left_in(self, process: Process) -> list[str]:
        """Return the mount points of those of its mounts that `process` still has. Raises HookError."""
        mounts = {bytes.fromhex(detail) for kind, _path, detail in self._read()[1:] if kind == MOUNT}
        try:
            return MountInfo(process.directory).of_hook(mounts)
        except OSError:
            return []  # the process has exited

    def try_lock(self) -> bool:
        """Take the supervisor's lock. Return False if another process has it."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _read(self) -> list[list[str]]:
        """Return the words of each line; the last line may be incomplete. Raises HookError."""
        lines = os.pread(self._descriptor, _MAX_SIZE, 0).decode("ascii", "replace").split("\n")[:-1]
        words = [line.split(" ") for line in lines]
        if [len(line) for line in words] != [2, *[3] * (len(words) - 1)]:
            raise HookError(NOT_TRUSTED, f"{self._path} does not list the changes of an attach: remove it")
        return words


def make(target: RunningProcess, uid: int, in_job: bool) -> Changes:
    """Make and lock the file of an attach to `target` by the user `uid`, an id of the initial user namespace.

    Undo first what a killed attach to this process has left. `in_job`: whether the container ends with a job. Raises
    HookError, also if there is an attach.
    """
    name = _name(target.process)
    for earlier in all_of(uid):
        if earlier.is_stale():
            earlier.remove()
        elif earlier.pid == target.process.pid:
            if not earlier.try_lock():
                raise HookError(
                    ATTACH_REFUSED,
                    f"process {earlier.pid} already has an SSH daemon: 'ssh_hook detach {earlier.pid}' stops it",
                )
            earlier.undo(target)
        earlier.close()
    caller = Process(os.getpid())
    first_line = f"{os.fstat(target.mount_namespace).st_ino} {caller.start_time()}\n".encode()
    caller.close()
    problems = []
    for directory in for_changes(uid, in_job):
        path = f"{directory}/{name}"
        try:
            with closing(open_own(directory, create=True)) as opened:
                os.close(create_file(name, first_line, dir_fd=opened))
                changes = Changes(path, os.open(name, _FLAGS, dir_fd=opened))
        except OSError as error:
            problems.append(f"{path}: {error.strerror or 'other users can write to it'}")
            continue
        changes.try_lock()
        return changes
    raise HookError(SYSTEM, f"cannot note what attach changes in the container, in {', or in '.join(problems)}")


def all_of(uid: int) -> list[Changes]:
    """Return the files of the caller's attaches, also of those that were killed; `uid` is as in `make`.

    Their pids are of the caller's pid namespace.
    """
    found = []
    for directory in for_changes(uid, False):
        try:
            opened = open_own(directory)
        except OSError:
            continue  # there is none, or another user's
        with closing(opened):
            found += [each for name in os.listdir(opened) if (each := _open(directory, name, opened)) is not None]
    return found


def _open(directory: str, name: str, opened: int) -> Changes | None:
    """Open the file `name` in the directory, open as `opened`; return None if it is none of an attach."""
    if not is_decimal(name.partition("-")[0], _MAX_DIGITS) or not name.endswith(f"-{pid_namespace()}"):
        return None
    try:
        descriptor = os.open(name, _FLAGS, dir_fd=opened)
    except OSError:
        return None  # the attach has just ended
    if is_own(os.fstat(descriptor)):
        return Changes(f"{directory}/{name}", descriptor)
    os.close(descriptor)
    return None


def _name(process: Process) -> str:
    return f"{process.pid}-{process.start_time()}-{boot_id()[:8]}-{pid_namespace()}"


def _enter(target: RunningProcess) -> None:
    """Join the container's mount namespace, with all capabilities over its mounts. Raises OSError."""
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    with closing(os.open("/", os.O_PATH | os.O_DIRECTORY)) as node:
        syscalls.setns(target.user_namespaces[-1], syscalls.CLONE_NEWUSER)
        syscalls.setns(target.mount_namespace, syscalls.CLONE_NEWNS)
        change_root(node)  # so that /proc is the node's again
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # joining has reset it


def _undo_change(root: int, kind: str, path: str, detail: str) -> None:
    if kind == MOUNT:
        with closing(open_in_root(root, path, os.O_PATH)) as mounted:
            if mount_id(mounted).decode() == detail:
                unmount(mounted)
        return
    if kind == CONTENT:
        with closing(open_in_root(root, path, os.O_PATH)) as file:
            mount, _colon, old = detail.partition(":")
            status = os.fstat(file)
            if mount_id(file).decode() == mount and status.st_nlink == 0 and stat.S_ISREG(status.st_mode):
                rewrite(file, fsencode(old))
        return
    parent_path, name = split(path)
    with closing(open_in_root(root, parent_path, os.O_PATH | os.O_DIRECTORY)) as parent:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            os.rmdir(name, dir_fd=parent)
        elif stat.S_ISREG(status.st_mode) and status.st_size == 0:
            os.unlink(name, dir_fd=parent)
