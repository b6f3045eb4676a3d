"""How a user names a container, and how the caller's are found, whatever their images run, and listed."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ssh_hook.commands.attach import targets
from ssh_hook.errors import ATTACH_REFUSED, HookError, LateError


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


@pytest.mark.parametrize(
    "words", [("4711", "--name", "mine"), ("4711", "--instance", "mine"), ("--name", "mine", "--instance", "mine")]
)
def test_two_targets(words: tuple[str, ...]) -> None:
    with pytest.raises(HookError, match="give only one of PID, --name and --instance"):
        pid(*words)


def test_instance() -> None:
    assert pid("--instance", "mine") is None


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


def show(monkeypatch: pytest.MonkeyPatch, namespaces: list[int]) -> None:
    """Processes in these mount namespaces."""

    def ask(question: Callable[[Any], bytes], _deadline: float) -> dict[int, bytes]:
        processes = {
            pid: SimpleNamespace(mount_namespace=lambda inode=inode: (4, inode), start_time=lambda pid=pid: -pid)
            for pid, inode in enumerate(namespaces, 10)
        }
        return {pid: question(process) for pid, process in processes.items()}

    monkeypatch.setattr(targets, "ask_own_processes", ask)


def refuse(_pid: int, **_options: bool) -> None:
    raise HookError(ATTACH_REFUSED, "it is not in a container")


def test_the_oldest_process_of_each_container(monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, [1, 2, 1])
    monkeypatch.setattr(targets, "RunningProcess", lambda pid, **_options: pid)
    assert targets.find_containers() == [12, 11]


def test_more_mount_namespaces_than_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "RunningProcess", refuse)
    show(monkeypatch, list(range(64)))
    assert targets.find_containers() == []
    show(monkeypatch, list(range(65)))
    with pytest.raises(HookError, match="in more than 64 mount namespaces: give the PID of one"):
        targets.find_containers()


def test_processes_that_nobody_can_attach_to_do_not_hold_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, [1] * 1000)
    monkeypatch.setattr(targets, "RunningProcess", refuse)
    assert targets.find_containers() == []
    monkeypatch.setattr(targets, "_SEARCH_TIMEOUT", -1)
    with pytest.raises(LateError):
        targets.find_containers()
