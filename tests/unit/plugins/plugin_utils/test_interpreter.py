"""A host whose modules fail is told which Python Ansible runs them by, if that is too old."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ocihooks.ssh.plugins.plugin_utils import _interpreter as interpreter


class Action:
    """An action plugin that has run a module by this interpreter, on this machine."""

    def __init__(self, used: str | None) -> None:
        self._used_interpreter = used

    def _low_level_execute_command(self, command: str, sudoable: bool) -> dict[str, Any]:
        assert sudoable
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
        return {"rc": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def told(used: str | None) -> str | None:
    action: Any = Action(used)
    return interpreter.too_old(action, "node1")


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("version", "is_old"), [("2.7", True), ("3.6", True), ("3.8", True), ("3.9", False), ("3.13", False)]
)
def test_the_version_decides(tmp_path: Path, version: str, is_old: bool) -> None:
    python = program(tmp_path / "python", f"echo 'a banner'; echo Python {version}")
    sentence = told(f"#!{python}")
    assert (sentence is not None) is is_old
    if sentence:
        assert f"on node1 with {python}, which is Python {version}, and this collection needs 3.9 or newer" in sentence
        assert "set ansible_python_interpreter to its path" in sentence
        assert "\n" not in sentence


def test_the_interpreter_of_these_tests_is_new_enough() -> None:
    assert told(f"#!{sys.executable}") is None


@pytest.mark.parametrize("text", ["exit 1", "echo Python x.y", "echo Python 3.6.1-of-mine", "echo no Python 3.6"])
def test_what_is_no_answer_is_not_told(tmp_path: Path, text: str) -> None:
    assert told(f"#!{program(tmp_path / 'python', text)}") is None


@pytest.mark.parametrize("used", [None, "", "#!/no/such/python"])
def test_no_interpreter(used: str | None) -> None:
    assert told(used) is None
