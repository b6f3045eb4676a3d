"""The passwd file that is written from the name service."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils import _passwd_file as passwd_file

ROOT = Path(__file__).resolve().parents[4]
SCRIPT = "roles/ssh_hook/files/refresh_passwd.py"


def test_accounts_lose_their_passwords_and_what_is_none_is_left_out() -> None:
    listing = b"""\
root:$6$secret:0:0:root:/root:/bin/sh

# comment
+@group::::::
-mallory:x:7:7::/:/bin/sh
short:x:1:1
word:x:one:1::/:/bin/sh
b\xe9a:x:5:5:B\xe9a:/home/bea:/bin/sh
root:other:0:0:later:/:/bin/sh
ctrl\tname:x:8:8::/:/bin/sh
"""
    assert list(passwd_file.entries(listing).values()) == [
        b"root:x:0:0:root:/root:/bin/sh",
        b"b\xe9a:x:5:5:B\xe9a:/home/bea:/bin/sh",
    ]


def accounts(people: int) -> dict[bytes, bytes]:
    lines = [b"root:x:0:0::/root:/bin/sh", b"nobody:x:65534:65534::/:/bin/false"]
    lines += [b"user%d:x:%d:1::/:/bin/sh" % (uid, uid) for uid in range(1000, 1000 + people)]
    return dict(passwd_file.entries(b"\n".join(lines)))


@pytest.mark.parametrize(("before", "now"), [(0, 0), (0, 5), (1, 0), (2, 1), (10, 5), (10, 10)])
def test_a_plausible_listing_is_accepted(before: int, now: int) -> None:
    passwd_file.accepted(accounts(now), accounts(before), "/etc/p")


@pytest.mark.parametrize(("before", "now"), [(2, 0), (3, 1), (10, 4), (1000, 0)])
def test_a_listing_that_lost_most_users_is_refused(before: int, now: int) -> None:
    with pytest.raises(
        passwd_file.NotRefreshed, match=f"no longer lists {before - now} of the {before} users in /etc/p"
    ):
        passwd_file.accepted(accounts(now), accounts(before), "/etc/p")


def test_an_empty_listing_is_refused_even_where_no_file_is() -> None:
    with pytest.raises(passwd_file.NotRefreshed, match="does not list root"):
        passwd_file.accepted({}, {}, "/etc/p")


def test_a_file_is_written_where_it_differs_and_only_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwd_file, "list_accounts", lambda: b"root:secret:0:0::/root:/bin/sh\n")
    monkeypatch.setattr(passwd_file._files, "ROOT", (os.geteuid(), os.getegid()))
    path, text = tmp_path / "passwd", b"root:x:0:0::/root:/bin/sh\n"
    assert passwd_file.refresh(str(path), check=True) == (b"", text)
    assert not path.exists()
    assert passwd_file.refresh(str(path), check=False) == (b"", text)
    assert path.read_bytes() == text
    assert passwd_file.refresh(str(path), check=False) is None
    path.chmod(0o600)
    assert passwd_file.refresh(str(path), check=False) == (text, text)
    assert path.stat().st_mode == 0o100644
    assert list(tmp_path.iterdir()) == [path]


def test_the_timers_script_says_what_it_did_in_one_line(tmp_path: Path) -> None:
    """It runs as it lies on a node, without Ansible and without the site's Python packages."""
    place = tmp_path / "libexec/any_name"
    place.mkdir(parents=True)
    for source in ("plugins/module_utils/_files.py", "plugins/module_utils/_passwd_file.py", SCRIPT):
        shutil.copy(ROOT / source, place)
    missing = tmp_path / "missing/passwd"
    command = [sys.executable, "-I", "-S", place / Path(SCRIPT).name]
    answer = subprocess.run([*command, missing], capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stderr == f"{missing} cannot be refreshed: No such file or directory\n"
    if os.geteuid() == 0:
        for said in ("changed\n", "unchanged\n"):
            answer = subprocess.run([*command, tmp_path / "passwd"], capture_output=True, text=True, check=False)
            assert (answer.returncode, answer.stdout, answer.stderr) == (0, said, "")
