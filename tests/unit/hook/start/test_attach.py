"""What attach notes of its changes, and undoes: nothing that somebody moved under their paths meanwhile."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ssh_hook.errors import HookError
from ssh_hook.linux.identity import Identity
from ssh_hook.linux.mounts import mount_id
from ssh_hook.linux.process import Process
from ssh_hook.linux.rootfs import CONTENT, MOUNT, Rootfs
from ssh_hook.node.door import no_door
from ssh_hook.node.running_process import Rights
from ssh_hook.oci.json_reader import Node
from ssh_hook.start import attach
from ssh_hook.start.channel import Made
from ssh_hook.start.imitated_gate import Gate, OpenGate


class Hook:
    """Whom the provisioner sends to."""

    def __init__(self) -> None:
        self.sent: list[Made] = []

    def send(self, message: Made) -> None:
        self.sent.append(message)


@pytest.fixture
def rootfs(tmp_path: Path) -> Rootfs:
    return Rootfs(os.open(tmp_path, os.O_PATH | os.O_DIRECTORY), Identity(os.geteuid(), os.getegid()))


def tell(rootfs: Rootfs) -> list[Made]:
    hook: Any = Hook()
    attach._report_change(hook, rootfs, MOUNT, "/", "")
    sent: list[Made] = hook.sent
    return sent


def test_mount_that_was_there_before_is_not_noted(rootfs: Rootfs) -> None:
    rootfs.mountinfo = Path("/proc/self/mountinfo").read_bytes()
    with pytest.raises(HookError, match=r"^/ in the container was moved during setup$"):
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


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> attach.Attach:
    """One whose daemon listens, and is the process that it is attached to."""
    process = Process(os.getpid())
    target: Any = SimpleNamespace(rights=Rights(process), process=process)
    container: Any = SimpleNamespace(seccomp=None)
    ending = attach.EndedBySupervisor(target, container)
    supervisor = SimpleNamespace(
        daemon=process, supervise=lambda: ending.when_listening(process), made=list, read_to_end=lambda: None
    )
    monkeypatch.setattr(attach, "fork", lambda plan: supervisor)
    registration = SimpleNamespace(remove=lambda: None)
    plan: Any = SimpleNamespace(container=container, door=no_door("it has none"), registration=registration)
    root: Any = SimpleNamespace(undo=lambda made: made)
    return attach.Attach(plan, root, Gate(), target, [])


def is_open(gate: Gate | OpenGate) -> bool:
    return os.pread(gate.descriptor, 100, 0).endswith(b" 00\n")


def test_gate_is_opened_when_the_rights_are_compared(wanted: attach.Attach) -> None:
    assert not is_open(wanted.gate)
    attach.attach(wanted)
    assert is_open(wanted.gate)


@pytest.mark.parametrize(
    ("name", "value", "excess"),
    [("gid", -1, "uid or gid"), ("groups", [-1], "groups"), ("has_filter", False, "no seccomp")],
)
def test_gate_stays_closed_where_sessions_would_have_more_rights(
    wanted: attach.Attach, monkeypatch: pytest.MonkeyPatch, name: str, value: object, excess: str
) -> None:
    rights = copy.deepcopy(wanted.target.rights)
    rights.has_filter = True
    setattr(rights, name, value)
    monkeypatch.setattr(attach, "Rights", lambda directory: rights)
    wanted.plan.container.seccomp = Node({}, "")
    with pytest.raises(HookError, match=rf"sessions would have more rights than process \d+: {excess}"):
        attach.attach(wanted)
    assert not is_open(wanted.gate)


def test_gate_stays_closed_where_the_label_is_another(wanted: attach.Attach, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = iter([("unconfined", ""), ("container", "")])
    monkeypatch.setattr(attach, "label_of", lambda process: next(labels))
    with pytest.raises(HookError, match="another AppArmor or SELinux label"):
        attach.attach(wanted)
    assert not is_open(wanted.gate)
