"""How the name of a door is removed."""

from __future__ import annotations

from pathlib import Path

import pytest
from ssh_hook.node import door_collection, door_removal
from ssh_hook.node.engine import state_directory


@pytest.fixture
def removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have root's directories in a temporary one; return the one of removed names."""
    monkeypatch.setattr(door_removal, "ROOT_PLACE", str(tmp_path / "doors"))
    monkeypatch.setattr(door_removal, "REMOVED", str(tmp_path / "removed"))
    (tmp_path / "doors").mkdir()
    return tmp_path / "removed"


def test_roots_directories_are_where_its_state_is() -> None:
    assert door_removal.ROOT_PLACE == f"{state_directory(0)}/doors"
    assert door_removal.REMOVED == f"{state_directory(0)}/removed"


def test_roots_name_is_moved_out_of_others_reach(tmp_path: Path, removed: Path) -> None:
    for name in ("1-2-3", "2-2-3"):  # the directory is made for the first
        path = tmp_path / "doors" / name
        path.touch()
        for _again in range(2):
            door_removal.remove_door(str(path))
        assert not path.exists()
    assert sorted(path.name for path in removed.iterdir()) == ["1-2-3", "2-2-3"]
    assert removed.stat().st_mode & 0o777 == 0o700


def test_a_users_name_is_removed(tmp_path: Path, removed: Path) -> None:
    (tmp_path / "1-2-3").touch()
    for _again in range(2):
        door_removal.remove_door(f"{tmp_path}/1-2-3")
    assert not (tmp_path / "1-2-3").exists()
    assert not removed.exists()


def test_a_sweep_of_roots_removes_names_that_were_moved(
    tmp_path: Path, removed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_collection, "ROOT_PLACE", str(tmp_path / "doors"))
    monkeypatch.setattr(door_collection, "REMOVED", str(removed))
    path = tmp_path / "doors" / "1-2-3"  # of another pid namespace
    path.touch()
    door_removal.remove_door(str(path))
    assert list(removed.iterdir())
    assert door_collection.collect_doors(0) == 0
    assert not list(removed.iterdir())
