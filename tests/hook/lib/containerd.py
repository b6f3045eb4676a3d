"""Containers that `ctr` of containerd 2 starts by CDI, with the containerd that runs for Docker (dockerd.installed)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from containers import ALICE, IMAGES, Container, Result, new_name, run
from dockerd import CONTAINERD, TREE, WORK

CTR = [str(TREE / "usr/bin/ctr"), "--address", str(CONTAINERD), "--namespace", "test"]
DEVICE = ["--device", "ocihooks.org/ssh=on"]
ENVIRONMENT = ["--env", "PATH=/usr/bin:/bin"]  # a directory has no image's variables


class Ctr(Container):
    """A container of `ctr`."""

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self._root = root

    def exec(self, *command: str | bytes, stdin: bytes = b"") -> Result:
        return run([*CTR, "tasks", "exec", "--exec-id", new_name(), self.name, *map(os.fsdecode, command)], stdin)

    def init(self) -> int:
        rows = map(str.split, run([*CTR, "tasks", "ls"]).checked().text.splitlines())
        return next(int(row[1]) for row in rows if row[0] == self.name)

    def stop(self) -> Result:
        return run([*CTR, "tasks", "kill", "--signal", "KILL", self.name])

    def remove(self) -> None:
        run([*CTR, "tasks", "delete", "--force", self.name]).checked()
        run([*CTR, "containers", "delete", self.name]).checked()
        shutil.rmtree(self._root)


def start(annotations: Mapping[str, str]) -> Ctr:
    """Start alice's container of busybox, on the bed's network."""
    name = new_name()
    root = WORK / name
    shutil.copytree((IMAGES / "busybox.rootfs").resolve(), root, symlinks=True)
    asked = [f"--annotation={key}={value}" for key, value in annotations.items()]
    options = ["--detach", "--net-host", "--user", f"{ALICE}:{ALICE}", *ENVIRONMENT, *DEVICE, *asked]
    run([*CTR, "run", *options, "--rootfs", str(root), name, "/bin/sleep", "1000"]).checked()
    return Ctr(name, root)
