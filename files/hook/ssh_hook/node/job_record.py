# SPDX-License-Identifier: GPL-3.0-or-later
"""The scheduler's data on a job: root's file on each of its nodes, /run/ocihooks-ssh/jobs/NAME (job_names.py).

``ssh_hook prolog`` writes it before the job's first process, and ``ssh_hook epilog`` removes it. An ACL lets the job's
user read it, for the hook of a rootless engine. Others cannot, since a site may hide where jobs run. Nor can they list
the directory; but if they guess a record's name, they can see that it exists, since when, and by its ACL whose it is.

Format: a line "ssh_hook job 1", then "name=value" lines: uid, of the job's user; cluster, its name, which may be empty;
hosts, in the format of host_list.py, each with its number of processes; start, in seconds since the epoch; leader, the
number of a heterogeneous job's first component, otherwise the job's own number. Other names are reserved for later
versions. Values have no control characters.
"""

from __future__ import annotations

from ..errors import ARGUMENTS_WRONG, NOT_TRUSTED, SYSTEM, HookError, printable
from ..linux.fast_stdlib import TYPE_CHECKING, closing, fsdecode, fsencode, os, read_all
from ..linux.files import remove_leftovers, replace_files
from ..linux.job_names import is_name, is_number
from ..linux.process import MAX_ID
from ..oci.host_list import MAX_HOSTS, MAX_TEXT, compress, parse
from .engine import state_directory
from .own_files import let_read, open_directory, open_roots

if TYPE_CHECKING:
    from collections.abc import Mapping

PLACE = state_directory(0)  # root's, for all readers
DIRECTORY = "jobs"
_VERSION = "ssh_hook job 1"
_MAX_SIZE = MAX_TEXT + (4 << 10)  # bytes
_UP_TO_UID = 64  # bytes
_NUMBERS = ("uid", "start", "leader")


class JobRecord:
    """The recorded data on a job.

    Attributes:
        uid: of the job's user, in the initial user namespace.
        cluster: the name of the cluster, or of the PBS server; empty if unknown.
        hosts: the job's hosts in order, each with the number of processes that launchers start on it.
        start: when the job started on this node, in seconds since the epoch.
        leader: the number that all components of a heterogeneous job share; otherwise the job's own.
    """

    def __init__(self, uid: int, cluster: str, hosts: Mapping[str, int], start: int, leader: int) -> None:
        self.uid = uid
        self.cluster = cluster
        self.hosts = dict(hosts)
        self.start = start
        self.leader = leader

    def data(self) -> bytes:
        """Return the content of the file. Raises HookError if there are too many hosts."""
        if len(self.hosts) > MAX_HOSTS:
            raise HookError(
                ARGUMENTS_WRONG, f"the job has {len(self.hosts)} hosts, and containers can be told {MAX_HOSTS} at most"
            )
        hosts = compress(self.hosts.items())
        parse(hosts, "the job's list of hosts", ARGUMENTS_WRONG)  # enforces further limits
        fields = {
            "uid": self.uid,
            "cluster": self.cluster,
            "hosts": hosts,
            "start": self.start,
            "leader": self.leader,
        }
        return fsencode("\n".join([_VERSION, *(f"{name}={value}" for name, value in fields.items()), ""]))


def write(name: str, record: JobRecord) -> None:
    """Write the record of job `name`, replacing an earlier one. Must be called by root. Raises HookError, OSError."""
    data = record.data()
    with closing(open_directory(PLACE, DIRECTORY)) as directory:
        remove_leftovers(directory, name)
        reader = record.uid
        replace_files(directory, {name: data}, (lambda file: let_read(file, reader)) if reader else None)


def remove(name: str) -> None:
    """Remove the record of job `name`, if there is one. Must be called by root. Raises OSError."""
    with closing(open_directory(PLACE, DIRECTORY)) as directory:
        try:
            os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            pass  # its Prolog was not called, or failed


def has_job_of(uid: int) -> bool:
    """Return whether there is a record of a job of the user `uid`, or of an unknown user. Must be called by root.

    Raises OSError.
    """
    with closing(open_directory(PLACE, DIRECTORY)) as directory:
        return any(_may_be_of(uid, directory, name) for name in os.listdir(directory) if is_name(name))


def _may_be_of(uid: int, directory: int, name: str) -> bool:
    """Return whether a record is the user's or has another version. Reads only its beginning, not its hosts."""
    try:
        with closing(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)) as file:
            version, owner, *_rest = [*fsdecode(os.read(file, _UP_TO_UID)).split("\n"), ""]
    except FileNotFoundError:
        return False  # the job has ended
    return version != _VERSION or not owner.startswith("uid=") or owner == f"uid={uid}"


def read(name: str, is_rootless: bool) -> JobRecord | None:
    """Return the record of job `name`, a valid name; None if there is none.

    `is_rootless` is as in `open_roots`. A record that the caller may not read is of another user's job, and counts as
    none. Raises HookError if the file or a directory above it is writable by others than root, or the file is not a
    record.
    """
    path = f"{PLACE}/{DIRECTORY}/{name}"
    directory = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        with closing(open_roots(PLACE, directory, None, is_rootless)) as place:
            with closing(open_roots(DIRECTORY, directory, place, is_rootless)) as jobs:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
                with closing(open_roots(name, flags, jobs, is_rootless)) as file:
                    text = fsdecode(read_all(file, _MAX_SIZE))
    except (FileNotFoundError, PermissionError):
        return None
    except OSError as error:
        raise HookError(SYSTEM, f"cannot read {path}: {error.strerror}") from None
    record = _parse(text, path)
    if record is None:
        raise HookError(NOT_TRUSTED, f"{path} is not a job record of this version of the hook")
    return record


def _parse(text: str, where: str) -> JobRecord | None:
    """Return the record; None if it has another version. Raises HookError for invalid hosts."""
    version, *lines = text.split("\n")
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    numbers = {name: fields.get(name, "") for name in _NUMBERS}
    if version != _VERSION or not {"hosts", "cluster"} <= fields.keys() or not all(map(is_number, numbers.values())):
        return None
    uid, start, leader = map(int, numbers.values())
    if uid > MAX_ID:
        return None
    return JobRecord(uid, fields["cluster"], dict(parse(fields["hosts"], where, NOT_TRUSTED)), start, leader)


def checked_number(text: str, what: str) -> int:
    """Return the number in `text`. Raises HookError, which begins with `what`."""
    if not is_number(text):
        raise HookError(
            ARGUMENTS_WRONG, f"{what} is '{printable(text)}', not a number" if text else f"{what} is not set"
        )
    return int(text)
