"""Keys, pidfiles, logs and records that are not what they should be: the host stays as it was, secrets stay secret.

An annotation may be the image's: some engines pass those on. So even a user's own files are not for it to overwrite.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openssh
import pytest
from attack import CANARY, SECRET, host_untouched, one_line, plain, plant
from containers import ALICE, BOB, LAUNCHER, call_hook, keys, plain_start, run
from old_kernel import write_wrapper
from patience import within
from recorded import describe, write_record

PIDFILE_HOST = "com.hooks.ssh.pidfile_host"
PIDFILE_CONTAINER = "com.hooks.ssh.pidfile_container"
AUTHORIZE = "com.hooks.ssh.authorize_ssh_key"
STDERR = "com.hooks.logging.stderrfd"
OWN = CANARY / "alice"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
SYSTEM = "/proc/sys/kernel/domainname"  # an empty file to the eye, and a setting of the node
LINKS = ("/proc/1/root", "/proc/1/cwd" + "/.." * 12, "/proc/self/fd/3" + "/.." * 12, "/.." * 12)


@pytest.fixture(autouse=True)
def canaries(nothing_left: None) -> Iterator[None]:
    shutil.rmtree(CANARY, ignore_errors=True)
    plant()
    os.mkfifo(OWN / "fifo", 0o666)
    os.mknod(OWN / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    (OWN / "to-secret").symlink_to(CANARY / "root/file")
    (OWN / "to-own").symlink_to(OWN / "file")
    (OWN / "dangling").symlink_to(OWN / "nowhere")
    (OWN / "bobs").write_text("1\n", encoding="ascii")
    os.chown(OWN / "bobs", BOB, BOB)
    (OWN / "bobs").chmod(0o666)
    (CANARY / "root/for-all").write_text("1\n", encoding="ascii")
    for name in ("fifo", "zero"):
        os.chown(OWN / name, ALICE, ALICE)
        (OWN / name).chmod(0o666)
    yield
    shutil.rmtree(CANARY)


def test_groups_of_who_starts_the_engine_open_nothing(tmp_path: Path) -> None:
    """The user's file lies where a group may go that the hook has, and the user has not."""
    group = 4321
    place = CANARY / "group"
    place.mkdir()
    (place / "key.pub").write_text(f"{KEY}\n", encoding="ascii")
    os.chown(place / "key.pub", ALICE, ALICE)
    os.chown(place, 0, group)
    place.chmod(0o750)
    launcher = tmp_path / "hook"
    launcher.write_text(f'#!/bin/sh\nexec setpriv --groups {group} {LAUNCHER} "$@"\n', encoding="ascii")
    launcher.chmod(0o755)
    options: dict[str, Any] = {"launcher": str(launcher), "annotations": {AUTHORIZE: str(place / "key.pub")}}
    assert "Permission denied" in plain(**options).error
    place.chmod(0o755)
    assert plain(**options).error == ""


def as_root(config: dict[str, Any]) -> None:
    """Make the container root's, with the home of the image."""
    config["process"]["user"] = {"uid": 0, "gid": 0}
    config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] != "/home/alice"]
    config["process"]["env"].append("HOME=/root")


# The key directory. Whatever is there is read as the user, so that it is worth what the user could read anyway.

SPOILED: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "link-to-secret": lambda path: path.symlink_to(CANARY / "root/file"),
    "link-to-own": lambda path: path.symlink_to(OWN / "file"),
    "link-to-directory": lambda path: path.symlink_to(CANARY / "root"),
    "dangling": lambda path: path.symlink_to("/nowhere"),
    "loop": lambda path: path.symlink_to(path.name),
    "init-root": lambda path: path.symlink_to(f"/proc/1/root{CANARY}/root/file"),
    "directory": lambda path: path.mkdir(),
    "fifo": os.mkfifo,
    "zero": lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5)),
    "garbage": lambda path: path.write_bytes(b"\0\0\0\xffnot a key"),
    "huge": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), 1 << 30),
}
KEY_PLACES = (
    ".oci-hooks",
    ".oci-hooks/ssh",
    ".oci-hooks/ssh/keys",
    ".oci-hooks/ssh/keys/id_dropbear",
    ".oci-hooks/ssh/keys/authorized_keys",
    ".oci-hooks/ssh/keys/dropbear_ecdsa_host_key",
    ".oci-hooks/ssh/keys/dropbear_ed25519_host_key",
)


