"""The completion for bash, a static file, knows what the commands take."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import ssh_hook
from ssh_hook import dispatch
from ssh_hook.parser import parser_of

FILE = Path(ssh_hook.__file__).parents[3] / "roles/ssh_hook/files/completion.bash"


def completed(*words: str) -> list[str]:
    """Return what bash offers after these words of a command line."""
    array = " ".join(f"'{word}'" for word in words)
    script = f"source {FILE}; COMP_WORDS=({array}); COMP_CWORD={len(words) - 1}; _ssh_hook; echo ${{COMPREPLY[@]}}"
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split()


def options(name: str) -> set[str]:
    parser = parser_of(name, dispatch._load(name))
    return {option for action in parser._actions for option in action.option_strings if option.startswith("--")}


def test_commands() -> None:
    assert set(completed("ssh_hook", "")) == {*dispatch.SUMMARIES, "--help", "--version"}
    assert completed("ssh_hook", "wh") == ["why"]


@pytest.mark.parametrize("name", dispatch.SUMMARIES)
def test_options(name: str) -> None:
    assert set(completed("ssh_hook", name, "")) == options(name)


def test_files(tmp_path: Path) -> None:
    (tmp_path / "hosts").touch()
    assert completed("ssh_hook", "wait", "--hostfile", f"{tmp_path}/h") == [f"{tmp_path}/hosts"]
