"""What `ssh_hook why --job` makes of the answers of a job's nodes, with a Slurm and an ssh that are scripts."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from patience import within
from ssh_hook.commands import why
from ssh_hook.errors import ARGUMENTS_WRONG, NO_CONTAINER, NO_SHELL, PORT_TAKEN, SYSTEM, HookError
from ssh_hook.health.error_catalogue import CATALOGUE, plain
from ssh_hook.schedulers import bounded_output, nodes, slurm

LIMIT = bounded_output._REAP_TIMEOUT
TEXT = "port 1 is in use"
ENTRY = CATALOGUE[PORT_TAKEN]
REMEDY = f"    what to do: {plain(ENTRY.admin if os.getuid() == 0 else ENTRY.user)}"


def entry(job: str = "7", kind: str = PORT_TAKEN, text: str = TEXT, level: str = "error") -> dict[str, Any]:
    return {
        "uid": 1,
        "time": 5,
        "container": "x",
        "job": job,
        "messages": [{"level": level, "kind": kind, "text": text}],
    }


class Cluster:
    """Programs in PATH that stand for Slurm's and ssh."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def program(self, name: str, script: str) -> None:
        (self.place / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (self.place / name).chmod(0o755)

    def nodes(self, **answers: object) -> None:
        """ssh prints the answer of the node, the word after --."""
        for name, answer in answers.items():
            text = answer if isinstance(answer, str) else json.dumps(answer)
            (self.place / f"answer.{name}").write_text(text, encoding="utf-8")
        find = 'while [ "$1" != -- ]; do shift; done'
        self.program("ssh", f'{find}; cat {self.place}/answer."$2" || {{ echo "$2: refused" >&2; exit 255; }} 2>&1')


@pytest.fixture(name="cluster")
def fixture_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return Cluster(tmp_path)


def test_identical_answers_are_one(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.program("squeue", 'case "$*" in *"--jobs 7 "*--states=all*) echo "7 7 RUNNING n[1-3]";; esac')
    cluster.nodes(n1=[entry()], n2=[entry()], n3=[entry(text="other")])
    assert why.of_job("job7", as_json=False) == 0
    assert capsys.readouterr().out.splitlines() == [
        "n1, n2:",
        f"  error: {TEXT} [{PORT_TAKEN}]",
        REMEDY,
        "n3:",
        f"  error: other [{PORT_TAKEN}]",
        REMEDY,
    ]


def test_messages_of_other_jobs_are_left_out(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Also of an earlier task of the same array: 7_1 has the number 9. And of containers outside of any job."""
    cluster.program("squeue", 'echo "9 7_1 RUNNING n1"')
    of_it = entry(job="9", kind=NO_SHELL, text="none", level="warning")
    cluster.nodes(n1=[entry(job="8"), of_it, entry(job="7"), entry(job="")])
    assert why.of_job("7_1", as_json=True) == 0
    (group,) = json.loads(capsys.readouterr().out)
    assert group == {"nodes": ["n1"], "messages": [{"level": "warning", "kind": NO_SHELL, "text": "none"}]}


def test_nothing_was_reported(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.program("squeue", 'echo "7 7 RUNNING n1"')
    cluster.nodes(n1=[])
    assert why.of_job("7", as_json=False) == 0
    assert capsys.readouterr().out == "n1:\n  the hook has reported nothing about your containers\n"


def test_a_job_that_squeue_has_forgotten(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.program("squeue", "echo slurm_load_jobs error: Invalid job id specified >&2; exit 1")
    cluster.program("sacct", 'echo "7 n1"')
    cluster.nodes(n1=[entry()])
    assert why.of_job("7", as_json=False) == 0
    assert TEXT in capsys.readouterr().out


@pytest.mark.parametrize("line", ["", "7", "7 7 PENDING", "7 7 PENDING (null)", "7 None assigned", "7 (null)"])
def test_a_job_without_a_node(cluster: Cluster, line: str) -> None:
    for name in ("squeue", "sacct"):
        cluster.program(name, f"echo '{line}'")
    with pytest.raises(HookError, match="Slurm lists no nodes for job 7") as refused:
        why.of_job("7", as_json=False)
    assert refused.value.kind == NO_CONTAINER


def test_without_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HookError, match="run 'ssh_hook why' on the job's nodes") as refused:
        why.of_job("7", as_json=False)
    assert refused.value.kind == SYSTEM


@pytest.mark.parametrize("text", ["", "x", "7;id", "-7", "7_", "7 8"])
def test_what_is_no_job(text: str) -> None:
    with pytest.raises(HookError, match="give the number of a Slurm job") as refused:
        why.of_job(text, as_json=False)
    assert refused.value.kind == ARGUMENTS_WRONG


@pytest.mark.parametrize(
    "answer", ["banner", "{}", "[1]", '[{"messages": 1}]', "[" * 10000, [{"job": "7", "messages": [{}]}]]
)
def test_an_answer_of_another_form(cluster: Cluster, capsys: pytest.CaptureFixture[str], answer: object) -> None:
    """It is no answer, and the others are shown."""
    cluster.program("squeue", 'echo "7 7 RUNNING n[1-2]"')
    cluster.nodes(n1=answer, n2=[entry()])
    assert why.of_job("7", as_json=False) == 1
    assert capsys.readouterr().out.startswith(f"n2:\n  error: {TEXT}")


def test_what_a_node_says_cannot_command_the_terminal(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.program("squeue", 'echo "7 7 RUNNING n[1-2]"')
    cluster.nodes(n1=[entry(text="\x1b[2J", kind="\x1b")])
    assert why.of_job("7", as_json=False) == 1  # n2 does not answer
    shown = capfd.readouterr()
    assert shown.out == "n1:\n  error: \\x1b[2J\n"
    assert shown.err.startswith("ssh_hook: error: n2: ")


def test_it_ends_in_time(cluster: Cluster, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that answer are shown; more hosts hang than are asked at once."""
    monkeypatch.setattr(why, "_JOB_SECONDS", 6.0)
    monkeypatch.setattr(nodes, "_MAX_PARALLEL", 4)
    monkeypatch.setattr(
        slurm, "find_nodes_even_ended", lambda *_words: ({"7"}, [f"n{number}" for number in range(1, 10)])
    )
    cluster.nodes(n1=[entry()])
    hangs = 'for last; do case "$last" in n[2-9]) exec sleep 100;; esac; done'
    script = (Path(cluster.place) / "ssh").read_text(encoding="utf-8").partition("\n")[2]
    cluster.program("ssh", f"{hangs}\n{script}")
    begun = time.monotonic()
    assert why.of_job("7", as_json=False) == 1
    assert time.monotonic() - begun < within(25), "it waited for the hosts that hang"
    shown = capfd.readouterr()
    assert shown.out.startswith(f"n1:\n  error: {TEXT}")
    assert shown.err == "ssh_hook: error: n2, n3, n4, n5, n6, n7, n8, n9: no answer within 6 s [system]\n"


def test_no_connection_stays_for_later_ones(
    cluster: Cluster, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ControlPersist, older versions of ssh leave a process behind that has its standard error open."""
    cluster.program("squeue", 'echo "7 7 RUNNING n1"')
    cluster.nodes(n1=[entry()])
    leaves = 'case "$*" in *-oControlMaster=no*) ;; *) sleep 200 >/dev/null & ;; esac'
    script = (Path(cluster.place) / "ssh").read_text(encoding="utf-8").partition("\n")[2]
    cluster.program("ssh", f"{leaves}\n{script}")
    assert why.of_job("7", as_json=False) == 0
    assert capfd.readouterr().out.startswith(f"n1:\n  error: {TEXT}")


def test_what_a_host_prints_is_bounded(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.program("squeue", 'echo "7 7 RUNNING n[1-2]"')
    cluster.nodes(n1=[entry()])
    cluster.program("ssh", f'case "$*" in *n1*) cat {cluster.place}/answer.n1;; *) head -c 3000000 /dev/zero;; esac')
    assert why.of_job("7", as_json=False) == 1
    shown = capfd.readouterr()
    assert shown.out.startswith(f"n1:\n  error: {TEXT}")
    assert shown.err == "ssh_hook: error: n2: its output is longer than 1048576 bytes [system]\n"


def test_an_ssh_that_cannot_be_killed_is_left_behind(
    cluster: Cluster, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that hangs in the kernel."""
    monkeypatch.setattr(why, "_JOB_SECONDS", 2.0)
    monkeypatch.setattr(bounded_output, "_REAP_TIMEOUT", LIMIT)
    monkeypatch.setattr(slurm, "find_nodes_even_ended", lambda *_words: ({"7"}, ["n1"]))
    cluster.program("ssh", "exec sleep 100")
    kill = subprocess.Popen.kill
    left: list[subprocess.Popen[bytes]] = []

    def leave(process: subprocess.Popen[bytes]) -> None:
        left.append(process)

    monkeypatch.setattr(subprocess.Popen, "kill", leave)
    begun = time.monotonic()
    assert why.of_job("7", as_json=False) == 1
    assert time.monotonic() - begun < within(15), "it waited for the end of ssh"
    assert capfd.readouterr().err == "ssh_hook: error: n1: no answer within 2 s [system]\n"
    for process in left:
        kill(process)
        process.wait()
