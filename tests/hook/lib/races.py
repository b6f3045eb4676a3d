"""Starts that a process of the user's races: it swaps what the hook works on for a link to the host, over and over."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from attack import CANARY, OTHERS, SECRET, host_untouched, one_line
from changes import bind, without_home
from containers import ALICE, IMAGES, LAUNCHER, StartFailed, as_user, keys, plain_start, run

_SWAPPERS = 2
_SWAP = """
import ctypes, sys
exchange = ctypes.CDLL(None).renameat2
first, second = sys.argv[1].encode(), sys.argv[2].encode()
print("swapping", flush=True)
while True:
    exchange(-100, first, -100, second, 2)
"""
_DURING = """#!/usr/bin/env python3
import ctypes, os, subprocess, sys
command, launcher, first, second = {arguments!r}
swapper = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
swapper.stdout.readline()
status = subprocess.call([launcher, *sys.argv[1:]])
swapper.kill()
swapper.wait()
if os.path.islink(first + "/rootfs"):
    ctypes.CDLL(None).renameat2(-100, first.encode(), -100, second.encode(), 2)
sys.exit(status)
"""
_BASE, _PUBLIC, _RUN, _ROOT = (f"/run/hook-race/{name}" for name in ("base", "public", "run", "root"))
_UP = "/.." * 12
# What a link in the container leads to: the host, through the first process's root, by "..", and a volume of root's.
_LINKS = (f"/proc/1/root{CANARY}/alice", f"..{_UP}{CANARY}/root", "/volume")


class Place(NamedTuple):
    """What is swapped: `name` in a directory of alice's, which is the volume `volume` in the container, or else lies on
    the host at `host`. `like` is the file of the canary to which the link leads, or "" for its directory; `annotation`
    and `base`, the base directory of key stores, make the hook work on it.
    """

    name: str
    volume: str = ""
    host: str = ""
    like: str = ""
    annotation: tuple[str, str] = ("", "")
    base: str | None = None


PLACES = {
    "ssh-directory": Place(".ssh", "/home/alice"),
    "home": Place("alice", "/home"),
    "opt": Place("oci-hooks", "/opt"),
    "mount-point": Place("ssh", "/opt/oci-hooks"),
    "passwd": Place("passwd", "/etc", like="passwd"),
    "shells": Place("shells", "/etc", like="shells"),
    "profile": Place("profile.d", "/etc"),
    "bin": Place("bin", "/usr"),
    "ssh": Place("ssh", "/usr/bin", like="bin/ssh"),
    "pidfile-container": Place("run", "/data", annotation=("com.hooks.ssh.pidfile_container", "/data/run/pid")),
    "key-directory": Place("keys", host=f"{_BASE}/alice/.oci-hooks/ssh", base=_BASE),
    "key": Place(
        "id_dropbear",
        host=f"{_BASE}/alice/.oci-hooks/ssh/keys",
        like="id_dropbear",
        base=_BASE,
    ),
    "public-key": Place(
        "keys", host=_PUBLIC, annotation=("com.hooks.ssh.authorize_ssh_key", f"{_PUBLIC}/keys/authorized_keys")
    ),
    "pidfile-host": Place("run", host=_RUN, annotation=("com.hooks.ssh.pidfile_host", f"{_RUN}/run/pid")),
    "log": Place("run", host=_RUN, annotation=("com.hooks.logging.stderrfd", f"{_RUN}/run/log")),
}
RACES = (*PLACES, "root")


def plant_keys() -> None:
    """Give the host's root a key set beside the canaries, as secret as hers is to alice."""
    shutil.copytree(keys("root"), CANARY / "root/keys", symlinks=True)


def _furnish(place: Place, directory: Path) -> Path:
    """Make what is to be swapped in `directory`, alice's all of it; returns its path."""
    path = directory / place.name
    if place.base or place.name == "keys":
        shutil.copytree(keys(), directory if place.like else path, dirs_exist_ok=True)
    elif place.like:
        text = "/bin/sh\n" if place.name == "shells" else f"alice:x:{ALICE}:{ALICE}::/home/alice:/bin/sh\n"
        path.write_text(text, encoding="ascii")
    else:
        path.mkdir(mode=0o700)
        (path / "log").touch()
    run(["chown", "-R", f"{ALICE}:{ALICE}", directory]).checked()
    return path


@contextmanager
def _directory(place: Place) -> Iterator[Path]:
    """A new directory of alice's for `place`."""
    if place.volume:
        with tempfile.TemporaryDirectory(dir="/run") as name:
            yield Path(name)
        return
    top = Path("/run/hook-race")
    Path(place.host).mkdir(parents=True)
    run(["chown", "-R", f"{ALICE}:{ALICE}", top]).checked()
    run(["chmod", "-R", "go-w", top]).checked()
    yield Path(place.host)
    shutil.rmtree(top)


