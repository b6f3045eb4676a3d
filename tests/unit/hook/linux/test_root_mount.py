"""Unit tests of ssh_hook.linux.root_mount: which mount of a table is the one that the runtime has made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ssh_hook.errors import HookError
from ssh_hook.linux import root_mount
from ssh_hook.linux.process import Process
from ssh_hook.linux.root_mount import OuterMounts, open_root_mount

BUNDLE = 30  # the id of the mount that the runtime has bound on itself


def line(mount: int, parent: int, device: str, root: str, path: str) -> str:
    return f"{mount} {parent} {device} {root} {path} rw,relatime - ext4 /dev/vda rw\n"


def call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, inner: str, outer: str | None, above: int
) -> root_mount.RootMount:
    """Call `open_root_mount` where the kernel shows these tables, and that the directory's mount is BUNDLE.

    `above` is the mount of the directory above it; without `outer` nobody may look outside.
    """
    (tmp_path / "rootfs").mkdir()
    (tmp_path / "process").mkdir()
    (tmp_path / "process" / "root").symlink_to("/")
    (tmp_path / "process" / "mountinfo").write_text(inner, encoding="ascii")
    rootfs = os.stat(tmp_path / "rootfs").st_ino

    def mount_id(descriptor: int) -> bytes:
        return b"%d" % (BUNDLE if os.fstat(descriptor).st_ino == rootfs else above)

    monkeypatch.setattr(root_mount, "mount_id", mount_id)
    outside = None if outer is None else OuterMounts()
    if outside is not None and outer is not None:
        outside.mountinfo = outer.encode()
    process = os.open(tmp_path / "process", os.O_RDONLY | os.O_DIRECTORY)
    try:
        return open_root_mount(str(tmp_path / "rootfs"), process, outside)
    finally:
        os.close(process)


def test_a_root_that_is_its_own_parent_ends_the_search(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a node that runs from its initramfs: the namespace's first mount is seen."""
    node = line(1, 1, "0:2", "/", "/")
    made = call(monkeypatch, tmp_path, node + line(BUNDLE, 1, "0:2", "/rootfs", "/rootfs"), node, above=1)
    os.close(made.descriptor)
    assert made.mount == b"30"
    assert made.above != b"1"  # on which it is already: nobody can pivot there, and it has to be moved


ABOVE = line(1, 0, "0:2", "/", "/") + line(20, 1, "0:2", "/data", "/project")  # a bind of one directory on another
MADE = line(29, 20, "0:2", "/data/image", "/project/image")  # the runtime's


def test_a_bind_above_the_root_is_a_copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    inner = ABOVE + line(BUNDLE, 20, "0:2", "/data/image", "/project/image")
    made = call(monkeypatch, tmp_path, inner, ABOVE, above=20)
    os.close(made.descriptor)
    assert (made.mount, made.above) == (b"30", b"0")


@pytest.mark.parametrize("volume", ["0:2", "0:3"], ids=["same-device", "another"])
def test_a_volume_bound_on_itself_on_a_volume(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, volume: str) -> None:
    mounts = line(21, 1, "0:3", "/", "/scratch")
    inner = ABOVE + mounts + MADE + line(31, 29, volume, "/v", "/project/image/b")
    inner += line(BUNDLE, 31, volume, "/v/w", "/project/image/b/w")
    with pytest.raises(HookError, match="is no longer where its OCI runtime mounted it"):
        call(monkeypatch, tmp_path, inner, ABOVE + mounts, above=31)


@pytest.mark.parametrize("tags", ["", "master:7 "])
def test_a_mount_that_is_no_private_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tags: str) -> None:
    """The runtime may be another: whoever reads the error shall not search for somebody who has renamed."""
    mounted = line(BUNDLE, 20, "0:2", "/data/image", "/project/image").replace("- ext4", f"{tags}- ext4")
    later = line(31, 20, "0:2", "/data/other", "/project/other")
    with pytest.raises(HookError) as refused:
        call(monkeypatch, tmp_path, ABOVE + mounted + later, ABOVE, above=20)
    assert "is no longer where its OCI runtime mounted it" in str(refused.value)
    assert ("does not make its mount private" in str(refused.value)) == bool(tags)


def test_a_process_that_can_reach_no_mount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The mount of its root directory is in no namespace any more: nobody has renamed anything."""
    with pytest.raises(HookError, match="cannot reach any mount"):
        call(monkeypatch, tmp_path, "", ABOVE, above=20)


@pytest.mark.parametrize(
    ("on_it", "is_refused"),
    [("", False), ("/merged rw - overlay", False), ("/proc rw - tmpfs", False), ("/proc rw - proc", True)],
    ids=["podman's store", "its container", "another file system", "as the root"],
)
def test_a_later_bind_where_nobody_may_look_outside(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, on_it: str, is_refused: bool
) -> None:
    """enroot's root, which is no private mount: the node's binds come there, without a proc."""
    bound = line(BUNDLE, 20, "0:2", "/data/image", "/project/image") + line(31, 20, "0:2", "/data/o", "/project/o")
    inner = ABOVE + bound.replace("rw,relatime - ", "rw,relatime master:7 - ")
    inner += f"32 31 0:9 / /project/o{on_it} none rw\n" if on_it else ""
    if is_refused:
        with pytest.raises(HookError, match="is no longer where its OCI runtime mounted it"):
            call(monkeypatch, tmp_path, inner, None, above=20)
    else:
        os.close(call(monkeypatch, tmp_path, inner, None, above=20).descriptor)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/", "the container's root directory / is the host's own"),
        ("/tmp/../../proc/self/root", "cannot open the container's root directory .*: a link of procfs leads there"),
        ("/no/such/place", "cannot open the container's root directory /no/such/place: No such file or directory"),
        ("/dev/null", "cannot open the container's root directory /dev/null: Not a directory"),
        ("/usr", "the container's root directory /usr is no longer where its OCI runtime mounted it"),
    ],
)
def test_what_no_runtime_has_mounted(path: str, problem: str) -> None:
    with Process(os.getpid()) as process:
        outside = OuterMounts()
        before = os.listdir("/proc/self/fd")
        with pytest.raises(HookError, match=f"^{problem}"):
            open_root_mount(path, process.directory, outside)
        assert os.listdir("/proc/self/fd") == before
