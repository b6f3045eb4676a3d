"""Homes that a real autofs mounts: Debian's automount, with the kernel's module of the virtual machine.

Each home is a bind mount of a directory of the server's, which only every second user has.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from containers import wait_for

USERS = 20
FIRST_UID = 100_000
BASE, SERVER = Path("/cluster/home"), Path("/srv/export")
SETTINGS, MASTER, MAP = Path("/etc/autofs.conf"), Path("/etc/auto.master"), Path("/etc/auto.homes")
LOG = Path("/run/automount.log")
PASSWD = Path("/run/passwd")
ROOT = Path(__file__).resolve().parents[2]
MOUNTS = "attempting to mount entry "


def name(number: int) -> str:
    return f"user{number:05}"


@pytest.fixture(scope="module", autouse=True)
def server() -> None:
    """Every second user has a home on the server."""
    lines = [f"{name(number)}:x:{FIRST_UID + number}:{FIRST_UID + number}::/:/bin/sh\n" for number in range(USERS)]
    PASSWD.write_text("".join(lines), encoding="ascii")
    SERVER.mkdir()
    for number in range(0, USERS, 2):
        home = SERVER / name(number)
        home.mkdir(mode=0o700)
        os.chown(home, FIRST_UID + number, FIRST_UID + number)


@contextmanager
def automount(entries: str, browse_mode: str) -> Iterator[None]:
    """Have autofs manage BASE by a map."""
    SETTINGS.write_text(f"[ autofs ]\nbrowse_mode = {browse_mode}\nnegative_timeout = 1\n", encoding="ascii")
    MAP.write_text(entries, encoding="ascii")
    MASTER.write_text(f"{BASE} {MAP}\n", encoding="ascii")
    command = ["setsid", "automount", "-f", "-v"]  # the kernel asks for its process group
    with LOG.open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as daemon:
        try:
            wait_for(lambda: f" {BASE} autofs " in Path("/proc/mounts").read_text(encoding="ascii"), "autofs")
            yield
        finally:
            daemon.terminate()  # it unmounts all


def attempts() -> Counter[str]:
    """How often autofs tried to mount each home."""
    found = (line.partition(MOUNTS)[2] for line in LOG.read_text(encoding="utf-8").splitlines() if MOUNTS in line)
    return Counter(os.path.basename(path) for path in found)


def user_keys(**arguments: object) -> dict[str, Any]:
    """Run the module over the homes of autofs, and return its result."""
    values = {"base_dir": str(BASE), "passwd_file": str(PASSWD), "uid_min": FIRST_UID, "uid_max": 2**31, **arguments}
    done = subprocess.run(
        [sys.executable, "-B", ROOT / "plugins/modules/user_keys.py"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": values}),
        env={**os.environ, "PYTHONPATH": str(ROOT.parents[2])},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_each_home_is_mounted_once() -> None:
    """Also one that does not exist: an attempt costs a process of mount, which thousands of users multiply."""
    with automount(f"* -fstype=bind :{SERVER}/&\n", "no"):
        made = user_keys(missing_homes="skip")
        assert "failed" not in made, made["msg"]
        assert [user["changed"] for user in made["users"]] == [True] * (USERS // 2)
        assert made["without_home"] == USERS // 2
        assert attempts() == dict.fromkeys(map(name, range(USERS)), 1)
        assert not user_keys(missing_homes="skip")["changed"]


@pytest.mark.parametrize("browse_mode", ["no", "yes"])
def test_keys_of_deleted_accounts_are_removed_from_homes_that_are_not_mounted(browse_mode: str) -> None:
    """By name and by path. A uid finds no home that is not mounted, and says so."""
    first, second, missing, by_uid = {"no": (0, 2, 1, 4), "yes": (6, 8, 3, 10)}[browse_mode]
    entries = "".join(f"{name(number)} -fstype=bind :{SERVER}/{name(number)}\n" for number in range(USERS))
    users = [name(first), str(BASE / name(second)), name(missing)]
    with automount(entries, browse_mode):
        listed = USERS if browse_mode == "yes" else 0
        wait_for(lambda: len(os.listdir(BASE)) == listed, f"{listed} homes in {BASE}")
        unknown = user_keys(users=[str(FIRST_UID + by_uid)], state="absent", passwd_file="/dev/null")
        assert f"of uid {FIRST_UID + by_uid} that is not mounted, since autofs manages {BASE}: name" in unknown["msg"]
        removed = user_keys(users=users, state="absent", passwd_file="/dev/null")
        assert "failed" not in removed, removed["msg"]
        found = {user["name"]: (user["uid"], user["changed"]) for user in removed["users"]}
        assert found == {
            name(first): (FIRST_UID + first, True),
            name(second): (FIRST_UID + second, True),
            name(missing): (None, False),
        }
        assert attempts() == dict.fromkeys(map(name, (first, second, missing)), 1)
    left = [number for number in (first, second, by_uid) if (SERVER / name(number) / ".oci-hooks").exists()]
    assert left == [by_uid]
