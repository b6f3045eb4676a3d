"""The launchers of docs/launchers.md are run by molecule/launch-real as that page writes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "docs" / "launchers.md").read_text(encoding="utf-8").partition("\n## Commands\n")[2]
SECTION = GUIDE.partition("\n## ")[0]
COMMANDS = [
    command
    for row in re.findall(r"^\|[^|]+\|([^|]+)\|", SECTION.partition("\n### ")[0], re.MULTILINE)
    for command in re.findall("`([^`…]+)`", row)
    if not command.startswith("ray ")  # a part of a block
]
BLOCKS = [block for block in re.findall(r"^```\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL) if "ssh -n" in block]


def alike(text: str) -> str:
    """Lines without what stands before the command, and with the names of programs and hosts that both have."""
    text = re.sub(r"^ *(?:line: )?(?!\|$)", "", text, flags=re.MULTILINE)
    return (
        text.replace("node001", "login")
        .replace("train_deepspeed.py", "train.py")
        .replace("python3 solver.py", "python3 train.py")
    )


def scenario() -> str:
    return alike((ROOT / "molecule" / "launch-real" / "verify.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_table(command: str) -> None:
    assert command in scenario().splitlines()


@pytest.mark.parametrize("block", BLOCKS, ids=[block.split()[0] for block in BLOCKS])
def test_a_block(block: str) -> None:
    assert f"\n{alike(block)}" in scenario()


def test_the_port_of_a_job() -> None:
    [command] = re.findall("^sbatch launch.sh sh -c '(.*)'$", SECTION, re.MULTILINE)
    assert command in scenario().splitlines()


def test_there_are_some() -> None:
    assert len(COMMANDS) >= 9
    assert len(BLOCKS) == 2
