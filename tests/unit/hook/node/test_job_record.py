"""The record of a job: what is written is read, and by whom it must have been written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ssh_hook.errors import HookError
from ssh_hook.node import job_doors, job_record, own_files
from ssh_hook.node.job_record import JobRecord
from ssh_hook.stop import lost_jobs

LIMIT = lost_jobs._TIMEOUT
TEXT = "ssh_hook job 1\nuid=2001\ncluster=alps\nhosts=nid001+2:4,login:1\nstart=1764390000\nleader=1234\n"


def record(**values: int) -> JobRecord:
    fields = {"uid": 2001, "start": 1764390000, "leader": 1234, **values}
    hosts = {"nid001": 4, "nid002": 4, "nid003": 4, "login": 1}
    return JobRecord(fields["uid"], "alps", hosts, fields["start"], fields["leader"])


@pytest.fixture(name="jobs")
def fixture_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the records, of which the caller is root."""
    monkeypatch.setattr(job_record, "PLACE", str(tmp_path / "place"))
    monkeypatch.setattr(job_doors, "PLACE", str(tmp_path / "place"))
    monkeypatch.setattr(own_files, "_roots", lambda _is_rootless: {os.geteuid()})
    return tmp_path / "place" / "jobs"


def test_what_is_written_is_read(jobs: Path) -> None:
    job_record.write("1234", record())
    assert (jobs / "1234").read_text(encoding="ascii") == TEXT
    found = job_record.read("1234", is_rootless=False)
    assert found is not None
    assert vars(found) == vars(record())
    assert job_record.read("1235", is_rootless=False) is None


def test_a_record_is_replaced_and_removed(jobs: Path) -> None:
    for start in (1, 2):
        job_record.write("7", record(start=start))
    found = job_record.read("7", is_rootless=False)
    assert found is not None
    assert found.start == 2
    assert [path.name for path in jobs.iterdir()] == ["7"]
    for _again in range(2):
        job_record.remove("7")
    assert list(jobs.iterdir()) == []


def test_records_of_jobs_that_have_ended_are_removed(jobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of young ones, of those with a process, and what is no record."""
    now = 1764390000 + 31 * 24 * 3600
    for number, start in {7: 1764390000, 8: 1764390000, 9: 1764390000 + 2 * 24 * 3600, 10: now + 1}.items():
        job_record.write(str(number), record(start=start))
    (jobs / "11").write_text("of a later version", encoding="ascii")
    (jobs / "11").chmod(0o600)
    monkeypatch.setattr(lost_jobs, "_running", lambda: {"", "8"})
    lost_jobs.remove_lost_jobs(now)
    assert sorted(path.name for path in jobs.iterdir()) == ["10", "11", "8", "9"]


def test_with_the_last_lost_job_goes_its_users_directory(jobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And that of a user of whom there is no record any more, as where the Epilog could not remove it."""
    now = 1764390000 + 31 * 24 * 3600
    for number, uid, start in ((5, 2001, 1764390000), (6, 2002, 1764390000), (7, 2002, now)):
        job_record.write(str(number), record(uid=uid, start=start))
    users = jobs.parent / "users"
    for name in ("2001", "2002", "2003"):
        (users / name).mkdir(parents=True)
    monkeypatch.setattr(lost_jobs, "_running", set)
    assert lost_jobs.remove_lost_jobs(now) == 0
    assert [path.name for path in users.iterdir()] == ["2002"]


def test_what_a_user_holds_up_does_not_hold_up_the_sweep(
    jobs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], hang: Callable[..., None]
) -> None:
    """By a file system of hers that she has mounted on a name of root's."""
    now = 1764390000 + 31 * 24 * 3600
    job_record.write("5", record())
    for name in ("2001", "2002"):
        (jobs.parent / "users" / name).mkdir(parents=True)
    monkeypatch.setattr(lost_jobs, "_running", set)
    monkeypatch.setattr(lost_jobs, "_TIMEOUT", LIMIT)
    monkeypatch.setattr(job_record, "remove", hang)
    monkeypatch.setattr(job_doors, "_remove", lambda _users, uid: hang() if uid == 2002 else None)
    assert lost_jobs.remove_lost_jobs(now) == 2
    said = capfd.readouterr().err
    assert "cannot sweep: the record of job 5: cannot remove it: no answer within 1 s" in said
    assert "cannot sweep: the directory of doors of uid 2002: cannot make or remove " in said


