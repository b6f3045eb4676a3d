# SPDX-License-Identifier: GPL-3.0-or-later
"""What an attach changes in a container that goes on: whoever ends the attach undoes it.

The hook's mounts are those that the container's mountinfo shows, and did not show before. A file lists those, and what
mountinfo does not show: the files and directories that were created, and the old content of one that was rewritten. The
command makes it before the first change. The provisioner adds each change.

Only who has the lock of a file that still has its name may undo, and remove the file. The supervisor has it, and so has
the provisioner. The kernel frees it when both have ended, however they have. So a file without a lock is that of an
attach that was killed, and `detach` undoes its changes.

The file is the user's, and is named after the process: pid, start time, the beginning of the boot id, and the inode of
the pid namespace that has this pid. Those of another boot or pid namespace do not count.

Format: a line with the inode of the container's mount namespace, and the ids of the hook's mounts there that were there
before; then a line for each change with its kind, path and old content, the latter two hexadecimal.
"""

from __future__ import annotations

import fcntl

from ..errors import ATTACH_REFUSED, NOT_TRUSTED, SYSTEM, HookError
from ..linux import disposable_process, syscalls
from ..linux.fast_stdlib import TYPE_CHECKING, closing, create_file, fsdecode, fsencode, os, signal, split, stat
from ..linux.files import is_own, is_same, rewrite
from ..linux.mounts import change_root, mount_id, unmount
from ..linux.process import Process, is_decimal, pid_namespace
from ..linux.rootfs import CONTENT, open_in_root
from ..log import INFO, log
from ..node.own_places import for_changes, open_own
from ..node.places import unlink
from ..node.record import boot_id
from ..node.running import MountInfo

if TYPE_CHECKING:
    from ..node.running import RunningProcess

_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
_PROC = os.O_RDONLY | os.O_DIRECTORY
_MAX_SIZE = 1 << 20  # bytes
_MAX_DIGITS = 10
_MAX_FILES = 64  # in a directory


class UnlistedError(Exception):
    """A change could not be listed. It is no HookError or OSError, as nothing may go on without it."""


