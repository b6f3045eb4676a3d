from __future__ import annotations

import functools
import hashlib
import http.server
import importlib
import json
import os
import re
import shutil
import stat
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import primitives
import pytest
import yaml
from plays import Play
from sites import (
    ARCHIVE,
    BUILD,
    HERE,
    NOTHING,
    PROGRAMS,
    ROOT,
    SBOM,
    VERSION,
    Site,
    alone,
    assert_equal_builds,
    build_as_another,
    outcome,
    run,
    succeeded,
)

PATCHES = ROOT / "roles" / "dropbear" / "files" / "patches" / "dropbear"
OWN = ROOT / "roles" / "dropbear" / "files" / "src" / "dropbear"
OTHER_VERSION = "2026.95"  # which the role does not know
# The release archives, by the variables that name copies of them.
ARCHIVES = {
    "source_archive": f"dropbear-{VERSION}.tar.bz2",
    "libsodium_source_archive": "libsodium-1.0.22.tar.gz",
    "openssh_source_archive": "openssh-10.3p1.tar.gz",
    "openssl_source_archive": "openssl-3.5.7.tar.gz",
}
NAMES = ("dropbear", "dropbearkey")  # of dropbearmulti
HAS_AES = re.search(r"\baes\b", Path("/proc/cpuinfo").read_text(encoding="utf-8")) is not None


class First(NamedTuple):
    """A site deployed for the first time, and the plays that were run, in this order."""

    site: Site
    check: Play
    files_after_check: list[str]
    deploy: Play
    check_again: Play
    deploy_again: Play


@pytest.fixture(scope="session")
def others(tmp_path_factory: pytest.TempPathFactory, settings: Path) -> Site:
    """The site whose builds other parts of the tests use; what is missing there is built."""
    site = Site(tmp_path_factory.mktemp("others"), settings)
    site.build_dir = ROOT / ".cache" / "dropbear"
    succeeded(site.play(playbook=BUILD))
    return site


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory, settings: Path, others: Site) -> First:
    """All is built anew but OpenSSL, which takes longer than all of the rest."""
    site = Site(tmp_path_factory.mktemp("first"), settings)
    check = site.play("--check", "--diff")
    files = site.files()
    site.take_builds(others, "openssl")
    deploy = succeeded(site.play(environment={"ANSIBLE_PIPELINING": "false"}))  # as it is by default
    return First(site, check, files, deploy, site.play("--check", "--diff"), site.play("--diff"))


@pytest.fixture(scope="session")
def archives(others: Site) -> dict[str, str]:
    """Return upstream's archives by the variables that name them."""
    sources = others.build_dir / "sources"
    return {variable: str(sources / name) for variable, name in ARCHIVES.items()}


def tamper(archive: str, directory: Path) -> Path:
    path = directory / Path(archive).name
    path.write_bytes(Path(archive).read_bytes() + b"\n")
    return path


def digests(wrong: Path) -> tuple[str, str]:
    """Return the digest of a file and the one that the role pins."""
    pinned = yaml.safe_load((ROOT / "roles/dropbear/vars/main.yml").read_text())["dropbear__digests"]
    name, _dash, version = wrong.name.partition(".tar.")[0].partition("-")
    return hashlib.sha256(wrong.read_bytes()).hexdigest(), pinned[name][version]


def test_check_mode_before_the_first_run_completes_and_changes_nothing(first: First) -> None:
    assert succeeded(first.check).changed == 6  # four archives, the build, the installation
    for release in ("libsodium-1.0.22", "openssl-3.5.7", f"dropbear-{VERSION}", "openssh-10.3p1"):
        assert f"build {release} for {os.uname().machine}\n" in first.check.said
    assert (
        f"Dropbear {VERSION} and OpenSSH 10.3p1 would be installed in {first.site.prefix}/dropbear/bin."
        in first.check.said
    )
    assert first.files_after_check == []


def test_the_second_run_changes_nothing(first: First) -> None:
    assert first.deploy.changed > 0
    assert succeeded(first.check_again).changed == 0
    assert succeeded(first.deploy_again).changed == 0


def test_only_root_can_write_what_is_installed(first: First) -> None:
    found = [first.site.prefix, *first.site.prefix.rglob("*")]
    for path in found:
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (0, 0), path
        mode = {"dropbearmulti": 0o111, SBOM: 0o644}.get(path.name, 0o755)
        assert stat.S_ISLNK(status.st_mode) or stat.S_IMODE(status.st_mode) == mode, path
    assert (first.site.prefix / "dropbear").is_symlink()
    directory = first.site.prefix / "dropbear" / "bin"
    assert sorted(path.name for path in directory.iterdir()) == sorted([*NAMES, *PROGRAMS])
    assert {os.readlink(directory / name) for name in NAMES} == {"dropbearmulti"}


def test_the_bill_of_materials_lists_the_installed_programs(first: First) -> None:
    """With the versions that they are made of, also of the host's musl."""
    directory = first.site.prefix / "dropbear"
    bill = json.loads((directory / SBOM).read_text())
    versions = {part["name"]: part.get("version") for part in bill["components"]}
    bundled = {"libtomcrypt", "libtommath"}  # which version depends on Dropbear's
    assert versions.keys() == {"dropbear", "openssh", "libsodium", "openssl", "musl", *bundled}
    assert {name for name, version in versions.items() if not version} == bundled
    files = [file for part in bill["components"] for file in part.get("components", [])]
    assert {file["name"]: file["hashes"][0]["content"] for file in files} == {
        f"bin/{name}": hashlib.sha256((directory / "bin" / name).read_bytes()).hexdigest() for name in PROGRAMS
    }


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_static_and_position_independent_to_another_reader_too(first: First, name: str) -> None:
    (program,) = first.site.artefacts(name)
    text = run("readelf", "--wide", "--file-header", "--program-headers", "--dynamic", program)
    assert "DYN (" in text
    assert "INTERP" not in text
    assert "(NEEDED)" not in text
    assert "GNU_RELRO" in text
    assert "NOW PIE" in text


