"""Which mount points an image lacks, through links of every kind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ssh_hook.errors import HookError
from ssh_hook.linux.identity import ROOT
from ssh_hook.linux.rootfs import Rootfs
from ssh_hook.provision import layer
from ssh_hook.provision.layer import MountPoint, missing


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for directory in ("usr/bin", "opt", "var/opt/deep"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "usr/bin/ssh").touch()
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "absolute").symlink_to("/var/opt")
    (tmp_path / "up").symlink_to("../../../../var/./opt/../opt/deep")
    (tmp_path / "dangling").symlink_to("/nowhere/at/all")
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


def rootfs(path: Path) -> Rootfs:
    return Rootfs(os.open(path, os.O_PATH | os.O_DIRECTORY), ROOT)


@pytest.mark.parametrize(
    ("path", "names", "found"),
    [
        ("/usr/bin/ssh", "usr/bin/ssh", 3),
        ("/bin/ssh", "usr/bin/ssh", 3),
        ("/bin/scp", "usr/bin/scp", 2),
        ("/absolute/a/b", "var/opt/a/b", 2),
        ("/up/x", "var/opt/deep/x", 3),
        ("/dangling/x", "nowhere/at/all/x", 0),
        ("/../../opt/oci-hooks", "opt/oci-hooks", 1),
    ],
)
def test_links_are_resolved_in_the_image(root: Path, path: str, names: str, found: int) -> None:
    assert layer._resolve(rootfs(root), path) == (names.split("/"), found)


def test_loop_of_links(root: Path) -> None:
    with pytest.raises(HookError, match=r"[Tt]oo many l"):
        layer._resolve(rootfs(root), "/loop/x")


def test_missing(root: Path) -> None:
    points = [MountPoint(path, False, ROOT) for path in ("/bin/ssh", "/bin/scp", "/opt/x/y")]
    assert [point.path for point in missing(rootfs(root), points)] == ["/bin/scp", "/opt/x/y"]
