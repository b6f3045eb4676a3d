# SPDX-License-Identifier: GPL-3.0-or-later
"""Doors: Unix sockets of the node's file system, at which a daemon lets its user in without a key.

Whoever is the user on the node may enter the user's container: ``podman exec`` does no less. So the kernel's word is
the login. Directory and mode of a door's name let nobody else connect, and Dropbear asks the kernel who did
(SO_PEERCRED).

The hook makes the socket before it forks, and the name when it knows the daemon's process, which has yet to be
released. Nothing in the container leads to the name: Dropbear gets the open descriptor. The name is the daemon's pid
and start time, and the inode of the pid namespace that shows it with this pid. So whoever finds a daemon in /proc knows
its door, and a name without such a process is nobody's.

A rootful engine's doors are in a directory of root's, in which nobody else can create, remove or list names, or hold
the inode lock. A rootless engine's are in a directory of its user's: one that root has made for a batch job, or in
/run/user/UID, which a user without a login session lacks. In root's, only a sweep removes names, by a process that can
be left behind (door_removal.py).
"""

from __future__ import annotations

import errno

from ..errors import CONTAINER_UNFIT, SYSTEM, HookError, describe_failure, kind_of, printable
from ..linux import disposable_process, syscalls
from ..linux.fast_stdlib import TYPE_CHECKING, closing, dirname, fsencode, os, read_file
from ..linux.process import MAX_PID, Process, is_decimal, pid_is_taken, pid_namespace
from ..log import INFO, log
from .door_removal import REMOVED, ROOT_PLACE, remove_door, unlink
from .engine import read_map, state_directory
from .own_files import open_directory

if TYPE_CHECKING:
    from ..linux.identity import IdMap

_JOBS_PLACE = f"{state_directory(0)}/users"  # its directories are root's Prolog's to make
_PROBLEM = "the container has no door, through which its user logs in without a key"
_BACKLOG = 1000  # connections that wait for Dropbear to open its gate
_MODE = 0o600  # to connect takes the right to write
_SOCKET_LABEL = "/proc/self/attr/sockcreate"  # proc_pid_attr(5)
_MAX_DIGITS = 20  # of 64 bits


def places(uid: int) -> list[str]:
    """Return the directories for doors of an engine of `uid`, an id of the initial user namespace.

    Of a rootless engine's the first is there while its user has a job.
    """
    return [f"{_JOBS_PLACE}/{uid}", f"{state_directory(uid)}/doors"] if uid else [ROOT_PLACE]


def all_places(uid: int) -> list[str]:
    """Return the directories in which doors of the user `uid` can be."""
    return [ROOT_PLACE, *(places(uid) if uid else [])]


def name_of(pid: int, start_time: int) -> str:
    """Return the name of the door of the daemon `pid` of the caller's pid namespace.

    Its start time is in clock ticks since boot. Raises OSError.
    """
    return f"{pid}-{start_time}-{pid_namespace()}"


def peer(uid: int, container_map: IdMap | None, in_user_namespace: bool) -> int | None:
    """Return the uid that the kernel shows for `uid` in the container; None where it could be anybody's.

    `uid` is of the hook's user namespace. `container_map` is the uid_map of the container's, None where that is the
    same. Whoever is not mapped there is shown as the kernel's overflow uid, which says nothing.
    """
    inside = uid if container_map is None else container_map.inside(uid)
    if in_user_namespace and inside == int(read_file("/proc/sys/kernel/overflowuid")):
        return None
    return inside


def make_door(
    engine_uid: int, user: int, process: int | None, *, in_user_namespace: bool, in_job: bool, label: str = ""
) -> Door | NoDoor:
    """Make the door of a daemon whose user is `user`, a uid of the hook's user namespace. Raises OSError and HookError.

    `engine_uid` is that of the engine in the initial user namespace. `process` is the open directory in /proc of a
    process in the container's user namespace, if that is not the hook's. `in_user_namespace` tells whether it is not
    the initial one. There is no door where that does not map the user. `in_job` tells whether the container ends with a
    job of the user's, as the directory for her jobs' doors does. `label` is the SELinux label of the socket: with the
    hook's own one SELinux would take it from a daemon that has another.
    """
    inside = peer(user, None if process is None else read_map("uid_map", process), in_user_namespace)
    if inside is None:
        return NoDoor("its user namespace maps no uid to its user only")
    try:
        _label_sockets(label)
    except OSError as error:
        return NoDoor(f"its SELinux label '{printable(label)}' cannot be set for a socket: {error.strerror}")
    directories = places(engine_uid)
    if not in_job:
        directories.reverse()
    try:
        return Door(directories, inside, owner=0 if engine_uid else user)
    except OSError as error:
        return NoDoor(f"cannot make a socket: {error.strerror}")
    finally:
        if label:
            _label_sockets("\n")  # the hook's own again


def _label_sockets(label: str) -> None:
    """Have the caller's new sockets have this SELinux label; an empty one changes nothing. Raises OSError."""
    if label:
        with closing(os.open(_SOCKET_LABEL, os.O_WRONLY)) as descriptor:
            os.write(descriptor, fsencode(label))