def test_all_wait_for_what_an_earlier_sweep_has_left(jobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise each sweep would leave one more process."""
    directory = jobs.parent / "users" / "2002"
    directory.mkdir(parents=True)
    now = 1764390000 + 31 * 24 * 3600
    job_record.write("5", record())
    monkeypatch.setattr(lost_jobs, "_running", set)
    for is_held_up in (True, False):
        monkeypatch.setattr(lost_jobs, "is_held_up", lambda is_held_up=is_held_up: is_held_up)
        assert lost_jobs.remove_lost_jobs(now) == 0
        assert directory.exists() == (jobs / "5").exists() == is_held_up


def test_where_no_prolog_was_called(jobs: Path) -> None:
    lost_jobs.remove_lost_jobs(0)
    assert not jobs.exists()


def test_only_the_jobs_user_reads_it_and_nobody_lists_the_directory(jobs: Path) -> None:
    job_record.write("7", record())
    assert jobs.stat().st_mode & 0o777 == 0o711
    # The group bits are the mask of the ACL, which has one user.
    assert (jobs / "7").stat().st_mode & 0o777 == 0o640
    acl = os.getxattr(jobs / "7", "system.posix_acl_access")
    entries = [acl[start : start + 8] for start in range(4, len(acl), 8)]
    users = [(int.from_bytes(e[2:4], "little"), int.from_bytes(e[4:], "little")) for e in entries if e[0] == 2]
    assert users == [(4, 2001)]
    assert [entry[2:4] for entry in entries if entry[0] in (0x04, 0x20)] == [b"\0\0"] * 2


def test_a_umask_keeps_no_user_from_the_record(jobs: Path) -> None:
    before = os.umask(0o077)
    try:
        job_record.write("7", record())
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (jobs.parent, jobs)] == [0o711, 0o711]
    jobs.chmod(0o700)  # of a version that left it as the umask made it
    job_record.write("7", record())
    assert jobs.stat().st_mode & 0o777 == 0o711


@pytest.mark.parametrize("who", ["place", "jobs", "file"])
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_what_others_can_write_to_is_refused(jobs: Path, who: str, mode: int) -> None:
    job_record.write("7", record())
    path = {"place": jobs.parent, "jobs": jobs, "file": jobs / "7"}[who]
    path.chmod(path.stat().st_mode | mode)
    with pytest.raises(HookError, match="is writable by users other than root"):
        job_record.read("7", is_rootless=False)


def test_another_owner_is_refused(jobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job_record.write("7", record())
    monkeypatch.setattr(own_files, "_roots", lambda _is_rootless: {os.geteuid() + 1})
    with pytest.raises(HookError, match="is writable by users other than root"):
        job_record.read("7", is_rootless=False)


def test_in_a_user_namespace_roots_files_are_nobodys() -> None:
    overflow = int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii"))
    assert own_files._roots(is_rootless=True) == {0, overflow}
    assert own_files._roots(is_rootless=False) == {0}


def test_a_record_that_the_caller_may_not_read_is_none(jobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> int:
        raise PermissionError

    job_record.write("7", record())
    monkeypatch.setattr(job_record, "open_roots", refuse)
    assert job_record.read("7", is_rootless=True) is None


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_what_is_no_file_is_refused_at_once(jobs: Path, kind: str) -> None:
    job_record.write("7", record())
    (jobs / "7").rename(jobs / "8")
    if kind == "link":
        (jobs / "7").symlink_to("8")
    elif kind == "fifo":
        os.mkfifo(jobs / "7", 0o600)
    else:
        (jobs / "7").mkdir()
    with pytest.raises(HookError):
        job_record.read("7", is_rootless=False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        TEXT.replace("job 1", "job 2"),
        TEXT.replace("uid=2001\n", ""),
        TEXT.replace("2001", "-1"),
        TEXT.replace("2001", "4294967295"),
        TEXT.replace("2001", "\u0662"),
        TEXT.replace("1234", "9" * 19),
        TEXT.replace("hosts=", "ghosts="),
        TEXT.replace("nid001+2:4", "-x"),
        TEXT.replace("nid001+2:4", "nid[1-999999]"),
        "x" * 200_000,
    ],
)
def test_what_is_no_record_is_refused_in_one_line(jobs: Path, text: str) -> None:
    job_record.write("7", record())
    (jobs / "7").write_text(text, encoding="utf-8")
    with pytest.raises(HookError, match="7") as caught:
        job_record.read("7", is_rootless=False)
    assert str(caught.value).isprintable()


parts = st.sampled_from(
    ["ssh_hook job 1", "uid=1", "uid=", "cluster=", "hosts=a", "hosts=[", "start=2", "leader=x", "="]
)


@given(st.one_of(st.text(max_size=40), st.lists(parts, max_size=8).map("\n".join)))
def test_any_text_is_a_record_or_none_or_one_line(text: str) -> None:
    try:
        found = job_record._parse(text, "it")
    except HookError as error:
        assert str(error).isprintable()
    else:
        assert found is None or found.hosts


def test_whose_a_record_is_takes_no_list_of_hosts(jobs: Path) -> None:
    job_record.write("7", record(uid=2001))
    text = (jobs / "7").read_text(encoding="utf-8")
    (jobs / "7").write_text(text.replace("hosts=", "hosts=[[["), encoding="utf-8")
    assert [job_record.has_job_of(uid) for uid in (2001, 200, 2002)] == [True, False, False]


def test_a_later_version_may_add_lines(jobs: Path) -> None:
    job_record.write("7", record())
    (jobs / "7").write_text(f"{TEXT}more=x\n", encoding="ascii")
    assert job_record.read("7", is_rootless=False) is not None


def test_a_list_that_no_start_would_take_is_not_written(jobs: Path) -> None:
    many = JobRecord(1, "", {f"n{number}": 1 for number in range(20_000)}, 1, 1)
    with pytest.raises(HookError, match="the job has 20000 hosts, and containers can be told 16384 at most"):
        job_record.write("7", many)
    assert not jobs.exists()
