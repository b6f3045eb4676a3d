"""What attach notes of its changes, and undoes: nothing that somebody moved under their paths meanwhile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ssh_hook.errors import HookError
from ssh_hook.kernel.identity import Identity
from ssh_hook.kernel.mounts import mount_id
from ssh_hook.kernel.rootfs import CONTENT, MOUNT, Rootfs
from ssh_hook.stages import attach, provisioner
from ssh_hook.stages.channel import Made


class End:
    """What the provisioner sends to."""

    def __init__(self) -> None:
        self.to_hook = self
        self.sent: list[Made] = []

    def send(self, message: Made) -> None:
        self.sent.append(message)


@pytest.fixture
def rootfs(tmp_path: Path) -> Rootfs:
    return Rootfs(os.open(tmp_path, os.O_PATH | os.O_DIRECTORY), Identity(os.geteuid(), os.getegid()))


def tell(rootfs: Rootfs) -> list[Made]:
    end: Any = End()
    provisioner._tell(end, rootfs, MOUNT, "/", "")
    sent: list[Made] = end.sent
    return sent


def test_mount_that_was_there_before_is_not_noted(rootfs: Rootfs) -> None:
    rootfs.mountinfo = Path("/proc/self/mountinfo").read_bytes()
    with pytest.raises(HookError, match=r"^/ in the container was moved while it was set up$"):
        tell(rootfs)


def test_new_mount_is_noted_with_its_id(rootfs: Rootfs) -> None:
    rootfs.mountinfo = b""
    (noted,) = tell(rootfs)
    assert (noted.kind, noted.path, noted.detail) == (MOUNT, "/", mount_id(rootfs.descriptor).decode())


@pytest.mark.parametrize("mount", ["own", "0"])
def test_content_does_not_go_into_a_file_with_a_name(rootfs: Rootfs, tmp_path: Path, mount: str) -> None:
    file = tmp_path / "passwd"
    file.write_text("the user's")
    identity = mount_id(rootfs.descriptor).decode() if mount == "own" else mount
    attach._undo_change(rootfs, Made(CONTENT, "/passwd", f"{identity}:the image's"))
    assert file.read_text() == "the user's"
