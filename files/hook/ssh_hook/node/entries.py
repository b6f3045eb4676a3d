# SPDX-License-Identifier: GPL-3.0-or-later
"""Where entries of daemons (record.py) are kept for sweeps and the inventory: written at a start, removed at the end.

A rootful engine's are root's. One, below /var/lib, survives a power failure. The other is for the container's user, who
may search its directory but not list it: whoever may list a directory can hold its inode lock. So its names are
numbers, of which a start takes the lowest that is free. The file `numbers` has a byte for each that was ever in use,
and so tells the user how far to look. A number is never replaced, and is moved away in the end (door_removal.py): so
nobody waits for a file system that the user has mounted on it. The directory stays until the node boots.

Those of a rootless engine, of enroot and of an attach are in directories of the user's: in a job the one for the user's
jobs (job_doors.py), else the login session's, and in /tmp. Poststop, a sweep or a supervisor removes them.
"""

from __future__ import annotations

import errno

from ..errors import SYSTEM, HookError
from ..linux.fast_stdlib import TYPE_CHECKING, closing, create_file, os, stat
from ..linux.files import is_own
from ..linux.mounts import mount_id
from ..log import INFO, WARNING, log
from .engine import JOBS_PLACE, state_directory, temporary_directory

if TYPE_CHECKING:
    from .record import Record

ROOT_COPIES = "/var/lib/ocihooks-ssh/daemons"
ROOT_PLACE = f"{state_directory(0)}/entries"
DIRECTORY = "daemons"
NUMBERS = "numbers"
MAX_NUMBERS = 1000  # entries of one user's rootful containers
_FULL = (errno.ENOSPC, errno.EDQUOT)


def directories(uid: int) -> list[str]:
    """Return the directories in which an engine of `uid`, an id of the initial user namespace, keeps its own entries.

    A job's is the user's only while she has a job.
    """
    if uid == 0:
        return [ROOT_COPIES]
    places = f"{JOBS_PLACE}/{uid}", state_directory(uid), temporary_directory(uid)
    return [f"{place}/{DIRECTORY}" for place in places]


def keep(known: Record, engine_uid: int, in_job: bool) -> None:
    """Keep an entry, and note in it where. It never fails: without it, a container only cannot be found.

    `engine_uid` is that of the engine in the initial user namespace. `in_job`: whether the container ends with a job.
    """
    if engine_uid == 0:
        _keep_for_user(known)
        _keep_copy(known)
        return
    job, session, temporary = directories(engine_uid)
    # The end of a job, or a logout, removes its directory, but perhaps not the container: then the other file counts.
    places = [("copy", job if in_job else session), ("copy", session if in_job else job), ("entry", temporary)]
    problems = []
    for name, path in places:
        if known.texts[name]:
            continue
        try:
            _keep_own(known, name, path)
        except OSError as error:
            problems.append(f"{path}: {error.strerror or 'other users can write to it'}")
    if known.texts["copy"] or known.texts["entry"]:
        return
    log(
        WARNING,
        f"'ssh_hook status' and 'connect' will not find the container, since no entry can be made in "
        f"{', or in '.join(problems)}: log in to this node, or have the administrator remove what is in the way",
        SYSTEM,
    )


def _keep_own(known: Record, text: str, path: str) -> None:
    """Write the entry into the user's directory `path`; make the directory, or room in it. Raises OSError.

    `text` is the name of the text that has the path: copy or entry.
    """
    known.texts[text] = f"{path}/{known.name()}"
    try:
        with closing(open_own(path, create=True)) as directory:
            try:
                _write(known, known.name(), directory)
            except OSError as error:
                from .entry_reader import collect  # here: few starts need room

                if error.errno not in _FULL or not collect(path):
                    raise
                _write(known, known.name(), directory)
    except OSError:
        known.texts[text] = ""
        raise


def open_own(path: str, *, create: bool = False) -> int:
    """Open the directory `path` for reading; only the caller can write to it and to the directory above it.

    `create` makes both if they are missing. Raises OSError.
    """
    place, _slash, name = path.rpartition("/")
    above, _slash, place_name = place.rpartition("/")
    with closing(os.open(above, os.O_PATH | os.O_DIRECTORY)) as parent:
        with closing(_open_own_in(parent, place_name, create)) as outer:
            return _open_own_in(outer, name, create)


