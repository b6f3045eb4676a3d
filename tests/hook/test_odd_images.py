"""Images and homes that lack what one would expect: a session is possible all the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from changes import with_home, without_home
from containers import ALICE, ENGINES, WORK, Container
from starter import Start


def assert_works(container: Container, program: str = "ssh") -> None:
    result = container.exec(program, "127.0.0.1", "id -u; cat; exit 3", stdin=b"\0in")
    assert (result.status, result.out) == (3, b"%d\n\0in" % ALICE)


def no_profile_directory(root: Path) -> None:
    shutil.rmtree(root / "etc/profile.d")


def no_passwd(root: Path) -> None:
    (root / "etc/passwd").unlink()


def no_etc(root: Path) -> None:
    shutil.rmtree(root / "etc")
    (root / "etc").mkdir()


def empty_passwd(root: Path) -> None:
    (root / "etc/passwd").write_bytes(b"")


def unreadable_passwd(root: Path) -> None:
    with (root / "etc/passwd").open("a", encoding="utf-8") as file:
        file.write(f"alice:x:{ALICE}:{ALICE}::/home/alice:/bin/bash\nsecret:x:1:1:of others:/:/bin/sh\n")
    (root / "etc/passwd").chmod(0o600)


def blank_lines_in_passwd(root: Path) -> None:
    (root / "etc/passwd").write_bytes(
        b"\n\nroot:x:0:0:root:/root:/bin/sh\n\n# alice:x:2001:2001::/:/bin/sh\n+::::::\nhalf:x\n"
        b"alice:x:2001:2001::/home/alice:/bin/sh\n\n\n"
    )


def passwd_without_last_newline(root: Path) -> None:
    (root / "etc/passwd").write_bytes(b"root:x:0:0:root:/root:/bin/sh")


def passwd_of_another_group(root: Path) -> None:
    (root / "etc/passwd").write_bytes(b"alice:x:2001:100::/home/alice:/bin/sh\n")


def passwd_of_another_name(root: Path) -> None:
    (root / "etc/passwd").write_bytes(b"user:x:2001:2001::/home/alice:/bin/sh\n")


def passwd_of_two_names(root: Path) -> None:
    (root / "etc/passwd").write_bytes(b"user:x:2001:2001::/home/user:/bin/sh\nalice:x:2001:2001::/home/alice:/bin/sh\n")


def passwd_where_the_name_is_anothers(root: Path) -> None:
    (root / "etc/passwd").write_bytes(b"alice:x:1:1::/:/bin/sh\n")


def passwd_in_latin1(root: Path) -> None:
    (root / "etc/passwd").write_bytes(
        b"jos\xe9:x:1:1:Jos\xe9:/:/bin/sh\nalice:x:2001:2001:Ali\xe7e:/home/alice:/bin/sh\n"
    )


def no_login_shell(root: Path) -> None:
    (root / "etc/passwd").write_bytes(b"alice:x:2001:2001::/home/alice:/usr/sbin/nologin\n")


def shell_that_is_not_there(root: Path) -> None:
    (root / "etc/passwd").write_bytes(b"alice:x:2001:2001::/home/alice:/bin/zsh\n")


def shell_that_is_not_in_shells(root: Path) -> None:
    (root / "etc/shells").write_bytes(b"/bin/zsh\n")
    (root / "usr/local/mysh").symlink_to("/bin/bash")
    (root / "etc/passwd").write_bytes(b"alice:x:2001:2001::/home/alice:/usr/local/mysh\n")


def no_shells(root: Path) -> None:
    (root / "etc/shells").unlink()
    (root / "etc/passwd").write_bytes(b"alice:x:2001:2001::/home/alice:/bin/bash\n")


def links_within_the_image(root: Path) -> None:
    (root / "opt").rmdir()
    (root / "srv/opt").mkdir()
    (root / "opt").symlink_to("/srv/opt")
    (root / "srv/profile.d").mkdir()
    shutil.rmtree(root / "etc/profile.d")
    (root / "etc/profile.d").symlink_to("../../../srv/profile.d")


def an_ssh_of_the_images_own(root: Path) -> None:
    (root / "usr/bin/ssh").write_bytes(b"#!/bin/sh\necho the image's own\n")
    (root / "usr/bin/ssh").chmod(0o755)


CHANGES = [
    no_profile_directory,
    no_passwd,
    no_etc,
    empty_passwd,
    unreadable_passwd,
    blank_lines_in_passwd,
    passwd_without_last_newline,
    passwd_of_another_group,
    passwd_of_another_name,
    passwd_of_two_names,
    passwd_where_the_name_is_anothers,
    passwd_in_latin1,
    no_login_shell,
    shell_that_is_not_there,
    shell_that_is_not_in_shells,
    no_shells,
    links_within_the_image,
    an_ssh_of_the_images_own,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_image(start: Start, change: Callable[[Path], None]) -> None:
    assert_works(start("crun", network="private", prepare=change))


def test_no_usr_bin(start: Start) -> None:
    container = start("crun", "busybox", network="private")
    assert_works(container)


def test_entries_of_others_are_not_shown_where_passwd_is_unreadable(start: Start) -> None:
    container = start("crun", network="private", prepare=unreadable_passwd)
    shown = container.ssh("cat /etc/passwd")
    assert b"secret" not in shown.out


def test_entries_of_others_stay(start: Start) -> None:
    container = start("crun", network="private", prepare=passwd_in_latin1)
    assert container.ssh("head -n 1 /etc/passwd").checked().out == b"jos\xe9:x:1:1:Jos\xe9:/:/bin/sh\n"


def test_ssh_that_is_a_link_to_a_program_of_many_names(start: Start) -> None:
    def prepare(root: Path) -> None:
        (root / "usr/bin").mkdir(parents=True)
        (root / "usr/bin/ssh").symlink_to("/bin/busybox")

    container = start("crun", "busybox", network="private", prepare=prepare)
    assert container.exec("/bin/busybox", "true").status == 0
    assert_works(container, "/opt/oci-hooks/ssh/bin/ssh")


# Homes.


@pytest.fixture
def home() -> Iterator[Path]:
    path = WORK / "home-of-alice"
    path.mkdir()
    os.chown(path, ALICE, ALICE)
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("image", ["debian", "busybox"])
def test_no_home(start: Start, image: str) -> None:
    assert_works(start("crun", image, network="private", change=without_home))


def test_home_variable_is_not_set(start: Start) -> None:
    def change(config: dict[str, Any]) -> None:
        config["process"]["env"] = [entry for entry in config["process"]["env"] if not entry.startswith("HOME=")]

    assert_works(start("crun", network="private", change=change))


@pytest.mark.parametrize("overlay", ["true", "false"])
@pytest.mark.parametrize("mode", [0o700, 0o711, 0o775, 0o2770, 0o777])
def test_mode_of_the_home(start: Start, home: Path, mode: int, overlay: str) -> None:
    home.chmod(mode)
    settings = {"OVERLAY_MOUNT_HOME_SSH": overlay}
    assert_works(start("crun", network="private", change=with_home(home), settings=settings))
    assert home.stat().st_mode & 0o7777 == mode


@pytest.mark.parametrize("overlay", ["true", "false"])
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o775])
def test_mode_of_the_ssh_directory(start: Start, home: Path, mode: int, overlay: str) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh").chmod(mode)
    os.chown(home / ".ssh", ALICE, ALICE)
    settings = {"OVERLAY_MOUNT_HOME_SSH": overlay}
    assert_works(start("crun", network="private", change=with_home(home), settings=settings))


def test_home_that_the_group_owns(start: Start, home: Path) -> None:
    os.chown(home, ALICE, 5000)
    home.chmod(0o2770)
    assert_works(start("crun", network="private", change=with_home(home)))


def test_read_only_home(start: Start, home: Path) -> None:
    (home / ".ssh").mkdir(mode=0o700)
    os.chown(home / ".ssh", ALICE, ALICE)

    def change(config: dict[str, Any]) -> None:
        with_home(home)(config)
        mount = next(mount for mount in config["mounts"] if mount["destination"] == "/home/alice")
        mount["options"] = ["rbind", "rprivate", "ro"]

    assert_works(start("crun", network="private", change=change))


def test_read_only_root(start: Start) -> None:
    def change(config: dict[str, Any]) -> None:
        config["root"]["readonly"] = True

    for engine in ("crun", "runc"):
        assert_works(start(engine, network="private", change=change))


@pytest.mark.parametrize("engine", ENGINES[:3])
def test_read_only_under_podman(start: Start, engine: str) -> None:
    keep = ["--userns=keep-id"] if engine == "rootless" else []
    assert_works(start(engine, options=["--read-only", *keep], user=f"{ALICE}:{ALICE}"))


def test_another_process_with_the_users_group(start: Start) -> None:
    def change(config: dict[str, Any]) -> None:
        config["process"]["user"]["gid"] = 777

    container = start("crun", network="private", change=change)
    assert container.ssh("id -g").checked().text == "777"
