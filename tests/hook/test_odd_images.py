"""Images and homes that lack what one would expect: a session is possible all the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openssh
import pytest
from changes import bind, with_home, without_home
from containers import ALICE, ENGINES, WORK, Container, StartFailed, keys, listening, processes, records, wait_for
from hook_log import Syslog
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


def test_su_to_another_name_for_root(start: Start) -> None:
    """PAM would look for the password of an entry with an "x" in /etc/shadow, which has no line with that name."""
    container = start("rootless")
    shown = container.ssh("su alice -c 'echo $USER; id -u'")
    assert (shown.status, shown.text) == (0, "alice\n0"), shown.err


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
    path.mkdir(parents=True)
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


def with_home_at(path: str) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        without_home(config)
        config["process"]["env"] += [f"HOME={path}"]

    return change


def link_out_of_home(root: Path) -> None:
    (root / "home").mkdir()
    (root / "usr/lib").mkdir(parents=True)
    (root / "home/link").symlink_to("../usr/lib")


AMONG_PROGRAMS = ["/usr/lib/code", "/etc", "/home", "/home/link/code", "/home/link/new/code", "/home/../usr/new/code"]


@pytest.mark.parametrize("path", AMONG_PROGRAMS)
def test_home_among_the_images_programs_is_not_made(start: Start, syslog: Syslog, path: str) -> None:
    """It would be the user's, in a place where programs of root's may look for code. Sessions do without."""
    prepare = None if path == "/home" else link_out_of_home
    container = start("crun", "busybox", network="private", prepare=prepare, change=with_home_at(path))
    assert_works(container)
    assert_warned(syslog, "cannot create /", "your keys are only in /opt/oci-hooks/ssh")
    assert container.exec("stat", "-c", "%u", path).text != str(ALICE)
    for new in ("/usr/lib/new", "/usr/new"):
        assert container.exec("ls", "-d", new).status != 0, "root makes nothing above it either"


@pytest.mark.parametrize("path", ["/run/hook-test/users/alice", "/cluster/alice"])
def test_home_at_the_sites_place_is_made(start: Start, tmp_path: Path, path: str) -> None:
    """Below the site's directory of homes, and where PASSWD_FILE says that the user's is."""
    users = WORK / "users"
    users.symlink_to("/home")
    passwd = tmp_path / "passwd"
    passwd.write_text(f"alice:x:{ALICE}:{ALICE}::/cluster/alice:/bin/sh\n", encoding="ascii")
    settings = {"HOOK_BASE_DIR": str(users), "PASSWD_FILE": str(passwd)}
    container = start("crun", "busybox", network="private", change=with_home_at(path), settings=settings)
    assert container.ssh("pwd; ls .ssh/id_dropbear").checked().text == f"{path}\n.ssh/id_dropbear"
    users.unlink()


# A place for the annotation's pidfile, which the peer makes too.

PIDFILE = "com.hooks.ssh.pidfile_container"


@pytest.mark.parametrize("engine", ENGINES)
def test_pidfile_in_a_directory_that_is_missing(start: Start, engine: str) -> None:
    container = start(engine, "busybox", annotations={PIDFILE: "/var/run/sarus/ssh/pid"})
    assert container.ssh("cat /var/run/sarus/ssh/pid").checked().text.isdigit()
    user = container.exec("id", "-u").checked().text
    assert container.exec("stat", "-c", "%u", "/var/run/sarus/ssh").checked().text == user


@pytest.mark.parametrize("owner", [0, ALICE])
def test_missing_directory_in_a_volume_is_made_as_the_user_only(start: Start, tmp_path: Path, owner: int) -> None:
    tmp_path.chmod(0o755)
    os.chown(tmp_path, owner, owner)
    change = with_volume(tmp_path, "/volume")
    options: dict[str, Any] = {"change": change, "annotations": {PIDFILE: "/volume/a/b/pid"}, "network": "private"}
    if owner == ALICE:
        start("crun", **options)
        assert (tmp_path / "a").stat().st_uid == ALICE
    else:
        with pytest.raises(StartFailed, match="cannot create /volume/a in the container: Permission denied"):
            start("crun", **options)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["/usr/code/pid", "/run/../usr/code/pid"])
def test_missing_directory_among_the_images_programs_is_not_made(start: Start, path: str) -> None:
    """It would be the user's, in a place where programs of root's may look for code."""
    with pytest.raises(StartFailed, match=r"cannot create /(usr/code|run/\.\.) in the container: "):
        start("crun", "busybox", annotations={PIDFILE: path}, network="private")


# Volumes of root's.


def with_volume(source: Path, destination: str, *others: Callable[[dict[str, Any]], None]) -> Callable[..., None]:
    def change(config: dict[str, Any]) -> None:
        config["mounts"].append(bind(source, destination))
        for other in others:
            other(config)

    return change


@pytest.fixture
def roots() -> Iterator[Path]:
    """A directory that only root can write to. Nothing may come into it."""
    volume = WORK / "roots"
    volume.mkdir(mode=0o755)
    (volume / "own.sh").write_text("", encoding="ascii")
    yield volume
    assert [path.name for path in volume.iterdir()] == ["own.sh"]
    shutil.rmtree(volume)


@pytest.mark.parametrize("engine", ["crun", "runc"])
def test_volume_over_profile_d(start: Start, syslog: Syslog, roots: Path, engine: str) -> None:
    container = start(engine, network="private", change=with_volume(roots, "/etc/profile.d"))
    assert_works(container)
    assert_warned(syslog, "/etc/profile.d/ssh-hook.sh", "login shells")


@pytest.mark.parametrize("engine", ["podman-crun", "rootless"])
def test_volume_over_profile_d_under_podman(start: Start, roots: Path, engine: str) -> None:
    container = start(engine, options=["--volume", f"{roots}:/etc/profile.d"])
    assert container.ssh("exit 7").status == 7


@pytest.mark.parametrize("engine", ["crun", "runc"])
def test_volume_over_opt_says_what_it_lacks(start: Start, roots: Path, engine: str) -> None:
    with pytest.raises(StartFailed, match=r"if /opt is a volume, create an empty directory oci-hooks/ssh in it"):
        start(engine, network="private", change=with_volume(roots, "/opt"))


@pytest.mark.parametrize("engine", ["podman-crun", "rootless"])
def test_the_nodes_own_opt(start: Start, engine: str) -> None:
    """The role makes the directory there."""
    Path("/opt/oci-hooks/ssh").mkdir(exist_ok=True)
    container = start(engine, options=["--volume", "/opt:/opt:ro"])
    assert container.ssh("exit 7").status == 7
    assert not list(Path("/opt/oci-hooks/ssh").iterdir())


# Homes in which the hook may put nothing.


def assert_warned(syslog: Syslog, *words: str) -> None:
    """The hook has warned in these words."""
    wait_for(syslog.of_hook, "a message in syslog")
    assert [message for message in syslog.of_hook() if all(word in message for word in words)], syslog.of_hook()


def closed(name: str) -> Callable[[Path], None]:
    """A change of an image, so that its user may not enter a directory."""

    def prepare(root: Path) -> None:
        (root / name).chmod(0o700)

    return prepare


def test_etc_that_the_user_may_not_enter(start: Start) -> None:
    words = (
        r"\(uid 2001\) may not enter the directory of /etc/passwd, so that every login .*: run chmod a\+x /etc in the"
    )
    with pytest.raises(StartFailed, match=words):
        start("crun", prepare=closed("etc"))


def test_opt_that_the_user_may_not_enter(start: Start, syslog: Syslog, tmp_path: Path) -> None:
    container = start("crun", prepare=closed("opt"))
    assert_warned(syslog, "(uid 2001) may not enter /opt/oci-hooks/ssh: others can log in", "run chmod a+x /opt")
    own = openssh.convert(keys() / "id_dropbear", tmp_path / "own")
    assert openssh.login(own, "echo here", container=container).checked().text == "here"


def test_home_that_the_user_may_not_enter(start: Start) -> None:
    container = start("crun", prepare=closed("home"), change=without_home)
    assert container.ssh("echo here").checked().text == "here"


def ssh_directory_of_root(root: Path) -> None:
    (root / "home/alice/.ssh").mkdir(parents=True)
    (root / "home/alice/.ssh/config").write_text("", encoding="ascii")


def ssh_directory_that_is_a_link(root: Path) -> None:
    (root / "home/alice").mkdir(parents=True, exist_ok=True)
    (root / "home/alice/.ssh").symlink_to("/etc")


@pytest.mark.parametrize("overlay", ["true", "false"])
@pytest.mark.parametrize("image", ["debian", "busybox"])
@pytest.mark.parametrize("prepare", [ssh_directory_of_root, ssh_directory_that_is_a_link], ids=lambda it: it.__name__)
def test_ssh_directory_of_the_image(
    start: Start, syslog: Syslog, prepare: Callable[[Path], None], image: str, overlay: str
) -> None:
    settings = {"OVERLAY_MOUNT_HOME_SSH": overlay}
    container = start("crun", image, network="private", prepare=prepare, change=without_home, settings=settings)
    assert_works(container)
    assert_warned(syslog, "/home/alice/.ssh in the container", "only in /opt/oci-hooks/ssh")
    assert not {"id_dropbear", "authorized_keys"} & set(container.exec("ls", "-a", "/etc").text.split())


@pytest.mark.parametrize("image", ["debian", "busybox"])
@pytest.mark.parametrize("engine", ENGINES[:3])
def test_tmpfs_on_home(start: Start, engine: str, image: str) -> None:
    """podman gives it the mode of the image's directory, if there is one: then the user's home cannot be made."""
    keep = ["--userns=keep-id"] if engine == "rootless" else []
    container = start(engine, image, options=["--tmpfs", "/home", "--env", "HOME=/home/zoe", *keep])
    homes = {"debian": ["/"], "busybox": ["/home/zoe", "/home/alice"]}  # with keep-id podman names the user's own
    assert container.ssh("pwd").checked().text in homes[image]
    assert container.ssh("ssh 127.0.0.1 exit 7").status == 7


def test_tmpfs_of_roots_on_home(start: Start, syslog: Syslog) -> None:
    def change(config: dict[str, Any]) -> None:
        without_home(config)
        options = ["mode=755"]
        config["mounts"].append({"destination": "/home", "type": "tmpfs", "source": "tmpfs", "options": options})

    assert_works(start("crun", "busybox", network="private", change=change))
    assert_warned(syslog, "cannot create /home/alice in the container")


# Shells.


def without_shell(root: Path) -> None:
    for name in ("sh", "ash", "hush", "bash"):
        (root / "bin" / name).unlink(missing_ok=True)


@pytest.mark.parametrize("engine", ["crun", "runc"])
@pytest.mark.parametrize("by", ["annotation", "setting"])
def test_no_shell_where_none_is_asked_for(start: Start, syslog: Syslog, engine: str, by: str) -> None:
    annotations = {"com.hooks.ssh.require_shell": "false"} if by == "annotation" else {}
    settings = {"REQUIRE_SHELL": "false"} if by == "setting" else {}
    container = start(engine, "busybox", prepare=without_shell, annotations=annotations, settings=settings)
    assert_warned(syslog, "the container has no shell, and starts without SSH")
    assert container.exec("true").status == 0
    assert not [pid for pid in processes() if is_alive(pid)]  # its first process may reap what the hook killed, or not
    assert not listening()
    assert not records()


def test_annotation_takes_precedence_over_the_setting(start: Start) -> None:
    annotations = {"com.hooks.ssh.require_shell": "true"}
    with pytest.raises(StartFailed, match="has no shell"):
        start("crun", "busybox", prepare=without_shell, annotations=annotations, settings={"REQUIRE_SHELL": "false"})


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"


def login_shell(container: Container) -> str:
    return container.ssh("echo $0; grep ^alice: /etc/passwd").checked().text


@pytest.mark.parametrize("engine", ["podman-crun", "podman-runc", "crun", "runc"])
def test_shell_of_the_cluster(start: Start, engine: str) -> None:
    """podman gives a user who is not in the image an entry with /bin/sh; alice's in PASSWD_FILE is bash."""
    assert login_shell(start(engine)).endswith(":/bin/bash")
    assert login_shell(start(engine, "busybox", annotations={"com.hooks.ssh.port": "15300"})).startswith("sh\n")


def test_shell_of_the_cluster_under_rootless_podman(start: Start) -> None:
    container = start("rootless", options=["--userns=keep-id", "--env", "HOME=/home/alice"])
    assert login_shell(container).startswith("bash\n")
    container = start("rootless", annotations={"com.hooks.ssh.port": "15300"})
    assert container.ssh("echo $SHELL").checked().text == "/bin/bash"


def test_another_shell_of_the_image_stays(start: Start) -> None:
    def prepare(root: Path) -> None:
        (root / "etc/passwd").write_bytes(b"alice:x:2001:2001::/home/alice:/bin/dash\n")

    assert login_shell(start("crun", network="private", prepare=prepare)).endswith(":/bin/dash")


# What a site's monitoring looks for.


@pytest.mark.parametrize("engine", ENGINES)
def test_the_daemon_is_called_by_its_path(start: Start, engine: str) -> None:
    container = start(engine)
    line = Path(f"/proc/{container.daemon()}/cmdline").read_bytes().split(b"\0")
    assert line[0] == b"/opt/oci-hooks/ssh/dropbear/bin/dropbear"
    assert Path(f"/proc/{container.daemon()}/comm").read_text(encoding="ascii") == "dropbear\n"
    assert container.ssh("exit 7").status == 7
