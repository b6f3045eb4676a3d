"""Where a container's server listens, by the annotation, the job, or the site; what clients in it are told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ssh_hook.node.job_record import JobRecord
from ssh_hook.oci.settings import NO_PORT, Settings
from ssh_hook.start.job_hosts import Job
from ssh_hook.start.port import PORTS_OF_JOBS, job_port
from ssh_hook.start.server import Server

NUMBER, AUTO, NONE = 17000, "auto", None
HOSTS = {"nid001": 4, "nid002": 4}


def asked(port: int | str | None = None, wait: int | None = None, hosts: list[tuple[str, int]] | None = None) -> Any:
    number = port if isinstance(port, int) else None
    return SimpleNamespace(port=number, has_automatic_port=port == AUTO, wait=wait, hosts=[])


@pytest.fixture(name="site")
def fixture_site(tmp_path: Path) -> dict[str, str]:
    program = tmp_path / "bin" / "dropbear"
    program.parent.mkdir()
    program.touch(0o111)
    return {"HOOK_BASE_DIR": "/home", "PASSWD_FILE": "/etc/passwd", "DROPBEAR_DIR": str(tmp_path)}


def server(site: dict[str, str], given: Any, job: Job, automatic: bool) -> Server:
    port = {"SERVER_PORT_DEFAULT": "auto", "SERVER_PORT_WITHOUT_JOB": "15263"}
    settings = Settings({**site, **(port if automatic else {"SERVER_PORT_DEFAULT": "15263"})})
    return Server(given, settings, "it", job, has_own_network=False)


def outside(site: dict[str, str], port: int | None = None, listen: str = "") -> Server:
    """Return the server of a container outside of jobs."""
    given = asked(port)
    return server({**site, "LISTEN_ADDRESSES": listen}, given, Job("", 0, None, given), automatic=False)


def places(made: Server) -> list[str]:
    arguments = made.arguments(8, "1,0", [3, 4], "", ("/opt/oci-hooks/ssh/dropbear/host_key",))
    return [value for option, value in zip(arguments, arguments[1:]) if option == "-p"]


@pytest.mark.parametrize(
    ("automatic", "chosen", "job", "step", "port"),
    [
        (False, NONE, 0, 0, 15263),
        (False, NONE, 1234, 0, 15263),
        (False, NUMBER, 1234, 0, 17000),
        (False, AUTO, 0, 0, 15263),
        (False, AUTO, 1234, 0, 21234),
        (True, NONE, 0, 0, 15263),
        (True, NONE, 1234, 0, 21234),
        (True, NONE, 1234, 1, 22337),
        (True, NUMBER, 1234, 0, 17000),
        (True, NO_PORT, 1234, 0, NO_PORT),
        (True, AUTO, 1234, 2, 23440),
        (True, NONE, 10**17 + 1234, 0, 21234),
    ],
)
def test_port(site: dict[str, str], automatic: bool, chosen: int | str | None, job: int, step: int, port: int) -> None:
    given = asked(chosen)
    found = server(site, given, Job(str(job or ""), step, None, given), automatic)
    assert found.port == port
    assert found.port_owner == (f" of job {job}" if port in PORTS_OF_JOBS else "")


def test_components_of_a_heterogeneous_job_have_one_port(site: dict[str, str]) -> None:
    record = JobRecord(1, "", HOSTS, 0, 1234)
    given = asked()
    assert server(site, given, Job("1236", 0, record, given), automatic=True).port == 21234


def test_steps_of_a_job_have_ports_of_their_own() -> None:
    assert len({job_port(1234, step + 1) for step in range(len(PORTS_OF_JOBS))}) == len(PORTS_OF_JOBS)
    assert {job_port(job, step) in PORTS_OF_JOBS for job in (0, 9999, 10**18) for step in (1, 10**9)} == {True}


@pytest.mark.parametrize(
    ("wait", "record", "seconds"), [(None, False, 0), (None, True, 300), (0, True, 0), (7, True, 7), (7, False, 7)]
)
def test_wait(site: dict[str, str], wait: int | None, record: bool, seconds: int) -> None:
    given = asked(wait=wait)
    job = Job("1234", 0, JobRecord(1, "", HOSTS, 0, 1234) if record else None, given)
    account: Any = SimpleNamespace(login_name="alice", names=["alice"])
    text = server(site, given, job, automatic=False).ssh_config(account)
    assert (f"ConnectTimeout {seconds}\n".encode() in text) is bool(seconds)
    assert (b"ConnectTimeout" in text) is bool(seconds)


def test_the_port_is_on_all_addresses_or_on_the_sites(site: dict[str, str]) -> None:
    assert places(outside(site)) == ["15263"]
    assert places(outside(site, 16000)) == ["16000"]
    assert places(outside(site, listen="10.0.0.1,fd00::1")) == ["[10.0.0.1]:15263", "[fd00::1]:15263"]


def test_without_a_port_other_containers_are_known_at_the_sites(site: dict[str, str]) -> None:
    made = outside(site, NO_PORT, listen="10.0.0.1")
    assert places(made) == []
    assert made.known_hosts(["ssh-ed25519 AAAA"], []).decode().splitlines()[-1] == "[*]:15263 ssh-ed25519 AAAA"
    assert (made.place, outside(site).place) == ("its door (a socket on the node)", "port 15263")
