"""Images, volumes, homes and annotations that are out for the host: it stays as it was, whatever becomes of the start."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attack import CANARY, SECRET, attempt, bind, host_untouched, plain, plant, replace
from containers import IMAGES, plain_start


@pytest.fixture(autouse=True)
def canaries(nothing_left: None) -> Iterator[None]:
    shutil.rmtree(CANARY, ignore_errors=True)
    plant()
    try:
        with host_untouched():
            yield
    finally:
        shutil.rmtree(CANARY)


# Volumes


def test_root_creates_nothing_in_a_volume_on_the_file_system_of_the_root(tmp_path: Path) -> None:
    """A bundle's root and a volume may lie on one file system: the device number tells nothing."""
    root = CANARY.parent / "hook-root"
    shutil.copytree(IMAGES / "busybox.rootfs", root, symlinks=True)
    (root / "home/alice").mkdir(parents=True)

    def change(config: dict[str, Any]) -> None:
        config["root"]["path"] = str(root)
        config["mounts"].append(bind(CANARY / "root/bin", "/opt"))

    try:
        outcome = attempt(lambda: plain_start("crun", "busybox", change=change))
    finally:
        shutil.rmtree(root)
    assert "/opt" in outcome.error


@pytest.mark.parametrize("name", ["passwd", "shells"])
def test_what_only_root_can_read_stays_secret(name: str) -> None:
    def prepare(root: Path) -> None:
        replace(root / "etc" / name).symlink_to(f"/volume/{name}")

    outcome = attempt(
        lambda: plain_start(
            "crun",
            "busybox",
            prepare=prepare,
            change=lambda config: config["mounts"].append(bind(CANARY / "root", "/volume")),
        ),
        f"cat /etc/{name} /volume/{name}; true",
    )
    assert outcome.error == ""
    assert name == "passwd" or SECRET not in outcome.said


PIDFILE = "com.hooks.ssh.pidfile_container"


@pytest.mark.parametrize("uid", [0, 2001])
@pytest.mark.parametrize("link", ["/proc/1/root", "/proc/self/fd/3/../../../..", "/proc/1/cwd/../../..", ".."])
def test_the_pidfile_in_the_container_stays_there(uid: int, link: str) -> None:
    owner = "root" if uid == 0 else "alice"

    def change(config: dict[str, Any]) -> None:
        config["process"]["user"] = {"uid": uid, "gid": uid}
        if uid == 0:
            config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] != "/home/alice"]
            config["process"]["env"].append("HOME=/root")

    for target in ("new.pid", "file"):
        outcome = plain(
            prepare=lambda root: (root / "run").symlink_to(f"{link}{CANARY}/{owner}"),
            change=change,
            annotations={PIDFILE: f"/run/{target}"},
        )
        assert PIDFILE in outcome.error
