"""What `ssh_hook doctor` makes of a node, where imitations stand for what a test cannot break. More: tests/hook."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ssh_hook.commands import doctor
from ssh_hook.errors import INSTALL_DAMAGED, HookError
from ssh_hook.fast_stdlib import os as lean_os
from ssh_hook.health import hook_files
from ssh_hook.health.checks import OK, PROBLEM, WARNING, Check, within_deadline
from ssh_hook.linux import syscalls
from ssh_hook.node.inventory import Daemon
from ssh_hook.schedulers.nodes import launcher

ME = os.getuid()
USER = 4711  # another uid than root's
MANY = 1 << 20

Patch = pytest.MonkeyPatch


@pytest.fixture(name="settings")
def fixture_settings(tmp_path: Path) -> dict[str, str]:
    """Settings of a site where the user alice, who runs the tests, has a home. USER is carol, without one."""
    (tmp_path / "home/alice").mkdir(parents=True, mode=0o755)
    (tmp_path / "passwd").write_text(
        f"alice:x:{ME}:{ME}::/home/alice:/bin/sh\ncarol:x:{USER}:{USER}::/home/carol:/bin/sh\n", encoding="ascii"
    )
    return {"HOOK_BASE_DIR": f"{tmp_path}/home", "PASSWD_FILE": f"{tmp_path}/passwd"}


def become(monkeypatch: Patch, uid: int = USER) -> None:
    monkeypatch.setattr(os, "getuid", lambda: uid)
    monkeypatch.setattr(lean_os, "getuid", lambda: uid)


def assert_found(check: Check, settings: dict[str, str], result: str, *words: str) -> None:
    found, text = within_deadline(check, settings)
    assert found == result, text
    for word in words:
        assert word in text


def replace_text(monkeypatch: Patch, files: dict[str, str]) -> None:
    """Have the files of the node at these paths another text; all others that doctor reads are empty."""
    for module in (doctor, hook_files):
        monkeypatch.setattr(module, "read_text", lambda path: files.get(path, ""))


# The home.


def test_home(settings: dict[str, str]) -> None:
    assert_found(doctor._check_home, settings, OK, "/home/alice is accessible, and has free space")


def test_home_of_another_user(settings: dict[str, str], monkeypatch: Patch) -> None:
    (Path(settings["HOOK_BASE_DIR"]) / "carol").mkdir()
    become(monkeypatch)
    words = ("/home/carol, where your keys are stored, is not a directory that you own", "ask the administrator")
    assert_found(doctor._check_home, settings, PROBLEM, *words)


def test_home_that_is_a_file(settings: dict[str, str]) -> None:
    home = Path(settings["HOOK_BASE_DIR"]) / "alice"
    home.rmdir()
    home.touch()
    assert_found(doctor._check_home, settings, PROBLEM, "is not a directory that you own")


def test_home_that_others_can_write(settings: dict[str, str]) -> None:
    home = Path(settings["HOOK_BASE_DIR"]) / "alice"
    for mode in (0o775, 0o757):
        home.chmod(mode)
        assert_found(doctor._check_home, settings, WARNING, f"run chmod go-w {home}")


def room(**values: int) -> Callable[[str], Any]:
    """Return an imitation of statvfs(3) of a file system with blocks and inodes, except these values."""
    names = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail")
    return lambda _path: os.statvfs_result([values.get(name, MANY) for name in names] + [0, 255])


@pytest.mark.parametrize(
    ("values", "result"),
    [
        ({}, OK),
        ({"f_bavail": 0}, PROBLEM),
        ({"f_favail": 0}, PROBLEM),
        ({"f_favail": 0, "f_files": 0}, OK),  # a file system that does not count inodes, such as btrfs
    ],
)
def test_home_without_room(settings: dict[str, str], monkeypatch: Patch, values: dict[str, int], result: str) -> None:
    monkeypatch.setattr(os, "statvfs", room(**values))
    words = () if result == OK else ("is full: remove files",)
    assert_found(doctor._check_home, settings, result, *words)


def test_home_that_cannot_be_written(settings: dict[str, str], monkeypatch: Patch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not path.endswith("/alice") or mode != os.W_OK)
    assert_found(doctor._check_home, settings, WARNING, "not writable for you on this node")


# The kernel.


@pytest.fixture(name="kernel")
def fixture_kernel(monkeypatch: Patch) -> Callable[..., None]:
    """Set what the kernel tells of itself to a caller that is not root, unless the uid says so."""

    def set_to(release: str = "6.12.1-amd64", spaces: str = "15000", uid: int = USER) -> None:
        become(monkeypatch, uid)
        monkeypatch.setattr(os, "uname", lambda: os.uname_result(["Linux", "node", release, "#1", "x86_64"]))
        monkeypatch.setattr(doctor, "require_undumpable", lambda: None)
        monkeypatch.setattr(doctor, "sees_all_processes", lambda: True)
        replace_text(monkeypatch, {"/proc/sys/user/max_user_namespaces": f"{spaces}\n"})

    return set_to


@pytest.mark.parametrize("release", ["5.13.0", "5.14.0-503.el9.x86_64", "6.1", "10.0.0-rc1"])
def test_kernel(kernel: Callable[..., None], release: str) -> None:
    kernel(release)
    assert_found(doctor._check_kernel, {}, OK, f"Linux {release}")


@pytest.mark.parametrize("release", ["5.12.19", "4.18.0-553.el8.x86_64", "3.10.0-1160.el7.x86_64"])
def test_kernel_without_overlays_in_user_namespaces(kernel: Callable[..., None], release: str) -> None:
    kernel(release)
    words = (
        f"Linux {release} is older than 5.13, so rootless containers with SSH do not start here",
        "ssh_hook_overlay_mount_home_ssh: false",
    )
    assert_found(doctor._check_kernel, {}, WARNING, *words)
    assert_found(doctor._check_kernel, {"OVERLAY_MOUNT_HOME_SSH": "false"}, OK, f"Linux {release}")


def test_kernel_without_user_namespaces(kernel: Callable[..., None]) -> None:
    kernel(spaces="0")
    words = "user.max_user_namespaces is 0: rootless podman does not work on this node"
    assert_found(doctor._check_kernel, {}, WARNING, words)


def test_kernel_that_hides_processes(kernel: Callable[..., None], monkeypatch: Patch) -> None:
    kernel()
    monkeypatch.setattr(doctor, "sees_all_processes", lambda: False)
    assert_found(doctor._check_kernel, {}, WARNING, "/proc hides processes (hidepid)", "pyxis", "(gid=)")


def test_kernel_for_root(kernel: Callable[..., None]) -> None:
    kernel("4.18.0", "0", uid=0)
    assert_found(doctor._check_kernel, {}, OK)


def test_kernel_that_makes_the_daemon_dumpable(kernel: Callable[..., None], monkeypatch: Patch) -> None:
    kernel(uid=0)

    def refuse() -> None:
        raise HookError(INSTALL_DAMAGED, "fs.suid_dumpable is 1: set it to 0")

    monkeypatch.setattr(doctor, "require_undumpable", refuse)
    assert_found(doctor._check_kernel, {}, PROBLEM, "fs.suid_dumpable is 1: set it to 0")


# Network, packages, rootless podman.


def test_name_that_is_not_resolved(monkeypatch: Patch) -> None:
    def fail(*_arguments: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "gethostname", lambda: "node002")
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    words = ("this node's name node002 cannot be resolved (Name or service not known)", "use addresses")
    assert_found(doctor._check_network, {}, WARNING, *words)


def test_name_that_is_resolved(monkeypatch: Patch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "node002")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [(0, 0, 0, "", ("192.0.2.2", 0))])
    assert_found(doctor._check_network, {}, OK, "this node's name node002 resolves to 192.0.2.2")


def test_dropbearkey_makes_keys_where_it_is_installed(tmp_path: Path) -> None:
    program = tmp_path / "bin/dropbearkey"
    program.parent.mkdir()
    program.touch(0o755)
    assert_found(doctor._check_packages, {"DROPBEAR_DIR": str(tmp_path)}, OK, f"keygen uses {program}")


def test_package_cryptography(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "cryptography", raising=False)
    importlib.invalidate_caches()
    words = (f"keygen needs the Python package cryptography for {sys.executable}", "ask the administrator")
    for directories in ([], [str(tmp_path)], ["/nowhere"]):
        sys.path[:] = directories
        assert_found(doctor._check_packages, {}, PROBLEM, *words)
    (tmp_path / "cryptography.py").touch()
    importlib.invalidate_caches()
    sys.path[:] = ["/nowhere", str(tmp_path)]
    assert_found(doctor._check_packages, {}, OK, "keygen uses the Python package")


@pytest.fixture(name="rootless")
def fixture_rootless(settings: dict[str, str], tmp_path: Path, monkeypatch: Patch) -> dict[str, str]:
    """carol's rootless podman, with all that it takes: her runtime directory is this process's user's in truth."""
    become(monkeypatch)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    replace_text(monkeypatch, {"/etc/subuid": "carol:100000:65536\n", "/etc/subgid": f"{USER}:100000:65536\n"})
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    true_stat = os.stat

    def stat(path: Any, **options: Any) -> os.stat_result:
        found = true_stat(path, **options)
        return os.stat_result([*found[:4], USER, *found[5:]]) if path == str(tmp_path) else found

    monkeypatch.setattr(os, "stat", stat)
    return settings


