"""Only what this collection has written is replaced or removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils import _files as files
from ansible_collections.ocihooks.ssh.plugins.module_utils._keys import name_service

ROLE = Path(__file__).resolve().parents[4] / "roles/ssh_hook"
MARK = f"{name_service.MARK.decode()}: changes here do not last.\n"


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        (MARK, True),
        (f"#!/bin/sh\n{MARK}exit 0\n", True),
        (f"#!/bin/sh\n\n{MARK}", False),  # as one that quotes it
        ("[Service]\n", False),
        ("", False),
        ('{"args": ["ssh_hook", "start-ssh-daemon"], "env": ["REQUIRE_USER_ANNOTATION=false"]}', True),
        ('{"args": ["ssh_hook", "start-ssh-daemon"], "env": ["HOOK_BASE_DIR=/home"]}', False),  # as of Sarus
        ("# HELP ssh_hook_failures_total x\n", True),
        ("# HELP node_load1 x\n# HELP ssh_hook_failures_total x\n", False),
    ],
)
def test_a_file_of_ours_is_recognised(tmp_path: Path, text: str, ours: bool) -> None:
    path = tmp_path / "file"
    path.write_text(text, encoding="utf-8")
    assert files.is_ours(str(path)) is ours
    assert files.is_foreign(str(path)) is not ours


def test_what_is_no_file_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "ours").write_text(MARK, encoding="utf-8")
    (tmp_path / "link").symlink_to("ours")
    (tmp_path / "dangling").symlink_to("none")
    assert [files.is_foreign(str(tmp_path / name)) for name in ("link", "dangling", ".", "none")] == [True] * 3 + [
        False
    ]


def test_another_programs_file_is_neither_replaced_nor_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ROOT", (os.getuid(), os.getgid()))
    path = tmp_path / "file"
    path.write_text("theirs", encoding="utf-8")
    for check in (True, False):
        with pytest.raises(OSError, match="this collection did not write it, and replaces and removes only its own"):
            files.update(str(path), MARK.encode(), check=check)
        with pytest.raises(OSError, match="this collection did not write it"):
            files.refuse_foreign(str(path))
        assert path.read_text(encoding="utf-8") == "theirs"
    assert files.update(str(path), MARK.encode(), is_known=True)
    assert files.update(str(path), f"{MARK}more".encode())
    files.refuse_foreign(str(path))


def test_what_the_role_writes_is_recognised(tmp_path: Path) -> None:
    names = sorted(path for path in (ROLE / "templates").iterdir() if not path.name.endswith((".html.j2", ".json.j2")))
    assert len(names) == 8
    for template in [*names, ROLE / "files/completion.bash"]:
        text = template.read_text(encoding="utf-8").replace("{{ '#!/bin/sh' }}", "#!/bin/sh")
        (tmp_path / "file").write_text(text, encoding="utf-8")
        assert files.is_ours(str(tmp_path / "file")), template


def test_check_mode_fails_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="root cannot create files in its directory: "):
        files.update(f"{tmp_path}/file/below", b"", check=True)
