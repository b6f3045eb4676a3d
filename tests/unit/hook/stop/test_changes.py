"""The list of what an attach changes: what is undone, when, and in which container."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from patience import within
from ssh_hook.errors import HookError
from ssh_hook.linux.mounts import mount_id
from ssh_hook.linux.process import Process
from ssh_hook.linux.rootfs import CONTENT, ENTRY, MOUNT
from ssh_hook.stop import changes
from ssh_hook.stop.changes import Changes, all_of, make


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The user's directories for these lists; each test has its own."""
    found = [tmp_path / name / "attached" for name in ("first", "second")]
    monkeypatch.setattr(changes, "for_changes", lambda _uid, _in_job: list(map(str, found)))
    return found


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Any]:
    """The test's own process; its container's root directory is one of the test's."""
    (tmp_path / "root").mkdir()
    process = Process(os.getpid())
    root = os.open(tmp_path / "root", os.O_PATH | os.O_DIRECTORY)
    mounts = process.open("ns/mnt", os.O_RDONLY)
    yield SimpleNamespace(process=process, root=root, mount_namespace=mounts, user_namespaces=[-1])
    os.close(mounts)
    os.close(root)
    process.close()


@pytest.fixture(autouse=True)
def entered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that undoes is in the container already."""

    def run(work: Any, _what: str, _user: None, _kept: object) -> None:
        work()

    monkeypatch.setattr(changes, "_enter", lambda _target: None)
    monkeypatch.setattr(changes.disposable_process, "run", run)


def undo(target: Any, *noted: tuple[str, str, str]) -> None:
    """Undo what a killed attach has noted."""
    made = make(target, 1000, False)
    for change in noted:
        made.note(*change)
    made.close()
    (left,) = all_of(1000)
    assert left.await_lock() is True
    left.undo(target)
    left.close()
    assert all_of(1000) == []


def test_what_was_created_goes_if_it_is_empty(target: Any, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for path in ("new dir", "new dir/inner", "used"):
        (root / path).mkdir()
    for path in ("new\nfile", "new dir/written", "used/theirs"):
        (root / path).touch()
    (root / "new dir/written").write_text("theirs")
    (root / "link").symlink_to("used")
    noted = ["new dir", "new dir/inner", "new\nfile", "new dir/written", "used", "link", "missing", "missing/below"]
    undo(target, *((ENTRY, f"/{path}", "") for path in noted))
    assert {str(path.relative_to(root)) for path in root.rglob("*")} == {
        *("new dir", "new dir/written", "used", "used/theirs", "link")
    }


@pytest.mark.parametrize("mount", ["own", "0"])
def test_content_does_not_go_into_a_file_with_a_name(target: Any, tmp_path: Path, mount: str) -> None:
    file = tmp_path / "root/passwd"
    file.write_text("the user's")
    identity = mount_id(target.root).decode() if mount == "own" else mount
    undo(target, (CONTENT, "/passwd", f"{identity}:the image's"))
    assert file.read_text() == "the user's"


def test_only_the_mount_that_was_made_is_unmounted(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    unmounted: list[bytes] = []
    monkeypatch.setattr(changes, "unmount", lambda mounted: unmounted.append(mount_id(mounted)))
    identity = mount_id(target.root)
    undo(target, (MOUNT, "/", "0"), (MOUNT, "/missing", identity.decode()))
    assert unmounted == []
    undo(target, (MOUNT, "/", identity.decode()))
    assert unmounted == [identity]


def test_the_last_change_is_undone_first(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    undone: list[str] = []
    monkeypatch.setattr(changes, "_undo_change", lambda _root, _kind, path, _detail: undone.append(path))
    undo(target, (ENTRY, "/a", ""), (MOUNT, "/b", "7"), (CONTENT, "/\udcff \n", "7:x"))
    assert undone == ["/\udcff \n", "/b", "/a"]


@pytest.mark.parametrize("text", ["", "7\n", "7 8\nentry 2f\n", "7 8\nentry 2f 00 00\n"])
def test_what_is_no_list(target: Any, text: str, places: list[Path]) -> None:
    made = make(target, 1000, False)
    (path,) = places[0].iterdir()
    path.write_text(text, encoding="ascii")
    with pytest.raises(HookError, match="does not list the changes of an attach: remove it"):
        made.undo(target)
    assert path.exists()
    made.close()


def test_a_line_that_was_not_finished_is_no_change(target: Any, places: list[Path]) -> None:
    made = make(target, 1000, False)
    (path,) = places[0].iterdir()
    path.write_text(f"{path.read_text(encoding='ascii')}entry 2f6", encoding="ascii")
    made.undo(target)
    assert not path.exists()
    made.close()


def test_another_attach_to_the_process_is_refused(target: Any) -> None:
    made = make(target, 1000, False)
    with pytest.raises(HookError, match=r"^process \d+ already has an SSH daemon: 'ssh_hook detach \d+' stops it$"):
        make(target, 1000, False)
    made.close()


def test_what_a_killed_attach_has_left_is_undone_by_the_next(target: Any, tmp_path: Path) -> None:
    (tmp_path / "root/new").mkdir()
    made = make(target, 1000, False)
    made.note(ENTRY, "/new", "")
    made.close()
    again = make(target, 1000, False)
    assert not (tmp_path / "root/new").exists()
    again.undo(target)
    again.close()


def test_a_list_of_a_process_that_has_ended_goes(target: Any, places: list[Path]) -> None:
    places[0].mkdir(parents=True)
    pid, start_time = target.process.pid, target.process.start_time()
    boot, namespace = changes.boot_id()[:8], changes.pid_namespace()
    stale = [f"{pid}-{start_time + 1}-{boot}-{namespace}", f"{2**22}-1-{boot}-{namespace}"]
    stale.append(f"{pid}-{start_time}-another-{namespace}")
    elsewhere = f"{pid}-1-{boot}-7"
    for name in (*stale, elsewhere):
        (places[0] / name).write_text("1 1\n", encoding="ascii")
    make(target, 1000, False).close()
    left = {f"{pid}-{start_time}-{boot}-{namespace}", elsewhere}
    assert {path.name for path in places[0].iterdir()} == left


def test_the_next_place_is_taken_if_the_first_cannot_be_used(target: Any, places: list[Path]) -> None:
    places[0].parent.mkdir()
    places[0].touch()
    made = make(target, 1000, False)
    assert len(list(places[1].iterdir())) == 1
    made.undo(target)
    made.close()
    places[1].rmdir()
    places[1].touch()
    with pytest.raises(HookError, match=r"cannot note what attach changes in the container, in /.*, or in /"):
        make(target, 1000, False)


@pytest.mark.parametrize(("namespace", "start_time", "is_in"), [(0, 0, True), (1, 0, False), (0, -1, False)])
def test_which_processes_are_in_the_container(
    target: Any, places: list[Path], namespace: int, start_time: int, is_in: bool
) -> None:
    """Those in its mount namespace. The number may be another one's by now, whose processes are younger."""
    inode = os.fstat(target.mount_namespace).st_ino
    made = make(target, 1000, False)
    (path,) = places[0].iterdir()
    path.write_text(f"{inode + namespace} {target.process.start_time() + start_time}\n", encoding="ascii")
    assert made.is_in_container(target.process) is is_in
    made.remove()
    made.close()