def test_rootless(rootless: dict[str, str]) -> None:
    assert_found(doctor._check_rootless, rootless, OK, "/etc/subuid and /etc/subgid are OK")


@pytest.mark.parametrize("file", ["/etc/subuid", "/etc/subgid"])
def test_rootless_without_a_range(rootless: dict[str, str], monkeypatch: Patch, file: str) -> None:
    files = {"/etc/subuid": "carol:100000:65536\n", "/etc/subgid": "carol:100000:65536\n"}
    replace_text(monkeypatch, {**files, file: f"carola:1:1\nbob:{USER}:65536\n"})
    assert_found(doctor._check_rootless, rootless, WARNING, f"{file} has no range for carol", "ask the administrator")


def test_rootless_with_the_runtime_directory_of_another(rootless: dict[str, str], monkeypatch: Patch) -> None:
    """As after su, which keeps the variable."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", rootless["HOOK_BASE_DIR"])
    words = (
        f"{rootless['HOOK_BASE_DIR']} (XDG_RUNTIME_DIR) belongs to another user",
        "log in as yourself, not with su",
    )
    assert_found(doctor._check_rootless, rootless, PROBLEM, *words)


def test_rootless_without_a_runtime_directory(rootless: dict[str, str], monkeypatch: Patch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/no/such")
    assert_found(doctor._check_rootless, rootless, WARNING, "there is no /no/such")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert_found(doctor._check_rootless, rootless, WARNING, f"there is no /run/user/{USER}")


def test_what_root_does_not_need(rootless: dict[str, str], monkeypatch: Patch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/no/such")
    become(monkeypatch, 0)
    assert_found(
        doctor._check_rootless, rootless, OK, "not checked: this is about rootless containers, which root does not run"
    )
    become(monkeypatch)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert_found(doctor._check_rootless, rootless, OK, "not checked: podman is not in PATH")


# The port.


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_port_with_its_holder(monkeypatch: Patch, address: str) -> None:
    asked: list[tuple[int, int]] = []

    def describe(port: int, user: Any) -> str:
        asked.append((port, user.uid))
        return " by process 7 (it) of uid 12"

    monkeypatch.setattr(doctor, "describe_holder", describe)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as holder:
        holder.bind((address, 0))
        holder.listen()
        port = holder.getsockname()[1]
        settings = {"SERVER_PORT_DEFAULT": str(port)}
        words = (f"port {port} on this node is in use by process 7 (it) of uid 12; ", "com.hooks.ssh.port")
        assert_found(lambda given: doctor._check_port(given, []), settings, WARNING, *words)
    assert asked == [(port, ME)]
    assert_found(lambda given: doctor._check_port(given, []), settings, OK, f"port {port} is free on this node")


def test_port_of_the_job(monkeypatch: Patch) -> None:
    automatic = {"SERVER_PORT_DEFAULT": "auto", "SERVER_PORT_WITHOUT_JOB": "1"}
    monkeypatch.setattr(doctor, "describe_holder", lambda *_: "")
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        monkeypatch.setattr(doctor, "containers_port", lambda settings: port if settings["SLURM_JOB_ID"] else 0)
        words = (f"port {port} on this node is in use",)
        assert_found(lambda given: doctor._check_port(given, []), {**automatic, "SLURM_JOB_ID": "7"}, WARNING, *words)


# containers.conf(5).

DEFAULT = ["/usr/share/containers/oci/hooks.d"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", DEFAULT),
        ("[engine]\n#hooks_dir = ['/a']\n", DEFAULT),
        ("[engine]\nno_hooks_dir = ['/a']\n", DEFAULT),
        ('[engine]\nhooks_dir = ["/a", "/b"]\n', ["/a", "/b"]),
        ("[engine]\nhooks_dir = ['/a', \"/b\"]\n", ["/a", "/b"]),
        ("[engine]\n  hooks_dir=['/a',\"/b\",]  # ['/c']\n", ["/a", "/b"]),
        ("engine.hooks_dir = ['/a']\n", ["/a"]),
        ("[engine]\nhooks_dir = []\n", []),
        ('[engine]\nhooks_dir = [\n  \'/a\',\n  # "/b",\n  #\'/c\'\n  "/d", # it\'s, "/e"\n]\n', ["/a", "/d"]),
        ("[engine]\nhooks_dir = [\n  '/a', # see ]\n  '/b',\n]\n", ["/a", "/b"]),
        (
            "[engine]\nhooks_dir = ['/a#b', \"/c#d\", '/e]f', \"/g'h\", '/i\"j']\n",
            ["/a#b", "/c#d", "/e]f", "/g'h", '/i"j'],
        ),
        ('[engine]\nhooks_dir = ["/a\\"b", "/c\\\\d"]\n', ['/a"b', "/c\\d"]),
        ("[engine]\nnamespace = 'x # y'\nhooks_dir = ['/a']\n", ["/a"]),
        ("[engine]\nhooks_dir = ['/a', {append = true}]\n", [*DEFAULT, "/a"]),
        ("[engine]\nhooks_dir = ['/a', {append=false}]\n", ["/a"]),
        ("[engine]\nhooks_dir = ['/a', # {append = true}\n]\n", ["/a"]),
        ("[engine]\nhooks_dir = ['/append = true']\n", ["/append = true"]),
    ],
)
def test_directories_of_hooks(tmp_path: Path, monkeypatch: Patch, text: str, expected: list[str]) -> None:
    path = tmp_path / "containers.conf"
    path.write_text(text, encoding="utf-8")
    monkeypatch.setenv("CONTAINERS_CONF", str(path))
    directories, where = hook_files.hooks_dirs()
    assert directories == expected
    assert where == (str(path) if expected != DEFAULT else "podman's default")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["hooks_dir = ['/a']", "hooks_dir = ['/b']"], ["/b"]),
        (["hooks_dir = ['/a', {append = true}]", "hooks_dir = ['/b']"], [*DEFAULT, "/a", "/b"]),
        (["hooks_dir = ['/a', {append = true}]", "hooks_dir = ['/b', {append = false}]"], ["/b"]),
        (["hooks_dir = ['/a']", "# nothing"], ["/a"]),
    ],
)
def test_directories_of_several_files(
    tmp_path: Path, monkeypatch: Patch, texts: list[str], expected: list[str]
) -> None:
    """An `append` holds for the files that follow."""
    paths = [f"{tmp_path}/{number}" for number in range(len(texts))]
    monkeypatch.delenv("CONTAINERS_CONF", raising=False)
    monkeypatch.setattr(hook_files, "_CONFIGURATIONS", paths)
    replace_text(monkeypatch, {path: f"[engine]\n{text}\n" for path, text in zip(paths, texts)})
    assert hook_files.hooks_dirs()[0] == expected


def test_hook_in_a_directory_of_literal_strings(tmp_path: Path, monkeypatch: Patch) -> None:
    """A directory that is commented out does not count, whatever is in it."""
    named, commented = tmp_path / "named", tmp_path / "commented"
    for directory in (named, commented):
        directory.mkdir()
        (directory / "ssh.json").write_text(f'{{"hook": {{"path": "{launcher()}"}}}}', encoding="utf-8")
    path = tmp_path / "containers.conf"
    path.write_text(f"[engine]\nhooks_dir = [\n'{named}',\n#'{commented}',\n]\n", encoding="utf-8")
    monkeypatch.setenv("CONTAINERS_CONF", str(path))
    monkeypatch.setattr(hook_files, "CDI_DIRS", ())
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert hook_files.files_naming_hook() == [f"{named}/ssh.json"]
    assert_found(doctor._check_engine, {}, OK, f"the hook is configured in {named}/ssh.json")
    (named / "ssh.json").unlink()
    assert_found(
        doctor._check_engine,
        {},
        PROBLEM,
        f"no hook JSON in {named} ({path}) calls",
        "correct hooks_dir in containers.conf",
    )


# All of them.


@pytest.mark.parametrize("kind", [OK, WARNING, PROBLEM])
def test_exit_status(monkeypatch: Patch, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    monkeypatch.setattr(doctor, "find_daemons", list)
    monkeypatch.setattr(doctor, "look", lambda: ([], []))
    monkeypatch.setattr(doctor, "_checks", lambda *_: {"it": lambda _settings: (kind, "a\nb")})
    parser = ArgumentParser()
    doctor.add_arguments(parser)
    assert doctor.run(parser.parse_args([]), {}) == (1 if kind == PROBLEM else 0)
    shown = capsys.readouterr().out
    assert shown.split()[:2] == [kind, "it"]
    assert shown.count("\n") == 1


def test_a_problem_of_several_checks_is_shown_once(monkeypatch: Patch, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs get it with each check."""
    found = {"account": "unknown user", "home": "unknown user", "kernel": "Linux 6.12"}
    monkeypatch.setattr(doctor, "find_daemons", list)
    monkeypatch.setattr(doctor, "look", lambda: ([], []))
    monkeypatch.setattr(
        doctor, "_checks", lambda *_: {name: lambda _, text=text: (PROBLEM, text) for name, text in found.items()}
    )
    parser = ArgumentParser()
    doctor.add_arguments(parser)
    doctor.run(parser.parse_args([]), {})
    assert [line.split(maxsplit=2)[2] for line in capsys.readouterr().out.splitlines()] == [
        "unknown user",
        "same as 'account'",
        "Linux 6.12",
    ]
    doctor.run(parser.parse_args(["--json"]), {})
    assert {each["check"]: each["text"] for each in json.loads(capsys.readouterr().out)} == found


