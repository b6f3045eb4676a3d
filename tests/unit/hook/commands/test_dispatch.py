from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import ssh_hook
from ssh_hook.cli import main
from ssh_hook.dispatch import SUMMARIES, flags_of, parse
from ssh_hook.parser import parser_of

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


@pytest.mark.parametrize(
    "words",
    [["keygen"], ["keygen", "--overwrite", "--debug"], ["check-user-has-sshkeys", "--verbose", "--verbose"]],
    ids=" ".join,
)
def test_flags_are_what_argparse_makes_of_them(words: list[str]) -> None:
    command, arguments = parse(words[0], words[1:])
    assert flags_of(command) is not None
    assert vars(arguments) == vars(parser_of(words[0], command).parse_intermixed_args(words[1:]))


@pytest.mark.parametrize("name", ["keygen", "check-user-has-sshkeys"])
def test_keys_take_no_slow_modules(name: str) -> None:
    """They may be called in every login: the modules take as long as the keys."""
    program = (
        f"import sys; from ssh_hook.cli import main; main(['{name}'], {{}}); "
        "print({'argparse', 'os', 're', 'typing'} & {*sys.modules})"
    )
    package = Path(ssh_hook.__file__).parents[1]
    command = [sys.executable, "-BISc", f"import sys; sys.path.append({str(package)!r}); {program}"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"


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
