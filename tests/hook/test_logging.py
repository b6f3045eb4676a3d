"""The annotations com.hooks.logging.*, and syslog."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers import ALICE, WORK, StartFailed, children, run, shell_around, wait_for
from hook_log import Syslog
from starter import Start

LEVEL, OUT, ERR = (f"com.hooks.logging.{name}" for name in ("level", "stdoutfd", "stderrfd"))


@pytest.fixture
def file() -> Iterator[Path]:
    """A file of alice's that the hook can log to."""
    path = WORK / "log"
    path.touch(mode=0o644)
    os.chown(path, ALICE, ALICE)
    yield path
    path.unlink()


@pytest.mark.parametrize(("level", "lines"), [("0", 1), ("1", 1), ("2", 0), ("3", 0)])
def test_level(start: Start, file: Path, level: str, lines: int) -> None:
    start("crun", network="private", annotations={LEVEL: level, OUT: str(file)})
    text = file.read_text(encoding="utf-8")
    assert text.count("\n") == lines
    assert ("listens on port 15263" in text) == (lines > 0)
    assert text == "" or text.startswith("ssh_hook: info: ")


def test_level_is_warning_by_default(start: Start, file: Path) -> None:
    start("crun", network="private", annotations={OUT: str(file), ERR: str(file)})
    assert file.read_text(encoding="utf-8") == ""


@pytest.mark.parametrize("engine", ["crun", "podman-crun", "rootless"])
def test_errors_to_a_path(start: Start, file: Path, engine: str) -> None:
    earlier = "ssh_hook: info: of an earlier start\n"
    file.write_text(earlier, encoding="utf-8")
    annotations = {ERR: str(file), "com.hooks.ssh.authorize_ssh_key": "/no/such/key"}
    with pytest.raises(StartFailed) as failure:
        start(engine, annotations=annotations)
    assert failure.value.hook == ""
    assert file.read_text(encoding="utf-8").startswith(f"{earlier}ssh_hook: error: the annotation ")


@pytest.mark.parametrize("engine", ["crun", "podman-crun", "rootless"])
def test_errors_to_a_new_file_of_the_users(start: Start, engine: str) -> None:
    path = Path("/home/alice/new.log")
    with pytest.raises(StartFailed):
        start(engine, annotations={ERR: str(path), "com.hooks.ssh.authorize_ssh_key": "/no/such/key"})
    try:
        assert path.read_text(encoding="utf-8").startswith("ssh_hook: error: the annotation ")
        assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (ALICE, 0o600)
    finally:
        path.unlink()


def test_messages_to_a_descriptor(start: Start) -> None:
    """crun redirects descriptor 2, so that is where the message of level info comes."""
    container = start("crun", network="private", annotations={LEVEL: "1", OUT: "2"})
    errors = Path(next(iter(WORK.glob("stderr-*"))))
    assert "listens on port 15263" in errors.read_text(encoding="utf-8")
    assert container.ssh("true").status == 0


def test_messages_to_a_descriptor_that_the_hook_was_given(start: Start, file: Path, tmp_path: Path) -> None:
    launcher = shell_around(tmp_path / "hook", f'exec 9>>{file}; hook "$@"')
    container = start("crun", network="private", launcher=launcher, annotations={LEVEL: "1", OUT: "9"})
    assert "listens on port 15263" in file.read_text(encoding="utf-8")
    daemon = container.daemon()
    for process in (daemon, *children(daemon)):
        assert str(file) not in run(["ls", "-l", f"/proc/{process}/fd"]).text


@pytest.mark.parametrize("target", ["99", f"/proc/{os.getpid()}/fd/0", f"/proc/{os.getpid()}/fd/999"])
def test_descriptor_of_the_engine_that_is_not_to_be_had(start: Start, syslog: Syslog, target: str) -> None:
    """Sarus, as root, names its own, and no user could do anything about it."""
    container = start("crun", network="private", annotations={LEVEL: "1", OUT: target, ERR: target})
    errors = Path(next(iter(WORK.glob("stderr-*"))))
    assert container.ssh("id -u").checked().text == str(ALICE)
    assert syslog.of_hook() == []
    assert errors.read_text(encoding="utf-8") == ""


def test_syslog_of_a_good_start_is_silent(start: Start, syslog: Syslog) -> None:
    container = start("crun", network="private")
    container.stop().checked()
    assert syslog.of_hook() == []


def test_syslog_has_errors_whatever_the_level(start: Start, syslog: Syslog) -> None:
    with pytest.raises(StartFailed) as failure:
        start("crun", annotations={LEVEL: "4", "com.hooks.ssh.authorize_ssh_key": "/no/such/key"})
    wait_for(syslog.of_hook, "a message in syslog")
    message = syslog.of_hook()[0]
    assert message.startswith("<27>")  # daemon, error
    assert "ssh_hook[" in message
    assert "/no/such/key" in message
    assert f': [ssh_hook kind="annotation-wrong" user="alice" uid="{ALICE}" container_id="' in message
    assert message.endswith("[annotation-wrong]")
    assert "/no/such/key" in failure.value.hook


@pytest.mark.parametrize("engine", ["podman-crun", "podman-runc", "rootless"])
def test_syslog_says_whose_container_it_was(start: Start, syslog: Syslog, engine: str) -> None:
    """By what podman's monitor has, where the start fails before the hook has found the user."""
    with pytest.raises(StartFailed):
        start(engine, annotations={"com.hooks.ssh.port": "x"})
    wait_for(syslog.of_hook, "a message in syslog")
    fields = rf'\[ssh_hook kind="annotation-wrong" uid="{ALICE}" container="[^"]+" container_id="[0-9a-f]{{64}}"'
    assert re.search(fields, syslog.of_hook()[0]), syslog.of_hook()
