"""Real journald finds what the guides look for, by their own commands."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openssh
import pytest
from containers import ALICE, keys, run, wait_for
from starter import Start

ROOT = Path(__file__).resolve().parents[2]
DAEMON = Path("/usr/lib/systemd/systemd-journald")
STATE, LOG = Path("/run/systemd"), Path("/run/log")
SETTINGS = Path("/etc/systemd/journald.conf.d/test.conf")
SYSLOG = Path("/dev/log")
QUERIES = {
    "docs/day-2.md": {"journalctl -t ssh_hook -g revoke", "journalctl -t ssh_hook SSH_HOOK_KEY=SHA256:…"},
    "docs/admin-guide.md": {"journalctl -t ssh_hook -p warning", "journalctl -t ssh_hook SSH_HOOK_USER=alice"},
}


@pytest.fixture
def journald() -> Iterator[None]:
    """Journald is the bed's daemon of the system log. It reads nothing of the machine's kernel."""
    SETTINGS.parent.mkdir(parents=True)
    SETTINGS.write_text("[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nForwardToWall=no\n", encoding="ascii")
    (STATE / "journal").mkdir(parents=True)
    (LOG / "journal").mkdir(parents=True)
    own = Path("/etc/machine-id")
    before = own.read_bytes() if own.exists() else None
    own.write_text(f"{'1' * 32}\n", encoding="ascii")
    socket = SYSLOG.with_name("log.before")
    SYSLOG.rename(socket)
    with subprocess.Popen([DAEMON]) as daemon:
        try:
            wait_for((STATE / "journal/dev-log").exists, "journald's sockets")
            SYSLOG.symlink_to(STATE / "journal/dev-log")
            yield
        finally:
            daemon.terminate()
    SYSLOG.unlink(missing_ok=True)
    socket.rename(SYSLOG)
    own.unlink()
    if before is not None:
        own.write_bytes(before)
    shutil.rmtree(SETTINGS.parent)
    shutil.rmtree(STATE)
    shutil.rmtree(LOG)


def found(query: str) -> str:
    """What a guide's command prints."""
    return run(query.split()).text


def end_daemons_of(uid: int, environment: dict[str, str]) -> None:
    """End them by the module that the playbook revoke calls on a node."""
    subprocess.run(
        [sys.executable, "-B", ROOT / "plugins/modules/end_daemons.py"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {"uids": [uid]}}),
        env=environment,
        stdout=subprocess.DEVNULL,
        text=True,
        check=True,
    )


@pytest.mark.parametrize("page", QUERIES)
def test_the_queries_are_those_of_the_guides(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert set(re.findall(r"journalctl -t ssh_hook [^`\n]+", text)) == QUERIES[page]


def test_who_logged_in_with_a_leaked_key(start: Start, journald: None, tmp_path: Path) -> None:
    start("podman-crun", "busybox")
    key = openssh.convert(keys() / "id_dropbear", tmp_path / "id")
    fingerprint = run(["ssh-keygen", "-l", "-f", key]).checked().text.split()[1]
    openssh.login(key, "true").checked()
    by_key = "journalctl -t ssh_hook SSH_HOOK_KEY=SHA256:…"
    wait_for(lambda: " ends: " in found(by_key.replace("SHA256:…", fingerprint)), "the line of the session's end")
    for query in (by_key.replace("SHA256:…", fingerprint), "journalctl -t ssh_hook SSH_HOOK_USER=alice"):
        lines = found(query).splitlines()
        assert [fingerprint in line and "user alice" in line for line in lines] == [True, True], lines
    assert "-- No entries --" in found(by_key.replace("…", "A" * 43))


def test_what_a_revocation_and_a_failure_leave(start: Start, journald: None, with_collection: dict[str, str]) -> None:
    container = start("podman-crun", "busybox")
    end_daemons_of(ALICE, with_collection)
    (line,) = found("journalctl -t ssh_hook -g revoke").splitlines()
    assert re.search(
        r"ssh_hook\[\d+\]: revoke: SSH daemons of alice that ended, with their sessions: pids [\d, ]+\.", line
    )
    container.stop().checked()
    with pytest.raises(Exception, match="no-such-user"):
        start("podman-crun", "busybox", annotations={"com.hooks.ssh.user": "no-such-user"})
    assert "no-such-user" in found("journalctl -t ssh_hook -p warning")
