"""What Sarus documents of its SSH hook, and users of it rely on."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openssh
import pytest
from containers import (
    ALICE,
    LAUNCHER,
    PORT,
    SETTINGS,
    WORK,
    Container,
    Podman,
    as_user,
    keys,
    listening,
    run,
    wait_for,
)
from starter import Start

KEY_FILES = {"authorized_keys", "dropbear_ecdsa_host_key", "dropbear_ed25519_host_key", "id_dropbear"}


def entry(home: str, shell: str = "/bin/sh") -> Callable[[Path], None]:
    """An image whose /etc/passwd has alice with this home."""

    def prepare(root: Path) -> None:
        (root / "etc").mkdir(exist_ok=True)
        with (root / "etc/passwd").open("a", encoding="utf-8") as file:
            file.write(f"alice:x:{ALICE}:{ALICE}:Alice:{home}:{shell}\n")

    return prepare


@pytest.fixture
def home() -> Iterator[Path]:
    """A home of alice's for one test, on the host."""
    path = WORK / "home-of-alice"
    path.mkdir(mode=0o755)
    os.chown(path, ALICE, ALICE)
    yield path
    shutil.rmtree(path)


def bind(home: Path, destination: str = "/home/alice") -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        mount = next(mount for mount in config["mounts"] if mount["destination"] == "/home/alice")
        mount.update(source=str(home), destination=destination)

    return change


@pytest.mark.parametrize("image", ["debian", "busybox"])
def test_home_that_is_not_the_standard_one(start: Start, home: Path, image: str) -> None:
    place = "/users/science/alice"
    container = start("crun", image, network="private", prepare=entry(place), change=bind(home, place))
    assert container.ssh("pwd; echo $HOME").checked().text == f"{place}\n{place}"
    listing = container.ssh(f"ls {place}/.ssh").checked().text.split()
    assert sorted(listing) == sorted(KEY_FILES)
    assert not container.path("/home/alice/.ssh").exists()


def test_home_of_the_image_that_is_not_there(start: Start) -> None:
    """It is made below /home; elsewhere programs of root's might look for code."""
    container = start("crun", network="private", prepare=entry("/home/scratch/alice"))
    assert container.ssh("pwd").checked().text == "/home/scratch/alice"
    status = container.path("/home/scratch/alice").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o700, ALICE)


def test_home_of_the_image_in_a_place_of_its_own(start: Start) -> None:
    container = start("crun", network="private", prepare=entry("/scratch/alice"))
    assert container.ssh("pwd").checked().text == "/"
    assert not container.path("/scratch").exists()


def test_layout_in_the_container(start: Start) -> None:
    container = start("crun", network="private")
    script = """
        test -x /opt/oci-hooks/ssh/dropbear/bin/dropbear && test -x /opt/oci-hooks/ssh/dropbear/bin/ssh
        test -x /usr/bin/ssh && test -r /etc/profile.d/ssh-hook.sh
        test -r /opt/oci-hooks/ssh/dropbear/environment && test -r /opt/oci-hooks/ssh/dropbear/dropbear.pid
        test -r ~/.ssh/id_dropbear && test -r ~/.ssh/authorized_keys
    """
    assert container.exec("/bin/sh", "-ex", "-c", script.replace("&&", "\n")).checked()
    modes = container.exec("/bin/sh", "-c", "stat -c '%a %u' ~/.ssh ~/.ssh/*").checked().text
    assert modes.splitlines() == [f"700 {ALICE}", *[f"600 {ALICE}"] * len(KEY_FILES)]
    assert container.exec("/bin/sh", "-c", "echo x >>/opt/oci-hooks/ssh/dropbear/bin/dropbear").status != 0


def test_shell_of_the_user_stays(start: Start) -> None:
    container = start("crun", network="private", prepare=entry("/home/alice", "/bin/dash"))
    assert container.ssh("echo $SHELL $0").checked().text == "/bin/dash dash"


# An injected key.


@pytest.mark.parametrize("ending", ["\n", "", "\r\n", "\n\n# a comment\n"])
def test_injected_key(start: Start, tmp_path: Path, ending: str) -> None:
    public = WORK / "injected.pub"
    line = openssh.new_key(tmp_path / "injected")
    public.write_bytes(f"{line} me@laptop{ending}".encode())
    os.chown(public, ALICE, ALICE)
    container = start("crun", network="private", annotations={"com.hooks.ssh.authorize_ssh_key": str(public)})
    public.unlink()
    assert openssh.login(tmp_path / "injected", "id -u", container=container).checked().text == str(ALICE)
    assert container.ssh("id -u").checked().text == str(ALICE)
    stranger = tmp_path / "stranger"
    openssh.new_key(stranger)
    assert openssh.login(stranger, "true", container=container).status == 255


