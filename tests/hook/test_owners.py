"""Logins work whoever owns the directories of an image, and its user's home, or may write to them."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import openssh
import pytest
from changes import with_home, without_home
from containers import ALICE, BOB, IMAGES, WORK, Container, Result, keys, podman_start, run
from containers import Engine as Runtime
from enroot import Enroot
from starter import Start

MODES = (0o755, 0o775, 0o777)
OTHER, SUBUID = 3000, 60000  # in the container; nobody's there
OWNERS = ("root", "user", "other", "subuid")
MODULE = Path("/etc/containers/containers.conf.modules/hpc")
SUITE = Path(__file__).resolve().parents[2] / "molecule/sarus-suite/files/hpc"


class Ids(NamedTuple):
    """Ids in the bed's user namespace of what a container has as root and so on."""

    root: int
    user: int
    other: int
    subuid: int


class Way(NamedTuple):
    """A way in which alice's containers start. `start` gets an image, or the path of a root file system."""

    name: str
    start: Callable[[str], Container]
    ids: Ids


def of_rootless(*options: str, user: str | None = None, module: str = "") -> Callable[[str], Container]:
    def start(image: str) -> Container:
        engine = Runtime("rootless")
        engine.podman += ["--module", module] if module else []
        return podman_start(engine, image, options, user=user)

    return start


def of_podman(image: str) -> Container:
    return podman_start(Runtime("podman-crun"), image, home=str(WORK / "home"))


def of_enroot(image: str) -> Container:
    def prepare(root: Path) -> None:
        """Have the root file system at `image`, with its owners: copies have those of enroot."""
        shutil.rmtree(root)
        run(["cp", "-aT", image, root]).checked()

    return Enroot(prepare=prepare).wait_until_it_runs()


FIRST_SUBUID = 100000  # of alice, as useradd gives it; the container's 1


def mapped(inside: int) -> int:
    """The bed's id of one in a container of alice's in which she is root."""
    return FIRST_SUBUID + inside - 1 if inside else ALICE


ROOTLESS = Ids(mapped(0), mapped(0), mapped(OTHER), mapped(SUBUID))
# Ids below alice's are mapped as if she were root, the first of them to root; those above follow.
KEEP_ID = Ids(FIRST_SUBUID, ALICE, mapped(OTHER), mapped(SUBUID))
WAYS = (
    Way("rootless", of_rootless(), ROOTLESS),
    Way("rootless, keep-id", of_rootless("--userns=keep-id", user=f"{ALICE}:{ALICE}"), KEEP_ID),
    Way("Sarus Suite", of_rootless(module="hpc"), ROOTLESS),
    Way("rootful", of_podman, Ids(0, ALICE, OTHER, SUBUID)),
    Way("enroot", of_enroot, Ids(0, ALICE, BOB, FIRST_SUBUID)),
)


@pytest.fixture(autouse=True, scope="module")
def suite() -> Iterator[None]:
    """The module of the Sarus Suite, and the message queues of the node, which its containers share."""
    MODULE.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(SUITE, MODULE)
    queues = Path("/dev/mqueue")
    queues.mkdir()
    run(["mount", "-t", "mqueue", "mqueue", queues]).checked()
    yield
    run(["umount", queues]).checked()
    queues.rmdir()
    MODULE.unlink()


@pytest.fixture(autouse=True)
def home() -> Iterator[Path]:
    """The home of alice's in containers of root's podman."""
    path = WORK / "home"
    path.mkdir(parents=True)
    os.chown(path, ALICE, ALICE)
    yield path
    shutil.rmtree(path)


