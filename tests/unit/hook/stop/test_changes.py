"""The list of what an attach changes: what is undone, when, and in which container."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ssh_hook.errors import HookError
from ssh_hook.linux.mounts import mount_id
from ssh_hook.linux.process import Process
from ssh_hook.linux.rootfs import CONTENT, ENTRY
from ssh_hook.stop import changes
from ssh_hook.stop.changes import Changes, UnlistedError, all_of, make


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
def mounts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, str]]:
    """The hook's mounts in the container. The process that undoes is there already, and is the test's own."""
    found: list[tuple[bytes, str]] = []

    def run(work: Any, _what: str, _user: None, _kept: object) -> bytes:
        answer: bytes = work()
        return answer

    def of_hook(before: list[bytes]) -> list[tuple[bytes, str]]:
        return [each for each in found if each[0] not in before]

    for name in ("setns", "prctl"):
        monkeypatch.setattr(changes.syscalls, name, lambda *_arguments: None)
    monkeypatch.setattr(changes, "change_root", lambda _directory: None)
    monkeypatch.setattr(changes.os, "getppid", os.getpid)
    monkeypatch.setattr(changes.disposable_process, "run", run)
    monkeypatch.setattr(changes, "MountInfo", lambda _directory: SimpleNamespace(of_hook=of_hook))
    return found


def kill(target: Any, *noted: tuple[str, str, str]) -> Changes:
    """Return the file of an attach that noted this, and was killed."""
    made = make(target, 1000, False)
    for change in noted:
        made.note(*change)
    made.close()
    (left,) = all_of(1000)
    assert left.try_lock() and left.is_left() is True
    return left


def undo(target: Any, *noted: tuple[str, str, str]) -> None:
    """Undo what a killed attach has noted."""
    left = kill(target, *noted)
    assert left.undo(target) == []
    assert left.is_left() is False
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


def test_mounts_of_the_hook_that_were_not_there_before_go(
    target: Any, mounts: list[tuple[bytes, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount by another id at the same path stays, and is named."""
    unmounted: list[bytes] = []
    monkeypatch.setattr(changes, "unmount", lambda mounted: unmounted.append(mount_id(mounted)))
    mounts.append((b"1", "/"))
    left = kill(target)
    mounts += [(b"2", "/missing"), (b"3", "/"), (mount_id(target.root), "/.")]
    assert left.undo(target) == ["/missing", "/", "/."]
    assert unmounted == [mount_id(target.root)]
    assert left.is_left()
    del mounts[1:]
    assert left.undo(target) == []
    left.close()


