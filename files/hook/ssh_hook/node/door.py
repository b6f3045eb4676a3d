# SPDX-License-Identifier: GPL-3.0-or-later
"""Doors: Unix sockets of the node's file system, at which a daemon lets its user in without a key.

A process that runs as the user on the node may enter the user's containers anyway, for example by ``podman exec``. So
no key is needed. The permissions of the socket and its directory let only the user connect, and Dropbear also asks the
kernel for the client's uid (SO_PEERCRED).

The hook makes the socket before it forks, and the name when it knows the daemon's process, which has yet to be
released. Nothing in the container leads to the name: Dropbear gets the open descriptor. The name is the daemon's pid
and start time, and the inode of the pid namespace that shows it with this pid. So the name can be computed from /proc,
and a name to which no process belongs is left over.

Doors of a rootful engine belong to root. They are in a directory for each user, in which only root and this user can
open names (places.py). There, root's sweep removes names, or a start that finds too many (door_collection.py). Doors of
a rootless engine are in a directory of the user: one that root has made for a batch job, or /run/user/UID, which a user
without a login session lacks.
"""

from __future__ import annotations

import errno

from ..errors import CONTAINER_UNFIT, SYSTEM, HookError, printable
from ..fast_stdlib import TYPE_CHECKING, basename, closing, dirname, fsencode, os, read_file
from ..linux import syscalls
from ..linux.id_maps import read_map
from ..linux.process import pid_namespace
from . import own_places, places
from .engine import JOBS_PLACE

if TYPE_CHECKING:
    from ..linux.id_maps import IdMap

_PROBLEM = "the container has no door, through which its user logs in without a key"
_BACKLOG = 1000  # connections that wait for Dropbear to open its gate
_MODE = 0o600  # to connect takes the right to write
_ROOTS_MODE = 0o660  # the group's bits are the mask of the ACL that the directory gives it
_MOST = 3000  # names in root's directory of a user, of which 1256 are for entries
_SOCKET_LABEL = "/proc/self/attr/sockcreate"  # proc_pid_attr(5)


def name_of(pid: int, start_time: int, namespace: int) -> str:
    """Return the name of the door of the daemon `pid` of the pid namespace with the inode `namespace`.

    Its start time is in clock ticks since boot.
    """
    return f"{pid}-{start_time}-{namespace}"


def peer(uid: int, container_map: IdMap | None, in_user_namespace: bool) -> int | None:
    """Return the uid that the kernel shows for `uid` in the container; None where it could be anybody's.

    `uid` is of the hook's user namespace. `container_map` is the uid_map of the container's user namespace; None if
    that is the hook's own. All users whom it does not map appear as the kernel's overflow uid, so this uid identifies
    nobody.
    """
    inside = uid if container_map is None else container_map.inside(uid)
    if in_user_namespace and inside == int(read_file("/proc/sys/kernel/overflowuid")):
        return None
    return inside


def make_door(
    engine_uid: int, user: int, process: int | None, *, in_user_namespace: bool, in_job: bool, label: str = ""
) -> Door:
    """Make the door of a daemon whose user is `user`, a uid of the hook's user namespace. Raises OSError and HookError.

    `engine_uid` is that of the engine in the initial user namespace. `process` is the open directory in /proc of a
    process in the container's user namespace, if that is not the hook's. `in_user_namespace`: whether the container's
    user namespace is not the initial one; if it does not map the user, there is no door. `in_job`: whether the
    container belongs to a job; then the directory for the doors of the user's jobs is tried first, since both last
    until the job ends. `label` is the SELinux label of the socket: if the daemon has another label, SELinux takes a
    socket with the hook's label away from it when it executes Dropbear.
    """
    inside = peer(user, None if process is None else read_map("uid_map", process), in_user_namespace)
    if inside is None:
        return no_door("its user namespace does not map this user, so others could look the same to the kernel")
    try:
        _label_sockets(label)
    except OSError as error:
        return no_door(f"its SELinux label '{printable(label)}' cannot be set for a socket: {error.strerror}")
    if engine_uid == 0:
        directories = [f"{places.ENTRIES}/{user}"]
    else:
        directories = own_places.for_doors(engine_uid)[:: 1 if in_job else -1]
    try:
        return Door(directories, inside, _MODE if engine_uid else _ROOTS_MODE)
    except OSError as error:
        return no_door(f"cannot make a socket: {error.strerror}")
    finally:
        if label:
            _label_sockets("\n")  # the hook's own again