def test_a_process_that_has_left_the_container(target: Any) -> None:
    made = make(target, 1000, False)
    target.mount_namespace = target.process.stat
    with pytest.raises(HookError, match="it has another mount namespace by now"):
        made.undo(target)
    made.remove()
    made.close()


def test_detach_waits_for_the_supervisor(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(target, 1000, False)
    (seen,) = all_of(1000)
    monkeypatch.setattr(changes, "_TIMEOUT", 0.2)
    begun = time.monotonic()
    with pytest.raises(HookError, match="did not exit within"):
        seen.await_lock()
    assert 0.2 <= time.monotonic() - begun < within(8)
    made.undo(target)
    made.close()
    assert not seen.await_lock()  # whose file is gone: it was not killed
    seen.close()


def test_a_list_that_others_can_write_is_nobodys(target: Any, places: list[Path]) -> None:
    made = make(target, 1000, False)
    (path,) = places[0].iterdir()
    path.chmod(0o666)
    assert all_of(1000) == []
    path.chmod(0o600)
    namespace = changes.pid_namespace()
    (places[0] / f"x-{namespace}").touch(0o600)
    (places[0] / f"1-1-{namespace}").mkdir()
    os.mkfifo(places[0] / f"1-2-{namespace}")
    (places[0] / f"1-3-{namespace}").symlink_to("missing")
    (found,) = all_of(1000)
    assert isinstance(found, Changes) and found.pid == target.process.pid
    found.close()
    made.undo(target)
    made.close()
