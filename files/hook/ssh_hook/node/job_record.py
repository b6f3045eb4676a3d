# SPDX-License-Identifier: GPL-3.0-or-later
"""The scheduler's data on a job: an entry that root keeps for the job's user (places.py).

``ssh_hook prolog`` writes it before the job's first process, and ``ssh_hook epilog`` frees it. The hook of a rootless
engine can read the records of its own user only, since a site may hide where other users' jobs run.

Format: a line "ssh_hook job 1", then "name=value" lines: job, its name (job_names.py); uid, of the job's user; cluster,
its name, which may be empty; hosts, in the format of host_list.py, each with its number of processes; start, in seconds
since the epoch; leader, the number of a heterogeneous job's first component, otherwise the job's own number. Other
names are reserved for later versions. Values have no control characters.
"""

from __future__ import annotations

from ..errors import ARGUMENTS_WRONG, NOT_TRUSTED, HookError, printable
from ..fast_stdlib import TYPE_CHECKING, fsencode
from ..linux.job_names import is_number
from ..linux.process import MAX_ID
from ..oci.host_list import MAX_HOSTS, compress, parse
from . import earlier, places

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_KIND = "ssh_hook job "
_VERSION = f"{_KIND}1"
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

    def data(self, name: str) -> bytes:
        """Return the entry of the job `name`. Raises HookError if there are too many hosts."""
        if len(self.hosts) > MAX_HOSTS:
            raise HookError(
                ARGUMENTS_WRONG,
                f"the job has {len(self.hosts)} hosts, but the list for containers has at most {MAX_HOSTS}",
            )
        hosts = compress(self.hosts.items())
        parse(hosts, "the job's list of hosts", ARGUMENTS_WRONG)  # enforces further limits
        fields = {
            "job": name,
            "uid": self.uid,
            "cluster": self.cluster,
            "hosts": hosts,
            "start": self.start,
            "leader": self.leader,
        }
        return fsencode("\n".join([_VERSION, *(f"{name}={value}" for name, value in fields.items()), ""]))


def write(name: str, record: JobRecord) -> None:
    """Write the record of job `name`, in place of an earlier one. Must be called by root. Raises HookError, OSError."""
    data = record.data(name)
    remove(name, record.uid)
    places.add(record.uid, data, places.JOBS)


def remove(name: str, uid: int) -> None:
    """Free the record of job `name` of the user `uid`, if there is one.

    No lock is needed: nobody else frees it, except that a sweep frees records of jobs that began more than 30 days ago.
    Must be called by root. Raises HookError and OSError.
    """
    for path, text in _records(uid):
        if name_in(text) == name:
            places.free_own(path, lambda text: name_in(text) == name)
    earlier.free_job(name)


def has_job_of(uid: int) -> bool:
    """Return whether the user `uid` may have a job. Must be called by root. Raises HookError and OSError."""
    return any(_records(uid)) or any(_earlier_uid(name) == uid for name in earlier.jobs())


def is_anothers(name: str, uid: int) -> bool:
    """Return whether root has a record of job `name` of another user than `uid`; False for callers other than root.

    Raises HookError and OSError.
    """
    others = (other for other in places.users() if other != uid)
    if any(name_in(text) == name for other in others for _path, text in places.entries(other, False, places.JOBS)):
        return True
    return _earlier_uid(name) not in (None, uid)


def _earlier_uid(name: str) -> int | None:
    """Return the uid of the user of job `name`, which began before an upgrade; None if there is no such record."""
    record = parse_record(earlier.job_text(name, False))
    return None if record is None else record.uid


def _records(uid: int) -> Iterator[tuple[str, str]]:
    """Yield path and text of each record of the user's jobs. Earlier versions gave them names of daemons' entries."""
    for names in (places.JOBS, places.DAEMONS):
        yield from (each for each in places.entries(uid, False, names) if name_in(each[1]))


def name_in(text: str) -> str:
    """Return the name of the job whose record is `text`; empty if it is another entry."""
    line = text.split("\n", 2)[1:2] if text.startswith(_KIND) else []
    return line[0].partition("job=")[2] if line else ""


def read(name: str, uid: int, is_rootless: bool) -> JobRecord | None:
    """Return the record of job `name` of the user `uid`; None if there is none.

    `is_rootless` is as in `places.entries`. Raises HookError if it is writable by others than root, or not a record.
    """
    known = (text for _path, text in places.entries(uid, is_rootless, places.JOBS) if name_in(text) == name)
    text = next(known, None) or earlier.job_text(name, is_rootless)
    record = parse_record(text) if text else None
    if text and record is None:
        raise HookError(NOT_TRUSTED, f"the record of job {name} is not one of this version of the hook")
    return record if record is None or record.uid == uid else None


def parse_record(text: str) -> JobRecord | None:
    """Return the record; None if it has another version or is unfinished. Raises HookError for invalid hosts."""
    version, *lines = text.split("\n")
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    numbers = {name: fields.get(name, "") for name in _NUMBERS}
    if (
        version != _VERSION
        or not text.endswith("\n")
        or not {"hosts", "cluster"} <= fields.keys()
        or not all(map(is_number, numbers.values()))
    ):
        return None
    uid, start, leader = map(int, numbers.values())
    if uid > MAX_ID:
        return None
    return JobRecord(uid, fields["cluster"], dict(parse(fields["hosts"], "a job's record", NOT_TRUSTED)), start, leader)


def checked_number(text: str, what: str) -> int:
    """Return the number in `text`. Raises HookError, which begins with `what`."""
    if not is_number(text):
        raise HookError(
            ARGUMENTS_WRONG, f"{what} is '{printable(text)}', not a number" if text else f"{what} is not set"
        )
    return int(text)