def test_the_programs_run_where_there_is_nothing_else(first: First, tmp_path: Path) -> None:
    for name in PROGRAMS:
        shutil.copy(first.site.prefix / "dropbear" / "bin" / name, tmp_path)
    assert run("chroot", tmp_path, "/dropbearmulti", "dropbear", "-V") == f"Dropbear v{VERSION}\n"
    (tmp_path / "dev").mkdir()
    os.mknod(tmp_path / "dev" / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))  # every container has it
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\n")  # and the hook sees to this
    assert run("chroot", tmp_path, "/ssh", "-V").startswith("OpenSSH_10.3p1, OpenSSL 3.5.7 ")
    assert "posix-rename" in run("chroot", tmp_path, "/sftp-server", "-Q", "requests").splitlines()
    (tmp_path / "from").write_bytes(os.urandom(300_000))
    (tmp_path / "batch").write_text("put from to\n")
    run("chroot", tmp_path, "/sftp", "-D", "/sftp-server", "-b", "batch")
    assert (tmp_path / "to").read_bytes() == (tmp_path / "from").read_bytes()


def test_scp_and_sftp_take_the_ssh_that_the_hook_puts_into_containers(first: First, tmp_path: Path) -> None:
    for command in (["scp", tmp_path, "host:"], ["sftp", "host"]):
        done = subprocess.run(
            [first.site.prefix / "dropbear" / "bin" / command[0], *command[1:]],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0
        assert "/opt/oci-hooks/ssh/bin/ssh: No such file" in done.stderr


def test_one_logs_in_with_what_is_installed(first: First) -> None:
    directory = first.site.prefix / "dropbear" / "bin"
    lines = alone(HERE / "login", directory / "dropbearmulti", directory / "ssh")
    assert lines == [f"root PATH={os.environ['PATH']}:/from/the/daemon", "status 7"]


@pytest.fixture(scope="session")
def programs(first: First) -> tuple[Path, Path]:
    """Return Dropbear's program and ssh."""
    ((dropbear,), (ssh,)) = (first.site.artefacts(name) for name in ("dropbearmulti", "ssh"))
    return dropbear, ssh


@pytest.fixture(scope="session")
def other_version(archives: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the variables of a Dropbear that the role does not know: the known one under another version."""
    directory = tmp_path_factory.mktemp("other")
    with tarfile.open(archives["source_archive"]) as archive:
        archive.extractall(directory, filter="data")
    top = directory / f"dropbear-{VERSION}"
    options = top / "src" / "sysoptions.h"
    options.write_text(options.read_text().replace(VERSION, OTHER_VERSION))
    made = directory / f"dropbear-{OTHER_VERSION}.tar.bz2"
    with tarfile.open(made, "w:bz2", compresslevel=1) as archive:
        archive.add(top, f"dropbear-{OTHER_VERSION}")
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    return {"version": OTHER_VERSION, "sha256": digest, "source_archive": str(made)}


WITHOUT_CAPABILITIES = ("--bounding-set=-all", "--inh-caps=-all")
AS_ALICE = ("--reuid=1234", "--regid=4242")  # not the group of her passwd entry


@pytest.mark.parametrize(
    ("name", "privileges"),
    [("root", ()), ("root", WITHOUT_CAPABILITIES), ("toor", ()), ("alice", AS_ALICE)],
    ids=["root", "root without capabilities", "another name of root", "another group than in passwd"],
)
def test_a_session_has_the_groups_and_capabilities_of_the_daemon(
    programs: tuple[Path, Path], name: str, privileges: tuple[str, ...]
) -> None:
    groups = "0 4242" if privileges != AS_ALICE else "4242 555"
    options = [*privileges, f"--groups={groups.replace(' ', ',')}"]
    mine = run("setpriv", *options, "sed", "-n", "s/^CapEff:\t//p", "/proc/self/status").rstrip()
    session = f"{name}, groups {groups}, capabilities {mine}"
    assert alone(HERE / "account", *programs, name, *options) == [f"pipe: {session}", f"terminal: {session}"]


@pytest.mark.parametrize("privileges", [WITHOUT_CAPABILITIES, AS_ALICE], ids=["root without capabilities", "alice"])
def test_whoever_runs_an_installed_program_may_neither_read_nor_trace_it(
    first: First, privileges: tuple[str, ...]
) -> None:
    installed = first.site.prefix / "dropbear" / "bin" / "dropbearmulti"
    command = (HERE / "traced", installed, "--clear-groups", *privileges)
    assert alone(*command) == ["read it: no", "trace it: no"]
    assert alone(HERE / "traced", "--mode=0755", *command[1:]) == ["read it: yes", "trace it: yes"]


@pytest.mark.parametrize(("name", "privileges"), [("alice", ()), ("root", AS_ALICE)], ids=["root", "alice"])
def test_a_daemon_lets_in_nobody_but_its_own_user(
    programs: tuple[Path, Path], name: str, privileges: tuple[str, ...]
) -> None:
    assert alone(HERE / "account", *programs, name, "--groups=4242", *privileges) == ["status 255", "status 255"]


def test_sessions_end_with_their_output_and_status(programs: tuple[Path, Path]) -> None:
    assert alone(HERE / "sessions", *programs) == [
        "SIGTERM: 255",
        "SIGKILL: 255",
        "SIGSYS: 255",
        "SIGXCPU: 255",
        "terminal: out 0",
        "command of 131071 bytes: 7",
        "terminal without /proc: out 0",
    ]


@pytest.fixture(scope="session")
def unauthenticated(programs: tuple[Path, Path]) -> list[str]:
    """What the program `unauthenticated` prints."""
    return alone(HERE / "unauthenticated", programs[0])


def test_a_client_that_never_logs_in_has_the_server_hold_no_large_packet(unauthenticated: list[str]) -> None:
    seen = dict(line.partition(": ")[::2] for line in unauthenticated)
    assert int(seen["the longest packet"]) - int(seen["idle"]) <= 48  # kB: 35,000 bytes in whole pages
    assert int(seen["100 packets"]) - int(seen["exchanged"]) <= 8, "none is kept"
    assert int(seen["then the longest packet"]) - int(seen["exchanged"]) <= 48
    assert seen["a longer packet"] == "closed"
    assert "ended: Integrity error (bad packet size 35008)" in unauthenticated


def test_a_public_key_of_small_order_ends_the_connection(unauthenticated: list[str]) -> None:
    seen = dict(line.partition(": ")[::2] for line in unauthenticated)
    for exchange in ("x25519", "mlkem768x25519", "sntrup761x25519"):
        assert seen[exchange] == "answered"
    for order in (1, 2, 4):
        assert {seen[f"{exchange} of order {order}"] for exchange in ("x25519", "mlkem768x25519")} == {"closed"}
    assert "ended: Bad curve25519" in unauthenticated


@pytest.fixture(scope="session")
def door(programs: tuple[Path, Path]) -> dict[str, str]:
    """What the program `door` prints."""
    return dict(line.partition(": ")[::2] for line in alone(HERE / "door", *programs))


def test_by_the_door_the_user_logs_in_without_a_key(door: dict[str, str]) -> None:
    assert door["door"] == "root from UNKNOWN 65535 UNKNOWN 65535, 0"
    assert door["port"] == ", 255"
    assert door["port with a key"] == "in, 0"
    assert door["without a port"] == "in, 0"
    assert door["listening ports"] == "0"


def test_the_door_is_open_to_nobody_else(door: dict[str, str]) -> None:
    """Whatever the mode of its name allows; nor in a user namespace to whom that does not map."""
    assert door["another user is told"] == ""
    assert door["another name, by the door"] == ", 255"
    assert door["in a user namespace"] == "0, 0"
    assert door["whom that does not map is told"] == ""


def test_no_session_inherits_the_door(door: dict[str, str]) -> None:
    assert door["processes with the door"] == "1"
    assert door["sockets of a command"] == "0"


def test_a_door_that_is_none_is_left_out(door: dict[str, str]) -> None:
    assert door["no socket in its place"] == "in, 0"


class Sources(NamedTuple):
    """Dropbear's source, unpacked twice."""

    upstream: Path
    patched: Path


@pytest.fixture(scope="session")
def sources(archives: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Sources:
    release = f"dropbear-{VERSION}"
    made = Sources(tmp_path_factory.mktemp("upstream") / release, tmp_path_factory.mktemp("patched") / release)
    for directory in made:
        with tarfile.open(archives["source_archive"]) as archive:  # tar would need the program bzip2
            archive.extractall(directory.parent, filter="tar")
    for patch in sorted(PATCHES.glob("*.patch")):
        run("patch", "-d", made.patched, "-p1", "-i", patch)
    for file in OWN.iterdir():
        shutil.copy(file, made.patched / "src")
    return made


@pytest.mark.parametrize("limit", ["the role's", "largest", "larger"])
def test_more_connections_than_select_can_hold_do_not_build(sources: Sources, tmp_path: Path, limit: str) -> None:
    (tmp_path / "includes.h").write_text("#include <sys/select.h>\n")
    for header in ("dbutil.h", "session.h"):
        (tmp_path / header).touch()  # in place of those that need a configuration
    lines = (sources.patched / "src" / "sysoptions.h").read_text().splitlines()
    lines += (ROOT / "roles/dropbear/files/localoptions.h").read_text().splitlines()
    names = r"#define (DROPBEAR_MAX_PORTS|MAX_LISTEN_ADDR|MAX_UNAUTH_CLIENTS) "
    options = dict(re.match(r"#define (\w+) ([^/]*)", line).groups() for line in lines if re.match(names, line))
    assert set(options) == {"DROPBEAR_MAX_PORTS", "MAX_LISTEN_ADDR", "MAX_UNAUTH_CLIENTS"}
    if limit != "the role's":
        options["MAX_UNAUTH_CLIENTS"] = str(1024 - 30 - 17 + (limit == "larger"))
    defines = [f"-D{name}={value}" for name, value in options.items()]
    command = ["musl-gcc", "-E", *defines, "-I", str(tmp_path), str(OWN / "svr-preauth.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == (limit == "larger")
    assert ("MAX_UNAUTH_CLIENTS is too large" in done.stderr) == (limit == "larger"), done.stderr


def build_alone(directory: Path, name: str, *headers: str) -> Path:
    """Build a program that includes files of ours without Dropbear, whose headers are empty for it."""
    for header in headers:
        (directory / header).touch()
    program = directory / Path(name).stem
    options = ROOT / "roles/dropbear/files"  # localoptions.h
    run("musl-gcc", "-static", "-O2", "-I", directory, "-I", options, "-I", OWN, "-o", program, HERE / name)
    return program


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the program that runs the listener's rules for floods."""
    directory = tmp_path_factory.mktemp("listener")
    return build_alone(directory, "preauth.c", "includes.h", "dbutil.h", "session.h")


def flooded(listener: Path, *arguments: object) -> str:
    """Return how many milliseconds the slowest login took, or "dropped"."""
    return subprocess.run([listener, *map(str, arguments)], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("flood", "user", "end"),
    [
        ("10.0.0.1", "10.0.0.2", "served"),
        ("fd00:0:0:1::1", "fd00:0:0:2::1", "served"),
        ("fd00:0:0:1::1", "fd00:0:0:1::2", "served"),  # as two nodes of a cluster
        ("fd00:0:0:1::1", "fd00:0:0:1::1", "dropped"),
        ("10.0.0.1", "door", "served"),  # and does not wait behind the flood
        ("10.0.0.1", "stranger", "dropped"),
        ("door", "10.0.0.1", "served"),
        ("door", "door", "dropped"),
    ],
)
def test_who_gives_way_to_a_flood(listener: Path, flood: str, user: str, end: str) -> None:
    """By addresses, and in a network of IPv6 by the computers in it. Those who come by the door are one address."""
    answer = flooded(listener, "waits", 8, 1000, 1, user, flood)
    assert ("dropped" if answer == "dropped" else "served") == end


@pytest.mark.parametrize(
    ("kind", "processes", "addresses", "each"),
    [
        ("silent", 768, 8, 160),  # the kernel's queue is short
        ("silent", 768, 8, 200),
        ("waits", 768, 8, 200),
        ("waits", 768, 64, 25),
        ("waits", 24, 8, 200),  # a pids limit of 64
        ("waits", 24, 64, 25),
        ("steps", 24, 64, 25),
        ("steps", 24, 1, 100),  # few wait in the kernel's queue
        ("waits", 24, 120, 1),  # more addresses than places
        ("waits", 16, 64, 1),
        ("waits", 16, 64, 25),
    ],
)
def test_a_login_during_a_flood(listener: Path, kind: str, processes: int, addresses: int, each: int) -> None:
    """From another address. The clock is the test's own, and a login alone takes 0.3 s of it."""
    floods = [f"10.0.1.{number + 1}" for number in range(addresses)]
    assert int(flooded(listener, kind, processes, each, 1, "10.0.0.1", *floods)) <= 3000


@pytest.mark.parametrize(("processes", "logins"), [(768, 256), (24, 100), (9, 96)])
def test_all_logins_at_once_succeed(listener: Path, processes: int, logins: int) -> None:
    """From one address. A hundred are more than there are places with 24 processes: a short queue waits a second."""
    assert int(flooded(listener, "waits", processes, 0, logins, "10.0.0.1")) <= 4000


@pytest.mark.parametrize("kind", ["waits", "steps"])
def test_computers_of_one_network_are_nothing_to_another(listener: Path, kind: str) -> None:
    """Logins of one computer take as long, whether a flood in another network comes from one computer or from 40."""
    computers = [f"fd00:0:0:1::{number:x}" for number in range(1, 41)]
    one = flooded(listener, kind, 8, 40, 30, "fd00:0:0:2::1", computers[0])
    assert flooded(listener, kind, 8, 1, 30, "fd00:0:0:2::1", *computers) == one != "dropped"


@pytest.mark.parametrize("processes", [1, 24, 768])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_connection_is_lost_or_counted_twice(listener: Path, seed: int, processes: int) -> None:
    """Whatever clients and processes do, and when: the program compares all counts with the connections, and aborts."""
    floods = ["door", *(f"10.0.1.{number + 1}" for number in range(8)), "fd00:0:0:1::1", "fd00:0:0:1::2"]
    assert flooded(listener, seed, processes, 100, 0, "10.0.0.1", *floods) == "0"


def log_lines(directory: Path, *arguments: str) -> list[str]:
    """What logins.c prints."""
    program = build_alone(directory, "logins.c", "includes.h", "dbutil.h", "session.h", "dbrandom.h", "chansession.h")
    done = subprocess.run([program, *arguments], cwd=directory, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


LOG_LINE = "<86>Sep  9 02:46:40 ssh_hook: "
REFUSED = '[ssh_hook user="alice" event="refused" refused="{0}" dropped="{1}"] '
REFUSED += "refused logins: {0}, connections that ended before a login: {1}, user alice, job 7"
OF_SESSION = 'session="abababab" kind="{0}" from="10.0.0.1%?:4000" key="SHA256:abc"'
BEGINS = f'[ssh_hook user="alice" event="begins" {OF_SESSION}{{2}}] '
BEGINS += "session abababab begins: {0} from 10.0.0.1%?:4000, key SHA256:abc, user alice, job 7{1}"
ENDS = f'[ssh_hook user="alice" event="ends" {OF_SESSION} {{2}}] '
ENDS += "session abababab ends: {0} from 10.0.0.1%?:4000, key SHA256:abc, {1}, user alice, job 7"
BY_DOOR = '[ssh_hook user="alice" event="begins" session="abababab" kind="shell" from="the door"] '
BY_DOOR += "session abababab begins: shell from the door, no key, user alice, job 7"
LOST = (" (earlier lines lost: {})", ' lost="{}"')


def lost(count: int) -> list[str]:
    return [text.format(count) for text in LOST]


def test_lines_about_logins(tmp_path: Path) -> None:
    """Of refused ones once a minute, of sessions, and of lines that were lost."""
    assert [line.removeprefix(LOG_LINE) for line in log_lines(tmp_path, "syslog")] == [
        "== timeout: none",
        "== refused at once",
        REFUSED.format(1, 1),
        "== timeout: 60",
        "== nothing within a minute",
        "== then both",
        REFUSED.format(0, 2),
        "== sessions",
        BEGINS.format("command", "", r' command="echo \"x\]\\\" ??"'),
        ENDS.format("command", "status 3 after 1.234 s", 'seconds="1.234" status="3"'),
        BEGINS.format("shell", "", ""),
        ENDS.format("shell", "signal 9 after 0.000 s", 'seconds="0.000" signal="9"'),
        BEGINS.format("sftp", "", ""),
        ENDS.format("sftp", "disconnected after 0.000 s", 'seconds="0.000"'),
        BEGINS.format("shell", "", ""),
        ENDS.format("shell", "not started", 'seconds="0.000" started="no"'),
        "== waited: a moment",
        "== then: nothing",
        "== after a loss",
        BEGINS.format("shell", *lost(11)),
        "== by the door",
        BY_DOOR,
        "== a new daemon",
        BEGINS.format("forward", *lost(1)),
        "== the end of its forwardings",
        ENDS.format("forward", "disconnected after 0.000 s", 'seconds="0.000"'),
    ]


def test_lines_about_logins_for_the_journal(tmp_path: Path) -> None:
    lines = log_lines(tmp_path, "journal")
    start = lines.index("== sessions") + 1
    assert lines[start : lines.index("", start)] == [
        "MESSAGE=session abababab begins: command from 10.0.0.1%?:4000, key SHA256:abc, user alice, job 7",
        "PRIORITY=6",
        "SYSLOG_FACILITY=10",
        "SYSLOG_IDENTIFIER=ssh_hook",
        "SSH_HOOK_USER=alice",
        "SSH_HOOK_EVENT=begins",
        "SSH_HOOK_SESSION=abababab",
        "SSH_HOOK_KIND=command",
        "SSH_HOOK_FROM=10.0.0.1%?:4000",
        "SSH_HOOK_KEY=SHA256:abc",
        r'SSH_HOOK_COMMAND=echo "x]\" ??',
    ]


@pytest.mark.parametrize("why", ["without a directory", "a link"])
def test_a_new_daemon_of_the_log_is_reached_by_its_directory_alone(tmp_path: Path, why: str) -> None:
    """Not by a link there, which would lead on in the container."""
    lines = log_lines(tmp_path, "syslog", why)
    assert lines[-2:] == ["== a new daemon", "== the end of its forwardings"]


def test_a_server_that_can_have_no_file_for_the_lines_serves(tmp_path: Path) -> None:
    """And is not killed by SIGXFSZ."""
    assert log_lines(tmp_path, "syslog", "small files") == ["== warning", "== listener: 0", "== 0"]


def test_a_flood_of_sessions_leaves_few_lines(tmp_path: Path) -> None:
    """But the first session of each connection leaves its own."""
    assert log_lines(tmp_path, "syslog", "a flood")[-5:] == [
        "== 1000 and 200",
        "== forwards: 202",
        "== 1",
        "== 0",
        "== 1",
    ]


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("at the gate", ["Terminated"]),
        ("killed", ["Killed"]),
        ("deaf", ["descriptors: 0", "Terminated"]),
        ("old", ["descriptors: 0", "Terminated"]),
    ],
)
def test_the_process_that_stands_for_the_server_ends_with_it(tmp_path: Path, when: str, said: list[str]) -> None:
    """And as it, also where it has other children, as under enroot, where one watches for its end."""
    lines = log_lines(tmp_path, "syslog", "stands for it", when)
    assert lines == [*(f"== {line}" for line in said), "== 0"]


def test_a_connection_that_cannot_log_ends(tmp_path: Path) -> None:
    """Another process of its user can have lowered its limit of memory meanwhile."""
    assert log_lines(tmp_path, "syslog", "no memory")[-1] == "== ended"


def test_a_login_leaves_lines_that_no_session_can_prevent(programs: tuple[Path, Path]) -> None:
    """Since nobody traces what sends them; the process that stands for the server has no part in it."""
    assert alone(HERE / "logins", *programs) == [
        "before the gate: no no",
        "daemon and server: yes no",
        'command: event="begins" kind="command" command="exit 3"',
        'command: event="ends" kind="command" status="3"',
        'shell: event="begins" kind="shell"',
        'shell: event="ends" kind="shell" status="4"',
        'sftp: event="begins" kind="sftp"',
        'sftp: event="ends" kind="sftp" status="127"',  # there is no sftp-server
        'killed: event="begins" kind="command" command="kill -TERM $$"',
        'killed: event="ends" kind="command" signal="15"',
        "inherited: 0",
        "with a session: yes no no",
        'disconnected: event="ends" kind="command"',
        'forward: event="begins" kind="forward"',
        'forward ends: event="ends" kind="forward"',
        'restarted: event="begins" kind="command" command="true" lost="2"',
        'restarted: event="ends" kind="command" status="0"',
        'event="refused" refused="1" dropped="0"',  # the first of two within a minute
        "ended with its daemon",
    ]


def test_each_curve_of_ecdsa_has_own_code(first: First) -> None:
    """OpenSSL's generic code takes a time that depends on secrets."""
    library = first.site.newest("openssl") / "lib" / "libcrypto.a"
    done = subprocess.run(["nm", "--defined-only", library], capture_output=True, text=True, check=True)
    methods = set(re.findall(r" T (?:ossl_ec|EC)_GFp_(\w+)_method$", done.stdout, re.MULTILINE))
    assert {"nistp384", "nistp521"} <= methods
    assert methods & {"nistz256", "nistp256"}


class Programs(NamedTuple):
    """The program `primitives`, linked with upstream's files and with those that call libsodium."""

    upstream: Path
    patched: Path


COMPUTE = ("CURVE25519_DEP", "ED25519", "SIGNKEY_VERIFY", "CHACHA20POLY1305", "AES", "ENABLE_GCM_MODE", "SHA512")
TOMCRYPT = (  # what upstream's own code for these needs of libtomcrypt
    *(f"stream/chacha/chacha_{part}.c" for part in ("crypt", "ivctr64", "keystream", "setup")),
    *(f"encauth/gcm/gcm_{part}.c" for part in ("add_aad", "add_iv", "done", "gf_mult", "init", "mult_h", "process")),
    *(
        f"misc/crypt/crypt_{part}.c"
        for part in ("cipher_is_valid", "cipher_descriptor", "find_cipher", "register_cipher")
    ),
    "encauth/gcm/gcm_reset.c",
    "ciphers/aes/aes.c",
    "hashes/sha2/sha512.c",
    "mac/poly1305/poly1305.c",
)


@pytest.fixture(scope="session")
def compiled(first: First, sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Programs:
    library = first.site.newest("libsodium") / "lib" / "libsodium.a"
    made = []
    for name, source in sources._asdict().items():
        place = tmp_path_factory.mktemp(name)
        files = [place / f"{part}.c" for part in ("curve25519", "chachapoly", "gcm")]
        headers_too = [file.with_suffix(".h") for file in files]
        files += [place / "sodium.c"] * (name == "patched")
        for file in (*files, *headers_too):
            shutil.copy(source / "src" / file.name, place)  # away from headers that need a configuration
        for header in ("includes", "algo", "dbutil", "dbrandom", "crypto_desc"):
            (place / f"{header}.h").symlink_to(HERE / "primitives.h")
        options = [*COMPUTE, *["LIBSODIUM"] * (name == "patched")]
        lines = [f"#define DROPBEAR_{option} 1\n" for option in options]
        (place / "options.h").write_text("#define DROPBEAR_OPTIONS_H\n" + "".join(lines))
        tomcrypt = source / "libtomcrypt" / "src"
        used = [tomcrypt / file for file in TOMCRYPT]
        headers = (place, tomcrypt / "headers", source / "src", library.parents[1] / "include")
        command = ["musl-gcc", "-static", "-O3", "-Wall", "-DARGTYPE=3", "-DLTC_SOURCE", f"-D{name.upper()}"]
        command += [f"-I{path}" for path in headers]
        libraries = [library] if name == "patched" else []
        run(*command, "-o", place / "primitives", HERE / "primitives.c", *files, *used, *libraries)
        made.append(place / "primitives")
    return Programs(*made)


@pytest.mark.parametrize(
    "cases", [primitives.exchanges, primitives.signatures, primitives.packets, primitives.gcm_packets]
)
def test_computations_are_the_standards_and_upstreams(
    compiled: Programs, cases: Callable[[], Iterator[primitives.Case]]
) -> None:
    requests, answers = map(list, zip(*cases()))
    for program in compiled:
        assert primitives.ask(program, requests) == answers


def test_points_of_small_order_give_zero_which_the_key_exchange_refuses(compiled: Programs) -> None:
    high_bit = [point[:62] + f"{int(point[62:], 16) | 128:02x}" for point in primitives.X25519_SMALL_ORDER]
    requests = [f"x25519 {'a5' * 32} {point}" for point in (*primitives.X25519_SMALL_ORDER, *high_bit)]
    for program in compiled:
        assert primitives.ask(program, requests) == [primitives.ZERO] * len(requests)


def test_signatures_by_keys_of_small_order_are_refused(compiled: Programs) -> None:
    points = primitives.ED25519_SMALL_ORDER
    requests = [f"verify {key} 6d {point}{primitives.ZERO}" for key in points for point in points]
    assert set(primitives.ask(compiled.patched, requests)) == {"refused"}
    assert "valid" in primitives.ask(compiled.upstream, requests)  # or these are not such keys


def test_a_patch_that_does_not_fit_ends_the_play_in_a_sentence(
    first: First, site: Site, archives: dict[str, str], tmp_path: Path
) -> None:
    site.take_builds(first.site, "libsodium", "openssh")
    environment = tool(tmp_path, "patch", 'echo "1 out of 1 hunk FAILED"; exit 1')
    play = site.play(variables=archives, environment=environment)
    assert play.status != 0
    assert f"01-own-user-only.patch does not fit dropbear-{VERSION} (1 out of 1 hunk FAILED): set a" in play.said
    assert site.artefacts() == []
    assert not site.prefix.exists()


def test_the_builds_that_other_tests_use_are_the_same(first: First, others: Site) -> None:
    """OpenSSL is theirs; `make architectures` builds it twice."""
    for path in (first.site.build_dir / "artefacts").glob(f"*-{os.uname().machine}-*/**/*"):
        if path.is_file():
            other = others.build_dir / path.relative_to(first.site.build_dir)
            assert other.read_bytes() == path.read_bytes()


def test_another_user_on_another_day_builds_the_same(first: First, site: Site, archives: dict[str, str]) -> None:
    """`make architectures` builds all so; here the libraries and OpenSSH, which take longest, are there."""
    site.take_builds(first.site, "libsodium", "openssl", "openssh")
    build_as_another(site, BUILD, archives)
    (program,) = site.artefacts()
    assert program.stat().st_uid == 65534
    assert_equal_builds(site, first.site)


def test_two_plays_at_once_build_once(first: First, site: Site, other_version: dict[str, str]) -> None:
    site.build_dir = first.site.build_dir
    prefixes = [str(site.directory / name) for name in ("prefix", "other-prefix")]
    processes = [site.start(site.command(variables={**other_version, "prefix": prefix})) for prefix in prefixes]
    plays = [succeeded(outcome(process)) for process in processes]
    builds = [re.findall(r"TASK \[[^\n]*Build what is missing\][^\n]*\n(\w+):", play.said) for play in plays]
    assert [["changed"], ["ok"]] in (builds, builds[::-1])
    first_link, other_link = (os.readlink(f"{prefix}/dropbear") for prefix in prefixes)
    assert first_link == other_link
    assert sorted(path.name for path in site.build_dir.iterdir()) == ["artefacts", "lock", "sources"]


@pytest.mark.parametrize("variable", ["source_archive", "openssl_source_archive"])
def test_a_local_archive_with_a_wrong_digest_is_refused(
    site: Site, archives: dict[str, str], tmp_path: Path, variable: str
) -> None:
    tampered = tamper(archives[variable], tmp_path)
    play = site.play(variables={**archives, variable: str(tampered)})
    assert play.status != 0
    wrong, pinned = digests(tampered)
    assert f"{tampered} has sha256 {wrong}, but the digest in the role dropbear is {pinned}: refused." in play.said
    assert f"build/sources/{tampered.name}" not in site.files()
    assert site.artefacts() + site.artefacts("sftp-server") == []


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The URL of an empty directory, `tmp_path`/served."""
    directory = tmp_path / "served"
    directory.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("variable", ["source_archive", "libsodium_source_archive"])
def test_a_download_with_a_wrong_digest_is_refused(
    site: Site, archives: dict[str, str], tmp_path: Path, served: str, variable: str
) -> None:
    tampered = tamper(archives[variable], tmp_path / "served")
    url = f"{served}/{tampered.name}"
    urls = {f"dropbear_{variable.replace('archive', 'urls')}": ["http://host.invalid/x", url]}
    play = site.play("-e", json.dumps(urls), variables={**archives, variable: ""})
    assert play.status != 0
    wrong, pinned = digests(tampered)
    assert f"{url} provides a file with sha256 {wrong}, and not with {pinned}: refused): set dropbear_" in play.said
    assert f"set dropbear_{variable} to a copy of it on the controller" in play.said
    assert f"build/sources/{tampered.name}" not in site.files()
    assert site.artefacts() + site.artefacts("sftp-server") == []


@pytest.mark.parametrize("local", [True, False], ids=["local", "download"])
def test_a_wrong_digest_of_the_roles_own_version_is_named(
    site: Site, archives: dict[str, str], tmp_path: Path, served: str, local: bool
) -> None:
    """The site's variable is what differs, not the archive."""
    archive, wrong = Path(archives["source_archive"]), "0" * 64
    right, _pinned = digests(archive)
    (tmp_path / "served" / archive.name).symlink_to(archive)
    urls = {"dropbear_source_urls": [f"{served}/{archive.name}"]}
    source = str(archive) if local else ""
    play = site.play("-e", json.dumps(urls), variables={**archives, "source_archive": source, "sha256": wrong})
    assert play.status != 0
    if local:
        assert f"{archive} has sha256 {right}, but dropbear_sha256 is {wrong}: refused." in play.said
    else:
        assert (
            f"{archive.name} could not be downloaded ({served}/{archive.name} provides a file with sha256 {right}, and "
            f"not with {wrong}: refused): compare dropbear_sha256 with the digest that the publisher announces, set "
            "dropbear_source_archive"
        ) in play.said


def tool(directory: Path, name: str, text: str) -> dict[str, str]:
    """Return an environment in which a tool is this shell text; the real one is in $real."""
    program = directory / name
    program.write_text(f"#!/bin/bash\nreal={shutil.which(name)}\n{text}\n")
    program.chmod(0o755)
    return {"PATH": f"{directory}:{os.environ['PATH']}"}


# At the first call of make: other flags for what is compiled.
FLAGS = "sed -i 's/-fstack-protector-strong/{}/' Makefile lib*/Makefile"
LIBC = (
    'exec "$real" "$@" LDFLAGS="${LDFLAGS/-static-pie/-pie}"',
    r"dropbearmulti for \w+ needs the interpreter /lib/ld-musl-\w+\.so\.1; needs libc\.so: refused",
)
CANARIES = (
    f'{FLAGS.format("-fno-stack-protector")}; exec "$real" "$@"',
    r"dropbearmulti for \w+ has stack canaries \(-fstack-protector-strong\) in 0 of its \d+ functions: refused",
)


@pytest.mark.parametrize(("make", "sentence"), [LIBC, CANARIES], ids=["libc", "canaries"])
def test_a_program_that_is_made_otherwise_is_refused(
    first: First, site: Site, archives: dict[str, str], tmp_path: Path, make: str, sentence: str
) -> None:
    site.take_builds(first.site, "libsodium", "openssh")
    play = site.play(variables=archives, environment=tool(tmp_path, "make", make))
    assert play.status != 0
    assert re.search(sentence, play.said)
    assert site.artefacts() == []
    assert not site.prefix.exists()


# musl-gcc without the option for static programs, as where its specs do not have it: gcc itself takes no notice then.
WITHOUT_STATIC_PIE = 'for word; do shift; [ "$word" = -static-pie ] || set -- "$@" "$word"; done\n'
WITHOUT_STATIC = WITHOUT_STATIC_PIE.replace("= -static-pie", "= -static-pie -o x${word#-Wl,-static} != x$word")


def test_a_compiler_that_links_no_static_program_is_refused_before_downloads(site: Site, tmp_path: Path) -> None:
    play = site.play(environment=tool(tmp_path, "musl-gcc", f'{WITHOUT_STATIC}exec "$real" "$@"'))
    assert play.status != 0
    assert re.search(
        r"musl-gcc makes a program that needs the interpreter /lib/ld-musl-\w+\.so\.1; needs libc\.so: "
        "install gcc and musl-tools of one release, Debian 12 or newer",
        play.words,
    )
    assert not (site.build_dir / "sources").exists()


def test_a_program_that_is_linked_without_static_pie_runs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with the musl-gcc of Debian 12, which does not have the option."""
    source, program = tmp_path / "source.c", tmp_path / "program"
    source.write_text(
        "#include <stdio.h>\n"
        "static int calls; static _Thread_local int own = 2;\n"
        "__attribute__((constructor)) static void before(void) { calls++; }\n"
        "int (*moved[])(const char *) = {puts};\n"
        'int main(void) { return moved[0](calls == 1 && own == 2 ? "all" : "not all") < 0; }\n'
    )
    for name, value in tool(tmp_path, "musl-gcc", f'{WITHOUT_STATIC_PIE}exec "$real" "$@"').items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(ROOT / "plugins"))
    compilers = importlib.import_module("module_utils._build.compilers")
    flags = compilers.settings("musl-gcc", os.uname().machine)
    assert "-static-pie" not in flags["LDFLAGS"]
    run("musl-gcc", *flags["CFLAGS"].split(), *flags["LDFLAGS"].split(), source, "-o", program)
    assert run("unshare", "--root", tmp_path, "/program") == "all\n"


def built_otherwise(
    first: First, site: Site, archives: dict[str, str], directory: Path, make: str
) -> tuple[Path, Path]:
    """Return Dropbear's program, as made by this text in place of make, and ssh."""
    site.take_builds(first.site, "libsodium", "openssh")
    succeeded(site.play(playbook=BUILD, variables=archives, environment=tool(directory, "make", make)))
    ((dropbear,), (ssh,)) = (site.artefacts(name) for name in ("dropbearmulti", "ssh"))
    return dropbear, ssh


def log_in_with_each_key(dropbear: Path, ssh: Path) -> None:
    for host, login in (("ecdsa", "ed25519"), ("ed25519", "ecdsa")):
        lines = alone("env", f"HOST_KEY={host}", f"LOGIN_KEY={login}", HERE / "login", dropbear, ssh)
        assert lines == [f"root PATH={os.environ['PATH']}:/from/the/daemon", "status 7"]


def test_without_libsodium_upstreams_own_code_serves(
    first: First, site: Site, archives: dict[str, str], tmp_path: Path
) -> None:
    make = f'{FLAGS.format("& -DDROPBEAR_LIBSODIUM=0")}; exec "$real" "$@"'
    programs = built_otherwise(first, site, archives, tmp_path, make)
    assert b"libsodium cannot be initialised" not in programs[0].read_bytes()
    log_in_with_each_key(*programs)


class Checked(NamedTuple):
    """Dropbear with a wrapper of each function of libsodium, as initialised.c says, and ssh.

    Attributes:
        defined: the wrappers.
        called: what sodium.c calls of libsodium.
    """

    dropbear: Path
    ssh: Path
    defined: set[str]
    called: set[str]


@pytest.fixture(scope="session")
def checked(
    first: First, settings: Path, archives: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Checked:
    tmp_path = tmp_path_factory.mktemp("checked")
    site = Site(tmp_path_factory.mktemp("site"), settings)
    library = first.site.newest("libsodium") / "lib" / "libsodium.a"
    source, wrapper = HERE / "initialised.c", tmp_path / "initialised.o"
    run("musl-gcc", "-O2", "-fPIC", "-Wall", f"-I{library.parents[1]}/include", "-c", source, "-o", wrapper)
    defined = set(re.findall(r" T __wrap_(\w+)$", run("nm", wrapper), re.MULTILINE))
    flags = " ".join(f"-Wl,--wrap={name}" for name in sorted(defined))
    needed = tmp_path / "needed"
    make = f'"$real" "$@" LDFLAGS="$LDFLAGS {flags} {wrapper}"; status=$?; nm -u obj/sodium.o >{needed}; exit $status'
    dropbear, ssh = built_otherwise(first, site, archives, tmp_path, make)
    called = set(re.findall(r" U ((?:crypto|sodium)_\w+)$", needed.read_text(), re.MULTILINE))
    return Checked(dropbear, ssh, defined, called)


def test_libsodium_is_initialised_before_it_is_used(checked: Checked, tmp_path: Path) -> None:
    """In each process of the daemon, and in dropbearkey; the calls are checked while they are made."""
    assert checked.called == checked.defined  # or the program calls what is not checked
    log_in_with_each_key(checked.dropbear, checked.ssh)
    key = ("env", "FORGET=1", checked.dropbear, "dropbearkey", "-t", "ed25519", "-f", tmp_path / "key")
    done = subprocess.run(key, capture_output=True, text=True, check=False)
    assert done.returncode == 99
    assert done.stderr.splitlines()[-1] == "crypto_sign_ed25519_seed_keypair before sodium_init"


@pytest.mark.parametrize("processor", ["this one", "without AES"])
def test_aes_gcm_is_offered_where_the_processor_has_instructions_for_it(checked: Checked, processor: str) -> None:
    ciphers = ["chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com", "aes256-ctr", "aes128-ctr"]
    environment = ["env", "NO_AES=1"] if processor == "without AES" else []
    accepted = alone(*environment, HERE / "ciphers", checked.dropbear, checked.ssh, *ciphers, "aes128-gcm@openssh.com")
    if environment or not HAS_AES:
        ciphers.remove("aes256-gcm@openssh.com")
    assert accepted == ciphers


def test_a_failed_build_shows_what_the_compiler_said(
    first: First, site: Site, archives: dict[str, str], tmp_path: Path
) -> None:
    site.take_builds(first.site, "libsodium")
    # OpenSSL's configure is a program for perl.
    environment = tool(
        tmp_path, "perl", 'case "$*" in *Configure*) echo "Configure: error: no" >&2; exit 1;; esac; exec "$real" "$@"'
    )
    play = site.play(variables=archives, environment=environment)
    assert play.status != 0
    log = site.build_dir / f"build-openssl-3.5.7-{os.uname().machine}.log"
    assert f"'./Configure' failed with status 1; the last lines of {log}:" in play.said
    assert "Configure: error: no" in play.said
    assert sorted(path.name for path in site.build_dir.iterdir()) == ["artefacts", log.name, "lock", "sources"]
    assert site.artefacts("ssh") == []
    assert len(site.artefacts()) == 1  # which is not made again
    assert not site.prefix.exists()


def test_a_new_version_replaces_the_old_at_once_and_sessions_stay(
    first: First, site: Site, other_version: dict[str, str]
) -> None:
    site.build_dir = first.site.build_dir
    succeeded(site.play())
    before = os.readlink(site.prefix / "dropbear")
    succeeded(site.play(playbook=BUILD, variables=other_version))
    command = site.command(variables=other_version)
    environment = [f"{name}={value}" for name, value in site.environment(NOTHING).items()]
    seen = alone(HERE / "replace", site.prefix, "env", *environment, *command)
    after = os.readlink(site.prefix / "dropbear")
    assert after.startswith(f"dropbear-{OTHER_VERSION}-")
    assert seen == [
        "before: yes",
        "after: yes",
        "session: 0",
        "old daemon: answers",
        f"banner: SSH-2.0-dropbear_{VERSION} OpenSSH: 10 3",
        f"watched: Dropbear v{VERSION}",
        f"watched: Dropbear v{OTHER_VERSION}",
        "left: dropbear",
        "left: dropbear-0",  # somebody else's
        "left: dropbear-0-00000000000b",  # of a process that runs
        f"left: {before}",
        f"left: {after}",
    ]


def test_a_remote_build_host_gives_its_builds_by_way_of_the_controller(first: First, site: Site) -> None:
    site.build_dir = first.site.build_dir
    home = site.directory / "home"
    for arguments in ([], ["--check"]):
        play = site.play(
            *arguments, variables={"build_host": "builder"}, hosts="node,builder", environment={"HOME": str(home)}
        )
        succeeded(play)
    assert play.changed == 0
    assert "-> builder" in play.said
    for name in PROGRAMS:
        installed = site.prefix / "dropbear" / "bin" / name
        assert installed.read_bytes() == first.site.artefacts(name)[0].read_bytes()
    assert (site.prefix / "dropbear" / SBOM).read_bytes() == (first.site.prefix / "dropbear" / SBOM).read_bytes()


def test_a_site_without_a_compiler_installs_programs_from_an_archive(first: First, site: Site, tmp_path: Path) -> None:
    archive = tmp_path / "programs.tar.gz"
    made = succeeded(first.site.play(playbook=ARCHIVE, variables={"programs_archive_dest": str(archive)}))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert f"dropbear_programs_sha256: {digest}" in made.said
    again = succeeded(first.site.play(playbook=ARCHIVE, variables={"programs_archive_dest": str(archive)}))
    assert again.changed == 0

    tools = {name: tool(tmp_path, name, "exit 1")["PATH"] for name in ("gcc", "musl-gcc", "make", "patch")}
    environment = {"HOME": str(tmp_path / "home"), "PATH": tools["patch"]}
    variables = {"programs_archive": str(archive), "programs_sha256": digest}
    succeeded(site.play(variables=variables, environment=environment))
    assert os.readlink(site.prefix / "dropbear") == os.readlink(first.site.prefix / "dropbear")
    assert not site.build_dir.exists()
    assert succeeded(site.play("--check", variables=variables, environment=environment)).changed == 0

    wrong = {**variables, "programs_sha256": "0" * 64}
    play = site.play(variables=wrong, environment=environment)
    assert play.status != 0
    assert f"{archive} has sha256 {digest}, but dropbear_programs_sha256 is {'0' * 64}: refused" in play.said


VERIFY = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {"name": "Verify", "ansible.builtin.import_role": {"name": "ocihooks.ssh.dropbear", "tasks_from": "verify"}}
        ],
    }
]


def test_an_installed_program_that_is_none_is_named(first: First, site: Site) -> None:
    site.build_dir = first.site.build_dir
    succeeded(site.play())
    assert succeeded(site.play(playbook=VERIFY)).changed == 0
    for program, sentence in (
        ("dropbear", f"dropbear should be {VERSION}, but reports the version 'something else'."),
        ("ssh", "ssh should be 10.3p1, but reports the version 'something else'."),
        ("sftp-server", "sftp-server should report which requests it supports, but reports 'something else'."),
    ):
        path = site.prefix / "dropbear" / "bin" / program
        path.rename(site.directory / program)
        path.write_text("#!/bin/sh\necho something else\n")
        path.chmod(0o755)
        play = site.play(playbook=VERIFY)
        assert play.status != 0
        assert f"{path.parent}/{sentence}" in play.said
        (site.directory / program).rename(path)


def test_another_installations_directory_is_left_alone(first: First, site: Site) -> None:
    site.build_dir = first.site.build_dir
    (site.prefix / "dropbear" / "bin").mkdir(parents=True)
    play = site.play()
    assert play.status != 0
    assert f"{site.prefix}/dropbear is not a link made by this role: move away" in play.said
    assert site.files() == ["prefix", "prefix/dropbear", "prefix/dropbear/bin"]


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "version",
            "2020.81",
            "dropbear_version 2020.81 is not known to this role, which has the digest of 2026.94: set dropbear_sha256",
        ),
        ("openssl_version", "3.5.8", "set dropbear_openssl_sha256 to the SHA-256 of openssl-3.5.8.tar.gz"),
        (
            "programs_archive",
            "/no/such/file",
            "dropbear_programs_archive is /no/such/file: set dropbear_programs_sha256",
        ),
        ("prefix", "opt", "dropbear_prefix is 'opt': set an absolute path without spaces."),
        ("build_dir", "a b", "dropbear_build_dir is 'a b': set an absolute path without spaces, or leave it empty."),
        ("source_archive", "/no/such/file", "dropbear_source_archive /no/such/file is not a file on the controller"),
        (
            "openssh_source_archive",
            "x",
            "dropbear_openssh_source_archive is 'x': set an absolute path without spaces, or",
        ),
    ],
    ids=[
        "version",
        "openssl_version",
        "programs_archive",
        "prefix",
        "build_dir",
        "source_archive",
        "openssh_source_archive",
    ],
)
def test_a_bad_value_is_refused_in_a_sentence(site: Site, name: str, value: str, sentence: str) -> None:
    play = site.play(variables={name: value})
    assert play.status != 0
    assert sentence in play.said
    assert play.changed == 0
    assert site.files() == []


def test_one_play_has_one_version(site: Site) -> None:
    version = "{{ '2025.89' if inventory_hostname == 'other' else '2026.94' }}"
    play = site.play(variables={"version": version, "sha256": "0" * 64}, hosts="node,other")
    assert play.status != 0
    assert "dropbear_version is 2026.94 on some hosts of this play, and 2025.89 on others: use one play" in play.said
    assert site.files() == []
