"""Which container `ssh_hook connect` takes, and what it makes of its arguments."""

from __future__ import annotations

import pytest
from ssh_hook.commands.connect import _parse_job, choose
from ssh_hook.commands.daemons import Daemon
from ssh_hook.errors import HookError


def daemon(pid: int, name: str = "", job: str = "", container: str = "") -> Daemon:
    made = Daemon(pid, 1000, [("", 15263)], 0)
    made.name, made.job, made.id = name, job, container
    return made


FIRST = daemon(11, "solver", "12", "abcdef")
SECOND = daemon(12, "job13", "", "abd111")
THIRD = daemon(13, "", "12.server")


@pytest.mark.parametrize(
    ("job", "name", "found"),
    [
        (None, "solver", FIRST),
        (None, "abc", FIRST),
        (None, "13", THIRD),
        ("13", None, SECOND),
    ],
)
def test_the_one_that_is_meant(job: str | None, name: str | None, found: Daemon) -> None:
    assert choose([FIRST, SECOND, THIRD], job, name) is found
    assert choose([FIRST], None, None) is FIRST


@pytest.mark.parametrize(
    ("job", "name", "words"),
    [
        (
            None,
            None,
            r"3 containers of yours are on .*: choose one by --name PID: 11 \(solver, port 15263, job 12\); 12 ",
        ),
        ("12", None, r"2 containers of job 12 are on .*11 .*; 13 \(port 15263, job 12\.server\)$"),
        ("1", None, r"no container of job 1 has an SSH daemon on .*; there you have: 11 "),
        (None, "ab", r"no container called ab has an SSH daemon"),
        (None, "1", r"no container called 1 has an SSH daemon"),
    ],
)
def test_none_or_several(job: str | None, name: str | None, words: str) -> None:
    with pytest.raises(HookError, match=words):
        choose([FIRST, SECOND, THIRD], job, name)


def test_no_container() -> None:
    with pytest.raises(HookError, match=r"no container of yours has an SSH daemon on .*: see 'ssh_hook why' there"):
        choose([], None, "x")


def test_names_cannot_write_to_the_terminal() -> None:
    with pytest.raises(HookError) as error:
        choose([daemon(1, "\x1b[2J"), daemon(2, "\n")], None, None)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("text", "node", "expected"),
    [
        ("1234", None, ("1234", None)),
        ("job1234", None, ("1234", None)),
        ("node002.job1234", None, ("1234", "node002")),
        ("job12.server.site", None, ("12.server.site", None)),
        ("n1.job12", "n2", ("12", "n2")),
        (None, "n2", (None, "n2")),
        ("12_[3]", None, ("12_[3]", None)),
    ],
)
def test_jobs(text: str | None, node: str | None, expected: tuple[str | None, str | None]) -> None:
    assert _parse_job(text, node) == expected


@pytest.mark.parametrize("text", ["", "job", "jobs", "x.jobs", "-1", "1 2", "1;id", "$(id)", "1" * 99, "a.b.job1"])
def test_no_jobs(text: str) -> None:
    with pytest.raises(HookError, match="give the number of a job"):
        _parse_job(text, None)
