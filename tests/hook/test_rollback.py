"""OVERLAY_MOUNT_HOME_SSH=false: a start that is refused leaves the user's ~/.ssh as it was."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers import ALICE, SETTINGS, run
from hook_log import Syslog
from refusals import assert_refused
from starter import Start, Starter

SETTING = {"OVERLAY_MOUNT_HOME_SSH": "false"}
SSH = Path("/home/alice/.ssh")
NAMES = ("id_dropbear", "authorized_keys", "dropbear_ecdsa_host_key", "dropbear_ed25519_host_key")


@pytest.fixture
def ssh() -> Iterator[Path]:
    """Alice's own ~/.ssh, a volume of the container's, empty for a while."""
    aside = SSH.with_name(".ssh.aside")
    if SSH.exists():
        SSH.rename(aside)
    SSH.mkdir(mode=0o700)
    os.chown(SSH, ALICE, ALICE)
    yield SSH
    shutil.rmtree(SSH)
    if aside.exists():
        aside.rename(SSH)


@pytest.fixture
def refused(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Settings with which the very last step fails: a Dropbear that may not be run."""
    programs = tmp_path / "dropbear"
    programs.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "noexec,mode=755", "tmpfs", programs]).checked()
    shutil.copytree(f"{SETTINGS['DROPBEAR_DIR']}/bin", programs / "bin", symlinks=True)
    yield {**SETTING, "DROPBEAR_DIR": str(programs)}
    run(["umount", programs]).checked()


def contents(directory: Path) -> dict[str, object]:
    """What is in a directory: content and mode of each file, and where a link leads."""
    return {
        path.name: (path.readlink(), 0) if path.is_symlink() else (path.read_bytes(), path.stat().st_mode)
        for path in directory.iterdir()
    }


@pytest.mark.parametrize("engine", ["crun", "runc"])
def test_nothing_is_left(start: Starter, syslog: Syslog, ssh: Path, refused: dict[str, str], engine: str) -> None:
    assert_refused(start, syslog, engine, "bin/dropbear", settings=refused)
    assert contents(ssh) == {}


def test_what_was_there_is_back(start: Starter, syslog: Syslog, ssh: Path, refused: dict[str, str]) -> None:
    (ssh / "authorized_keys").write_text("ssh-ed25519 AAAA laptop\n", encoding="ascii")
    (ssh / "authorized_keys").chmod(0o644)
    (ssh / "elsewhere").write_bytes(b"another key")
    (ssh / "id_dropbear").symlink_to("elsewhere")
    for path in ssh.iterdir():
        os.chown(path, ALICE, ALICE, follow_symlinks=False)
    before = contents(ssh)
    assert_refused(start, syslog, "crun", "bin/dropbear", settings=refused)
    assert contents(ssh) == before


def test_keys_of_a_container_that_runs_stay(start: Starter, syslog: Syslog, ssh: Path, refused: dict[str, str]) -> None:
    """Two containers of one user have the same home, and the second does not start."""
    first = start("crun", "busybox", settings=SETTING)
    before = contents(ssh)
    assert sorted(before) == sorted(NAMES)
    assert_refused(start, syslog, "crun", "in use", settings=SETTING)
    refused["SERVER_PORT_DEFAULT"] = "16002"
    assert_refused(start, syslog, "crun", "bin/dropbear", settings=refused)
    assert contents(ssh) == before
    assert first.ssh("echo still").checked().text == "still"


def test_a_start_that_succeeds_leaves_the_keys_alone(start: Start, ssh: Path) -> None:
    (ssh / "id_dropbear").write_bytes(b"another key")
    os.chown(ssh / "id_dropbear", ALICE, ALICE)
    start("crun", "busybox", settings=SETTING).ssh("true").checked()
    assert sorted(contents(ssh)) == sorted(NAMES)
