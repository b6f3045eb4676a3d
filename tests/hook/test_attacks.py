"""Images and volumes that are out for the host: it stays as it was, whatever becomes of the start."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import races
from attack import CANARY, OTHERS, SECRET, attempt, host_untouched, one_line, plain, plant
from changes import bind, without_home
from containers import ALICE, IMAGES, LAUNCHER, Engine, Plain, call_hook, configuration, plain_start, run
from old_kernel import write_wrapper
from patience import within

# What the hook works on in a container, and what of the host's is like it.
PLACES = {
    "usr/bin": "bin",
    "usr/bin/ssh": "bin/ssh",
    "usr/bin/scp": "bin/ssh",
    "etc": ".",
    "etc/passwd": "passwd",
    "etc/shells": "shells",
    "etc/profile.d": "profile.d",
    "opt": ".",
    "opt/oci-hooks": "oci-hooks",
    "opt/oci-hooks/ssh": "oci-hooks/ssh",
    "home": ".",
    "home/alice": "home",
    "home/alice/.ssh": "home/.ssh",
}
UP = "/.." * 12
MAGIC_LINKS = {
    "init-root": "/proc/1/root",
    "init-cwd": f"/proc/1/cwd{UP}",
    "self-fd": f"/proc/self/fd/3{UP}",
}
LINKS = {**MAGIC_LINKS, "absolute": "", "dots": f"..{UP}", "dangling": "/nowhere"}
RACED_STARTS = 7  # at each place, of which there are fifteen
OPTIONAL = ("usr/bin/ssh", "usr/bin/scp", "etc/profile.d", "etc/shells", "home/alice/.ssh")  # a session does without


@pytest.fixture(autouse=True)
def canaries(nothing_left: None) -> Iterator[None]:
    shutil.rmtree(CANARY, ignore_errors=True)
    plant()
    yield
    shutil.rmtree(CANARY)


@pytest.fixture(scope="module")
def old_kernel() -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir="/run") as directory:
        Path(directory).chmod(0o755)
        yield write_wrapper(Path(directory, "old_kernel"))


def furnish(root: Path) -> None:
    """Give busybox's tree all that the hook looks for."""
    for name in ("usr/bin", "etc/profile.d", "opt/oci-hooks/ssh", "home/alice/.ssh"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "etc/passwd").write_text(f"alice:x:{ALICE}:{ALICE}::/home/alice:/bin/sh\n", encoding="ascii")
    (root / "etc/shells").write_text("/bin/sh\n", encoding="ascii")
    (root / "usr/bin/ssh").write_text("not the hook's\n", encoding="ascii")
    (root / "usr/bin/scp").touch()  # as the hook left it
    for path in ("home/alice", "home/alice/.ssh"):
        os.chown(root / path, ALICE, ALICE)
        (root / path).chmod(0o700)


def vacate(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def prepared(place: str, put: Callable[[Path], object]) -> Callable[[Path], None]:
    """Prepares an image's tree where `put` has made something else of `place`."""

    def prepare(root: Path) -> None:
        furnish(root)
        vacate(root / place)
        put(root / place)
        os.chown(root / place, ALICE, ALICE, follow_symlinks=False)

    return prepare


def canary_of(place: str) -> str:
    return str(CANARY / ("alice" if place.startswith("home") else "root") / PLACES[place])


def link(place: str, kind: str) -> Callable[[Path], None]:
    """Makes a link of this kind to the host's counterpart of `place`."""
    return prepared(place, lambda path: path.symlink_to(f"{LINKS[kind]}{canary_of(place)}"))


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(path.parent)
        made.bind(path.name)
        os.chdir(here)


def make_huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


def make_link_to_file(path: Path) -> None:
    path.with_name("plain").write_bytes(b"")
    path.symlink_to("plain")


def make_link_to_fifo(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


OBJECTS: dict[str, Callable[[Path], object]] = {
    "loop": lambda path: path.symlink_to(path.name),
    "link-to-directory": lambda path: path.symlink_to("/var"),
    "link-to-file": make_link_to_file,
    "link-to-fifo": make_link_to_fifo,
    "directory": lambda path: path.mkdir(),
    "file": lambda path: path.write_text("no colon\n", encoding="ascii"),
    "fifo": os.mkfifo,
    "zero": lambda path: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5)),
    "socket": make_socket,
    "huge": make_huge,
    "kernel-log": lambda path: path.symlink_to("/proc/kmsg"),
    "unreadable": lambda path: path.mkdir(mode=0),
}