@contextmanager
def root_file_system(way: Way, owner: str) -> Iterator[str]:
    """A copy of busybox whose directories belong to this owner, and which everybody may change."""
    root, home = WORK / "root-of-others", WORK / "home"
    run(["cp", "-aT", (IMAGES / "busybox.rootfs").resolve(), root]).checked()
    for name in ("opt/oci-hooks/ssh", "root", "home/alice/.ssh", "usr/bin", "etc", "proc", "dev", "sys", "run", "tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    file_owner = way.ids.user if way.name == "enroot" else way.ids.root
    run(["chown", "-R", f"{file_owner}:{file_owner}", root]).checked()
    for path in places(root, root / "root", root / "home/alice", home):
        give(path, getattr(way.ids, owner), 0o777)
    yield str(root)
    run(["rm", "-rf", "--one-file-system", root]).checked()


def places(root: Path, *homes: Path) -> list[Path]:
    return [root, root / "opt", root / "opt/oci-hooks", *homes]


def give(path: Path, owner: int, mode: int) -> None:
    os.chown(path, owner, owner)
    path.chmod(mode)


def problem(done: Result) -> str:
    """What is wrong with a login that was to say "here"; empty if it succeeded."""
    return "" if done.text == "here" else f"{done.status} {done.err.decode(errors='replace').strip()}"


@contextmanager
def started(way: Way, image: str) -> Iterator[Container]:
    container = way.start(image)
    try:
        yield container
    finally:
        container.stop()
        container.remove()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_container_that_starts_so(nothing_left: None, way: Way) -> None:
    """With directories of each owner, which others may change."""
    problems = {}
    for owner in OWNERS:
        with root_file_system(way, owner) as root, started(way, root) as container:
            problems[owner] = problem(container.exec("ssh", "127.0.0.1", "echo here"))
    assert problems == dict.fromkeys(OWNERS, "")


@pytest.mark.parametrize("image", ["busybox", "debian"])
@pytest.mark.parametrize("way", WAYS[:4], ids=lambda way: way.name)
def test_container_in_which_they_change(nothing_left: None, tmp_path: Path, way: Way, image: str) -> None:
    key = openssh.convert(keys() / "id_dropbear", tmp_path / "key")
    problems = {}
    with started(way, image) as container:
        home = container.exec("ssh", "127.0.0.1", "pwd").checked().text
        for owner, mode in itertools.product(OWNERS, MODES):
            for path in places(container.path("/"), container.path(home)):
                give(path, getattr(way.ids, owner), mode)
            problems[owner, mode] = problem(openssh.login(key, "echo here"))
    assert problems == dict.fromkeys(problems, "")


# Who can change such a directory gets nothing by it.

USURPED = """
mv /opt/oci-hooks /opt/old
mkdir -p /opt/oci-hooks/ssh/dropbear/bin /opt/oci-hooks/ssh/overlay/upper
echo "$0" >/opt/oci-hooks/ssh/overlay/upper/authorized_keys
chmod -R a+rX /opt/oci-hooks
mkdir -p /home/alice && mv /home /homes
mkdir -p /home/alice/.ssh && echo "$0" >/home/alice/.ssh/authorized_keys
"""


def test_another_user_who_may_write_to_the_directories_lets_nobody_in(start: Start, tmp_path: Path) -> None:
    def prepare(root: Path) -> None:
        (root / "opt").mkdir()
        (root / "home").mkdir()
        for path in (root, root / "opt", root / "home"):
            path.chmod(0o777)

    container = start("crun", "busybox", prepare=prepare, change=without_home)
    own, bobs = openssh.convert(keys() / "id_dropbear", tmp_path / "own"), tmp_path / "bobs"
    line = openssh.new_key(bobs)
    assert openssh.login(own, "echo here").checked().text == "here"
    run(["crun", "exec", "--user", f"{BOB}:{BOB}", container.name, "/bin/sh", "-ec", USURPED, line]).checked()
    assert openssh.login(own, "echo here").checked().text == "here"
    assert openssh.login(bobs, "true").status == 255


@pytest.mark.parametrize("overlay", ["true", "false"])
def test_key_that_the_user_adds_in_the_container(start: Start, home: Path, tmp_path: Path, overlay: str) -> None:
    """It counts as long as nobody else can write to ~/.ssh."""
    own, more = openssh.convert(keys() / "id_dropbear", tmp_path / "own"), tmp_path / "more"
    line = openssh.new_key(more)
    container = start("crun", change=with_home(home), settings={"OVERLAY_MOUNT_HOME_SSH": overlay})
    assert openssh.login(more, "true").status == 255
    container.ssh(f"echo '{line}' >>~/.ssh/authorized_keys").checked()
    for mode, is_refused in ((0o700, False), (0o722, True), (0o755, False)):
        container.exec("chmod", f"{mode:o}", "/home/alice/.ssh").checked()
        assert [openssh.login(key, "true").status for key in (own, more)] == [255 * is_refused] * 2
    container.exec("rm", "/home/alice/.ssh/authorized_keys").checked()
    assert [openssh.login(key, "true").status for key in (own, more)] == [255, 255]
