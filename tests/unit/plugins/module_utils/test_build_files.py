"""Files of the user who builds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils._build import files


def test_only_the_owner_can_write_to_new_directories_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0o002)
    try:
        files.write_whole(b"text", tmp_path / "a" / "b" / "file", 0o644)
    finally:
        os.umask(umask)
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "a", tmp_path / "a" / "b")] == [0o755, 0o755]
    assert (tmp_path / "a" / "b" / "file").stat().st_mode & 0o777 == 0o644


def test_a_file_that_cannot_be_replaced_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError):
        files.write_whole(b"text", tmp_path / "file", 0o644)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
