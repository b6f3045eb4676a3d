"""Which modules are for users: the others say in their first line that they are not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

MODULES = sorted((Path(__file__).resolve().parents[3] / "plugins" / "modules").glob("*.py"))
FOR_USERS = {"secure_path", "user_keys"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_says_whom_it_is_for(path: Path) -> None:
    (line,) = re.findall(r"^short_description: (.*)", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert line.startswith(("Internal to the role ", "Internal to the roles ")) is (path.stem not in FOR_USERS)
