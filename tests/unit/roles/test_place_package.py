"""The installer of the hook's package repairs what somebody has changed, and follows no link. Needs root."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from role_scripts import load

place_package = load("ssh_hook", "place_package")

PACKAGE = {
    "__init__.py": "# the package\n",
    "cli.py": "from .spec.settings import PORT\n",
    "importer.py": "# the importer\n",
    "spec/__init__.py": "# a room\n",
    "spec/settings.py": "PORT = 22\n",
}


def replace_by_link(folder: Path, victim: Path) -> None:
    folder.rename(folder.with_name("moved"))
    folder.symlink_to(victim)


def replace_by_file(folder: Path, _victim: Path) -> None:
    folder.rename(folder.with_name("moved"))
    folder.touch()


def give_away(folder: Path, _victim: Path) -> None:
    os.chown(folder, 4711, 4711)
    folder.chmod(0o777)
    (folder / "planted").mkdir()
    (folder / "settings.py").unlink()
    (folder / "settings.py").symlink_to("/etc/passwd")


def listing(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path.relative_to(directory)): (
            path.lstat().st_mode,
            path.lstat().st_uid,
            path.read_bytes() if path.is_file() and not path.is_symlink() else b"",
        )
        for path in sorted(directory.rglob("*"))
    }


@pytest.mark.parametrize("harm", [replace_by_link, replace_by_file, give_away])
def test_what_was_harmed_is_repaired(tmp_path: Path, harm: Callable[[Path, Path], None]) -> None:
    os.umask(0o022)
    directory, victim = tmp_path / "hook", tmp_path / "victim"
    directory.mkdir()
    (victim / "inner").mkdir(parents=True)
    (victim / "file").write_text("theirs", encoding="utf-8")
    victim.chmod(0o700)
    os.chown(victim, 4711, 4711)
    (directory / "package.json").write_text(json.dumps(PACKAGE), encoding="utf-8")
    assert place_package.place(str(directory), False)
    right, theirs = listing(directory), (listing(victim), victim.stat().st_mode, victim.stat().st_uid)
    assert {f"ssh_hook/{name}" for name in PACKAGE} <= set(right)

    harm(directory / "ssh_hook" / "spec", victim)
    assert place_package.place(str(directory), True)
    assert place_package.place(str(directory), False)
    assert listing(directory) == right
    assert (listing(victim), victim.stat().st_mode, victim.stat().st_uid) == theirs
    assert not place_package.place(str(directory), True)
    assert not place_package.place(str(directory), False)
