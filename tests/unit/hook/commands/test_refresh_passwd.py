"""The passwd file that is written from the name service, by the command that the timer runs."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
from ssh_hook.commands import refresh_passwd
from ssh_hook.errors import HookError, LateError
from ssh_hook.keys import name_service
from ssh_hook.node import public_file

HOOK = Path(__file__).resolve().parents[4] / "files" / "hook"
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from ssh_hook.cli import main
sys.exit(main(sys.argv[2:], {}))
"""

MARK = name_service.MARK + b": changes here do not last.\n"
Captured = pytest.CaptureFixture[str]


def test_a_file_is_written_where_it_differs_and_only_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(name_service, "list_accounts", lambda: b"root:secret:0:0::/root:/bin/sh\n")
    path = tmp_path / "passwd"

    def refresh() -> str:
        assert refresh_passwd.run(Namespace(file=str(path)), {}) == 0
        return capsys.readouterr().out

    assert refresh() == "changed\n"
    assert path.read_bytes() == MARK + b"root:x:0:0::/root:/bin/sh\n"
    written = path.stat()
    assert refresh() == "unchanged\n"
    assert path.stat() == written
    path.chmod(0o600)
    assert refresh() == "changed\n"
    assert path.stat().st_mode == 0o100644
    killed = tmp_path / ".passwd.00c0ffee00c0ffee"
    killed.touch()
    os.utime(killed, (0, 0))
    path.chmod(0o600)
    assert refresh() == "changed\n"
    assert [file.name for file in tmp_path.iterdir()] == ["passwd"]


@pytest.mark.usefixtures("held_up")
def test_what_a_user_holds_up_does_not_hold_up_the_refresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """By a file system of hers that she has mounted on the file, so that its replacement waits."""
    monkeypatch.setattr(name_service, "list_accounts", lambda: b"root:secret:0:0::/root:/bin/sh\n")
    path = tmp_path / "passwd"
    assert refresh_passwd.run(Namespace(file=str(path)), {}) == 0
    assert path.read_bytes() == MARK + b"root:x:0:0::/root:/bin/sh\n"
    out, said = capfd.readouterr()
    assert out == "changed\n"
    assert f"{path} has been replaced, but the process that replaced it is blocked" in said


def test_a_late_refresh_that_has_replaced_nothing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hang: Callable[..., None]
) -> None:
    monkeypatch.setattr(public_file.os, "fsync", hang)
    monkeypatch.setattr(name_service, "list_accounts", lambda: b"root:secret:0:0::/root:/bin/sh\n")
    path = tmp_path / "passwd"
    with pytest.raises(LateError, match=f"cannot write {path}: no answer within 10 s"):
        refresh_passwd.run(Namespace(file=str(path)), {})
    assert not path.exists()


def test_what_is_left_of_a_killed_refresh_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hang: Callable[..., None]
) -> None:
    monkeypatch.setattr(public_file, "remove_leftovers", hang)
    monkeypatch.setattr(name_service, "list_accounts", lambda: b"root:secret:0:0::/root:/bin/sh\n")
    path = tmp_path / "passwd"
    assert refresh_passwd.run(Namespace(file=str(path)), {}) == 0
    assert path.read_bytes() == MARK + b"root:x:0:0::/root:/bin/sh\n"


def test_a_broken_name_service_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_service, "list_accounts", lambda: b"daemon:x:1:1::/:/bin/sh\n")
    path = tmp_path / "passwd"
    path.write_bytes(MARK)
    with pytest.raises(HookError, match=f"does not list root, so {path} stays as it is"):
        refresh_passwd.run(Namespace(file=str(path)), {})
    assert path.read_bytes() == MARK


def test_what_another_program_wrote_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_service, "list_accounts", lambda: b"root:x:0:0::/root:/bin/sh\n")
    path, unit = tmp_path / "passwd", tmp_path / "unit"
    monkeypatch.setattr(name_service, "_UNIT", str(unit))
    named = f"[Service]\nExecStart=/opt/oci-hooks/bin/ssh_hook refresh-passwd {path}\n"
    for content, text in (
        ("root:x:0:0::/root:/bin/sh\n", ""),
        ("", f"{name_service.MARK.decode()}\n{named}"[:-2]),
        ("", f"# The site's.\n{named}"),
    ):
        path.write_text(content, encoding="ascii")
        unit.write_text(text, encoding="ascii")
        with pytest.raises(HookError, match=f"{path} was not written by this collection, .* set ssh_hook_passwd_so"):
            refresh_passwd.run(Namespace(file=str(path)), {})
        assert path.read_text(encoding="ascii") == content
    path.unlink()
    path.symlink_to("missing")
    with pytest.raises(HookError, match=f"{path} was not written by this collection"):
        refresh_passwd.run(Namespace(file=str(path)), {})
    path.unlink()
    path.write_text("as an earlier version wrote it, without a mark", encoding="ascii")
    unit.write_text(f"{name_service.MARK.decode()}\n{named}", encoding="ascii")
    assert refresh_passwd.run(Namespace(file=str(path)), {}) == 0
    assert path.read_bytes() == MARK + b"root:x:0:0::/root:/bin/sh\n"


def test_the_nodes_own_file_is_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_service, "list_accounts", lambda: b"")  # of which nothing would be written
    (tmp_path / "link").symlink_to("/etc/passwd")
    for path in ("/etc/passwd", "/etc/../etc/passwd", str(tmp_path / "link")):
        with pytest.raises(HookError, match="the node's own passwd file, which is never replaced"):
            refresh_passwd.run(Namespace(file=path), {})


def test_nor_is_it_by_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where /etc is mounted elsewhere, too: the name alone does not tell."""
    monkeypatch.setattr(name_service, "list_accounts", lambda: b"")
    (tmp_path / "passwd").write_text("", encoding="ascii")
    os.link(tmp_path / "passwd", tmp_path / "another")
    monkeypatch.setattr(name_service, "NODES_FILE", str(tmp_path / "passwd"))
    with pytest.raises(HookError, match="the node's own passwd file, which is never replaced"):
        refresh_passwd.run(Namespace(file=str(tmp_path / "another")), {})


def test_it_says_what_it_did_in_one_line(tmp_path: Path) -> None:
    """As a timer runs it, without Ansible and without the site's Python packages."""
    missing = tmp_path / "missing/passwd"
    command: list[str | Path] = [sys.executable, "-I", "-S", "-B", "-c", PROGRAM, HOOK, "refresh-passwd"]
    answer = subprocess.run([*command, missing], capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stderr.endswith(f": {missing} cannot be refreshed: No such file or directory [system]\n")
    assert answer.stderr.count("\n") == 1
    for said in ("changed\n", "unchanged\n"):
        answer = subprocess.run([*command, tmp_path / "passwd"], capture_output=True, text=True, check=False)
        assert (answer.returncode, answer.stdout, answer.stderr) == (0, said, "")
    assert (tmp_path / "passwd").stat().st_uid == os.geteuid()
