"""The commands and scripts of docs/launchers.md are those that molecule/launch-real runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCENARIO = ROOT / "molecule" / "launch-real"
GUIDE = (ROOT / "docs" / "launchers.md").read_text(encoding="utf-8").partition("\n## Commands\n")[2]
SECTION = GUIDE.partition("\n## ")[0]
COMMANDS = re.findall(r"^\|[^|]+\| `sbatch launch\.sh my-image ([^`]+)` \|", SECTION, re.MULTILINE)
BLOCKS = re.findall(r"^```\w*\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
# The scenario's names for the same programs. What it runs is rootful, as the cluster's user; a table has no shell.
NAMES = (("train_deepspeed.py", "train.py"), ("ray_hosts.py", "train.py"), ("python3 solver.py", "python3 train.py"))


def lines() -> list[str]:
    text = (SCENARIO / "verify.yml").read_text(encoding="utf-8")
    for name, shown in NAMES:
        text = text.replace(name, shown)
    return re.findall(r"^ +line: (.*)$", text, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_table(command: str) -> None:
    in_shell = re.sub(r"^sh -c '(.*)'$", r"\1", command)
    assert in_shell.replace(" --allow-run-as-root", "") in lines()


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n")[1][:20])
def test_a_script(block: str) -> None:
    assert block in [path.read_text(encoding="utf-8") for path in (SCENARIO / "files").iterdir()]


def test_there_are_some() -> None:
    assert len(COMMANDS) == 12
    assert len(BLOCKS) == 4
