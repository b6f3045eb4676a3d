"""Containers that root runs in a user namespace where the user has the own uid too: distrobox's, and toolbox's way.

Real distrobox, in an image that has the programs for which distrobox only looks as links. Its first process makes the
user's account after the hook has run, so the hook must leave /etc/passwd to it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import openssh
import pytest
from containers import ALICE, IMAGES, Result, as_user, keys, run, wait_for
from starter import Start

BOX, IMAGE = "box", "localhost/ssh-test/distrobox"
# What distrobox installs if an image lacks it.
PROGRAMS = (
    *("bc", "bzip2", "curl", "gpg", "hostname", "less", "lsof", "man", "pigz", "pinentry", "ping", "ps", "rsync"),
    *("sudo", "time", "tree", "unzip", "wget", "xauth", "zip"),
)
SETS = ("Prm", "Eff", "Amb")  # of capabilities
WHO = "id -u; id -g; id -G; id -un; echo ~; pwd; grep -c ^alice: /etc/passwd; grep ^Cap[PEA] /proc/self/status"
HERSELF = [*[f"{ALICE}"] * 3, "alice", "/home/alice", "/home/alice", "1", *(f"Cap{it}:\t{0:016x}" for it in SETS)]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return openssh.convert(keys() / "id_dropbear", tmp_path / "key")


def alices(*command: str) -> Result:
    return run(as_user(ALICE, "SHELL=/bin/bash", "DBX_CONTAINER_MANAGER=podman", *command), cwd="/run")


def session(key: Path, command: str, name: str = "alice") -> Result:
    return openssh.login(key, command, user=name)


@pytest.fixture
def image() -> Iterator[None]:
    root = Path("/home/alice/image")
    run(["cp", "-rT", (IMAGES / "debian.rootfs").resolve(), root]).checked()
    for name in PROGRAMS:
        if shutil.which(name, path=f"{root}/usr/bin:{root}/usr/sbin") is None:
            (root / "usr/bin" / name).symlink_to("true")
    try:
        run(["tar", "-C", root, "-cf", f"{root}.tar", "."]).checked()
        alices("podman", "import", "--quiet", f"{root}.tar", IMAGE).checked()
    finally:
        shutil.rmtree(root)
        Path(f"{root}.tar").unlink()
    yield
    alices("podman", "rmi", "--force", IMAGE).checked()


def is_set_up() -> bool:
    return "container_setup_done" in alices("podman", "logs", "--tail", "2", BOX).text.splitlines()


def test_distrobox(nothing_left: None, image: None, key: Path) -> None:
    """One lands as the user, and files are the user's: before the account is complete, and in the next start too."""
    flags = "--annotation com.hooks.ssh.enabled=true"
    options = ["--yes", "--no-entry", "--image", IMAGE, "--name", BOX, "--additional-flags", flags]
    alices("distrobox", "create", *options).checked()
    file = Path("/home/alice/by-ssh")
    try:
        for _start in range(2):
            alices("podman", "start", BOX).checked()
            session(key, "touch by-ssh").checked()
            assert file.stat().st_uid == ALICE
            file.unlink()
            wait_for(is_set_up, "distrobox's own setup", 60)
            assert session(key, WHO).checked().text.splitlines() == HERSELF
            enter = ["distrobox", "enter", "--no-tty", "--name", BOX, "--"]
            assert alices(*enter, "sh", "-c", "id -u; ssh localhost id -u").text == f"{ALICE}\n{ALICE}"
            alices("podman", "stop", "-t0", BOX).checked()
    finally:
        alices("podman", "rm", "--force", "-t0", BOX).checked()
        file.unlink(missing_ok=True)


@pytest.mark.parametrize("runtime", ["crun", "runc"])
@pytest.mark.parametrize("image", ["debian", "busybox"])
def test_root_with_a_subordinate_uid(start: Start, key: Path, image: str, runtime: str) -> None:
    options = ["--userns=keep-id", f"--runtime={runtime}"]
    container = start("rootless", image, options=options, user="0:0", env={"ASKED": "a b"})
    assert container.exec("id", "-u").text == "0"
    who = session(key, WHO).checked().text.splitlines()
    assert who[:3] == [f"{ALICE}"] * 3
    assert session(key, 'echo "$ASKED"').checked().text == "a b"
    root = session(key, "true", name="root")
    assert (root.status, b"Permission denied" in root.err) == (255, True)


def test_root_that_cannot_become_the_user(start: Start, key: Path) -> None:
    """The container confines its root: a login must not lead out of that, to the user's own files."""
    container = start("rootless", options=["--userns=keep-id", "--cap-drop=setuid"], user="0:0")
    assert session(key, "id -u").checked().text == container.exec("id", "-u").text == "0"


def test_root_where_the_user_has_no_uid(start: Start, key: Path) -> None:
    start("rootless", options=["--userns=nomap"], user="0:0")
    assert session(key, "id -u").checked().text == "0"
