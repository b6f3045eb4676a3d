"""The scripts for Slurm's Prolog and Epilog: they exit with 0, whatever becomes of the command that they call."""

from __future__ import annotations

import contextlib
import os
import resource
import shlex
import subprocess
import time
from pathlib import Path

import pytest
from jinja2 import Environment, FileSystemLoader
from patience import within

NOBODYS = 54321  # a uid without processes, for which a limit of them counts
TEMPLATES = Path(__file__).resolve().parents[3] / "roles/ssh_hook/templates"


def script(directory: Path, command: str, launcher: str) -> Path:
    """Write the script that the role makes of its template, and the launcher that it calls."""
    pid = directory / "pid"
    (directory / "ssh_hook").write_text(f"#!/bin/sh\necho $$ >{pid}\n{launcher}\n", encoding="utf-8")
    (directory / "ssh_hook").chmod(0o755)
    environment = Environment(loader=FileSystemLoader(TEMPLATES), trim_blocks=True, autoescape=False)
    environment.filters["quote"] = shlex.quote
    template = environment.get_template("slurm.sh.j2")
    text = template.render(ssh_hook__launcher=f"{directory}/ssh_hook", ssh_hook__command=command) + "\n"
    assert text.count("(sleep 3 &&") == 1
    path = directory / "script.sh"
    # Its seconds count from when the launcher runs, which a busy machine starts late.
    path.write_text(text.replace("(sleep 3 &&", f"(until [ -s {pid} ]; do sleep 0.1; done; sleep 3 &&"))
    path.chmod(0o755)
    return path


def run(path: Path) -> subprocess.CompletedProcess[str]:
    """Run it as slurmd does, without PATH."""
    variables = {"SLURM_JOB_ID": "7"}
    return subprocess.run([path], env=variables, capture_output=True, text=True, timeout=within(60), check=False)


def wait_for_its_end(directory: Path) -> None:
    """Wait until the command that hung has ended; one that is left behind fails the test."""
    process = Path("/proc") / (directory / "pid").read_text(encoding="ascii").strip()
    deadline = time.monotonic() + within(20)
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
        while ") Z " not in (process / "stat").read_text(encoding="utf-8"):
            assert time.monotonic() < deadline, "it was left behind"
            time.sleep(0.05)


@pytest.mark.parametrize("command", ["prolog", "epilog"])
def test_the_command_is_called_with_the_jobs_variables(tmp_path: Path, command: str) -> None:
    done = run(script(tmp_path, command, f'echo "$* $SLURM_JOB_ID" >{tmp_path}/called'))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "called").read_text(encoding="ascii") == f"{command} 7\n"


@pytest.mark.parametrize("launcher", ["echo no >&2; exit 1", "kill -s KILL $$", "kill -s STOP $$"])
def test_nothing_makes_it_fail(tmp_path: Path, launcher: str) -> None:
    done = run(script(tmp_path, "prolog", launcher))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    wait_for_its_end(tmp_path)


def test_a_launcher_that_is_gone(tmp_path: Path) -> None:
    path = script(tmp_path, "prolog", "")
    (tmp_path / "ssh_hook").unlink()
    assert run(path).returncode == 0


@pytest.mark.parametrize("shell", [("sh",), ("bash", "--posix")], ids=" ".join)
def test_a_shell_that_can_start_no_process(tmp_path: Path, shell: tuple[str, ...]) -> None:
    """Bash tries for 15 seconds."""
    assert run_without_processes("sh", "-c", ": & wait") != 0
    assert run_without_processes(*shell, "-c", script(tmp_path, "prolog", "").read_text(encoding="utf-8")) == 0


def run_without_processes(*command: str) -> int:
    """Run a command that can start no process; return its status."""
    return subprocess.run(
        command,
        cwd="/",
        user=NOBODYS if os.geteuid() == 0 else None,  # root has no such limit
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (1, 1)),
        timeout=within(120),
        check=False,
    ).returncode


def test_a_command_that_hangs_is_killed(tmp_path: Path) -> None:
    begun = time.monotonic()
    assert run(script(tmp_path, "epilog", "exec sleep 100")).returncode == 0
    assert time.monotonic() - begun < within(15)
    wait_for_its_end(tmp_path)