# With which of these in place there are sessions; with all others the start fails.
SERVED: dict[str, Collection[str]] = {
    **dict.fromkeys(("usr/bin", "etc", "opt", "opt/oci-hooks"), ("directory",)),
    **dict.fromkeys(("opt/oci-hooks/ssh", "home", "home/alice"), ("directory", "unreadable")),
    **dict.fromkeys(("usr/bin/scp", "etc/profile.d", "home/alice/.ssh"), OBJECTS),
    "usr/bin/ssh": {"file", "huge", "link-to-file", "link-to-fifo", "kernel-log"},  # a link to another name stays
    "etc/passwd": {"file", "link-to-file"},
    "etc/shells": {"file", "link-to-file", "link-to-directory", "kernel-log"},  # as where there is none
}


@pytest.mark.parametrize(
    ("kind", "kernel"),
    [*((kind, "openat2") for kind in LINKS), ("init-root", "walk"), ("self-fd", "walk"), ("dots", "walk")],
)
@pytest.mark.parametrize("place", PLACES)
def test_link_to_the_host(place: str, kind: str, kernel: str, old_kernel: str) -> None:
    options = {"launcher": old_kernel} if kernel == "walk" else {}
    outcome = plain(
        prepare=link(place, kind), change=without_home, command="cat /etc/passwd /etc/shells; true", **options
    )
    assert SECRET not in outcome.said
    if place == "usr/bin/ssh" or place not in OPTIONAL or outcome.error:
        assert f"/{place}" in outcome.error  # and that the link is why
        assert "link" in outcome.error or "not a regular file" in outcome.error


@pytest.mark.parametrize("kind", LINKS)
def test_no_key_is_written_through_a_link_to_the_host(kind: str) -> None:
    settings = {"OVERLAY_MOUNT_HOME_SSH": "false"}
    assert plain(prepare=link("home/alice/.ssh", kind), change=without_home, settings=settings).error == ""


@pytest.mark.parametrize("kind", OBJECTS)
@pytest.mark.parametrize("place", PLACES)
def test_something_else_in_place(place: str, kind: str) -> None:
    error = plain(prepare=prepared(place, OBJECTS[kind]), change=without_home).error
    assert (error == "") is (kind in SERVED[place]), error
    assert error == "" or f"/{place}" in error


@pytest.mark.parametrize("place", PLACES)
def test_link_within_the_image_is_followed(place: str, old_kernel: str) -> None:
    def prepare(root: Path) -> None:
        furnish(root)
        (root / place).rename(root / "moved")
        (root / place).symlink_to("/moved")

    for launcher in (LAUNCHER, old_kernel):
        outcome = plain(prepare=prepare, change=without_home, launcher=launcher)
        assert outcome.error == "" or place == "home/alice/.ssh"


@pytest.mark.parametrize("kind", ["init-root", "init-cwd"])
@pytest.mark.parametrize("place", ["usr/bin/ssh", "etc/passwd", "opt", "home/alice/.ssh"])
def test_link_to_the_host_under_runc(place: str, kind: str) -> None:
    outcome = plain("runc", prepare=link(place, kind), change=without_home)
    assert outcome.error != "" or place in OPTIONAL