def test_a_node_without_an_engine_is_not_asked_what_containers_need() -> None:
    everything = set(doctor._checks([], [], [], {}))
    without = set(doctor._checks([], [], [], {"CLIENT_ONLY": "true"}))
    assert everything - without == {"rootless", "kernel", "port", "containers"}


@pytest.fixture(name="base")
def fixture_base() -> Iterator[Path]:
    """A tmpfs with the keys of a container."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        base = Path(directory)
        (base / "dropbear/bin").mkdir(parents=True)
        (base / "overlay/upper").mkdir(parents=True)
        (base / "overlay/upper").chmod(0o777)
        yield base


@pytest.fixture(name="daemon")
def fixture_daemon(base: Path) -> Iterator[Daemon]:
    """A process in the directory of the programs."""
    with subprocess.Popen(["sleep", "600"], cwd=base / "dropbear/bin") as process:
        yield Daemon(process.pid, ME, [], 0)
        process.kill()


@pytest.mark.parametrize(("mode", "refuses"), [(0o700, False), (0o755, False), (0o720, True), (0o702, True)])
def test_a_container_whose_keys_others_can_write(base: Path, daemon: Daemon, mode: int, refuses: bool) -> None:
    (base / "overlay/upper").chmod(mode)
    _found, text = doctor._check_containers([daemon], [], [])
    assert ("run chmod go-w ~/.ssh there" in text) == refuses


@pytest.mark.parametrize("name", ["overlay", "overlay/upper"])
def test_no_link_of_a_container_is_followed(base: Path, daemon: Daemon, name: str) -> None:
    (base / name).rename(base / "moved")
    (base / name).symlink_to(base / "moved")
    assert not doctor._refuses_keys(daemon)


def test_nothing_is_looked_up_outside_the_tmpfs(daemon: Daemon, monkeypatch: Patch) -> None:
    monkeypatch.setattr(syscalls, "TMPFS_MAGIC", 7)
    assert not doctor._refuses_keys(daemon)


def test_the_keys_of_others_are_not_looked_at(daemon: Daemon, monkeypatch: Patch) -> None:
    become(monkeypatch, ME + 1)
    assert not doctor._refuses_keys(daemon)


def test_a_container_with_a_door_alone(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(syscalls, "prctl", lambda *_words: None)  # the process is pytest's
    daemon = Daemon(11, USER, [], 0)
    found, text = doctor._check_containers([daemon], [], [])
    assert (found, text) == (
        OK,
        "containers with an SSH daemon: 1; not checked: 1, which belong to other users and have no port; all others "
        "respond",
    )
    daemon.door = str(tmp_path / "door")
    found, text = doctor._check_containers([daemon], [], [])
    assert found == PROBLEM
    assert text.startswith(
        "container 11 has no port, and does not respond at its door (a socket on the node): it may be paused"
    )
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(60)
        listener.bind(daemon.door)
        listener.listen()

        def greet() -> None:
            with listener.accept()[0] as peer:
                peer.sendall(b"SSH-2.0-it\r\n")

        answering = threading.Thread(target=greet)
        answering.start()
        assert doctor._check_containers([daemon], [], []) == (OK, "containers with an SSH daemon: 1, all respond")
        answering.join()
