"""Labels of AppArmor and SELinux. Ordinary files stand in for the kernel's; `make vm-tests` has the kernel's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ssh_hook.confine import lsm
from ssh_hook.errors import HookError
from ssh_hook.oci.oci_config import Container, parse_config

LABEL = "system_u:system_r:container_t:s0"


@pytest.fixture(autouse=True)
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel without AppArmor and SELinux: its files are in this directory."""
    monkeypatch.setattr(lsm, "_APPARMOR_SWITCH", str(tmp_path / "switch"))
    monkeypatch.setattr(lsm, "_SELINUX", str(tmp_path / "enforce"))
    monkeypatch.setattr(lsm, "_APPARMOR_FILES", (str(tmp_path / "own-exec"), str(tmp_path / "exec")))
    monkeypatch.setattr(lsm, "_SELINUX_FILES", (str(tmp_path / "exec"),))
    return tmp_path


def labels() -> lsm.Labels:
    """The labels of a container that has one of each kind."""
    config = {
        "process": {"user": {"uid": 1, "gid": 1}, "apparmorProfile": "profile", "selinuxLabel": LABEL},
        "root": {"path": "/r"},
        "linux": {"mountLabel": "system_u:object_r:container_file_t:s0"},
    }
    return lsm.Labels(Container(parse_config(json.dumps(config).encode(), "/b"), "/b"))


@pytest.mark.parametrize("name", ["own-exec", "exec"])
def test_an_apparmor_profile(kernel: Path, name: str) -> None:
    """Linux before 5.8 has only the file that all modules share."""
    (kernel / "switch").write_text("Y\n", encoding="ascii")
    (kernel / "exec").touch()
    (kernel / name).touch()
    labels().apply()
    assert (kernel / name).read_text(encoding="ascii") == "exec profile"


def test_an_selinux_label(kernel: Path) -> None:
    (kernel / "enforce").write_text("1", encoding="ascii")
    (kernel / "exec").touch()
    container = labels()
    container.apply()
    assert (kernel / "exec").read_text(encoding="ascii") == LABEL
    assert (container.changes_selinux, container.socket_label) == (True, LABEL)
    assert container.mount_context == "system_u:object_r:container_file_t:s0"


@pytest.mark.parametrize("switch", ["N\n", None])
def test_labels_of_a_module_that_is_not_enabled(kernel: Path, switch: str | None) -> None:
    if switch:
        (kernel / "switch").write_text(switch, encoding="ascii")
    (kernel / "exec").touch()
    container = labels()
    container.apply()
    assert (kernel / "exec").read_text(encoding="ascii") == ""
    assert (container.changes_selinux, container.socket_label, container.mount_context) == (False, "", "")


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("switch", "the container's AppArmor profile 'profile' cannot be set: No such file"),
        ("enforce", f"the container's SELinux label '{LABEL}' cannot be set: No such file"),
    ],
)
def test_a_label_that_cannot_be_set(kernel: Path, module: str, message: str) -> None:
    (kernel / module).write_text("Y", encoding="ascii")
    with pytest.raises(HookError, match=message):
        labels().apply()