@pytest.fixture
def key_store(canaries: None) -> Iterator[Path]:
    """Alice's home, where what is done to the keys is undone after the test."""
    home = Path("/home/alice")
    run(["cp", "-a", home / ".oci-hooks", CANARY / "oci-hooks.kept"]).checked()
    yield home
    run(["rm", "-rf", home / ".oci-hooks"]).checked()
    run(["cp", "-a", CANARY / "oci-hooks.kept", home / ".oci-hooks"]).checked()


@pytest.mark.parametrize("kind", SPOILED)
@pytest.mark.parametrize("place", KEY_PLACES)
def test_key_store(key_store: Path, place: str, kind: str) -> None:
    path = key_store / place
    others = path.parent.glob("*_host_key") if kind == "missing" and "host_key" in place else []  # one is enough
    run(["rm", "-rf", path, *others]).checked()
    SPOILED[kind](path)
    if os.path.lexists(path):
        os.chown(path, ALICE, ALICE, follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(0o700 if path.is_dir() else 0o600)
    assert "/home/alice/.oci-hooks" in plain().error


@pytest.mark.parametrize("place", KEY_PLACES)
def test_key_store_of_another(key_store: Path, place: str) -> None:
    os.chown(key_store / place, BOB, BOB)
    (key_store / place).chmod(0o755)
    outcome = plain()
    assert "belong" in outcome.error
    assert outcome.kind == "keys-unsafe"


# The pidfile on the host


@pytest.mark.parametrize("uid", [ALICE, 0])
@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        OWN / "file",
        OWN / "to-own",
        OWN / "to-secret",
        OWN / "dangling",
        OWN / "fifo",
        OWN / "zero",
        OWN / "home",
        OWN / "nowhere/pid",
        "/dev/full",
        "/proc/self/oom_score_adj",
        "/proc/1/root/etc/passwd",
        "/sys/kernel/mm/ksm/run",
    ],
)
def test_pidfile_on_the_host(uid: int, path: str | Path) -> None:
    change = as_root if uid == 0 else None
    assert PIDFILE_HOST in plain(annotations={PIDFILE_HOST: str(path)}, change=change).error


@pytest.mark.parametrize("path", ["/root/pid", "/etc/pid", CANARY / "root/pid", CANARY / "root/for-all"])
def test_pidfile_on_the_host_where_the_user_may_not(path: str | Path) -> None:
    assert PIDFILE_HOST in plain(annotations={PIDFILE_HOST: str(path)}).error


@pytest.mark.parametrize("path", ["relative", "/", "/etc/", "", "/tmp/new\nline"])
def test_pidfile_that_is_no_path(path: str) -> None:
    for name in (PIDFILE_HOST, PIDFILE_CONTAINER, AUTHORIZE):
        assert name in plain(annotations={name: path}).error


@pytest.mark.parametrize("beginning", [b" " * 40, b"1" * 32, b"\n" * 40, b"12\n34\n", b"12"], ids=repr)
@pytest.mark.parametrize("annotation", [PIDFILE_HOST, PIDFILE_CONTAINER])
def test_pidfile_that_means_something(annotation: str, beginning: bytes) -> None:
    content = beginning + b"what alice wrote\n" * 70
    file = Path("/home/alice/notes")  # the home is in the container too
    file.write_bytes(content)
    os.chown(file, ALICE, ALICE)
    try:
        assert annotation in plain(annotations={annotation: str(file)}).error
        assert file.read_bytes() == content
    finally:
        file.unlink()


