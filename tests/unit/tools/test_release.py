"""What tools/release.py refuses, and where it writes a version. `make release-test` runs it in full."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[3] / "tools" / "release.py"
SPEC = importlib.util.spec_from_file_location("release", FILE)
assert SPEC is not None
assert SPEC.loader is not None
release = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(release)

TEXTS = {
    "galaxy.yml": "name: ssh\nversion: 1.0.0\n",
    "docs/releases.md": "$ archive=ocihooks-ssh-1.0.0.tar.gz\n",
    "files/hook/ssh_hook/__init__.py": 'VERSION = "1.0.0"  # of galaxy.yml\n',
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, text in TEXTS.items():
        tmp_path.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
        tmp_path.joinpath(name).write_text(text, encoding="utf-8")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@localhost"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "first"], check=True)
    subprocess.run([*git, "tag", "1.9.0"], check=True)
    return tmp_path


def test_the_version_is_written_wherever_it_is_named(checkout: Path) -> None:
    release.write_version(checkout, "1.10.0")
    for name, text in TEXTS.items():
        assert (checkout / name).read_text(encoding="utf-8") == text.replace("1.0.0", "1.10.0")


def test_nothing_is_written_where_a_place_is_missing(checkout: Path) -> None:
    (checkout / "docs/releases.md").write_text("No version.\n", encoding="utf-8")
    with pytest.raises(release.Refused, match=r"^docs/releases\.md has 0 places"):
        release.write_version(checkout, "1.10.0")
    assert (checkout / "galaxy.yml").read_text(encoding="utf-8") == TEXTS["galaxy.yml"]


@pytest.mark.parametrize(
    ("version", "summary", "refusal"),
    [
        ("1.10", "New.", "'1.10' is no version: write it as 1.2.3"),
        ("1.10.0", "New", "the summary 'New' is no sentence: end it with a full stop"),
        ("1.9.0", "New.", "1.9.0 is not newer than 1.9.0, which is released: take the next version"),
        ("1.8.9", "New.", "1.8.9 is not newer than 1.9.0, which is released: take the next version"),
    ],
)
def test_refusals(checkout: Path, version: str, summary: str, refusal: str) -> None:
    with pytest.raises(release.Refused) as caught:
        release.check(checkout, version, summary)
    assert str(caught.value) == refusal


def test_versions_are_compared_as_numbers(checkout: Path) -> None:
    release.check(checkout, "1.10.0", "New.")
