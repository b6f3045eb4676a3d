"""The README's table of the engines that were tested."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
import tested

README = """\
| Test | Date | Engines |
|---|---|---|
| `make engines` | 2026-11-30 | podman 5.4.2, runc 1.1.15 |
| `make real-apptainer` | 2026-11-30 | Apptainer 1.4.5 |

Text.
"""


def test_a_run_replaces_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tested, "README", tmp_path / "README.md")
    monkeypatch.setattr(tested, "NOTES", tmp_path / "tested")
    tested.README.write_text(README, encoding="utf-8")
    today = datetime.date.today().isoformat()
    tested.note("newest-engines", {"podman": "5.8.2"})
    tested.note("engines", {"podman": "5.6.0", "runc": "1.2.9"})
    tested.main()
    assert tested.README.read_text(encoding="utf-8") == README.replace(
        "2026-11-30 | podman 5.4.2, runc 1.1.15", f"{today} | podman 5.6.0, runc 1.2.9"
    ).replace("1.4.5 |\n", f"1.4.5 |\n| `make newest-engines` | {today} | podman 5.8.2 |\n")


def test_version() -> None:
    assert tested.version("pyxis: version v0.24.0") == "0.24.0"
    with pytest.raises(ValueError, match="no version"):
        tested.version("crun")


def test_the_table_of_the_readme() -> None:
    """Each test is a target of make, which has run."""
    makefile = (tested.ROOT / "Makefile").read_text(encoding="utf-8")
    for test, line in tested.lines().items():
        assert f"echo 'make {test} " in makefile
        assert datetime.date.fromisoformat(line["date"]) <= datetime.date.today()
