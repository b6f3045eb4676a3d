"""What pages tell their readers to run and to set exists: commands of `ssh_hook`, playbooks, targets, variables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ssh_hook import dispatch
from ssh_hook.commands.dev import templates
from ssh_hook.parser import parser_of

ROOT = Path(__file__).resolve().parents[3]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for pattern in ("README.md", "docs/*.md", "docs/engines/*.md", "roles/*/README.md")
    for path in ROOT.glob(pattern)
}
NO_COMMANDS = {"start-ssh-daemon", "start-in-enroot", "bin", "is", "job"}  # what engines call; parts of other texts
EL = PAGES["docs/first-el-node.md"]
ANSIBLES = {"ansible_python_interpreter"}


def code(text: str) -> str:
    """The page's blocks and its code in lines, one a line."""
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^ *```\w*\n.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    spans = [" ".join(span.split()) for span in re.findall("`([^`]+)`", rest)]
    return "\n".join([*(block.replace("\\\n", " ") for block in blocks), *spans])


def options_of(name: str) -> set[str]:
    """The options of a command of `ssh_hook`."""
    return set(parser_of(name, dispatch._load(name))._option_string_actions) if name in dispatch.SUMMARIES else set()


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_the_hook(page: str) -> None:
    text = code(PAGES[page]).replace("\n# ssh_hook sets ", "\n")  # a comment of the profile that dev writes
    called = re.findall(r"(?:^|bin/|[$#] |[$]\()ssh_hook ([a-z-]+)([^\n;|&)<>]*)", text, re.MULTILINE)
    assert {name for name, _rest in called} <= dispatch.SUMMARIES.keys() | NO_COMMANDS
    for name, rest in called:
        assert set(re.findall(r"(?<!\S)--[a-z-]+", rest)) <= options_of(name), name


@pytest.mark.parametrize("page", PAGES)
def test_playbooks(page: str) -> None:
    called = set(re.findall(r"ansible-playbook[^\n#]* ocihooks\.ssh\.(\w+)", code(PAGES[page])))
    assert called <= {path.stem for path in (ROOT / "playbooks").iterdir()}


@pytest.mark.parametrize("page", PAGES)
def test_targets(page: str) -> None:
    called = set(re.findall(r"^(?:\$ )?make ([a-z0-9-]+)", code(PAGES[page]), re.MULTILINE))
    assert called <= set(re.findall(r"[\w-]+", (ROOT / "Makefile").read_text(encoding="utf-8")))


def test_variables_of_the_first_el_node() -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", EL, re.MULTILINE | re.DOTALL)
    variables = {name for block in blocks for name in re.findall(r"^(\w+):", block, re.MULTILINE)} - ANSIBLES
    specs = [(path / "meta/argument_specs.yml").read_text(encoding="utf-8") for path in (ROOT / "roles").iterdir()]
    assert len(blocks) == 2 and len(variables) == 5
    assert variables <= {name for spec in specs for name in re.findall(r"^      (\w+):$", spec, re.MULTILINE)}


def test_tags_of_the_first_el_node() -> None:
    tags = re.findall(r"--tags (\w+)", EL)
    deploy = (ROOT / "playbooks/deploy.yml").read_text(encoding="utf-8")
    assert tags and set(tags) <= set(re.findall(r"\w+", " ".join(re.findall(r"tags: \[(.*)\]", deploy))))


def test_units_of_the_first_el_node() -> None:
    templates = {path.name for path in (ROOT / "roles/ssh_hook/templates").iterdir()}
    assert {f"{unit}.j2" for unit in re.findall(r"systemctl start (\S+)", EL)} <= templates
    (timers,) = re.findall(r"list-timers .*\n(\d+)$", EL, re.MULTILINE)
    assert int(timers) == len([name for name in templates if name.endswith(".timer.j2")])


def test_the_profile_is_the_one_that_dev_writes() -> None:
    written = templates.script({"podman": "/usr/bin/podman"}.get, "/opt/oci-hooks/bin/ssh_hook")
    assert f"$ cat ~/.oci-hooks/dev/gpu.sh\n{written}$ " in PAGES["docs/dev.md"]
