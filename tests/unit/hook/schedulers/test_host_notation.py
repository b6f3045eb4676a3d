from __future__ import annotations

import itertools
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ssh_hook.dispatch import parse
from ssh_hook.errors import HookError
from ssh_hook.schedulers import jobs
from ssh_hook.schedulers.host_notation import MAX_HOSTS, expand, selected_hosts
from ssh_hook.schedulers.jobs import selected_port

SITE = {"SERVER_PORT_DEFAULT": "15263"}


class Selected(NamedTuple):
    hosts: list[str]
    port: int


def options(*words: str, **environment: str) -> Selected:
    _command, arguments = parse("wait", list(words))
    settings = {**SITE, **environment}
    return Selected(selected_hosts(arguments, settings), selected_port(arguments, settings))


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("node1", "node1"),
        ("node1,login1", "node1 login1"),
        ("gpu[001-003,7],login1", "gpu001 gpu002 gpu003 gpu7 login1"),
        ("n[9-11]", "n9 n10 n11"),
        ("n[08-10]", "n08 n09 n10"),
        ("n[1,01,001]", "n1 n01 n001"),
        ("rack[1-2]node[0-1]", "rack1node0 rack1node1 rack2node0 rack2node1"),
        ("r[1-2]n[1]c[3,5]", "r1n1c3 r1n1c5 r2n1c3 r2n1c5"),
        ("n[1-2]-ib.cluster,[3-4]", "n1-ib.cluster n2-ib.cluster 3 4"),
        ("192.0.2.7", "192.0.2.7"),
        ("fd00::1", "fd00::1"),
        ("n[0-0]", "n0"),
    ],
)
def test_lists_of_slurm(text: str, hosts: str) -> None:
    assert expand(text, "x") == hosts.split()


@pytest.mark.parametrize(
    "text",
    [
        *("", ",", "a,", ",a", "a,,b", "a]", "a[", "[", "]", "a[1", "a1]", "a[[1]]", "a[1]]", "a[1][", "a[1],"),
        *(
            "a[]",
            "a[,]",
            "a[1,]",
            "a[-]",
            "a[1-]",
            "a[-1]",
            "a[1-2-3]",
            "a[x]",
            "a[1 - 2]",
            "a[3-1]",
            "a[+1]",
            "a[\u0661]",
        ),
        *(
            "-oProxyCommand=x",
            "a b",
            " a",
            "a\n",
            "a\nHost *",
            "a\tb",
            "a;b",
            "a$b",
            "a`b`",
            "a'b",
            'a"b',
            "a\\b",
            "a/b",
        ),
        *("*", "gpu*", "a?", "!a", "a@b", "a%h", "\xe4", "a\0", "\ud800", "a" * 254, ".", "a=b", "a#b", "[1-2]\n"),
    ],
)
def test_what_is_no_list_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(HookError) as caught:
        expand(text, "x")
    assert str(caught.value).isprintable()
    assert str(caught.value).startswith("x has ")


@pytest.mark.parametrize(
    "text",
    [
        "n[1-999999999]",
        f"n[1-{MAX_HOSTS + 1}]",
        "n[1-300][1-300]",
        "n[1-2]" * 40,
        f"a,n[1-{MAX_HOSTS}]",
        f"n[1-{MAX_HOSTS},1]",
        ",".join(["n[1-60000]"] * 3),
    ],
)
def test_the_number_of_hosts_is_bounded(text: str) -> None:
    with pytest.raises(HookError, match=f"x has more than {MAX_HOSTS} hosts"):
        expand(text, "x")


def test_a_long_name_is_refused_before_it_is_repeated() -> None:
    with pytest.raises(HookError, match=r"not the name or address"):
        expand("a" * 1_000_000 + "[1-60000]", "x")


def test_as_many_hosts_as_the_bound() -> None:
    assert len(expand(f"n[1-{MAX_HOSTS}]", "x")) == MAX_HOSTS


ranges = st.tuples(st.integers(0, 200), st.integers(0, 5), st.integers(1, 4))


@given(st.lists(st.lists(ranges, min_size=1, max_size=3), min_size=1, max_size=3))
def test_every_number_of_every_range(groups: list[list[tuple[int, int, int]]]) -> None:
    text, choices = "n", []
    for group in groups:
        text += "[" + ",".join(f"{low:0{width}}-{low + more:0{width}}" for low, more, width in group) + "]"
        choices.append([f"{n:0{width}}" for low, more, width in group for n in range(low, low + more + 1)])
    # A range is as wide as its first number is written.
    assert expand(text, "x") == ["n" + "".join(pieces) for pieces in itertools.product(*choices)]


@given(st.text(alphabet="an1[],-0 ", max_size=20))
def test_any_text_gives_names_or_one_line(text: str) -> None:
    try:
        hosts = expand(text, "x")
    except HookError as error:
        assert str(error).isprintable()
    else:
        assert hosts
        assert not set("".join(hosts)) & set("[], ")


