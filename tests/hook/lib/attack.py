"""What the tests of attacks share: the host's state before and after, and how a start went."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from containers import ALICE, Container, StartFailed, plain_start
from kinds import separate

CANARY = Path("/run/hook-canary")  # stands for the host: root's and alice's files, which no start may change
SECRET = "canary-secret-5f1c"
OTHERS = "canary-others-77aa"  # in a passwd that only root can read, beside an entry of alice's
_TREES = ("/run/hook-canary", "/etc", "/opt/oci-hooks", "/home/alice", "/home/bob", "/home/root")
_DIRECTORIES = ("/", "/opt", "/home", "/usr/bin")
_NEW = ("/root/.ssh", "/root/pid", "/root/log")  # what a start might make; the machine may change the rest
_NOT_THE_HOSTS = {"/home/alice/.local", "/home/alice/.config", "/home/alice/.cache", "/home/alice/.ssh"}


def plant() -> None:
    """Make the canaries: directories and files of root and of alice, named as what the hook works on."""
    for owner in ("root", "alice"):
        top = CANARY / owner
        for name in ("bin", "profile.d", "oci-hooks/ssh", "home/.ssh"):
            (top / name).mkdir(parents=True)
        for name in ("file", "bin/ssh", "passwd", "shells", "home/.ssh/authorized_keys", "home/.ssh/id_dropbear"):
            (top / name).write_text(f"{SECRET}:x:{ALICE}:{ALICE}::/home/alice:/bin/sh\n", encoding="ascii")
            (top / name).chmod(0o600)
        with (top / "passwd").open("a", encoding="ascii") as file:
            file.write(f"{OTHERS}:x:1:1::/:/bin/sh\n")
        (top / "home/.ssh").chmod(0o700)
        (top / "dev").mkdir()  # what a root directory has to have
        os.mknod(top / "dev/null", 0o20666, os.makedev(1, 3))
    for path in sorted((CANARY / "alice").glob("**/*")):
        os.chown(path, ALICE, ALICE)
    os.chown(CANARY / "alice", ALICE, ALICE)
    mount_point = Path("/home/alice/.ssh")  # the one thing that a start may make in a home
    mount_point.mkdir(mode=0o700, exist_ok=True)
    os.chown(mount_point, ALICE, ALICE)


def _entry(path: str) -> tuple[object, ...]:
    status = os.lstat(path)  # the time of the last change tells of any, of content, mode, owner, or links
    found = status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_ctime_ns
    is_canary = path.startswith(f"{CANARY}/") and stat.S_ISREG(status.st_mode)
    return (*found, status.st_mtime_ns, Path(path).read_bytes() if is_canary else b"")


def snapshot() -> dict[str, tuple[object, ...]]:
    """Every path of the host that is watched, and what tells whether it changed: content, owner, mode, times."""
    found = {path: _entry(path) for path in (*_DIRECTORIES, *filter(os.path.lexists, _NEW))}
    for directory in _DIRECTORIES:
        found.update({os.path.join(directory, name): () for name in os.listdir(directory)})
    for top in _TREES:
        found[top] = _entry(top)
        for directory, names, files in os.walk(top):
            names[:] = [name for name in names if f"{directory}/{name}" not in _NOT_THE_HOSTS]
            found.update({f"{directory}/{name}": _entry(f"{directory}/{name}") for name in names + files})
    return found


@contextmanager
def host_untouched() -> Iterator[None]:
    """Nothing that is watched may be changed, made or removed meanwhile."""
    before = snapshot()
    yield
    after = snapshot()
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert not changed, f"changed on the host: {sorted(changed)}"


class Outcome(NamedTuple):
    """How a start went: the error, "" for a working session, and its kind; and what a session read."""

    error: str
    said: str = ""
    kind: str = ""


def one_line(text: str) -> str:
    """The hook's error without its kind, which must be one clear line; AssertionError for anything else."""
    lines = text.strip().splitlines()
    assert len(lines) == 1, f"not one line: {text!r}"
    assert lines[0].startswith("ssh_hook: error: "), lines[0]
    assert lines[0].isprintable(), repr(lines[0])
    for word in ("Traceback", "Error", ".py:", SECRET):
        assert word not in lines[0], lines[0]
    return separate(lines[0])[0].removeprefix("ssh_hook: error: ")


def attempt(begin: Callable[[], Container], command: str = "true") -> Outcome:
    """Start a container, log in to it, and remove it, which may not touch the host.

    A start that fails must say why in one line.
    """
    with host_untouched():
        try:
            container = begin()
        except StartFailed as failed:
            return Outcome(one_line(failed.hook), kind=separate(failed.hook.strip())[1])
        try:
            return Outcome("", container.exec("/opt/oci-hooks/ssh/bin/ssh", "127.0.0.1", command).checked().text)
        finally:
            container.remove()


def plain(runtime: str = "crun", image: str = "busybox", command: str = "true", **options: Any) -> Outcome:
    """A container of a runtime without an engine, and how it went."""
    return attempt(lambda: plain_start(runtime, image, **options), command)