@pytest.mark.parametrize("place", ["usr/bin/ssh", "etc/shells", "opt"])
@pytest.mark.parametrize("engine", ["podman-crun", "rootless"])
def test_link_to_the_host_under_podman(engine: str, place: str) -> None:
    """Rootless, the host's files that are at stake are the user's own."""
    podman = Engine(engine).podman
    with tempfile.TemporaryDirectory(dir="/run") as directory:
        root = Path(directory, "root")
        shutil.copytree(IMAGES / "busybox.rootfs", root, symlinks=True)
        furnish(root)
        vacate(root / place)
        (root / place).symlink_to(f"/proc/1/root{CANARY}/{'alice' if engine == 'rootless' else 'root'}/{PLACES[place]}")
        tree = run(["tar", "-C", root, "-c", "."]).checked().out
    run([*podman, "import", "--quiet", "-", "localhost/ssh-test/hostile"], tree).checked()
    try:
        outcome = attempt(lambda: Engine(engine).start("hostile"))
    finally:
        run([*podman, "rmi", "-f", "localhost/ssh-test/hostile"]).checked()
    assert outcome.error != "" or place in OPTIONAL


def test_own_ssh_directory_that_is_etc() -> None:
    prepare = prepared("home/alice/.ssh", lambda path: path.symlink_to("/etc"))
    outcome = plain(prepare=prepare, change=without_home, command="ls -a /etc")
    assert outcome.error == ""
    assert not {"id_dropbear", "authorized_keys"} & set(outcome.said.split())


def test_own_ssh_directory_that_is_anothers() -> None:
    def prepare(root: Path) -> None:
        furnish(root)
        os.chown(root / "home/alice/.ssh", 0, 0)

    outcome = plain(prepare=prepare, change=without_home, command="ls -lna /home/alice")
    assert outcome.error == ""
    assert re.search(r"^drwx------ +2 0 +0 .* \.ssh$", outcome.said, re.MULTILINE), outcome.said


def test_home_that_is_procfs() -> None:
    def change(config: dict[str, Any]) -> None:
        without_home(config)
        config["process"]["env"].append("HOME=/proc/1/root/run/hook-canary/alice/home")

    assert "cannot open the" in plain(change=change).error