@contextmanager
def _swapping(path: Path, target: str) -> Iterator[None]:
    """Meanwhile processes of alice's swap `path` with a link to `target`. What was there is there again afterwards."""
    other = path.with_name("other")
    other.symlink_to(target)
    os.chown(other, ALICE, ALICE, follow_symlinks=False)
    command = as_user(ALICE, sys.executable, "-IS", "-c", _SWAP, str(path), str(other))
    with ExitStack() as stack:
        for _number in range(_SWAPPERS):
            swapper = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(swapper.kill)
            assert swapper.stdout is not None
            swapper.stdout.readline()
        yield
    if path.is_symlink():
        path.unlink()
        other.rename(path)
    else:
        other.unlink()


def race(name: str, number: int, launcher: str = LAUNCHER) -> str:
    """Start a container and race it at `name`, of RACES; `number` chooses the runtime, the link and the user.

    Returns the hook's error, or "" where the container started. AssertionError for a canary that is lost: something of
    the host's was changed, or the container got what only root may read.
    """
    if name == "root":
        return _race_root(number, launcher)
    place = PLACES[name]
    link = _LINKS[number % 3] if place.volume else str(CANARY / ("root" if place.name == "run" else "root/keys"))
    if place.like:
        link += f"/{place.like}"
    is_root = place.volume != "" and number % 4 == 3 and number % 3 != 2  # a volume of root's is no secret to root

    def change(config: dict[str, Any]) -> None:
        without_home(config)
        config["mounts"].append(bind(CANARY / "root", "/volume"))
        if place.volume:
            config["mounts"].append(bind(directory, place.volume))
        if is_root:
            config["process"]["user"] = {"uid": 0, "gid": 0}
            config["process"]["env"].append("HOME=/root")

    with host_untouched(), _directory(place) as directory:
        path = _furnish(place, directory)
        options: dict[str, Any] = {"launcher": launcher, "change": change}
        options["annotations"] = dict([place.annotation]) if place.annotation[0] else None
        options["settings"] = {"HOOK_BASE_DIR": place.base} if place.base else None
        try:
            with _swapping(path, link):
                container = plain_start("runc" if number % 5 == 4 else "crun", "busybox", **options)
        except StartFailed as failed:
            if name == "log" and not failed.hook:
                return "written to the log that was swapped"
            error = one_line(failed.hook)
            assert (place.volume or place.host) in error or "the SSH daemon" in error, error  # no other reason
            return error
        try:
            home = "/root" if is_root else "/home/alice"
            shown = container.exec("/bin/sh", "-c", f"cat /etc/passwd /etc/shells {home}/.ssh/*; true").checked().out
        finally:
            container.remove()
        secrets = [OTHERS.encode(), *(() if is_root else _root_keys())]
        secrets += [] if place.like == "passwd" else [SECRET.encode()]  # an entry of one's own uid is one's own to know
        assert [secret for secret in secrets if secret in shown] == []
        return ""


def _root_keys() -> list[bytes]:
    directory = CANARY / "root/keys"
    public = (directory / "authorized_keys").read_bytes().split()[1]
    return [(directory / "id_dropbear").read_bytes(), public]


def _race_root(number: int, launcher: str) -> str:
    """Race a start at the directory above its root file system, which alice owns; else as `race`.

    She swaps it while the hook works, and not while the runtime does, which would take the host's directory itself.
    """
    directory = Path(_ROOT)
    rootfs, target = directory / "image/rootfs", (CANARY / "root", Path("/home"), directory)[number % 3]

    def change(config: dict[str, Any]) -> None:
        config["root"]["path"] = str(rootfs)

    with host_untouched(), _directory(Place("image", host=_ROOT)):
        rootfs.parent.mkdir()
        run(["cp", "-rT", (IMAGES / "busybox.rootfs").resolve(), rootfs]).checked()
        (rootfs / "home/alice").mkdir(parents=True)
        (directory / "other").mkdir()
        (directory / "other/rootfs").symlink_to(target)
        for name in ("dev", "bin"):
            (directory / name).symlink_to(f"image/rootfs/{name}")
        run(["chown", "-R", "--no-dereference", f"{ALICE}:{ALICE}", directory]).checked()
        during = directory.with_name("during")
        paths = [str(directory / name) for name in ("image", "other")]
        command = as_user(ALICE, "/usr/bin/python3", "-IS", "-c", _SWAP, *paths)
        during.write_text(_DURING.format(arguments=(command, launcher, *paths)), encoding="utf-8")
        during.chmod(0o755)
        try:
            container = plain_start(
                "runc" if number % 5 == 4 else "crun", "busybox", launcher=str(during), change=change
            )
        except StartFailed as failed:
            error = one_line(failed.hook)
            assert str(rootfs) in error, error  # no other reason
            return error
        try:
            roots = [os.stat(f"/proc/{pid}/root/") for pid in (container.init(), container.daemon())]
            assert len({(root.st_dev, root.st_ino) for root in roots}) == 1
            assert container.ssh("echo here").checked().text == "here"
        finally:
            container.remove()
        return ""
