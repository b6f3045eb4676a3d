"""docs/testing.md says of each part where its tests are, and no page names a test that does not exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "roles/*/README.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"
)
PATTERNS = (
    "plugins/modules/*.py",
    "plugins/action/*.py",
    "plugins/lookup/*.py",
    "roles/*",
    "playbooks/*.yml",
    "files/hook/ssh_hook/[a-z]*",
)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_part_has_a_row(pattern: str) -> None:
    section = TEXT.partition("## Where the tests of each part are\n")[2].partition("\n## ")[0]
    rows = {name for cell in re.findall(r"^\|([^|]+)\|", section, re.MULTILINE) for name in re.findall("`(.+?)`", cell)}
    parts = {path.stem for path in ROOT.glob(pattern) if path.name != "__pycache__"}
    assert parts
    assert parts - rows == set()


def test_each_unit_test_of_plugins_is_named() -> None:
    files = {path.name for path in (ROOT / "tests" / "unit" / "plugins").rglob("test_*.py")}
    assert files - set(re.findall(r"`(test_\w+\.py)`", TEXT)) == set()


def test_each_annotation_and_each_setting_is_tried_with_wrong_values() -> None:
    texts = {}
    for statement in ast.parse((ROOT / "tests/hook/test_values.py").read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            nodes = ast.walk(statement.value)
            texts[statement.targets[0].id] = {node.value for node in nodes if isinstance(node, ast.Constant)}
    tried = texts["ANNOTATIONS"] | texts["SETTINGS"]
    oci = ROOT / "files/hook/ssh_hook/oci"
    annotations = re.findall(r'"(com\.hooks\.\w+\.\w+)"', (oci / "annotations.py").read_text(encoding="utf-8"))
    settings = re.findall(r'"([A-Z]+_[A-Z_]+)"', (oci / "settings.py").read_text(encoding="utf-8"))
    assert len(annotations) > 10 and len(settings) > 10
    assert {*annotations, *settings} - tried == set()


@pytest.mark.parametrize("page", PAGES)
def test_all_that_is_named_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    files = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert set(re.findall(r"\btest_\w+\.py\b", text)) - files == set()
    places = [place.rstrip(".") for place in re.findall(r"(?<![\w./])(?:tests|molecule)/[\w./*-]+", text)]
    assert [place for place in places if not (ROOT / place).exists()] == []


@pytest.mark.parametrize("page", ["architecture.md", "why.md"])
def test_each_module_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]+\.(?:py|sh|yml))`", text))
    folders = [ROOT / name for name in ("files", "meta", "playbooks", "plugins", "roles", "tests")]
    files = [path.as_posix() for folder in folders for path in folder.rglob("*.*")]
    assert named
    assert {name for name in named if not any(path.endswith(f"/{name}") for path in files)} == set()
