"""The record of a job: what is written is read, and by whom it must have been written."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ssh_hook.errors import HookError
from ssh_hook.node import access, earlier, job_record, locks, places
from ssh_hook.node.job_record import JobRecord

UID = 2001
TEXT = "ssh_hook job 1\njob=7\nuid=2001\ncluster=alps\nhosts=nid001+2:4,login:1\nstart=1764390000\nleader=1234\n"
EARLIER = TEXT.replace("job=7\n", "")
ROOTS = access._roots


def record(**values: int) -> JobRecord:
    fields = {"uid": 2001, "start": 1764390000, "leader": 1234, **values}
    hosts = {"nid001": 4, "nid002": 4, "nid003": 4, "login": 1}
    return JobRecord(fields["uid"], "alps", hosts, fields["start"], fields["leader"])


@pytest.fixture(name="entries")
def fixture_entries(node: Path) -> Path:
    """Root's directory for the user; it need not be there."""
    return node / "entries" / str(UID)


def read(name: str = "7", uid: int = UID) -> JobRecord | None:
    return job_record.read(name, uid, is_rootless=False)


def test_what_is_written_is_read(entries: Path) -> None:
    job_record.write("7", record())
    assert (entries / "j0").read_text(encoding="ascii") == TEXT
    found = read()
    assert found is not None
    assert vars(found) == vars(record())
    assert read("8") is read("") is read(uid=UID + 1) is None


def test_a_record_is_replaced_and_freed(entries: Path) -> None:
    for name in ("6", "7", "8"):
        job_record.write(name, record(start=1))
    job_record.write("7", record(start=2))
    found = read()
    assert found is not None
    assert found.start == 2
    for _again in range(2):
        job_record.remove("7", UID)
    assert read() is None
    assert [path.read_bytes()[:1] for path in sorted(entries.iterdir())] == [b"s", b"\0", b"s"]
    job_record.write("9", record())
    assert len(list(entries.iterdir())) == 3


def test_whose_jobs_there_are(node: Path) -> None:
    assert not job_record.has_job_of(UID)
    job_record.write("7", record())
    assert job_record.has_job_of(UID)
    assert not job_record.has_job_of(200)
    assert [job_record.is_anothers("7", uid) for uid in (UID, 200)] == [False, True]
    job_record.remove("7", 200)
    assert job_record.has_job_of(UID)
    job_record.remove("7", UID)
    assert not job_record.has_job_of(UID)


def test_a_job_whose_record_has_the_name_of_a_daemons_ends(node: Path) -> None:
    """As an earlier version named it."""
    path = places.add(UID, record().data("7"))
    assert job_record.has_job_of(UID)
    job_record.remove("7", UID)
    assert not job_record.has_job_of(UID)
    assert Path(path).read_bytes()[:1] == b"\0"


def test_the_end_of_a_job_waits_for_nobody(
    node: Path, locked: Callable[[int, int], AbstractContextManager[None]]
) -> None:
    job_record.write("7", record())
    with locked(UID, locks.CHANGES):
        job_record.remove("7", UID)
    assert read() is None


def test_a_job_that_began_before_an_upgrade(node: Path) -> None:
    (node / "jobs").mkdir(mode=0o711)
    (node / "jobs/7").write_text(EARLIER, encoding="ascii")
    found = read()
    assert found is not None
    assert vars(found) == vars(record())
    assert read(uid=UID + 1) is read("6") is None


def test_whose_jobs_there_are_that_began_before_an_upgrade(node: Path) -> None:
    (node / "jobs").mkdir()
    (node / "jobs/7").write_bytes(record().data("7"))
    assert [job_record.has_job_of(uid) for uid in (UID, 200)] == [True, False]
    assert [job_record.is_anothers("7", uid) for uid in (UID, 200)] == [False, True]
    assert earlier.left() == []
    job_record.remove("7", UID)
    job_record.remove("8", UID)
    assert read() is None
    assert not job_record.has_job_of(UID)
    assert not job_record.is_anothers("7", 200)
    assert earlier.left() == [str(node / "jobs/7")]


def test_what_an_earlier_version_has_left(node: Path) -> None:
    for name in ("removed", "last", "doors"):
        (node / name).mkdir()
    for name in ("removed/x", "last/2001", "doors/4194304-1-1"):
        (node / name).touch()
    assert sorted(earlier.left()) == [str(node / name) for name in ("last/2001", "removed/x")]


