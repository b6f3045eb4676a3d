"""A user's first container makes the keys, as the user, where more than the image says who that is."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from containers import ALICE, BOB, LAUNCHER, WORK, after_login_of, as_user, run, shell_around
from held import NO_CHANGES, held
from hook_log import Syslog
from patience import within
from refusals import assert_refused
from starter import Start

KEYS = Path("/home/alice/.oci-hooks/ssh/keys")
FILES = {"authorized_keys", "dropbear_ecdsa_host_key", "dropbear_ed25519_host_key", "id_dropbear"}
MISSING = f"alice has no SSH keys in {KEYS}: run 'ssh_hook keygen'"
USER = "com.hooks.ssh.user"


@pytest.fixture(autouse=True)
def no_keys() -> Iterator[None]:
    """Alice has no keys yet."""
    top = KEYS.parents[1]
    aside = top.with_name("aside")
    top.rename(aside)
    yield
    if top.exists():
        shutil.rmtree(top)
    aside.rename(top)


def assert_one_set() -> None:
    """There is one set, it is whole and alice's, and nothing else is."""
    assert [path.name for path in KEYS.parent.iterdir()] == ["keys"]
    assert {path.name for path in KEYS.iterdir()} == FILES
    for path in (KEYS.parents[1], KEYS.parent, KEYS, *KEYS.iterdir()):
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (ALICE, ALICE), path
        assert stat.S_IMODE(status.st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("engine", ["crun", "runc", "rootless"])
def test_first_container(start: Start, engine: str) -> None:
    options = {} if engine == "rootless" else {"launcher": after_login_of(ALICE)}
    container = start(engine, "busybox", **options)
    assert container.ssh("echo here").checked().text == "here"
    assert_one_set()


def test_it_is_logged_and_the_next_container_makes_none(start: Start) -> None:
    log = Path("/home/alice/hook.log")
    log.write_bytes(b"")
    os.chown(log, ALICE, ALICE)
    annotations = {"com.hooks.logging.level": "1", "com.hooks.logging.stdoutfd": str(log)}
    try:
        start("crun", "busybox", launcher=after_login_of(ALICE), annotations=annotations).stop()
        assert log.read_text(encoding="utf-8").startswith("ssh_hook: info: created SSH keys for alice\n")
        made = (KEYS / "id_dropbear").read_bytes()
        log.write_bytes(b"")
        start("crun", "busybox", launcher=after_login_of(ALICE), annotations=annotations)
        assert "created SSH keys" not in log.read_text(encoding="utf-8")
        assert (KEYS / "id_dropbear").read_bytes() == made
    finally:
        log.unlink()


def test_type_of_the_site(start: Start) -> None:
    start("crun", "busybox", launcher=after_login_of(ALICE), settings={"SSH_KEY_TYPE": "ecdsa"})
    assert {path.name for path in KEYS.iterdir()} == FILES - {"dropbear_ed25519_host_key"}


@pytest.mark.parametrize("name", ["dsa", "/a\nb", "/" + "x" * 100_000], ids=["dsa", "newline", "overlong"])
def test_unknown_type_of_the_site(start: Start, syslog: Syslog, name: str) -> None:
    words, settings = "the type of SSH keys must be one of ed25519, ecdsa, not", {"SSH_KEY_TYPE": name}
    assert_refused(start, syslog, "crun", words, kind="no-keys", launcher=after_login_of(ALICE), settings=settings)
    assert not KEYS.parents[1].exists()


@pytest.mark.parametrize("uid", [0, 2**32 - 1], ids=["root", "no login"])
@pytest.mark.parametrize("annotations", [{}, {USER: "alice"}], ids=["uid", "annotation"])
def test_nobody_vouches(start: Start, syslog: Syslog, uid: int, annotations: dict[str, str]) -> None:
    """An image may have chosen the uid, and the annotation where the site does not rely on it."""
    launcher = after_login_of(uid)
    assert_refused(start, syslog, "crun", MISSING, image="busybox", launcher=launcher, annotations=annotations)
    assert not KEYS.parents[1].exists()


def test_the_annotation_vouches_where_the_site_says_so(start: Start) -> None:
    settings = {"REQUIRE_USER_ANNOTATION": "true"}
    start("crun", "busybox", settings=settings, annotations={USER: "alice"})
    assert_one_set()


def test_the_site_makes_none(start: Start, syslog: Syslog) -> None:
    settings = {"MAKE_KEYS": "false"}
    launcher = after_login_of(ALICE)
    assert_refused(start, syslog, "crun", MISSING, image="busybox", launcher=launcher, settings=settings)
    assert not KEYS.parents[1].exists()


def test_first_containers_at_once(start: Start) -> None:
    """One set is left, and all have it."""
    launcher = after_login_of(ALICE)
    for _round in range(5):
        with ThreadPoolExecutor(4) as pool:
            started = [
                pool.submit(start, "crun", "busybox", launcher=launcher, annotations={"com.hooks.ssh.port": str(port)})
                for port in range(21000, 21004)
            ]
            containers = [future.result() for future in started]
        assert_one_set()
        for port in range(21000, 21004):
            assert containers[0].exec("ssh", "-p", str(port), "127.0.0.1", "echo here").checked().text == "here"
        for container in containers:
            container.stop()
        shutil.rmtree(KEYS.parents[1])


def test_keygen_at_the_same_time(start: Start) -> None:
    """Whoever is first, the other takes that set."""
    launcher = after_login_of(ALICE)
    for _round in range(5):
        with ThreadPoolExecutor(2) as pool:
            made = pool.submit(run, as_user(ALICE, LAUNCHER, "keygen"))
            container = pool.submit(start, "crun", "busybox", launcher=launcher).result()
            made.result().checked()
        assert {path.name for path in KEYS.iterdir()} == FILES
        assert container.path("/home/alice/.ssh/id_dropbear").read_bytes() == (KEYS / "id_dropbear").read_bytes()
        container.stop()
        shutil.rmtree(KEYS.parents[1])


@pytest.fixture
def full_home() -> Iterator[None]:
    """A home with room for three files."""
    run(
        ["mount", "-t", "tmpfs", "-o", f"nr_inodes=7,uid={ALICE},gid={ALICE},mode=755", "tmpfs", "/home/alice"]
    ).checked()
    yield
    run(["umount", "/home/alice"]).checked()


def test_home_without_room(start: Start, syslog: Syslog, full_home: None) -> None:
    words = f"cannot create SSH keys in {KEYS}: No space left on device: free space in /home/alice"
    assert_refused(start, syslog, "crun", words, image="busybox", launcher=after_login_of(ALICE))
    assert not KEYS.exists()
    assert list(KEYS.parent.iterdir()) == []


def test_home_that_is_read_only(start: Start, syslog: Syslog) -> None:
    run(["mount", "--bind", "/home/alice", "/home/alice"]).checked()
    run(["mount", "-o", "remount,bind,ro", "/home/alice"]).checked()
    try:
        words = f"cannot create SSH keys in {KEYS}: Read-only file system: /home/alice must be writable for its owner"
        assert_refused(start, syslog, "crun", words, image="busybox", launcher=after_login_of(ALICE))
    finally:
        run(["umount", "/home/alice"]).checked()


# What root lacks towards a file system that takes it for nobody, as NFS with root_squash does.
SQUASHED = "-dac_override,-dac_read_search,-fowner"
SQUASH = ("setpriv", f"--bounding-set={SQUASHED}", f"--inh-caps={SQUASHED}")


@pytest.fixture
def closed_home() -> Iterator[None]:
    """A home of which only alice sees anything, and root by its capabilities."""
    home = Path("/home/alice")
    mode = stat.S_IMODE(home.stat().st_mode)
    home.chmod(0o700)
    yield
    home.chmod(mode)


@pytest.mark.parametrize("engine", ["crun", "runc"])
def test_root_that_may_not_enter_the_home(start: Start, closed_home: None, engine: str) -> None:
    """The hook makes the keys as alice, and reads them as alice in the next container."""
    assert run([*SQUASH, "ls", "/home/alice"]).status != 0
    script = f'echo {ALICE} >/proc/self/loginuid && exec {" ".join(SQUASH)} {LAUNCHER} "$@"'
    launcher = shell_around(WORK / "squashed", script)
    for _number in range(2):
        container = start(engine, "busybox", launcher=launcher)
        assert_one_set()
        assert container.ssh("echo here").checked().text == "here"
        container.stop()


def without_cryptography() -> str:
    """A launcher of the hook on a node that lacks the package, after a login of alice's."""
    text = Path(LAUNCHER).read_text(encoding="utf-8").replace("/usr/lib/python3/dist-packages", "/nowhere")
    path = WORK / "without"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return shell_around(WORK / "without-login", f'echo {ALICE} >/proc/self/loginuid && exec {path} "$@"')


def test_node_without_cryptography(start: Start) -> None:
    """The installed dropbearkey makes the keys, and leaves no other file."""
    before = os.listdir("/dev/shm")
    container = start("crun", "busybox", launcher=without_cryptography())
    assert container.ssh("echo here").checked().text == "here"
    assert_one_set()
    assert os.listdir("/dev/shm") == before


def test_dropbearkey_that_fails(start: Start, syslog: Syslog) -> None:
    """Nothing is left of it."""
    programs = WORK / "without-dropbearkey"
    shutil.copytree("/opt/oci-hooks/dropbear", programs)
    (programs / "bin/dropbearkey").unlink()
    words = f"cannot create an SSH key: {programs}/bin/dropbearkey failed with status 127: No such file or directory"
    settings = {"DROPBEAR_DIR": str(programs)}
    assert_refused(start, syslog, "crun", words, image="busybox", launcher=after_login_of(ALICE), settings=settings)
    assert not KEYS.parents[1].exists()


def test_link_in_the_home(start: Start, syslog: Syslog, tmp_path: Path) -> None:
    """Nothing is written where it leads."""
    tmp_path.chmod(0o777)
    KEYS.parents[1].symlink_to(tmp_path)
    try:
        words = "/home/alice/.oci-hooks must be a directory, but is a file or a link"
        assert_refused(start, syslog, "crun", words, image="busybox", launcher=after_login_of(ALICE))
        assert list(tmp_path.iterdir()) == []
    finally:
        KEYS.parents[1].unlink()


def test_home_of_another(start: Start, syslog: Syslog) -> None:
    """What alice may not write, the hook does not write for her."""
    home = Path("/home/alice")
    mode = stat.S_IMODE(home.stat().st_mode)
    home.chmod(0o755)  # as most systems have it, and some not
    os.chown("/home/alice", BOB, BOB)
    try:
        assert_refused(
            start, syslog, "crun", "/home/alice belongs to uid", image="busybox", launcher=after_login_of(ALICE)
        )
        assert not KEYS.parents[1].exists()
    finally:
        os.chown("/home/alice", ALICE, ALICE)
        home.chmod(mode)


def test_home_whose_lock_somebody_holds(start: Start, syslog: Syslog) -> None:
    """The start fails in time."""
    KEYS.parent.mkdir(parents=True, mode=0o700)
    for path in (KEYS.parents[1], KEYS.parent):
        path.chmod(0o700)
        os.chown(path, ALICE, ALICE)
    started = time.monotonic()
    with held(KEYS.parent, NO_CHANGES):
        assert_refused(start, syslog, "crun", "no answer within 10 s", image="busybox", launcher=after_login_of(ALICE))
        assert time.monotonic() - started < 10 + within(6)