def test_the_last_change_is_undone_first(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    undone: list[str] = []
    monkeypatch.setattr(changes, "_undo_change", lambda _root, _kind, path, _old: undone.append(path))
    undo(target, (ENTRY, "/a", ""), (ENTRY, "/b", ""), (CONTENT, "/\udcff \n", "7:x"))
    assert undone == ["/\udcff \n", "/b", "/a"]


@pytest.mark.parametrize("text", ["7\nentry 2f\n", "7\nentry 2f 00 00\n", "7\nentry x 00\n"])
def test_what_is_no_list_is_skipped(target: Any, text: str, places: list[Path]) -> None:
    made = make(target, 1000, False)
    (path,) = places[0].iterdir()
    path.write_text(text, encoding="ascii")
    assert all_of(1000) == []
    with pytest.raises(HookError, match="does not list the changes of an attach: remove it"):
        made.undo(target)
    assert path.exists()
    made.close()


def test_a_line_that_was_not_finished_is_no_change(target: Any, places: list[Path]) -> None:
    left = kill(target)
    (path,) = places[0].iterdir()
    path.write_text(f"{path.read_text(encoding='ascii')}entry 2f6", encoding="ascii")
    assert left.undo(target) == []
    assert not path.exists()
    left.close()


def test_a_change_that_cannot_be_listed_is_not_ignored(target: Any) -> None:
    """Whoever goes on after an OSError or a HookError, as without a home, must not here."""
    full = Changes.__new__(Changes)
    full._path, full._descriptor = "/x", os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(UnlistedError, match="cannot note in /x what is changed") as refused:
        full.note(ENTRY, "/new", "")
    assert not isinstance(refused.value, (OSError, HookError))
    full.close()


def test_another_attach_to_the_process_is_refused(target: Any) -> None:
    made = make(target, 1000, False)
    with pytest.raises(HookError, match=r"^process \d+ already has an SSH daemon: 'ssh_hook detach \d+' stops it$"):
        make(target, 1000, False)
    made.close()


def test_two_attaches_at_once_are_one(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither has seen the file of the other when it makes its own."""
    made = make(target, 1000, False)
    monkeypatch.setattr(changes, "all_of", lambda _uid: [])
    with pytest.raises(HookError, match="already has an SSH daemon"):
        make(target, 1000, False)
    monkeypatch.undo()
    made.remove()
    made.close()


def test_an_attach_in_another_place_is_one(target: Any, places: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(target, 1000, False)
    found = iter([[], [made]])
    monkeypatch.setattr(changes, "for_changes", lambda _uid, _in_job: [str(places[1])])
    monkeypatch.setattr(changes, "all_of", lambda _uid: next(found))
    with pytest.raises(HookError, match="already has an SSH daemon"):
        make(target, 1000, False)
    assert list(places[1].iterdir()) == []
    made.close()


def test_a_file_that_is_gone_removes_no_other(target: Any, places: list[Path]) -> None:
    left = kill(target)
    (gone,) = all_of(1000)
    left.undo(target)
    left.close()
    made = make(target, 1000, False)
    gone.remove()
    assert len(list(places[0].iterdir())) == 1
    gone.close()
    made.close()


def test_what_a_killed_attach_has_left_is_undone_by_the_next(
    target: Any, tmp_path: Path, mounts: list[tuple[bytes, str]]
) -> None:
    (tmp_path / "root/new").mkdir()
    kill(target, (ENTRY, "/new", "")).close()
    again = make(target, 1000, False)
    assert not (tmp_path / "root/new").exists()
    again.close()
    mounts.append((b"3", "/moved"))
    with pytest.raises(HookError, match="has mounts of an earlier attach"):
        make(target, 1000, False)


def test_lists_of_others_stay(target: Any, places: list[Path]) -> None:
    """Of another process, boot or pid namespace: their attach may go on, or their containers."""
    places[0].mkdir(parents=True)
    pid, start_time = target.process.pid, target.process.start_time()
    boot, namespace = changes.boot_id()[:8], changes.pid_namespace()
    others = [f"{pid}-{start_time + 1}-{boot}-{namespace}", f"{2**22}-1-{boot}-{namespace}"]
    others += [f"{pid}-{start_time}-another-{namespace}", f"{pid}-{start_time}-{boot}-7"]
    for name in others:
        (places[0] / name).write_text("1\n", encoding="ascii")
    made = make(target, 1000, False)
    assert [each.is_of(target.process) for each in all_of(1000)].count(True) == 1
    assert len(list(places[0].iterdir())) == len(others) + 1
    made.close()


def test_the_next_place_is_taken_if_the_first_cannot_be_used(target: Any, places: list[Path]) -> None:
    places[0].parent.mkdir()
    places[0].touch()
    made = make(target, 1000, False)
    assert len(list(places[1].iterdir())) == 1
    made.remove()
    made.close()
    places[1].rmdir()
    places[1].touch()
    with pytest.raises(HookError, match=r"cannot note what attach changes in the container, in /.*, or in /"):
        make(target, 1000, False)


@pytest.mark.parametrize(("namespace", "mounted", "is_in"), [(0, True, True), (1, True, False), (0, False, False)])
def test_which_processes_are_in_the_container(
    target: Any, places: list[Path], mounts: list[tuple[bytes, str]], namespace: int, mounted: bool, is_in: bool
) -> None:
    """Those that show its mounts: the number of the mount namespace may be another one's by now."""
    left = kill(target)
    (path,) = places[0].iterdir()
    path.write_text(f"{os.fstat(target.mount_namespace).st_ino + namespace}\n", encoding="ascii")
    (found,) = all_of(1000)
    mounts += [(b"3", "/opt")] if mounted else []
    assert found.is_in_container(target.process) is is_in
    found.close()
    left.remove()
    left.close()


def test_a_process_that_has_left_the_container(target: Any) -> None:
    made = make(target, 1000, False)
    target.mount_namespace = target.process.stat
    with pytest.raises(HookError, match="it has another mount namespace by now"):
        made.undo(target)
    made.remove()
    made.close()


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
    assert found.pid == target.process.pid
    found.close()
    made.close()