@pytest.mark.parametrize("content", [b"\n", b"a:x:%d:1::/:\n" % ALICE, b"alice:x:1:1::/:\n"])
def test_passwd_of_many_megabytes(content: bytes) -> None:
    """It is parsed outside of the container's limits, so it must cost next to nothing."""

    def prepare(root: Path) -> None:
        furnish(root)
        (root / "etc/passwd").write_bytes(content * ((16 << 20) // len(content)))
        times.append(time.monotonic())

    def begin() -> Plain:
        container = plain_start("crun", "busybox", prepare=prepare, change=without_home)
        times.append(time.monotonic())
        return container

    times: list[float] = []
    assert attempt(begin).error == ""
    assert times[1] - times[0] < within(5)


def test_what_is_copied_of_a_passwd_is_bounded() -> None:
    """It lies in memory that the container is not charged for."""

    def prepare(root: Path) -> None:
        furnish(root)
        lines = b"".join(b"u%d:x:%d:1::/:\n" % (uid, uid) for uid in range(100_000, 300_000))
        (root / "etc/passwd").write_bytes(lines * 4)

    container = plain_start("crun", "busybox", prepare=prepare, change=without_home)
    try:
        status = os.statvfs(container.path("/opt/oci-hooks/ssh"))
        assert status.f_blocks * status.f_frsize < 4 << 20
        said = container.exec("/opt/oci-hooks/ssh/bin/ssh", "127.0.0.1", "id -un; wc -l </etc/passwd").checked().text
        assert said.split() == ["alice", "1"]
    finally:
        container.remove()


CLIMBING = ("/nope/../../../../home/alice", "/home/alice/nope/../../../..", "/nope/..", "/nope/.", "/../nope/../..")


def is_climbing_ended(home: str, error: str, uid: int) -> bool:
    """Whether a start ended at a name that is none; or did without a home where the user may make no directory."""
    return "is not a name" in error if uid == 0 or home.startswith("/home/alice/") else error == ""


@pytest.mark.parametrize("overlay", ["true", "false"])
@pytest.mark.parametrize("home", CLIMBING)
@pytest.mark.parametrize("uid", [ALICE, 0])
def test_home_that_climbs(uid: int, home: str, overlay: str) -> None:
    """What is missing is made; nothing is made, nor opened, above the container's root."""

    def change(config: dict[str, Any]) -> None:
        without_home(config)
        config["process"]["user"] = {"uid": uid, "gid": uid}
        config["process"]["env"] = [f"HOME={home}", "PATH=/bin:/usr/bin"]

    def prepare(root: Path) -> None:
        furnish(root)
        (root / "etc/passwd").write_bytes(b"")

    outcome = plain(prepare=prepare, change=change, settings={"OVERLAY_MOUNT_HOME_SSH": overlay})
    assert is_climbing_ended(home, outcome.error, uid)


@pytest.mark.parametrize("home", CLIMBING)
def test_home_of_the_images_passwd_that_climbs(home: str) -> None:
    def prepare(root: Path) -> None:
        furnish(root)
        (root / "etc/passwd").write_text(f"a:x:{ALICE}:{ALICE}::{home}:/bin/sh\n", encoding="ascii")

    def change(config: dict[str, Any]) -> None:
        without_home(config)
        config["process"]["env"] = ["PATH=/bin:/usr/bin"]

    assert is_climbing_ended(home, plain(prepare=prepare, change=change).error, ALICE)


# Volumes


def test_root_creates_nothing_in_a_volume_on_the_file_system_of_the_root() -> None:
    """A bundle's root and a volume may lie on one file system: the device number tells nothing."""
    with tempfile.TemporaryDirectory(dir="/run") as directory:
        root = Path(directory, "root")
        shutil.copytree(IMAGES / "busybox.rootfs", root, symlinks=True)
        (root / "home/alice").mkdir(parents=True)

        def change(config: dict[str, Any]) -> None:
            config["root"]["path"] = str(root)
            config["mounts"].append(bind(CANARY / "root/bin", "/opt"))

        assert "/opt" in plain(change=change).error


@pytest.mark.parametrize("name", ["passwd", "shells"])
def test_what_only_root_can_read_stays_secret(name: str) -> None:
    outcome = plain(
        prepare=prepared(f"etc/{name}", lambda path: path.symlink_to(f"/volume/{name}")),
        change=lambda config: config["mounts"].append(bind(CANARY / "root", "/volume")),
        command=f"cat /etc/{name} /volume/{name}; true",
    )
    assert outcome.error == ""
    assert OTHERS not in outcome.said
    # An entry of one's own uid in an unreadable passwd is one's own to know.
    assert name == "passwd" or SECRET not in outcome.said


@pytest.mark.parametrize(
    ("engine", "place"),
    [
        ("crun", "/opt"),
        ("crun", "/home/alice/.ssh"),
        ("podman-crun", "/opt"),
        ("podman-crun", "/home/alice/.ssh"),
        ("podman-runc", "/home/alice/.ssh"),
    ],
)
def test_shared_volume(engine: str, place: str) -> None:
    with tempfile.TemporaryDirectory(dir="/run") as directory:
        os.chown(directory, ALICE, ALICE)
        run(["mount", "--bind", directory, directory]).checked()
        run(["mount", "--make-shared", directory]).checked()
        try:
            if engine == "crun":
                volume = bind(directory, place, "rshared")
                outcome = plain(change=lambda config: config["mounts"].append(volume))
            else:
                options = ["--volume", f"{directory}:{place}:rshared"]
                outcome = attempt(lambda: Engine(engine).start("busybox", options=options))
            assert place in outcome.error
            assert "shared mount" in outcome.error
            assert outcome.kind == "mount-refused"
        finally:
            run(["umount", directory]).checked()


def test_no_mount_namespace(tmp_path: Path) -> None:
    """Then what the hook mounts would be mounted on the host."""
    (tmp_path / "config.json").write_text(json.dumps(configuration()), encoding="utf-8")
    with host_untouched():
        result = call_hook({"status": "created", "pid": os.getpid(), "bundle": str(tmp_path)})
    assert result.status == 1
    assert "no mount namespace" in one_line(result.err)


@pytest.mark.parametrize("place", races.RACES)
def test_what_turns_into_a_link(place: str, old_kernel: str) -> None:
    """The user swaps it over and over while containers start: see lib/races.py; tests/hook/soak starts a thousand."""
    races.plant_keys()
    for number in range(RACED_STARTS):
        races.race(place, number, old_kernel if number % 2 else LAUNCHER)
