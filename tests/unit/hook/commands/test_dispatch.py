from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import ssh_hook
from ssh_hook.cli import main
from ssh_hook.commands.dispatch import SUMMARIES, parse

ROOT = Path(ssh_hook.__file__).parents[3]


@pytest.mark.parametrize("name", SUMMARIES)
def test_help_with_an_example_that_is_right(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(name, ["--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert text.startswith(f"usage: ssh_hook {name} ")
    example = text.rpartition(f"example:\n  ssh_hook {name}")[2]
    parse(name, shlex.split(example.partition(" || ")[0]))


@pytest.mark.parametrize("word", ["-h", "--help", "help"])
def test_list_of_all_commands(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word], {}) == 0
    shown = capsys.readouterr()
    assert [name for name in SUMMARIES if f"\n  {name} " in shown.out] == list(SUMMARIES)
    assert shown.err == ""


@pytest.mark.parametrize("words", [[], ["nonsense"], ["start-ssh-daemon", "more"]])
def test_no_such_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words, {}) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("usage: ssh_hook ")
    assert shown.out == ""


@pytest.mark.parametrize("words", [["keygen", "--nonsense"], ["keygen", "--over"], ["sweep", "x\ny"], ["wait", "--"]])
def test_wrong_arguments(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(words, {}) == 1
    shown = capfd.readouterr()
    assert shown.err.startswith("ssh_hook: error: ")
    assert shown.err.count("\n") == 1


def test_version_is_the_collections(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"], {}) == 0
    version = capsys.readouterr().out.removeprefix("ssh_hook ").strip()
    assert f"version: {version}" in (ROOT / "galaxy.yml").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", SUMMARIES)
def test_version_of_each_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"], {})
    version = capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main([name, "--version"], {})
    assert ended.value.code == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (version, "")