# The pidfile in the container, which is opened before the runtime has left the host's tree


@pytest.mark.parametrize("uid", [ALICE, 0])
@pytest.mark.parametrize("link", LINKS)
def test_pidfile_in_the_container_stays_there(uid: int, link: str) -> None:
    owner = "root" if uid == 0 else "alice"
    for target in ("new.pid", "file"):
        outcome = plain(
            prepare=lambda root: (root / "run").symlink_to(f"{link}{CANARY}/{owner}"),
            change=as_root if uid == 0 else None,
            annotations={PIDFILE_CONTAINER: f"/run/{target}"},
        )
        assert PIDFILE_CONTAINER in outcome.error


@pytest.mark.parametrize("uid", [ALICE, 0])
@pytest.mark.parametrize("name", ["file", "fifo", "zero", "to-own", "to-secret", "dangling", "home"])
def test_pidfile_in_the_container(uid: int, name: str) -> None:
    """A volume of the user's is the container's too, but no file of it is to be overwritten, and none waited for."""
    begin = time.monotonic()

    def change(config: dict[str, Any]) -> None:
        if uid == 0:
            as_root(config)
        volume = {"destination": "/volume", "type": "bind", "source": str(OWN), "options": ["rbind", "rw"]}
        config["mounts"].append(volume)

    assert PIDFILE_CONTAINER in plain(annotations={PIDFILE_CONTAINER: f"/volume/{name}"}, change=change).error
    assert time.monotonic() - begin < within(5)


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/proc/self/fd/3",
        "/proc/pid",
        "/proc/new/pid",
        "/sys/fs/cgroup/memory/new/pid",
    ],
)
def test_pidfile_in_the_container_on_procfs(path: str) -> None:
    """The container's root has all rights of the host's then: the runtime has not masked anything yet."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_bytes()

    def change(config: dict[str, Any]) -> None:
        as_root(config)
        config["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"})

    assert PIDFILE_CONTAINER in plain(annotations={PIDFILE_CONTAINER: path}, change=change).error
    assert Path("/proc/sys/kernel/core_pattern").read_bytes() == pattern


# A public key that is let in


@pytest.mark.parametrize(
    "content",
    [
        "",
        "# only a comment\n",
        SECRET,
        f'command="id" {KEY}\n',
        f"{KEY}\n{SECRET}\n",
        "ssh-ed25519 AAAAB3NzaC1yc2E= wrong type\n",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
        f"{KEY}\n" * 10000,
    ],
)
def test_authorized_key_that_is_none(content: str) -> None:
    (OWN / "key.pub").write_text(content, encoding="ascii")
    os.chown(OWN / "key.pub", ALICE, ALICE)
    assert AUTHORIZE in plain(annotations={AUTHORIZE: str(OWN / "key.pub")}).error


@pytest.mark.parametrize(
    "path",
    [
        "/etc/shadow",
        CANARY / "root/file",
        *(OWN / name for name in ("to-secret", "dangling", "fifo", "zero", "home", "nowhere")),
        keys() / "id_dropbear",
        keys("bob") / "authorized_keys",
        "/proc/1/environ",
        "/proc/kmsg",
    ],
)
def test_authorized_key_that_the_user_may_not_read(path: str | Path) -> None:
    assert AUTHORIZE in plain(annotations={AUTHORIZE: str(path)}).error


@pytest.mark.parametrize("owner", [BOB, 0])
def test_authorized_key_that_another_user_left(owner: int) -> None:
    path = CANARY / "bobs.pub"
    path.write_text(f"{KEY}\n", encoding="ascii")
    os.chown(path, owner, owner)
    path.chmod(0o644)
    assert "belongs to another user" in plain(annotations={AUTHORIZE: str(path)}).error


@pytest.mark.parametrize("kernel", ["openat2", "walk"])
@pytest.mark.parametrize("way", ["self/cwd", "thread-self/cwd", "self/fd/3"])
def test_authorized_key_of_the_image(tmp_path: Path, way: str, kernel: str) -> None:
    """The bundle is the hook's current directory: a link of procfs to it, or to a descriptor, would lead into the
    image.
    """

    def prepare(root: Path) -> None:
        (root / "key.pub").write_text(f"{KEY}\n", encoding="ascii")
        os.chown(root / "key.pub", ALICE, ALICE)

    tmp_path.chmod(0o755)
    launcher = write_wrapper(tmp_path / "old_kernel")
    (OWN / "here").symlink_to(f"/proc/{way}")
    for path in (f"/proc/{way}/rootfs/key.pub", f"{OWN}/here/rootfs/key.pub"):
        program = {"launcher": launcher} if kernel == "walk" else {}
        assert AUTHORIZE in plain(annotations={AUTHORIZE: path}, prepare=prepare, **program).error


# Logs


@pytest.mark.parametrize("uid", [ALICE, 0])
@pytest.mark.parametrize(
    "target",
    [
        "/etc/passwd",
        *(str(OWN / name) for name in ("file", "to-own", "fifo", "home", "nowhere")),
        "-1",
        "x",
        SYSTEM,
    ],
)
def test_log(uid: int, target: str) -> None:
    """What is logged may hold words of the image's, which must not get into a file that means something."""
    for name in (STDERR, "com.hooks.logging.stdoutfd"):
        outcome = plain(annotations={name: target}, change=as_root if uid == 0 else None)
        assert "com.hooks.logging" in outcome.error