class Door:
    """The door of one daemon, which has no name before `open`.

    Attributes:
        path: its name; empty where it has none.
    """

    def __init__(self, directories: list[str], inside: int, owner: int) -> None:
        """Make the socket. Raises OSError.

        `directories` are those of `places`, the preferred one first. `inside` is the user's uid in the container's user
        namespace, `owner` is to own the name; 0 for the caller.
        """
        self._directories = directories
        self._inside = inside
        self._owner = owner
        self.path = ""
        self._socket = syscalls.socket(syscalls.AF_UNIX, syscalls.SOCK_STREAM | syscalls.SOCK_CLOEXEC)

    def descriptors(self) -> list[int]:
        """Return the descriptors that Dropbear gets."""
        return [self._socket]

    def arguments(self) -> list[str]:
        """Return Dropbear's arguments. Where the door could not be opened, Dropbear does without."""
        return ["-O", f"{self._socket},{self._inside}"]

    def open(self, pid: int, start_time: int) -> None:
        """Give the door its name, and close the caller's descriptor. Raises HookError."""
        name = name_of(pid, start_time)
        problems = []
        for directory in self._directories:
            try:
                self._bind(f"{directory}/{name}", is_of_job=dirname(directory) == _JOBS_PLACE)
            except OSError as error:
                self.remove()  # what it has of a name already
                problems.append(f"{directory}: {error.strerror or 'other users can write to it'}")
            else:
                self.close()
                return
        raise HookError(SYSTEM, f"{_PROBLEM}: cannot make one in {', or in '.join(problems)}")

    def close(self) -> None:
        """Close the caller's descriptor."""
        os.close(self._socket)

    def remove(self) -> None:
        """Remove the name, if there is one."""
        if self.path:
            remove_door(self.path)
            self.path = ""

    def _bind(self, path: str, is_of_job: bool) -> None:
        directory = dirname(path)
        try:
            self._bind_in_directory(path)
        except OSError as error:
            if is_of_job:
                # Its names are few, and in a batch job only the next Epilog removes those of daemons that were killed.
                if error.errno != errno.ENOSPC or not _collect(directory):
                    raise
            elif error.errno == errno.ENOENT:
                outer, _slash, name = directory.rpartition("/")
                os.close(open_directory(outer, name))
            else:
                raise
            self._bind_in_directory(path)

    def _bind_in_directory(self, path: str) -> None:
        self.path = path  # before there is something to remove
        mask = os.umask(0o777 & ~_MODE)
        try:
            syscalls.bind(self._socket, syscalls.unix_address(path))
        finally:
            os.umask(mask)
        if self._owner:
            os.chown(path, self._owner, -1, follow_symlinks=False)
        syscalls.listen(self._socket, _BACKLOG)  # before, nobody can connect


class NoDoor:
    """Stands for the door of a daemon that has none. Attributes: path, empty."""

    path = ""

    def __init__(self, reason: str) -> None:
        """Note why there is none, for a message."""
        self._reason = reason

    def descriptors(self) -> list[int]:
        """Return no descriptor."""
        return []

    def arguments(self) -> list[str]:
        """Return no argument."""
        return []

    def open(self, _pid: int, _start_time: int) -> None:
        """Raise HookError."""
        raise HookError(CONTAINER_UNFIT, f"{_PROBLEM}: {self._reason}")

    def close(self) -> None:
        """Do nothing."""

    def remove(self) -> None:
        """Do nothing."""


def collect_doors(uid: int, level: int = INFO) -> int:
    """Remove the doors of daemons of an engine of `uid` that have ended; return how many directories failed.

    Whoever ends a daemon under enroot has nothing of the node's, and the supervisor of an attach may be killed.
    Failures are logged at `level`.
    """
    failures = 0
    for directory in places(uid):
        try:
            removed = _collect(directory) if uid else _collect_roots()
        except (HookError, OSError) as error:
            log(level, f"cannot remove the doors of daemons that have ended: {describe_failure(error)}", kind_of(error))
            failures += 1
        else:
            if removed:
                log(INFO, f"{directory}: removed the doors of {removed} daemons that have ended")
    return failures


def _collect_roots() -> int:
    """Do what `_collect` does in root's directory, and remove the names that were moved. Raises HookError."""

    def collect() -> bytes:
        for name in _names(REMOVED):
            unlink(f"{REMOVED}/{name}")
        return b"%d" % _collect(ROOT_PLACE)

    return int(disposable_process.run(collect, f"cannot remove names in {ROOT_PLACE}", None))


def _collect(directory: str) -> int:
    """Remove names in a directory of doors whose daemons have ended; return how many. Raises OSError."""
    # A daemon lived before its name was made.
    return sum(unlink(f"{directory}/{name}") for name in _names(directory) if not _has_daemon(name))


def _names(directory: str) -> list[str]:
    """Return the names in a directory of doors. Raises OSError."""
    try:
        return os.listdir(directory)
    except (FileNotFoundError, PermissionError):
        return []  # or root's, where what it has mounted there for the user is in another mount namespace


def _has_daemon(name: str) -> bool:
    """Tell whether the process lives that a door is named after, or one of its pid that the caller may not see.

    One of another pid namespace, as of a job that has its own, is taken to live.
    """
    pid, start_time, namespace = [*name.split("-"), "", ""][:3]
    if not (all(is_decimal(part, _MAX_DIGITS) for part in (pid, start_time, namespace)) and 0 < int(pid) <= MAX_PID):
        return False
    if int(namespace) != pid_namespace():
        return True
    try:
        process = Process(int(pid))
    except OSError:
        return pid_is_taken(int(pid))  # hidepid hides those of another user namespace, though they are the same user's
    try:
        return process.is_alive() and process.start_time() == int(start_time)
    except OSError:
        return pid_is_taken(int(pid))
    finally:
        process.close()
