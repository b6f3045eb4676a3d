"""Root's places for users: what is written there stays, and no other process changes it meanwhile."""

from __future__ import annotations

import errno
import os
import posix
import resource
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from ssh_hook.errors import HookError, LateError
from ssh_hook.fast_stdlib import closing
from ssh_hook.linux import disposable_process
from ssh_hook.node import engine, locks, places, user_child

UID = 2001
PLACE = locks.PLACE
Locked = Callable[[int, int], AbstractContextManager[None]]


def test_where_roots_state_is(node: Path) -> None:
    assert engine.state_directory(0) == "/run/ocihooks-ssh"
    assert str(node) == PLACE or PLACE == "/run/ocihooks-ssh"


def test_a_name_of_the_administrators_is_no_user(node: Path) -> None:
    for name in ("2001", "2001.old"):
        (node / "entries" / name).mkdir(parents=True)
    assert places.users() == [2001]


def test_a_directory_that_admits_its_user_lets_her_use_what_is_made_there(
    node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that is killed between leaves one that the next start completes."""

    acls = {"system.posix_acl_access", "system.posix_acl_default"}
    made: list[str] = []
    set_acl = posix.setxattr

    def fail_at_the_second(directory: int, name: str, value: bytes) -> None:
        made.append(name)
        if len(made) == 2:
            raise OSError(errno.ENOSPC, "")
        set_acl(directory, name, value)

    with monkeypatch.context() as patched:
        patched.setattr(posix, "setxattr", fail_at_the_second)
        with pytest.raises(OSError, match="28"):
            places.open_directory(UID)
    os.close(places.open_directory(UID))
    assert acls <= set(os.listxattr(node / "entries" / str(UID)))


def test_one_lock_for_each_user(node: Path, monkeypatch: pytest.MonkeyPatch, locked: Locked) -> None:
    monkeypatch.setattr(locks, "_TIMEOUT", 0.01)
    with locked(UID, locks.CHANGES):
        with pytest.raises(TimeoutError, match=f"another process has the lock of uid {UID} in {node}/locks"):
            places.add(UID, b"x\n")
        assert places.add(UID + 1, b"x\n").endswith("/2002/0")
        os.close(locks.lock(UID - 1))
    path = places.add(UID, b"x\n")
    with locked(UID, locks.CHANGES):
        with pytest.raises(TimeoutError):
            places.free(path, lambda _text: True)
        assert Path(path).read_bytes() == b"x\n"
        assert places.free_own(path, lambda _text: True)
    assert (node / "locks").stat().st_mode & 0o777 == 0o600


def test_nothing_that_a_user_can_reach_is_removed_or_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does that waits for a user who has mounted FUSE on the name (tests/hook/test_held.py)."""
    for name in ("unlink", "rename", "replace", "rmdir", "truncate", "ftruncate"):
        monkeypatch.delattr(posix, name, raising=False)
    for _number in range(2):
        path = places.add(UID, b"a longer text\n")
        assert places.free(path, lambda text: text == "a longer text\n")
        assert not places.free(path, lambda text: text == "a longer text\n")
    for data in (b"a longer text\n", b"a text\n"):
        places.write(UID, "error", data)
    directory = Path(places.ENTRIES, str(UID))
    assert {path.name: text(path) for path in directory.iterdir()} == {"0": "", "error": "a text\n"}


def test_what_finds_no_room_leaves_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    places.write(UID, "error", b"first\n")
    path = Path(places.ENTRIES, str(UID), "error")

    def fail(*_arguments: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(posix, "posix_fallocate", fail)
    for data in (b"second\n", b"x\n"):
        with pytest.raises(OSError, match="No space left"):
            places.write(UID, "error", data)
    assert text(path) == "first\n"


def test_the_names_of_entries_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon's and a job's do not take each other's."""
    monkeypatch.setattr(places, "DAEMONS", ("", 2))
    daemons = [places.add(UID, b"x\n", places.DAEMONS) for _number in range(2)]
    jobs = [places.add(UID, b"x\n", places.JOBS) for _number in range(2)]
    assert [Path(path).name for path in (*daemons, *jobs)] == ["0", "1", "j0", "j1"]
    with pytest.raises(OSError, match="the user has 2 entries of containers"):
        places.add(UID, b"x\n", places.DAEMONS)
    places.free(daemons[0], lambda _text: True)
    assert places.add(UID, b"x\n", places.DAEMONS) == daemons[0]


@pytest.mark.parametrize("is_root", [True, False])
def test_a_name_that_is_missing_hides_no_other(is_root: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an administrator's rm."""
    if not is_root:
        monkeypatch.setattr(posix, "listdir", refuse)
    paths = {names: [places.add(UID, b"x\n", names) for _number in range(3)] for names in (places.DAEMONS, places.JOBS)}
    for names, (missing, *left) in paths.items():
        os.unlink(missing)
        assert {path for path, _text in places.entries(UID, False, names)} == set(left)


def refuse(_path: str) -> list[str]:
    raise PermissionError(errno.EACCES, "Permission denied")


def test_what_cannot_be_read_does_not_count_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a sweep would remove the doors of daemons that run."""
    places.add(UID, b"x\n")

    def fail(_path: str) -> list[str]:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(posix, "listdir", fail)
    with pytest.raises(HookError, match=f"cannot read .*/{UID}: Too many open files"):
        list(places.entries(UID, False))


def text(path: Path) -> str:
    with open(path, "rb") as file:
        return places.read(file.fileno())


def test_what_is_being_written_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(places.add(UID, b"first\n"))
    seen: list[str] = []
    write = posix.pwrite

    def pwrite(file: int, data: bytes, offset: int) -> int:
        written = write(file, data, offset)
        seen.append(text(path))
        return written

    monkeypatch.setattr(posix, "pwrite", pwrite)
    places.free(str(path), lambda _text: True)
    places.add(UID, b"2nd\n")
    assert seen == ["", "", "2nd\n"]
    assert path.read_bytes() == b"2nd\n\0\0"


def test_what_changes_while_it_is_read_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [b"first\n", b"first and half", b"2nd\n\0half", b"2nd\n\0half"]
    monkeypatch.setattr(posix, "pread", lambda *_arguments: found.pop(0))
    assert places.read(-1) == "2nd\n"


def test_a_process_that_may_wait_for_a_user_is_the_only_one(locked: Locked) -> None:
    assert user_child.run(UID, lambda: b"x", "cannot do it") == b"x"
    with locked(UID, locks.CHILD):
        assert user_child.run(UID + 1, lambda: b"x", "cannot do it") == b"x"
        with closing(locks.lock(UID)):
            pass  # whoever changes something waits for no such process
        with pytest.raises(LateError, match=f"cannot do it: an earlier process is still blocked on .* of uid {UID}"):
            user_child.run(UID, lambda: b"x", "cannot do it")


def test_it_has_the_lock_until_it_ends(node: Path) -> None:
    def work() -> bytes:
        child = os.fork()
        if child == 0:
            os._exit(not locks.try_lock(locks.open_at(UID, locks.CHILD)))
        return b"%d" % os.waitpid(child, 0)[1]

    assert user_child.run(UID, work, "cannot do it") == b"256"
    with closing(locks.open_at(UID, locks.CHILD)) as file:
        assert locks.try_lock(file)


def test_the_descriptor_of_its_lock_is_closed_last(node: Path) -> None:
    """The kernel closes them in their order, and may hang at a user's file, with those after it open."""

    def work() -> bytes:
        with open("/dev/null", "rb"):
            numbers = sorted(map(int, os.listdir("/proc/self/fd")))
            return os.readlink(f"/proc/self/fd/{numbers[-1]}").encode()

    assert user_child.run(UID, work, "cannot do it") == bytes(node / "locks")


def test_a_low_limit_on_descriptors_changes_nothing(locked: Locked) -> None:
    """Users set it: a runtime's hooks have the container's limits, and set-uid engines those of their callers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (250, hard))
    try:
        assert user_child.run(UID, lambda: b"x", "cannot do it") == b"x"
        with locked(UID, locks.CHILD), pytest.raises(LateError, match="an earlier process is still blocked"):
            user_child.run(UID, lambda: b"x", "cannot do it")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_root_does_nothing_without_the_lock(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_uid: int, _kind: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(locks, "open_at", fail)
    with pytest.raises(HookError, match=r"^cannot do it: No space left on device$"):
        user_child.run(UID, lambda: b"x", "cannot do it")


def test_one_that_is_left_behind_keeps_it(monkeypatch: pytest.MonkeyPatch, hang: Callable[..., None]) -> None:
    """Here it can be killed. One that hangs in the kernel can be, too, and has the lock until it ends."""

    def work() -> bytes:
        hang()
        return b""

    left: list[int] = []
    monkeypatch.setattr(disposable_process.os, "kill", lambda pid, _signal: left.append(pid))
    with pytest.raises(LateError, match="no answer"):
        user_child.run(UID, work, "cannot do it")
    with pytest.raises(LateError, match="an earlier process"):
        user_child.run(UID, lambda: b"", "cannot do it")
    monkeypatch.undo()
    os.kill(left[0], 9)


def test_a_user_needs_no_lock(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor may open one."""

    def refuse(_uid: int, _kind: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(locks, "open_at", refuse)
    assert user_child.run(UID, lambda: b"x", "cannot do it") == b"x"


def test_a_failure_is_the_works_own() -> None:
    def fail() -> bytes:
        raise HookError("system", "it failed")

    with pytest.raises(HookError, match=r"^it failed$"):
        user_child.run(UID, fail, "cannot do it")
