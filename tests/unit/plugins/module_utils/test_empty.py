"""Directories that are empty are removed, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils._empty import remove_empty


@pytest.mark.parametrize("check", [True, False])
def test_only_empty_directories_are_removed(tmp_path: Path, check: bool) -> None:
    (tmp_path / "outer/inner").mkdir(parents=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    (tmp_path / "link").symlink_to("outer")
    before = sorted(tmp_path.rglob("*"))
    paths = [str(tmp_path / name) for name in ("link", "outer/inner", "outer", "full", "full/file", "none")]
    assert remove_empty(paths, check) == [str(tmp_path / "outer/inner"), str(tmp_path / "outer")]
    left = [tmp_path / name for name in ("full", "full/file", "link")]
    assert sorted(tmp_path.rglob("*")) == (before if check else left)