# Where hosts come from


def test_hosts_of_the_command_line_and_of_a_file_are_joined(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("b\na\n")
    chosen = options("a", "c[1-2]", "--hostfile", str(file), SLURM_JOB_NODELIST="other")
    assert chosen.hosts == ["a", "c1", "c2", "b"]


def test_slurms_hosts_serve_where_none_are_named() -> None:
    assert options(SLURM_JOB_NODELIST="n[1-2]").hosts == ["n1", "n2"]
    assert options("a", SLURM_JOB_NODELIST="n[1-2]").hosts == ["a"]


@pytest.mark.parametrize("environment", [{}, {"SLURM_JOB_NODELIST": ""}])
def test_no_hosts(environment: dict[str, str]) -> None:
    with pytest.raises(
        HookError, match=r"^no hosts: give them, or a file with --hostfile, or run this in a Slurm job$"
    ):
        options(**environment)


def test_a_hostile_list_of_slurm_is_named() -> None:
    with pytest.raises(HookError, match=r"^SLURM_JOB_NODELIST has '-x', "):
        options(SLURM_JOB_NODELIST="-x")


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("node1 slots=4\nnode2 slots=4 max_slots=8\n", "node1 node2"),  # Open MPI, DeepSpeed
        ("node1:4\nnode2:4 binding=user:0,1\n", "node1 node2"),  # MPICH
        ("# all\n\n  node1  # the first\n\tnode2\r\n#node3\nnode1\nnode4", "node1 node2 node4"),
        ("node1\nnode1\nnode2\nnode2\n", "node1 node2"),  # a line for each slot
        ("n[1-2]\n", "n1 n2"),
        ("fd00::1\nfd00::1:2\n", "fd00::1 fd00::1:2"),
    ],
)
def test_host_files(tmp_path: Path, text: str, hosts: str) -> None:
    (tmp_path / "hosts").write_bytes(text.encode())
    assert options("--hostfile", str(tmp_path / "hosts")).hosts == hosts.split()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "lists no host"),
        (b"# nothing\n\n", "lists no host"),
        (b"a\n-oX\n", "line 2 has '-oX'"),
        (b"a\n\n^b\n", r"line 3 has '\^b'"),
        (b"\xff\xfe\n", "line 1 has"),
        (b"\0" * 100, "line 1 has"),
        (b"a\n" * (1 << 23) + b"\n", "is larger than 16777216 bytes"),
    ],
)
def test_bad_host_files(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "hosts").write_bytes(data)
    with pytest.raises(HookError, match=words) as caught:
        options("--hostfile", str(tmp_path / "hosts"))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("path", ["/nonexistent", "/", "a\nb", "a\0b", ""])
def test_host_files_that_cannot_be_read(path: str) -> None:
    with pytest.raises(HookError, match=r"^cannot read --hostfile ") as caught:
        options("--hostfile", path)
    assert str(caught.value).isprintable()


# Ports and other options


def test_port() -> None:
    assert options("a").port == 15263
    assert options("a", "--port", "16000").port == 16000
    assert options("--port=16000", "a").port == 16000
    assert options("a", "--port", "16000", SERVER_PORT_DEFAULT="").port == 16000


AUTOMATIC = {"SERVER_PORT_DEFAULT": "auto", "SERVER_PORT_WITHOUT_JOB": "15263"}


def test_port_that_follows_from_the_job() -> None:
    assert options("a", **AUTOMATIC).port == 15263
    assert options("a", **AUTOMATIC, SLURM_JOB_ID="1234").port == 21234
    assert options("a", **AUTOMATIC, SLURM_JOB_ID="1235", SLURM_HET_JOB_ID="1234").port == 21234
    assert options("a", "--port", "16000", **AUTOMATIC, SLURM_JOB_ID="1234").port == 16000
    assert options("a", SLURM_JOB_ID="1234").port == 15263


def test_port_of_a_job_of_pbs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers know their job by its cgroup alone, and commands do the same."""
    assert options("a", **AUTOMATIC, PBS_JOBID="1234.server").port == 15263
    cgroup = b"4:memory:/pbs_jobs.service/jobid/1234[5].server\n0::/\n"
    monkeypatch.setattr(jobs, "read_file", lambda _path: cgroup)
    assert options("a", **AUTOMATIC).port == 21239
    assert options("a").port == 15263


@pytest.mark.parametrize("port", ["0", "-1", "65536", "", "1x", "1.5"])
def test_bad_port(port: str) -> None:
    with pytest.raises(HookError, match=r"^--port is '"):
        options("a", "--port", port)


@pytest.mark.parametrize("arguments", [["--x"], ["--hostfile"], ["-p", "1"], ["--port"], ["--\n"]])
def test_unknown_options(arguments: list[str]) -> None:
    with pytest.raises(HookError, match=r"see 'ssh_hook wait --help'$") as caught:
        options(*arguments)
    assert str(caught.value).isprintable()