class Changes:
    """The file of one attach, locked or not.

    Attributes:
        pid: of the process that it is attached to.
        namespace: the inode of the container's mount namespace, as text.
    """

    def __init__(self, path: str, descriptor: int) -> None:
        """`descriptor` is of the file `path`, for reading and writing. Raises HookError if it is none of an attach."""
        self._path = path
        self._descriptor = descriptor
        self._name = split(path)[1]
        self.pid = int(self._name.partition("-")[0])
        self.namespace, *before = self._lines()[0]
        self._before = [identity.encode() for identity in before]
        self._noted()

    def close(self) -> None:
        """Close the file. The lock is free when all processes have closed it that have it from a fork."""
        os.close(self._descriptor)

    def note(self, kind: str, path: str, detail: str) -> None:
        """Add a change, with words as in Rootfs.note. Raises UnlistedError."""
        line = f"{kind} {fsencode(path).hex()} {fsencode(detail).hex()}\n".encode()
        try:
            is_whole = os.write(self._descriptor, line) == len(line)
        except OSError:
            is_whole = False
        if not is_whole:
            raise UnlistedError(f"cannot note in {self._path} what is changed in the container: no room is left there")

    def is_of(self, process: Process) -> bool:
        """Return whether the attach is to `process`. Raises OSError if it has ended."""
        return _name(process) == self._name

    def is_in_container(self, process: Process) -> bool:
        """Return whether `process` shows the mounts of the attach. Raises OSError if it has ended.

        The number of a mount namespace may be given again, but no other one has these mounts.
        """
        found = process.mount_namespace()
        return found is not None and str(found[1]) == self.namespace and bool(self._mounts(process))

    def is_same(self, other: Changes) -> bool:
        """Return whether `other` is the same file."""
        return is_same(os.fstat(self._descriptor), os.fstat(other._descriptor))

    def try_lock(self) -> bool:
        """Take the lock. Return False if another process has it."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def is_left(self) -> bool:
        """Return whether the file, whose lock the caller has, still has its name: its attach was killed."""
        return os.fstat(self._descriptor).st_nlink > 0

    def undo(self, target: RunningProcess) -> list[str]:
        """Undo the changes in the container of `target`, in a process that enters it.

        Remove the file, unless mounts are left; return their mount points. The process is left behind if it hangs. The
        caller has the lock. Raises HookError, also if `target` has left the container.
        """
        what = f"cannot enter the container of process {target.process.pid}"
        if str(os.fstat(target.mount_namespace).st_ino) != self.namespace:
            raise HookError(ATTACH_REFUSED, f"{what}: it has another mount namespace by now")
        noted, caller = self._noted(), os.getpid()

        def work() -> bytes:
            try:
                return b"\0".join(fsencode(path) for _id, path in self._undo(target, noted, caller))
            except OSError as error:
                raise HookError(SYSTEM, f"{what}: {error.strerror}") from None

        kept = target.root, target.mount_namespace, target.user_namespaces[-1]
        answer = disposable_process.run(work, what, None, kept)
        left = [fsdecode(path) for path in answer.split(b"\0") if path]
        if not left:
            self.remove()
        return left

    def remove(self) -> None:
        """Remove the file. The caller has the lock."""
        if self.is_left():
            unlink(self._path)

    def _undo(self, target: RunningProcess, noted: list[tuple[str, str, str]], caller: int) -> list[tuple[bytes, str]]:
        """Enter the container and undo everything, the last change first; return id and mount point of what is left.

        `caller` is the parent: when it ends, the lock may be another's. Raises OSError.
        """
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        with closing(os.open("/", os.O_PATH | os.O_DIRECTORY)) as node, closing(os.open("/proc/self", _PROC)) as itself:

            def mounts() -> list[tuple[bytes, str]]:
                change_root(target.root)  # a mountinfo shows what the reader's root directory leads to
                found = MountInfo(itself).of_hook(self._before)
                change_root(node)  # so that /proc is the node's again
                return found

            syscalls.setns(target.user_namespaces[-1], syscalls.CLONE_NEWUSER)  # gives all capabilities over the mounts
            syscalls.setns(target.mount_namespace, syscalls.CLONE_NEWNS)
            present = mounts()
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # joining has reset it
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != caller:
                return present
            for identity, path in reversed(present):
                try:
                    with closing(open_in_root(target.root, path, os.O_PATH)) as mounted:
                        if mount_id(mounted) == identity:
                            unmount(mounted)
                except OSError:
                    continue  # it is gone, with the mount below it
            for kind, path, detail in reversed(noted):
                try:
                    _undo_change(target.root, kind, path, detail)
                except OSError:
                    continue  # it is gone, not empty, or a mount point
            return mounts()

    def _mounts(self, process: Process) -> list[tuple[bytes, str]]:
        return MountInfo(process.directory).of_hook(self._before)

    def _lines(self) -> list[list[str]]:
        """Return the words of each line; the last line may be unfinished."""
        lines = os.pread(self._descriptor, _MAX_SIZE, 0).decode("ascii", "replace").split("\n")
        return [line.split(" ") for line in lines[:-1]] or [[""]]

    def _noted(self) -> list[tuple[str, str, str]]:
        """Return the changes that are noted. Raises HookError."""
        try:
            lines = self._lines()[1:]
            return [(kind, fsdecode(bytes.fromhex(path)), fsdecode(bytes.fromhex(old))) for kind, path, old in lines]
        except ValueError:
            raise HookError(NOT_TRUSTED, f"{self._path} does not list the changes of an attach: remove it") from None


def make(target: RunningProcess, uid: int, in_job: bool) -> Changes:
    """Make and lock the file of an attach to `target` by the user `uid`, an id of the initial user namespace.

    Undo first what a killed attach to this process has left. `in_job`: whether the container ends with a job. Raises
    HookError, also if there is an attach.
    """
    process, name = target.process, _name(target.process)
    refused = f"process {process.pid} already has an SSH daemon: 'ssh_hook detach {process.pid}' stops it"
    for earlier in all_of(uid):
        if earlier.is_of(process):
            if not earlier.try_lock():
                raise HookError(ATTACH_REFUSED, refused)
            if earlier.is_left() and earlier.undo(target):
                raise HookError(ATTACH_REFUSED, f"process {process.pid} has mounts of an earlier attach: detach it")
        earlier.close()
    before = [identity.decode() for identity, _path in MountInfo(process.directory).of_hook([])]
    first_line = " ".join([str(os.fstat(target.mount_namespace).st_ino), *before]) + "\n"
    problems = []
    for directory in for_changes(uid, in_job):
        try:
            with closing(open_own(directory, create=True)) as opened:
                changes = _create(f"{directory}/{name}", first_line.encode(), opened)
        except FileExistsError:
            raise HookError(ATTACH_REFUSED, refused) from None
        except OSError as error:
            problems.append(f"{directory}: {error.strerror or 'other users can write to it'}")
            continue
        # In another directory, as at the same time by a process that sees another /tmp.
        if [each for each in all_of(uid) if each.is_of(process) and not each.is_same(changes)]:
            changes.remove()
            raise HookError(ATTACH_REFUSED, refused)
        return changes
    raise HookError(SYSTEM, f"cannot note what attach changes in the container, in {', or in '.join(problems)}")


def _create(path: str, first_line: bytes, directory: int) -> Changes:
    """Create the file in the open `directory`, locked and with its first line. Raises OSError, also if it is there."""
    name = split(path)[1]
    temporary = f".{os.urandom(8).hex()}"
    descriptor = create_file(temporary, first_line, dir_fd=directory)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        os.close(descriptor)
        raise
    finally:
        os.unlink(temporary, dir_fd=directory)
    return Changes(path, descriptor)


def all_of(uid: int) -> list[Changes]:
    """Return the files of the caller's attaches, also of those that were killed; `uid` is as in `make`.

    They are of this boot, and their pids of the caller's pid namespace.
    """
    found = []
    for directory in for_changes(uid, False):
        try:
            opened = open_own(directory)
        except OSError:
            continue  # there is none, or another user's
        with closing(opened):
            names = [name for name in os.listdir(opened) if _is_name(name)][:_MAX_FILES]
            found += [each for name in names if (each := _open(directory, name, opened)) is not None]
    return found


def _is_name(name: str) -> bool:
    return is_decimal(name.partition("-")[0], _MAX_DIGITS) and name.endswith(_suffix())


def _open(directory: str, name: str, opened: int) -> Changes | None:
    """Open the file `name` in the directory, open as `opened`; return None if it is none of an attach."""
    try:
        descriptor = os.open(name, _FLAGS, dir_fd=opened)
    except OSError:
        return None  # the attach has just ended
    if is_own(os.fstat(descriptor)):
        try:
            return Changes(f"{directory}/{name}", descriptor)
        except HookError as error:
            log(INFO, str(error))
    os.close(descriptor)
    return None


def _name(process: Process) -> str:
    return f"{process.pid}-{process.start_time()}{_suffix()}"


def _suffix() -> str:
    return f"-{boot_id()[:8]}-{pid_namespace()}"


def _undo_change(root: int, kind: str, path: str, old: str) -> None:
    if kind == CONTENT:
        with closing(open_in_root(root, path, os.O_PATH)) as file:
            mount, _colon, content = old.partition(":")
            status = os.fstat(file)
            if mount_id(file).decode() == mount and status.st_nlink == 0 and stat.S_ISREG(status.st_mode):
                rewrite(file, fsencode(content))
        return
    parent_path, name = split(path)
    with closing(open_in_root(root, parent_path, os.O_PATH | os.O_DIRECTORY)) as parent:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            os.rmdir(name, dir_fd=parent)
        elif stat.S_ISREG(status.st_mode) and status.st_size == 0:
            os.unlink(name, dir_fd=parent)
