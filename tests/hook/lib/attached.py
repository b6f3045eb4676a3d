"""Containers of engines that have no hooks, started by alice without root, and `ssh_hook attach` for them."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import openssh
from containers import ALICE, IMAGES, LAUNCHER, Container, Result, as_user, keys, run, running, wait_for
from patience import within

WHERE = Path("/home/alice/images")
PORT = 15300  # another than the site's, as of a second container
ENGINES: dict[str, list[str]] = {
    "ch-run": ["ch-run", "IMAGE", "--"],
    "ch-run-write-fake": ["ch-run", "--write-fake", "IMAGE", "--"],
    "ch-run-write": ["ch-run", "--write", "IMAGE", "--"],
    "bwrap": ["bwrap", "--ro-bind", "IMAGE", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-all", "--share-net"],
    "bwrap-write": ["bwrap", "--bind", "IMAGE", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-user"],
}
PODMAN: dict[str, list[str]] = {
    "podman": [],
    "podman-keep-id": ["--userns=keep-id"],
    "podman-another-uid": ["--user=1000:1000"],
    "podman-read-only": ["--read-only"],
    "podman-pid-host": ["--pid=host"],
    "podman-pasta": ["--network=pasta"],
    "podman-no-new-privileges": ["--security-opt=no-new-privileges", "--cap-drop=all"],
}


class Running(NamedTuple):
    """A container that runs: its first process, and the engine's own process if that stays."""

    pid: int
    engine: subprocess.Popen[bytes] | None
    name: str


def make_image(name: str, owner: int = ALICE, bare: bool = False) -> Path:
    """The tree of the busybox image, with the directories that ch-run mounts on; `bare`, with no others."""
    tree = WHERE / name
    shutil.copytree((IMAGES / "busybox.rootfs").resolve(), tree, symlinks=True)
    needed = ("dev", "proc", "sys", "etc")
    for directory in needed if bare else (*needed, "home", "root", "mnt", "srv", "var"):
        (tree / directory).mkdir(exist_ok=True)
    for file in ("passwd", "group", "hosts", "resolv.conf"):
        (tree / "etc" / file).touch()
    run(["chown", "-R", f"{owner}:{owner}", tree]).checked()
    return tree


def start(engine: str, image: Path, number: int, prefix: Sequence[str] = ()) -> Running:
    """Start `sleep NUMBER` in a container of one of ENGINES or PODMAN; `prefix` is what starts the engine."""
    program = ["/bin/sleep", str(number)]
    if engine in PODMAN:
        network = [] if "--network=pasta" in PODMAN[engine] else ["--network=host"]
        options = [*network, *PODMAN[engine], "--name", f"attach-{number}"]
        command = ["podman", "run", "--detach", *options, "localhost/ssh-test/busybox", *program]
        run(as_user(ALICE, *prefix, *command), cwd="/run").checked()
        process = None
    else:
        words = [str(image) if word == "IMAGE" else word for word in ENGINES[engine]]
        process = subprocess.Popen(as_user(ALICE, *prefix, *words, *program), cwd="/")
    wait_for(lambda: running(*program), f"start of {engine}")
    return Running(int(next(iter(running(*program)))), process, f"attach-{number}")


def stop(container: Running) -> None:
    """End the container's first process, and see its engine end."""
    if container.engine is None:
        run(as_user(ALICE, "podman", "rm", "-f", "-t0", "-i", container.name), cwd="/run").checked()
        return
    with suppress(ProcessLookupError):
        os.kill(container.pid, signal.SIGKILL)
    container.engine.wait(timeout=within(10))


def hook(*arguments: str, uid: int = ALICE, variables: Sequence[str] = ()) -> Result:
    """Run `ssh_hook` as a user, with these variables more."""
    return run(as_user(uid, *variables, LAUNCHER, *arguments), cwd="/")


def attach(container: Running, port: int = PORT, variables: Sequence[str] = ()) -> None:
    """Attach to a container, and expect no complaint but that of its cgroup."""
    done = hook("attach", str(container.pid), "--port", str(port), variables=variables)
    assert done.status == 0, done.err
    complaints = [line for line in done.err.decode().splitlines() if "your own cgroup" not in line]
    assert complaints == []


class Attached(Container):
    """A container of one of ENGINES or PODMAN to which alice has attached. `exec` is a session from the node."""

    def __init__(self, engine: str, image: Path, number: int, port: int, variables: Sequence[str]) -> None:
        """Start `sleep NUMBER` in it, and attach with this port and these variables."""
        self._running = start(engine, image, number)
        self.name = self._running.name
        self._port = port
        self._key = openssh.convert(keys() / "id_dropbear", WHERE / f"key-{number}")
        attach(self._running, port, variables)

    def exec(self, *command: str | bytes, stdin: bytes = b"") -> Result:
        return openssh.login(self._key, shlex.join(map(os.fsdecode, command)), port=self._port, stdin=stdin)

    def init(self) -> int:
        return self._running.pid

    def stop(self) -> Result:
        stop(self._running)
        return Result(0, b"", b"")

    def remove(self) -> None:
        """Nothing is left of it: podman's is removed by `stop`, and the others have no more than a process."""


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended."""
    try:
        return ") Z" in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return True


def tree(top: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content of all that is in an image's tree."""
    return {
        str(path.relative_to(top)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in top.rglob("*")
        if not path.is_symlink()
    }
