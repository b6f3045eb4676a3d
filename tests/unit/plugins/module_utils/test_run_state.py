"""A removal leaves nothing below /run/ocihooks-ssh, and a user who holds it up does not hold up the play."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils import _run_state as run_state
from patience import within
from ssh_hook.node import engine, locks


@pytest.fixture(name="place")
def fixture_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "ocihooks-ssh"
    monkeypatch.setattr(run_state, "PLACE", str(place))
    for name in ("entries/2001", "users/2001", "doors", "removed", "seccomp"):
        (place / name).mkdir(parents=True)
    (place / "entries/2001/0").touch()
    return place


def test_it_is_the_hooks() -> None:
    """The modules cannot import the hook."""
    assert run_state.PLACE == locks.PLACE == os.path.dirname(engine.JOBS_PLACE)


def test_all_of_it_goes(place: Path) -> None:
    assert run_state.remove(check=True) == [str(place)]
    assert place.exists()
    assert run_state.remove(check=False) == [str(place)]
    assert not place.exists()
    assert run_state.remove(check=False) == []


def test_what_is_mounted_on_users_directories_goes_first(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outer mount first, since the inner one goes with it. An inner one on a directory of the site's is alone."""
    users, mounts = place / "users", tmp_path / "mountinfo"
    points = [users / "2001", f"{users}/3/in\\040ner", users / "2001", tmp_path / "other/users/7", users / "2002"]
    mounts.write_text("".join(f"30 1 0:5 / {point} rw - tmpfs none rw\n" for point in points), encoding="ascii")
    monkeypatch.setattr(run_state, "_MOUNTS", str(mounts))
    done = tmp_path / "unmounted"

    class Libc:
        def __init__(self, *_arguments: object, **_options: object) -> None:
            pass

        def umount2(self, point: bytes, flags: int) -> int:
            with open(done, "ab") as file:
                file.write(b"%s;%d\n" % (point, flags))
            return 0

    monkeypatch.setattr(run_state.ctypes, "CDLL", Libc)
    run_state.remove(check=False)
    found = [line.split(";") for line in done.read_text(encoding="ascii").splitlines()]
    assert found == [[str(users / name), "10"] for name in ("2001", "2001", "2002", "3/in ner")]


def test_who_holds_it_up_does_not_hold_up_the_play(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[int] = []
    kill = os.kill
    monkeypatch.setattr(run_state, "_TIMEOUT", 0.1)
    monkeypatch.setattr(run_state, "_unmount", lambda: time.sleep(1000))
    monkeypatch.setattr(os, "kill", lambda pid, sent: (children.append(pid), kill(pid, sent)))
    begun = time.monotonic()
    with pytest.raises(run_state.HeldUp, match=f"^{place} is not removed within 0 s: a user's file system is mounted"):
        run_state.remove(check=False)
    assert time.monotonic() - begun < within(5)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == -signal.SIGKILL


def test_what_cannot_be_removed_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_path: str) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(run_state.shutil, "rmtree", fail)
    with pytest.raises(run_state.HeldUp, match=r"cannot be removed: Device or resource busy\. Run the playbook again"):
        run_state.remove(check=False)