def test_words_of_the_image_do_not_reach_the_terminal() -> None:
    def prepare(root: Path) -> None:
        (root / "etc").mkdir(exist_ok=True)
        (root / "etc/passwd").write_text(f"a:x:{ALICE}:{ALICE}::/\x1b[2J\x07\r/x:/bin/sh\n", encoding="ascii")
        (root / "\x1b[2J\x07\r").write_text("no directory", encoding="ascii")

    assert "\\x1b[2J" in plain(prepare=prepare).error


# Others


def test_another_user_is_shut_out(tmp_path: Path) -> None:
    alices = openssh.convert(keys() / "id_dropbear", tmp_path / "alices")
    bobs = openssh.convert(keys("bob") / "id_dropbear", tmp_path / "bobs")
    container = plain_start("crun", "busybox")
    try:
        assert openssh.login(alices, "true", user="alice").status == 0
        for name in ("alice", "bob", "root"):
            assert openssh.login(bobs, "true", user=name).status != 0
    finally:
        container.remove()


@pytest.mark.parametrize("spoil", ["owner", "mode", "link", "start", "program", "boot", "fifo", "garbage"])
def test_record_that_names_another_process(tmp_path: Path, spoil: str) -> None:
    """poststop signals nothing by a record that is not root's, or that does not fit the process in all it says."""
    with subprocess.Popen(["sleep", "1000"]) as victim:
        try:
            values = describe(victim.pid)
            if spoil == "start":
                values["start_time"] = values["init_start_time"] = 1
            elif spoil == "program":
                values["program_inode"] = 1
            elif spoil == "boot":
                values["boot_id"] = f"{values['boot_id']}x"
            record = write_record(tmp_path, values)
            record.chmod(0o622 if spoil == "mode" else 0o600)
            if spoil == "owner":
                os.chown(record, ALICE, ALICE)
            elif spoil == "link":
                record.symlink_to(record.rename(tmp_path / "elsewhere"))
            elif spoil == "fifo":
                record.unlink()
                os.mkfifo(record)
            elif spoil == "garbage":
                record.write_bytes(os.urandom(100))
            with host_untouched():
                result = call_hook({"status": "stopped", "bundle": str(tmp_path)})
            assert victim.poll() is None
            if result.status:
                one_line(result.err)
            assert (result.status == 0) == (spoil in ("start", "program", "boot"))
        finally:
            victim.kill()