def _label_sockets(label: str) -> None:
    """Have the caller's new sockets have this SELinux label; an empty one changes nothing. Raises OSError."""
    if label:
        with closing(os.open(_SOCKET_LABEL, os.O_WRONLY)) as descriptor:
            os.write(descriptor, fsencode(label))


def no_door(reason: str) -> Door:
    """Return what stands for the door of a daemon that can have none. The `reason` is for a message."""
    return Door([], 0, _MODE, reason)


class Door:
    """The door of one daemon, which has no name before `open`.

    Attributes:
        path: its name; empty where it has none.
    """

    def __init__(self, directories: list[str], inside: int, mode: int, reason: str = "") -> None:
        """Make the socket, unless there is a `reason` for which there can be none. Raises OSError.

        `directories` are those for its name, the preferred one first. `inside` is the user's uid in the container's
        user namespace, `mode` the socket's.
        """
        self._directories = directories
        self._inside = inside
        self._mode = mode
        self._reason = reason
        self._namespace = 0 if reason else pid_namespace()  # asked for before the fork, after which each page is copied
        self.path = ""
        kind = syscalls.SOCK_STREAM | syscalls.SOCK_CLOEXEC
        self._sockets = [] if reason else [syscalls.socket(syscalls.AF_UNIX, kind)]

    def descriptors(self) -> list[int]:
        """Return the descriptors that Dropbear gets."""
        return self._sockets

    def arguments(self) -> list[str]:
        """Return Dropbear's arguments. Where the door could not be opened, Dropbear does without."""
        return ["-O", f"{self._sockets[0]},{self._inside}"] if self._sockets else []

    def open(self, pid: int, start_time: int) -> None:
        """Give the door its name, and close the caller's descriptor. Raises HookError, also where there can be none."""
        if self._reason:
            raise HookError(CONTAINER_UNFIT, f"{_PROBLEM}: {self._reason}")
        name = name_of(pid, start_time, self._namespace)
        problems = []
        for directory in self._directories:
            try:
                self._bind(directory, name)
            except OSError as error:
                self.remove()  # what it has of a name already
                problems.append(f"{directory}: {error.strerror or 'other users can write to it'}")
            else:
                self.close()
                return
        raise HookError(SYSTEM, f"{_PROBLEM}: cannot make one in {', or in '.join(problems)}")

    def close(self) -> None:
        """Close the caller's descriptor."""
        for descriptor in self._sockets:
            os.close(descriptor)

    def remove(self) -> None:
        """Remove the name, if there is one."""
        if self.path and self._mode != _ROOTS_MODE:  # a sweep removes root's
            places.unlink(self.path)
        self.path = ""

    def _bind(self, directory: str, name: str) -> None:
        path = f"{directory}/{name}"
        try:
            if self._mode == _ROOTS_MODE:
                _require_room(int(basename(directory)))
            self._bind_to(path)
        except OSError as error:
            if not _make_usable(directory, error.errno):
                raise
            self._bind_to(path)

    def _bind_to(self, path: str) -> None:
        self.path = path  # before there is something to remove
        (descriptor,) = self._sockets
        mask = os.umask(0o777 & ~self._mode)
        try:
            syscalls.bind(descriptor, syscalls.unix_address(path))
        finally:
            os.umask(mask)
        syscalls.listen(descriptor, _BACKLOG)  # before, nobody can connect


def _require_room(uid: int) -> None:
    """Make root's directory for the user usable. Raises OSError and HookError, also if it has too many names."""
    with closing(places.open_directory(uid)) as directory:
        if len(os.listdir(directory)) < _MOST:
            return

        from .door_collection import make_room  # here: few users end thousands of containers between two sweeps

        make_room(uid)
        if len(os.listdir(directory)) >= _MOST:
            raise OSError(errno.EDQUOT, f"there are {_MOST} names, until a sweep removes doors of ended daemons")


def _make_usable(directory: str, number: int | None) -> bool:
    """Make a directory of doors if it is missing, or free room in it if it is full. Raises OSError.

    Return whether another attempt makes sense. `number` is the errno with which no name could be made in it.
    """
    is_of_jobs = dirname(directory) == JOBS_PLACE
    if number == errno.ENOENT and not is_of_jobs:
        os.close(own_places.open_own(directory, create=True))
        return True
    if number != errno.ENOSPC or not is_of_jobs:
        return False

    from . import entry_reader  # here: few starts need room
    from .door_collection import collect

    # Its names are few, and in a batch job nobody else removes those of daemons that were killed.
    return collect(directory) + entry_reader.collect(f"{directory}/{own_places.ENTRIES}") > 0
