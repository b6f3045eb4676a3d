"""Whose annotations mean this hook, and what is said of containers whose engine did not call it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from containers import TOO_LATE
from ssh_hook.errors import HOME_HANGS, LateError
from ssh_hook.health import unserved as module
from ssh_hook.health.unserved import Running, is_near, unserved
from ssh_hook.linux import disposable_process
from ssh_hook.linux.process import Process

ENABLED = "com.hooks.ssh.enabled"


def said(annotations: dict[str, str], engine: str = "podman", calls_hook: bool = False) -> list[str]:
    return unserved([Running(engine, "0" * 64, "solver", annotations, calls_hook)], [])


def test_tests_know_what_is_said_of_a_look_that_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """They repeat it on a busy machine."""
    with pytest.raises(LateError) as caught:
        list(module._monitors(0))
    told = [str(caught.value)]
    monkeypatch.setattr(module, "_monitors", lambda _deadline: [(0, 1)])
    monkeypatch.setattr(module.shutil, "which", lambda _name: "/usr/bin/docker")

    def late(*_arguments: object) -> None:
        raise subprocess.TimeoutExpired("docker", 0)

    monkeypatch.setattr(module, "_docker", late)
    told += module._look(0)["warnings"]

    def never(*_arguments: object) -> None:
        raise LateError(HOME_HANGS, "")

    monkeypatch.setattr(disposable_process, "run", never)
    told += module.look()[1]
    assert len(told) == 4
    assert all(TOO_LATE.search(text.encode()) for text in told), told


@pytest.mark.parametrize(
    "name",
    [
        "com.hooks.ssh.enable",
        "com.hook.ssh.enabled",
        "com.hooks.shh.enabled",
        "com.hooks.sshd.enabled",
        "com.Hooks.SSH.Enabled",
        "com.hooks.ssh",
        "hooks.ssh.enabled",
        "hook-ssh",
    ],
)
def test_names_that_mean_the_hook(name: str) -> None:
    assert is_near(name)


@pytest.mark.parametrize(
    "name",
    ["com.hooks.mpi.enabled", "com.hooks.slurm.enabled", "com.hooks.amdgpu.enabled", "run.oci.hooks.stderr", "ssh", ""],
)
def test_names_of_others(name: str) -> None:
    assert not is_near(name)


@pytest.mark.parametrize(
    ("annotations", "advice"),
    [
        (
            {"com.hooks.ssh.enable": "true"},
            f"start it again with the annotation {ENABLED} instead of com.hooks.ssh.enable",
        ),
        ({"com.hooks.ssh.port": "15300"}, f"start it again with the annotation {ENABLED}=true"),
        (
            {"com.Hooks.ssh.prot": "1", "com.hooks.ssh.wait": "1"},
            f"start it again with the annotation {ENABLED}=true, com.hooks.ssh.port instead of com.Hooks.ssh.prot",
        ),
        ({ENABLED: "true"}, "podman called no hook for the annotations"),
    ],
)
def test_advice(annotations: dict[str, str], advice: str) -> None:
    (sentence,) = said(annotations)
    assert sentence.startswith("your container solver (podman, 000000000000) runs without SSH: ")
    assert advice in sentence
    assert said(annotations, calls_hook=True) == []
    (of_docker,) = said(annotations, "docker")
    assert "start it again with --device ocihooks.org/ssh=on" in of_docker


def test_no_complaint_of_what_is_meant() -> None:
    assert said({}) == said({ENABLED: "false", "com.hooks.ssh.prot": "1"}) == []


def test_nothing_is_opened_that_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of an image that calls itself conmon: its link must not have the caller open a device."""
    opened: list[int] = []
    warnings: list[str] = []

    def note(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        descriptor = open_file(path, flags, *rest, **options)
        if os.path.realpath(f"/proc/self/fd/{descriptor}") == os.path.realpath(tmp_path / "device"):
            opened.append(flags)
        return descriptor

    open_file = os.open
    os.mkfifo(tmp_path / "device")
    (tmp_path / "config.json").symlink_to("device")
    program = tmp_path / "conmon"
    program.write_text("#!/bin/sh\nread -r _\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(os, "open", note)
    command = [str(program), "-b", str(tmp_path), "-c", "0" * 64, "-n", "solver"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        deadline = time.monotonic() + 60
        while not opened and time.monotonic() < deadline:  # until it has executed its program
            list(module._of_podman(deadline, warnings))
    assert "\n".join(warnings).startswith("cannot check your podman container solver")
    assert opened and all(flags & os.O_PATH for flags in opened)


@pytest.mark.parametrize(("depth", "count"), [(0, 1), (1, 0)], ids=["the node's", "a container's"])
def test_podman_in_a_container_is_not_looked_at(monkeypatch: pytest.MonkeyPatch, depth: int, count: int) -> None:
    """Its bundles are the container's: on the node such a path may be one that the caller may not read."""
    monitor: Any = SimpleNamespace(
        read={"comm": b"conmon\n"}.get,
        uid=os.getuid,
        pids=lambda: [7] * (len(Process(os.getpid()).pids()) + depth),
        start_time=lambda: 1,
    )

    def ask(question: Callable[[Any], bytes], _deadline: float) -> dict[int, bytes]:
        return {pid: answer for pid, answer in ((7, question(monitor)),) if answer}

    monkeypatch.setattr(module, "ask_own_processes", ask)
    assert len(list(module._monitors(0))) == count
