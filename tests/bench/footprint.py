"""What a container with the hook takes: on disks, in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import lab
from containers import WORK, Engine, Podman, podman_start, wait_for
from table import Row, at_most

SARUS_BYTES, SARUS_DAEMON = 835, 380  # kB; its version 1.7 on a machine like this one
TMPFS = "/opt/oci-hooks/ssh"


def written(container: Podman) -> dict[str, int]:
    """The size of each file on the node's disks that is of this container of alice's; 0 of each directory."""
    places = {
        "layer": Path(container.inspect("{{.GraphDriver.Data.UpperDir}}")),
        "bundle": container.bundle(),
        "home": Path("/home/alice/.ssh"),
    }
    return {
        f"{name}/{path.relative_to(place)}": 0 if path.is_dir() else path.lstat().st_size
        for name, place in places.items()
        if place.exists()
        for path in (place, *place.rglob("*"))
    }


def held(directory: Path) -> int:
    """The bytes in the files of a directory's file system."""
    files = (path.lstat() for path in directory.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(status.st_size for status in files if status.st_dev == directory.stat().st_dev)


def used(directory: Path) -> int:
    """The bytes of memory or disk that the file system of a directory has given out."""
    status = os.statvfs(directory)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def shared_evenly(pid: int) -> int:
    """A process's memory in bytes, with its part of what it shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


def rows() -> Iterator[Row]:
    """On disks, on the container's tmpfs, and the daemon's memory."""
    empty = WORK / "no-hooks"
    empty.mkdir(parents=True, exist_ok=True)
    engine = Engine("podman-crun")
    without = podman_start(engine, "debian", hooks_dir=empty)
    before = written(without)
    without.remove()
    container = podman_start(engine, "debian")
    new = {path: size for path, size in written(container).items() if path not in before}
    points = sum(size == 0 for size in new.values())
    text, memory = held(container.path(TMPFS)), used(container.path(TMPFS))
    container.remove()
    bound = (at_most(16, "kB"),)
    sarus = "Sarus 1.7, as measured then"
    on_disks = sum(new.values())
    what = f"bytes written per container, {on_disks} on disks, and {points} empty entries there"
    yield Row(what, (on_disks + text) / 1e3, SARUS_BYTES, "kB", sarus, bound)
    yield Row("memory that its tmpfs takes, in pages of 4 kB", memory / 1e3, SARUS_BYTES, "kB", sarus)

    with lab.containers(1) as [other]:
        wait_for(lambda: shared_evenly(other.daemon()) > 0, "the daemon")
        ours, sshd = shared_evenly(other.daemon()) / 1e3, shared_evenly(other.init()) / 1e3
    bound = (at_most(600, "kB"),)
    yield Row("memory of an idle daemon (its part of shared pages)", ours, SARUS_DAEMON, "kB", sarus, bound)
    yield Row("memory of an idle daemon (its part of shared pages)", ours, sshd, "kB", "OpenSSH's sshd", bound)