def _open_own_in(parent: int, name: str, create: bool) -> int:
    """Open the directory `name` in the open `parent` for reading, if only the caller can write to it.

    Where everyone can make names, as in /tmp, another user may have mounted FUSE on this one. Whoever opens, reads or
    stats that waits for this user. O_PATH and the mount's id do not ask the file system.
    """
    try:
        handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except FileNotFoundError:
        if not create:
            raise
        os.mkdir(name, 0o700, dir_fd=parent)
        return _open_own_in(parent, name, create)
    with closing(handle):
        is_public = os.fstat(parent).st_mode & stat.S_IWOTH
        if (is_public and not _is_same_mount(handle, parent)) or not is_own(os.fstat(handle), stat.S_IFDIR):
            raise PermissionError
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=handle)


def _is_same_mount(first: int, second: int) -> bool:
    try:
        return mount_id(first) == mount_id(second)
    except HookError:
        return False  # the kernel is too old to show it


def _write(known: Record, name: str, directory: int) -> None:
    """Create the file `name`, and remove it if it cannot be written. Raises OSError."""
    try:
        os.close(create_file(name, known.data(), 0o600, directory))
    except FileExistsError:
        raise
    except OSError:
        try:
            os.unlink(name, dir_fd=directory)
        except OSError:
            pass  # it was not created
        raise


def _keep_copy(known: Record) -> None:
    """Write root's copy, which survives a power failure."""
    known.texts["copy"] = f"{ROOT_COPIES}/{known.name()}"
    try:
        try:
            os.close(create_file(known.texts["copy"], known.data()))
        except FileNotFoundError:
            for missing in (ROOT_COPIES.rpartition("/")[0], ROOT_COPIES):
                try:
                    os.mkdir(missing, 0o700)
                except FileExistsError:
                    pass
            os.close(create_file(known.texts["copy"], known.data()))
    except OSError as error:
        log(INFO, f"cannot copy the record to {known.texts['copy']}: {error.strerror}")
        try:
            os.unlink(known.texts["copy"])
        except OSError:
            pass  # it was not created


def _keep_for_user(known: Record) -> None:
    """Write the entry for the container's user; root reads its own anyway."""
    owner = known.texts["owner"]
    if owner in ("", "0"):
        return
    try:
        with closing(_open_users(owner)) as directory:
            known.texts["entry"] = f"{ROOT_PLACE}/{owner}/{_create_number(known, directory)}"
    except OSError as error:
        log(INFO, f"no entry for the container's user in {ROOT_PLACE}: {error.strerror}")


def _open_users(owner: str) -> int:
    """Open root's directory for the user with the uid `owner`; make it if it is missing. Raises OSError."""
    path = f"{ROOT_PLACE}/{owner}"
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        for missing, mode in ((state_directory(0), 0o711), (ROOT_PLACE, 0o711), (path, 0o700)):
            try:
                os.mkdir(missing, mode)
            except FileExistsError:
                pass
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    if not os.fstat(directory).st_mode & stat.S_IXGRP:  # as which an ACL is shown
        from .own_files import let_search  # here: only a user's first start since the node booted needs it

        let_search(directory, int(owner))
    return directory


def _create_number(known: Record, directory: int) -> int:
    """Create an entry with the lowest number that is free; return the number. Raises OSError."""
    taken = set(os.listdir(directory))
    for number in range(MAX_NUMBERS):
        if str(number) in taken:
            continue
        try:
            with closing(os.open(NUMBERS, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=directory)) as numbers:
                if os.fstat(numbers).st_size <= number:
                    os.pwrite(numbers, b".", number)
            _write_number(known, number, directory)
            return number
        except FileExistsError:
            continue  # another start's
    raise OSError(errno.EDQUOT, f"the user has {MAX_NUMBERS} containers")


def _write_number(known: Record, number: int, directory: int) -> None:
    """Create the file `number`, and move it away if it cannot be written. Raises OSError."""
    try:
        os.close(create_file(str(number), known.data(), 0o644, directory))
    except FileExistsError:
        raise
    except OSError:
        from .door_removal import move_away  # here: only a full file system needs it

        move_away(f"{ROOT_PLACE}/{known.texts['owner']}/{number}", f"entry-{known.name()}")
        raise