def test_two_injected_keys(start: Start, tmp_path: Path) -> None:
    lines = [openssh.new_key(tmp_path / name) for name in ("one", "two")]
    public = WORK / "injected.pub"
    public.write_text("\n".join(lines), encoding="utf-8")
    os.chown(public, ALICE, ALICE)
    container = start("crun", network="private", annotations={"com.hooks.ssh.authorize_ssh_key": str(public)})
    public.unlink()
    for name in ("one", "two"):
        openssh.login(tmp_path / name, "true", container=container).checked()


# Pidfiles.


def pid_inside(container: Container) -> int:
    """The daemon's pid as the container numbers it."""
    lines = Path(f"/proc/{container.daemon()}/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("NSpid:")).split()[-1])


def test_pidfile_by_default(start: Start) -> None:
    container = start("crun", network="private")
    shown = container.exec("cat", "/opt/oci-hooks/ssh/dropbear/dropbear.pid").checked().text
    assert int(shown) == pid_inside(container)


def test_pidfile_in_the_container(start: Start) -> None:
    annotations = {"com.hooks.ssh.pidfile_container": "/tmp/my.pid"}
    container = start("crun", network="private", annotations=annotations)
    assert int(container.exec("cat", "/tmp/my.pid").checked().text) == pid_inside(container)


@pytest.mark.parametrize("engine", ["crun", "runc", "podman-crun", "rootless"])
def test_pidfile_on_the_host(start: Start, home: Path, engine: str) -> None:
    pidfile = home / "host.pid"
    container = start(engine, annotations={"com.hooks.ssh.pidfile_host": str(pidfile)})
    assert int(pidfile.read_text(encoding="ascii")) == container.daemon()
    assert pidfile.stat().st_uid == ALICE
    container.stop().checked()
    wait_for(lambda: not pidfile.exists(), "end of the pidfile")


def test_pidfile_on_the_host_that_somebody_else_wrote_stays(start: Start, home: Path) -> None:
    pidfile = home / "host.pid"
    container = start("crun", network="private", annotations={"com.hooks.ssh.pidfile_host": str(pidfile)})
    pidfile.write_text("4242\n", encoding="ascii")
    container.stop().checked()
    assert pidfile.read_text(encoding="ascii") == "4242\n"


# The overlay over ~/.ssh.


@pytest.mark.parametrize("value", [None, "true", "True", "TRUE"])
def test_overlay(start: Start, home: Path, value: str | None) -> None:
    ssh = home / ".ssh"
    ssh.mkdir(mode=0o700)
    (ssh / "config").write_text("Host *\n", encoding="ascii")
    for path in (ssh, ssh / "config"):
        os.chown(path, ALICE, ALICE)
    settings = {"OVERLAY_MOUNT_HOME_SSH": value}
    container = start("crun", network="private", settings=settings, change=bind(home))
    assert container.ssh("cat ~/.ssh/config").checked().text == "Host *"
    container.ssh("echo changed >>~/.ssh/config; echo new >~/.ssh/new; cat ~/.ssh/new").checked()
    assert container.exec("cat", "/home/alice/.ssh/new").checked().text == "new"
    container.stop().checked()
    assert [path.name for path in ssh.iterdir()] == ["config"]
    assert (ssh / "config").read_text(encoding="ascii") == "Host *\n"


@pytest.mark.parametrize("engine", ["podman-crun", "rootless"])
def test_overlay_under_podman(start: Start, engine: str) -> None:
    container = start(engine, options=["--userns=keep-id"] if engine == "rootless" else [], user=f"{ALICE}:{ALICE}")
    container.ssh("echo new >~/.ssh/new && cat ~/.ssh/new").checked()
    assert not Path("/home/alice/.ssh/new").exists()


@pytest.mark.parametrize("value", ["false", "False", "FALSE"])
def test_no_overlay(start: Start, home: Path, value: str) -> None:
    ssh = home / ".ssh"
    ssh.mkdir(mode=0o700)
    own = openssh.new_key(WORK / "own")
    (ssh / "authorized_keys").write_text(own, encoding="ascii")  # without its newline
    for path in (ssh, ssh / "authorized_keys"):
        os.chown(path, ALICE, ALICE)
    settings = {"OVERLAY_MOUNT_HOME_SSH": value}
    container = start("crun", network="private", settings=settings, change=bind(home))
    container.ssh("echo new >~/.ssh/new").checked()
    openssh.login(WORK / "own", "true", container=container).checked()  # the user's own keys go on working
    container.stop().checked()
    assert (ssh / "new").read_text(encoding="ascii") == "new\n"
    assert {path.name for path in ssh.iterdir()} >= KEY_FILES
    assert {stat.S_IMODE(path.stat().st_mode) for path in ssh.iterdir() if path.name != "new"} <= {0o600, 0o644}
    assert (ssh / "authorized_keys").read_text(encoding="ascii").splitlines()[0] == own
    (WORK / "own").unlink()


def test_no_overlay_twice_adds_the_key_once(start: Start, home: Path) -> None:
    for _time in range(2):
        container = start("crun", network="private", settings={"OVERLAY_MOUNT_HOME_SSH": "false"}, change=bind(home))
        container.ssh("true").checked()
        container.stop().checked()
    assert len((home / ".ssh/authorized_keys").read_text(encoding="ascii").splitlines()) == 1


# Ports.


@pytest.mark.parametrize(
    ("settings", "annotations", "port"),
    [
        ({}, {}, PORT),
        ({"SERVER_PORT_DEFAULT": "17001"}, {}, 17001),
        ({"SERVER_PORT_DEFAULT": None, "SERVER_PORT": "17002"}, {}, 17002),
        ({"SERVER_PORT_DEFAULT": "17003", "SERVER_PORT": "17004"}, {}, 17003),
        ({}, {"com.hooks.ssh.port": "17005"}, 17005),
        ({"SERVER_PORT_DEFAULT": "17006"}, {"com.hooks.ssh.port": "05007"}, 5007),
    ],
)
def test_port(start: Start, settings: dict[str, str | None], annotations: dict[str, str], port: int) -> None:
    before = listening()
    container = start("crun", settings=settings, annotations=annotations)
    assert listening() - before == {port}
    assert container.ssh("echo here").checked().text == "here"  # the client knows the port
    assert container.ssh("true", host="::1").status == 0


# Other containers.


def test_hostname_and_system_of_the_other_container(start: Start) -> None:
    """A glibc image and one with nothing but busybox, each from the other."""
    containers: dict[str, Container] = {}
    for image in ("debian", "busybox"):
        containers[image] = start("podman-crun", image, network="bridge", options=["--hostname", f"on-{image}"])
    for here, there in (("debian", "busybox"), ("busybox", "debian")):
        other = containers[there]
        assert isinstance(other, Podman)
        address = other.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
        command = "hostname; cat /etc/os-release 2>/dev/null || echo none"
        lines = containers[here].ssh(command, host=address).checked().text.splitlines()
        assert lines[0] == f"on-{there}"
        assert ("ID=debian" in lines) == (there == "debian")


# What users call.


@pytest.fixture
def base(tmp_path: Path) -> dict[str, str]:
    """A HOOK_BASE_DIR where alice has no keys yet."""
    base = WORK / "base"
    (base / "alice").mkdir(parents=True)
    os.chown(base / "alice", ALICE, ALICE)
    return {**SETTINGS, "HOOK_BASE_DIR": str(base)}


@pytest.fixture(autouse=True)
def no_base() -> Iterator[None]:
    yield
    shutil.rmtree(WORK / "base", ignore_errors=True)


def hook(base: dict[str, str], *arguments: str) -> Any:
    variables = [f"{name}={value}" for name, value in base.items()]
    return run(as_user(ALICE, "env", *variables, LAUNCHER, *arguments))


def key_files(base: dict[str, str]) -> dict[str, bytes]:
    directory = Path(base["HOOK_BASE_DIR"]) / "alice/.oci-hooks/ssh/keys"
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_keygen(base: dict[str, str]) -> None:
    assert hook(base, "check-user-has-sshkeys").status == 1
    assert "run 'ssh_hook keygen'" in hook(base, "check-user-has-sshkeys").err.decode()
    assert hook(base, "keygen").status == 0
    made = key_files(base)
    assert made.keys() == KEY_FILES
    assert hook(base, "check-user-has-sshkeys").status == 0
    assert hook(base, "check-user-has-sshkeys", "--verbose").status == 0

    assert hook(base, "keygen").status == 0
    assert key_files(base) == made
    assert hook(base, "keygen", "--overwrite", "--debug").status == 0
    replaced = key_files(base)
    assert not set(made.values()) & set(replaced.values())


def test_dropbears_own_programs_read_the_keys(base: dict[str, str]) -> None:
    hook(base, "keygen").checked()
    path = Path(base["HOOK_BASE_DIR"]) / "alice/.oci-hooks/ssh/keys"
    shown = run(["/opt/oci-hooks/dropbear/bin/dropbearkey", "-y", "-f", str(path / "id_dropbear")]).checked().text
    assert key_files(base)["authorized_keys"].decode().split()[1] in shown


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["start-ssh-daemon", "more"]])
def test_usage(base: dict[str, str], arguments: list[str]) -> None:
    result = hook(base, *arguments)
    assert result.status == 1
    assert result.err.startswith(b"usage: ssh_hook ")


def test_check_with_half_a_set(base: dict[str, str]) -> None:
    hook(base, "keygen").checked()
    (Path(base["HOOK_BASE_DIR"]) / "alice/.oci-hooks/ssh/keys/authorized_keys").unlink()
    result = hook(base, "check-user-has-sshkeys")
    assert result.status == 1
    assert result.err.count(b"\n") == 1


def test_keys_of_a_set_just_made_are_used(start: Start) -> None:
    before = (keys() / "id_dropbear").read_bytes()
    run(as_user(ALICE, LAUNCHER, "keygen", "--overwrite")).checked()
    assert (keys() / "id_dropbear").read_bytes() != before
    assert start("crun", network="private").ssh("echo new").checked().text == "new"
