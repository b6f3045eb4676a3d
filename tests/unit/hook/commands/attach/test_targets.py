"""How a user names a container, and how the caller's are listed."""

from __future__ import annotations

from argparse import ArgumentParser

import pytest
from ssh_hook.commands.attach import targets
from ssh_hook.errors import HookError


def pid(*words: str) -> int | None:
    parser = ArgumentParser()
    targets.add_arguments(parser)
    return targets.chosen_pid(parser.parse_args(words))


def test_pid() -> None:
    assert pid("4711") == 4711
    assert pid() is None


@pytest.mark.parametrize("text", ["0", "+1", "1 ", "1x", "", "²", "99999999999", str(2**31)])
def test_no_pid(text: str) -> None:
    with pytest.raises(HookError, match="is not a PID"):
        pid(text)


def test_pid_and_name() -> None:
    with pytest.raises(HookError, match="not both"):
        pid("4711", "--name", "mine")


def test_name_without_podman(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HookError, match="cannot run podman to find the container mine"):
        pid("--name", "mine")


def test_choice(capsys: pytest.CaptureFixture[str]) -> None:
    targets.print_choice("attach", {20: "python3", 3: "sleep"})
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["3", "sleep", "ssh_hook", "attach", "3"],
        ["20", "python3", "ssh_hook", "attach", "20"],
    ]