def test_only_the_jobs_user_looks_it_up_and_nobody_lists_the_directory(node: Path, entries: Path) -> None:
    before = os.umask(0o077)
    try:
        job_record.write("7", record())
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (node / "entries", entries, entries / "j0")] == [
        0o711,
        0o710,
        0o640,
    ]
    # The group bits are the mask of the ACL, which has one user.
    acl = os.getxattr(entries, "system.posix_acl_access")
    found = [acl[start : start + 8] for start in range(4, len(acl), 8)]
    users = [(int.from_bytes(e[2:4], "little"), int.from_bytes(e[4:], "little")) for e in found if e[0] == 2]
    assert users == [(1, UID)]
    assert [entry[2:4] for entry in found if entry[0] in (0x04, 0x20)] == [b"\0\0"] * 2


@pytest.mark.parametrize("who", ["entries", "file"])
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_what_others_can_write_to_is_refused(entries: Path, who: str, mode: int) -> None:
    job_record.write("7", record())
    path = {"entries": entries, "file": entries / "j0"}[who]
    path.chmod(path.stat().st_mode | mode)
    with pytest.raises(HookError, match="is writable by users other than root"):
        read()


def test_another_owner_is_refused(entries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job_record.write("7", record())
    monkeypatch.setattr(access, "_roots", lambda _is_rootless: {os.geteuid() + 1})
    with pytest.raises(HookError, match="is writable by users other than root"):
        read()


def test_in_a_user_namespace_roots_files_are_nobodys() -> None:
    overflow = int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii"))
    assert ROOTS(True) == {0, overflow}
    assert ROOTS(False) == {0}


def test_a_record_that_the_caller_may_not_read_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> int:
        raise PermissionError

    job_record.write("7", record())
    monkeypatch.setattr(access, "open_roots", refuse)
    monkeypatch.setattr(earlier, "open_roots", refuse)
    assert job_record.read("7", UID, is_rootless=True) is None


@pytest.mark.parametrize("kind", ["fifo", "directory"])
def test_what_is_no_file_is_refused_at_once(entries: Path, kind: str) -> None:
    job_record.write("7", record())
    (entries / "j0").unlink()
    os.mkfifo(entries / "j0", 0o600) if kind == "fifo" else (entries / "j0").mkdir()
    with pytest.raises(HookError):
        read()


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("job 1", "job 2"),
        TEXT.replace("uid=2001\n", ""),
        TEXT.replace("2001", "-1"),
        TEXT.replace("2001", "4294967295"),
        TEXT.replace("2001", "\u0662"),
        TEXT.replace("1234", "9" * 19),
        TEXT.replace("hosts=", "ghosts="),
        TEXT.replace("nid001+2:4", "-x"),
        TEXT.replace("nid001+2:4", "nid[1-999999]"),
        TEXT + "x" * 300_000,
    ],
)
def test_what_is_no_record_is_refused_in_one_line(entries: Path, text: str) -> None:
    job_record.write("7", record())
    (entries / "j0").write_text(text, encoding="utf-8")
    with pytest.raises(HookError, match="job") as caught:
        read()
    assert str(caught.value).isprintable()


parts = st.sampled_from(
    ["ssh_hook job 1", "uid=1", "uid=", "cluster=", "hosts=a", "hosts=[", "start=2", "leader=x", "="]
)


@given(st.one_of(st.text(max_size=40), st.lists(parts, max_size=8).map("\n".join)))
def test_any_text_is_a_record_or_none_or_one_line(text: str) -> None:
    try:
        found = job_record.parse_record(text)
    except HookError as error:
        assert str(error).isprintable()
    else:
        assert found is None or found.hosts


def test_a_later_version_may_add_lines(entries: Path) -> None:
    job_record.write("7", record())
    (entries / "j0").write_text(f"{TEXT}more=x\n", encoding="ascii")
    assert read() is not None


def test_a_list_that_no_start_would_take_is_not_written(entries: Path) -> None:
    many = JobRecord(1, "", {f"n{number}": 1 for number in range(20_000)}, 1, 1)
    with pytest.raises(HookError, match="the job has 20000 hosts, but the list for containers has at most 16384"):
        job_record.write("7", many)
    assert not entries.exists()
