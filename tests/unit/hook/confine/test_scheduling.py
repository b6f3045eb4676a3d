"""Scheduler, I/O priority, memory policy and personality, set for a real process."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ssh_hook.confine.scheduling import Scheduling
from ssh_hook.errors import HookError
from ssh_hook.linux import syscalls
from ssh_hook.oci.oci_config import Container, parse_config

HOOK = Path(__file__).resolve().parents[4] / "files" / "hook"
# Takes on what sys.argv[2], a config.json, says, and then runs a program that prints what it has.
PROGRAM = """
import os, sys
sys.path.insert(0, sys.argv[1])
from ssh_hook.confine.scheduling import Scheduling
from ssh_hook.oci.oci_config import Container, parse_config
Scheduling(Container(parse_config(sys.argv[2].encode(), "/b"), "/b")).apply()
os.execv("/bin/sh", ["sh", "-c", "cd /proc; cat self/stat; cat self/personality; cat self/numa_maps; sleep 100"])
"""
IOPRIO_GET = {"x86_64": 252, "aarch64": 31}


def text(**changes: dict[str, object]) -> str:
    """A config.json with these members of its process or of `linux`."""
    config: dict[str, Any] = {"process": {"user": {"uid": 1, "gid": 1}}, "root": {"path": "/r"}, "linux": {}}
    for name, value in changes.items():
        config["process" if name in ("scheduler", "ioPriority") else "linux"][name] = value
    return json.dumps(config)


def scheduling(**changes: dict[str, object]) -> Scheduling:
    return Scheduling(Container(parse_config(text(**changes).encode(), "/b"), "/b"))


class Outcome(SimpleNamespace):
    """What a process is that has taken it on: policy, nice, io, personality, memory."""


def outcome(**changes: dict[str, object]) -> Outcome:
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, str(HOOK), text(**changes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        stat = process.stdout.readline().rpartition(")")[2].split()
        personality, memory = process.stdout.readline().strip(), process.stdout.readline()
        number = IOPRIO_GET.get(platform.machine())
        io = ctypes.CDLL(None).syscall(number, 1, process.pid) if number else None
        process.kill()
    return Outcome(policy=int(stat[38]), nice=int(stat[16]), io=io, personality=personality, memory=memory.split()[1:2])


def test_scheduler() -> None:
    assert outcome(scheduler={"policy": "SCHED_IDLE"}).policy == os.SCHED_IDLE
    batch = outcome(scheduler={"policy": "SCHED_BATCH", "nice": 19})
    assert (batch.policy, batch.nice) == (os.SCHED_BATCH, 19)


def test_io_priority() -> None:
    assert outcome(ioPriority={"class": "IOPRIO_CLASS_IDLE", "priority": 7}).io in (3 << 13 | 7, None)
    assert outcome(ioPriority={"class": "IOPRIO_CLASS_BE"}).io in (2 << 13, None)


def test_personality() -> None:
    assert outcome(personality={"domain": "LINUX32"}).personality == "00000008"
    assert outcome(personality={"domain": "LINUX"}).personality == "00000000"


@pytest.mark.parametrize(
    ("policy", "shown"),
    [
        ({"mode": "MPOL_BIND", "nodes": "0"}, "bind:0"),
        ({"mode": "MPOL_INTERLEAVE", "nodes": "0-0", "flags": ["MPOL_F_STATIC_NODES"]}, "interleave=static:0"),
        ({"mode": "MPOL_LOCAL"}, "local"),
    ],
)
def test_memory_policy(policy: dict[str, object], shown: str) -> None:
    assert outcome(memoryPolicy=policy).memory == [shown]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scheduler": {}}, "'policy' is missing"),
        ({"scheduler": {"policy": "SCHED_DEADLINE"}}, "cannot fork"),
        ({"scheduler": {"policy": "SCHED_BEST"}}, "does not support 'SCHED_BEST'"),
        ({"scheduler": {"policy": "SCHED_IDLE", "flags": ["SCHED_FLAG_X"]}}, "does not support 'SCHED_FLAG_X'"),
        ({"scheduler": {"policy": "SCHED_OTHER", "nice": 20}}, "'nice' is 20"),
        ({"ioPriority": {"class": "IDLE"}}, "does not support 'IDLE'"),
        ({"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}}, "'priority' is 8"),
        ({"personality": {"domain": "BSD"}}, "does not support 'BSD'"),
        ({"personality": {"domain": "LINUX", "flags": ["X"]}}, "or its flags"),
        ({"memoryPolicy": {"mode": "BIND"}}, "does not support 'BIND'"),
        ({"memoryPolicy": {"mode": "MPOL_BIND", "nodes": "1024"}}, "'nodes' is '1024'"),
        ({"memoryPolicy": {"mode": "MPOL_BIND", "nodes": "2-1"}}, "'nodes' is '2-1'"),
        ({"memoryPolicy": {"mode": "MPOL_BIND", "nodes": "all"}}, "'nodes' is 'all'"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, dict[str, object]], message: str) -> None:
    with pytest.raises(HookError, match=message):
        scheduling(**changes)


def test_masks_of_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(syscalls, "set_mempolicy", lambda mode, nodes: seen.append((mode, nodes)))
    scheduling(memoryPolicy={"mode": "MPOL_BIND", "nodes": "0-2,5, 64"}).apply()
    assert seen == [(2, 0b100111 | 1 << 64)]


def test_what_the_kernel_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_priority: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(syscalls, "ioprio_set", refuse)
    it = scheduling(ioPriority={"class": "IOPRIO_CLASS_RT"})
    with pytest.raises(HookError, match=r"the container's 'ioPriority' in config\.json cannot be set: Operation not p"):
        it.apply()
