"""One node's life with the hook, in the order of this file: nothing, deployed, harmed, repaired, upgraded, removed."""

from __future__ import annotations

import json
import math
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hook_log import Syslog
from node import CDI_SPEC, HOOK_JSON, LAUNCHER, PASSWD, PORT, PREFIX, ROOT, listing, package, play
from patience import within

MARK = "# Written by the role ocihooks.ssh.ssh_hook: changes here do not last.\n"
COMPLETIONS = PREFIX / "share/bash-completion/completions"
ASKED = 2  # tasks that a second run asks a node, as docs/scaling.md says; the goal is twelve at most
WITHOUT_ENGINES = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    'for e in podman crun runc; do mount --bind /dev/null "$(command -v $e)"; done; exec "$@"',
    "-",
)
WITHOUT_PACKAGES = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    'mount -t tmpfs -o mode=755 none /usr/lib/python3/dist-packages/pyroute2; exec "$@"',
    "-",
)
WITHOUT_LIBSECCOMP = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    'for l in $(ldconfig -p | sed -n "s/.*libseccomp.* => //p"); do mount --bind /etc/passwd "$l"; done; exec "$@"',
    "-",
)
WITH_SUID_DUMPABLE = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    'mount -t tmpfs none /mnt; echo 1 >/mnt/1; mount --bind /mnt/1 /proc/sys/fs/suid_dumpable; exec "$@"',
    "-",
)
WITH_DOCKER = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    f'mount --bind {ROOT}/.cache/docker/usr/sbin /usr/local/sbin; exec "$@"',
    "-",
)
AS_OLD_KERNEL = ("setarch", "--uname-2.6")
HOST_KEY = Path("/run/role-test-host-key")


@pytest.fixture(scope="module")
def untouched() -> dict[str, str]:
    """What is on the node before anything was deployed."""
    return listing()


@contextmanager
def listener(address: str, family: socket.AddressFamily) -> Iterator[None]:
    """Something else that listens on the port."""
    with socket.socket(family, socket.SOCK_STREAM) as taken:
        taken.bind((address, PORT))
        taken.listen()
        yield


@contextmanager
def daemon(user: int = 0) -> Iterator[int]:
    """Dropbear as a container runs it: the file from the node, at another path."""
    key = HOST_KEY
    subprocess.run([PREFIX / "dropbear/bin/dropbearkey", "-t", "ecdsa", "-f", key], check=True, capture_output=True)
    os.chown(key, user, -1)
    elsewhere = Path("/run/role-test-dropbear")
    elsewhere.touch()
    subprocess.run(["mount", "--bind", PREFIX / "dropbear/bin/dropbearmulti", elsewhere], check=True)
    process = subprocess.Popen(["dropbear", "-F", "-E", "-r", key, "-p", str(PORT)], executable=elsewhere, user=user)
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        subprocess.run(["umount", elsewhere], check=True)
        elsewhere.unlink()
        key.unlink()


@contextmanager
def system_log() -> Iterator[Syslog]:
    """The bed's system log."""
    log = Syslog()
    try:
        yield log
    finally:
        log.stop()
        Path("/dev/log").unlink()


@contextmanager
def entry_of(pid: int) -> Iterator[None]:
    """An entry such as the start of a container of root's writes."""
    program, process = Path(f"/proc/{pid}/exe").stat(), Path(f"/proc/{pid}")
    start_time = process.joinpath("stat").read_text(encoding="ascii").rpartition(")")[2].split()[19]
    values = {
        "pid": pid,
        "start_time": start_time,
        "program_device": program.st_dev,
        "program_inode": program.st_ino,
        "uid": 0,
        "gid": 0,
        "init_pid": pid,
        "init_start_time": start_time,
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
        "pidfile_host": "",
        "bundle": "/run/bundle",
        "copy": "",
        "ports": PORT,
        "network": process.joinpath("ns/net").stat().st_ino,
        "owner": 0,
    }
    entry = Path("/var/lib/ocihooks-ssh/daemons/audited")
    entry.parent.mkdir(mode=0o700, parents=True)
    entry.write_text("\n".join(["ssh_hook 1", *(f"{name}={value}" for name, value in values.items()), ""]), "ascii")
    entry.chmod(0o600)
    try:
        yield
    finally:
        shutil.rmtree(entry.parent.parent)


BAD_VALUES: dict[str, dict[str, object]] = {
    "ssh_hook_prefix is 'opt/oci-hooks': it must be an absolute path": {"ssh_hook_prefix": "opt/oci-hooks"},
    "ssh_hook_base_dir is '/users/../home': it must be an absolute path": {"ssh_hook_base_dir": "/users/../home"},
    "ssh_hook_dropbear_dir is '/opt/drop bear': it must be an absolute path": {
        "ssh_hook_dropbear_dir": "/opt/drop bear"
    },
    "ssh_hook_hooks_dirs is '/etc/hooks/': it must be an absolute path": {
        "ssh_hook_hooks_dirs": ["/etc/ok", "/etc/hooks/"]
    },
    "ssh_hook_python_packages_dir is 'lib': it must be an absolute path": {"ssh_hook_python_packages_dir": "lib"},
    "ssh_hook_json_name is 'hook.conf': it must be a file name": {"ssh_hook_json_name": "hook.conf"},
    "ssh_hook_server_port is 70000, but a TCP port is a number from 1 to 65535: give": {"ssh_hook_server_port": 70000},
    "ssh_hook_stages is [poststop]: without createRuntime no daemon is ever started.": {
        "ssh_hook_stages": ["poststop"]
    },
    "ssh_hook_listen_addresses has 'ib0' and '10.0.0.0/8' and 'fe80::1%eth0': give": {
        "ssh_hook_listen_addresses": ["ib0", "10.0.0.0/8", "::1", "fe80::1%eth0"]
    },
    "ssh_hook_docker_cdi is true and ssh_hook_cdi is false, so Docker would find no device": {
        "ssh_hook_docker_cdi": True
    },
    "ssh_hook_passwd_refresh_minutes is 0: give 1 minute at least": {"ssh_hook_passwd_refresh_minutes": 0},
    "ssh_hook_passwd_file is '/etc/passwd', the node's own file": {"ssh_hook_passwd_file": "/etc/passwd"},
}


def test_bad_values_are_refused_each_by_its_sentence(untouched: dict[str, str]) -> None:
    every = {name: value for values in BAD_VALUES.values() for name, value in values.items()}
    refused = play("deploy", variables=every)
    assert refused.status != 0
    assert [sentence for sentence in BAD_VALUES if sentence not in refused.said] == []
    assert listing() == untouched


def test_another_name_of_dropbears_directory_is_refused(untouched: dict[str, str]) -> None:
    refused = play("deploy", variables={"ssh_hook_dropbear_dir": "/opt/oci-hooks/static-dropbear"})
    assert refused.status != 0
    assert "ssh_hook_dropbear_dir is '/opt/oci-hooks/static-dropbear': this playbook installs" in refused.said
    assert listing() == untouched


# Of nodes with one wrong set of variables each: what it is told.
WRONG: dict[str, tuple[dict[str, object], list[str]]] = {
    "no-directory": (
        {
            "ssh_hook_prefix": "/",
            "ssh_hook_hooks_dirs": [],
            "ssh_hook_python": "/opt/" + 100 * "x",
        },
        [
            "ssh_hook_prefix is '/': it must be an absolute path",
            "ssh_hook_hooks_dirs is empty, so no engine would find the hook",
            "ssh_hook_python has 105 characters",
        ],
    ),
    "no-choice": (
        {
            "ssh_hook_server_port_without_job": "15263abc",
            "ssh_hook_passwd_source": "ldap",
            "ssh_hook_key_type": "rsa",
            "ssh_hook_stages": ["createRuntime", "poststart"],
            "ssh_hook_join_namespaces": "maybe",
            "ssh_hook_require_seccomp": "perhaps",
            "ssh_hook_require_shell": "rarely",
            "ssh_hook_make_keys": "rarely",
            "ssh_hook_require_user_annotation": "sometimes",
            "ssh_hook_cdi": "often",
        },
        [
            "ssh_hook_server_port_without_job",
            "value of ssh_hook_passwd_source must be one of: getent, file",
            "value of ssh_hook_key_type must be one of: ed25519, ecdsa",
            "value of ssh_hook_stages must be one or more of: createRuntime, createContainer, poststop",
            "ssh_hook_join_namespaces",
            "ssh_hook_require_seccomp",
            "ssh_hook_require_shell",
            "ssh_hook_make_keys",
            "ssh_hook_require_user_annotation",
            "ssh_hook_cdi",
        ],
    ),
    "addresses": (
        {"ssh_hook_listen_addresses": ["::1", *(f"127.0.0.{number}" for number in range(1, 10)), "::1"]},
        ["127.0.0.9, ::1]: give each address once.", "has 11 addresses, but Dropbear listens on 10 at most."],
    ),
    "others": (
        {"ssh_hook_listen_addresses": ["127.0.0.1", "192.0.2.1", "2001:db8::1", "bad.cafe", "::1"]},
        ["192.0.2.1 and 2001:db8::1 and bad.cafe (ssh_hook_listen_addresses) cannot be used on others: name"],
    ),
    "low-port": (
        {"ssh_hook_server_port": 1023},
        [
            "Users of low-port may not listen on port 1023 (ssh_hook_server_port), since it is below 1024 "
            "(net.ipv4.ip_unp"
        ],
    ),
    "absent": (
        {"ssh_hook_python": "/opt/no-such-python"},
        ["There is no program /opt/no-such-python (ssh_hook_python) on absent"],
    ),
    "directory": (
        {"ssh_hook_python": "/usr/bin"},
        ["There is no program /usr/bin (ssh_hook_python) on directory"],
    ),
    "no-python": (
        {"ssh_hook_python": "/bin/true"},
        ["/bin/true (ssh_hook_python) on no-python is not Python, and the hook needs Python 3.9"],
    ),
    "old": (
        {"ssh_hook_python": "/run/python3.8"},
        ["/run/python3.8 (ssh_hook_python) on old is Python 3.8, and the hook needs Python 3.9 or newer: name"],
    ),
    "packages": (
        {
            "ssh_hook_python_packages_dir": "/opt",
            "ssh_hook_passwd_source": "file",
            "ssh_hook_passwd_file": "/etc/no-such-passwd",
        },
        [
            "/opt (ssh_hook_python_packages_dir) on packages does not contain cryptography, or not all users",
            "There is no file /etc/no-such-passwd (ssh_hook_passwd_file) on packages: put it there",
        ],
    ),
}


def test_preflight_says_what_is_wrong(untouched: dict[str, str], tmp_path: Path) -> None:
    old = Path("/run/python3.8")
    old.write_text("#!/bin/sh\necho Python 3.8\n", encoding="utf-8")
    old.chmod(0o755)
    hosts = tmp_path / "hosts.json"
    variables = {host: wrong for host, (wrong, _sentences) in WRONG.items()}
    hosts.write_text(json.dumps({"all": {"hosts": variables}}), encoding="utf-8")
    refused = play("preflight", inventory=str(hosts))
    old.unlink()
    said = dict(re.findall(r"^fatal: \[([a-z-]+)\]: FAILED! => (.*)$", refused.said, re.MULTILINE))
    assert said.keys() == WRONG.keys(), refused.said
    for host, (_wrong, sentences) in WRONG.items():
        assert [sentence for sentence in sentences if sentence not in said[host]] == [], said[host]
    assert "Traceback" not in refused.said
    assert listing() == untouched


def test_a_node_without_an_engine_is_refused() -> None:
    refused = play("preflight", before=WITHOUT_ENGINES)
    assert "There is no container engine on node: install podman, crun, runc or sarus first." in refused.said
    assert refused.status != 0


def taken_port() -> str:
    """What the preflight says of this process."""
    name = Path("/proc/self/comm").read_text(encoding="utf-8").strip()
    return f"Port {PORT} (ssh_hook_server_port) on node is in use by {name} (pid {os.getpid()}): choose a port"


def test_a_port_that_is_taken_in_ipv6_is_refused() -> None:
    with listener("::1", socket.AF_INET6):
        refused = play("preflight")
    assert taken_port() in refused.said
    assert refused.status != 0


NO_LIBSECCOMP = "/usr/bin/python3 (ssh_hook_python) on node cannot load libseccomp.so.2, which sessions need"


def test_all_that_is_wrong_with_a_node_is_said_at_once() -> None:
    """A port that is taken, a Python without libseccomp, and a kernel by which Dropbear could be traced."""
    with listener("127.0.0.1", socket.AF_INET):
        refused = play("preflight", before=(*WITHOUT_LIBSECCOMP, *WITH_SUID_DUMPABLE))
    assert taken_port() in refused.said
    assert NO_LIBSECCOMP in refused.said
    assert "On node fs.suid_dumpable is 1, so users can trace programs that they may not read" in refused.said
    assert "set it to 0 (sysctl fs.suid_dumpable=0), or to 2." in refused.said
    assert refused.status != 0


def test_other_ssh_hooks_are_refused_and_removal_leaves_them(untouched: dict[str, str]) -> None:
    others = [HOOK_JSON, HOOK_JSON.with_name("08-ssh-hook.json")]  # the first is where ours would be
    made = [directory for directory in list(HOOK_JSON.parents)[:2] if not directory.exists()]
    HOOK_JSON.parent.mkdir(parents=True, exist_ok=True)
    hook = {"path": "/opt/sarus/bin/ssh_hook", "args": ["ssh_hook", "start-ssh-daemon"]}
    when = {"annotations": {"^com.hooks.ssh.enabled$": "^true$"}}
    text = json.dumps({"version": "1.0.0", "hook": hook, "when": when, "stages": ["createRuntime"]})
    for other in others:
        other.write_text(text, encoding="utf-8")
    refused = play("preflight")
    removed = play("remove")
    for other in others:
        assert other.read_text(encoding="utf-8") == text
        other.unlink()
    for directory in made:
        directory.rmdir()
    assert f"On node {others[0]} and {others[1]} name another SSH hook for the same containers" in refused.said
    assert refused.status != 0
    assert removed.status == 0, removed.said
    assert listing() == untouched


def found(pattern: str, text: str) -> tuple[str, ...]:
    """The groups of a pattern that has to be there."""
    match = re.search(pattern, text, re.MULTILINE)
    assert match, text
    return match.groups()


def test_a_python_without_libseccomp_is_refused_only_where_it_matters() -> None:
    accepted = play("preflight", before=WITHOUT_LIBSECCOMP, variables={"ssh_hook_require_seccomp": False})
    assert (accepted.status, NO_LIBSECCOMP in accepted.said) == (0, False), accepted.said


def test_what_does_not_keep_a_node_from_it_is_told_and_only_where_it_matters() -> None:
    """An old kernel; and a directory that podman does not read, of which the advice is right."""
    unread = {"ssh_hook_hooks_dirs": ["/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d"]}
    told = play("preflight", before=AS_OLD_KERNEL, variables=unread)
    assert told.status == 0, told.said
    old = "rootless containers get an SSH daemon there only with ssh_hook_overlay_mount_home_ssh set to false."
    assert old in told.words
    assert "podman on node does not read /etc/containers/oci/hooks.d (ssh_hook_hooks_dirs)" in told.words
    drop_in, *lines = found(r"write to (\S+) the lines '(.*?)' and '(.*?)'\.", told.words)
    path = Path(drop_in)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    try:
        silent = play("preflight", before=AS_OLD_KERNEL, variables={**unread, "ssh_hook_overlay_mount_home_ssh": False})
    finally:
        path.unlink()
    assert silent.status == 0, silent.said
    assert [words for words in (old, "podman on node does not read") if words in silent.words] == []


def test_check_mode_before_the_first_run_changes_nothing(untouched: dict[str, str]) -> None:
    checked = play("deploy", "--check", "--diff")
    assert checked.status == 0, checked.said
    assert checked.changed > 0
    shown = re.findall(r"^(new: \S+|[-+].*|/.*accounts: [0-9]+ new) ", checked.said, re.MULTILINE)
    release = rf"{PREFIX}/dropbear-[0-9.]+-[0-9a-f]{{12}}"
    assert re.fullmatch(
        rf"new: {release}, new: {PREFIX}/lib/ssh_hook-[0-9a-f]{{12}}, new: {LAUNCHER}, "
        rf"{PASSWD}, accounts: [0-9]+ new, new: {HOOK_JSON}",
        ", ".join(shown),
    ), checked.said
    assert listing() == untouched


READ_ONLY = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    'mount --bind /usr /usr && mount -o remount,bind,ro /usr && exec "$@"',
    "-",
)


@pytest.mark.parametrize("playbook", ["preflight", "deploy"])
def test_a_preview_fails_where_the_run_would(untouched: dict[str, str], playbook: str) -> None:
    """As on a node of ostree: /usr is read-only, and what is below it the variables move."""
    refused = play(playbook, "--check", before=READ_ONLY)
    assert refused.status != 0
    assert f"Root cannot create files in {HOOK_JSON.parent} on node: make it writable, or name another" in refused.said
    assert "directory in ssh_hook_hooks_dirs." in refused.said
    accepted = play(playbook, "--check", before=READ_ONLY, variables={"ssh_hook_hooks_dirs": ["/etc/hooks.d"]})
    assert accepted.status == 0, accepted.said
    assert listing() == untouched


def test_check_mode_names_the_packages_that_are_missing(untouched: dict[str, str]) -> None:
    checked = play("converge", "--check", before=WITHOUT_PACKAGES)
    assert checked.status == 0, checked.said
    assert "To be installed: python3-cryptography, python3-pyroute2" in checked.said
    assert listing() == untouched


# Without repositories, and without the Python package that Ansible needs for apt.
OFFLINE = (
    "unshare",
    "--mount",
    "--net",
    "sh",
    "-c",
    "for d in /var/lib/apt /var/cache/apt /usr/lib/python3/dist-packages/pyroute2; do "
    "mount -t tmpfs -o mode=755 none $d; done; "
    'mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial; exec "$@"',
    "-",
)


def test_a_node_without_repositories_is_told_what_is_missing(untouched: dict[str, str]) -> None:
    refused = play("converge", before=OFFLINE)
    assert refused.status != 0
    assert (
        "The package manager of node cannot install python3-cryptography and python3-pyroute2 (ssh_hook_packages; the "
        "error above says why): let the node reach its repositories"
    ) in refused.words
    assert (listing(), LAUNCHER.exists()) == (untouched, False)


def test_deployment_installs_all_of_it_whatever_the_umask(untouched: dict[str, str]) -> None:
    old = os.umask(0o077)
    try:
        deployed = play("deploy")
    finally:
        os.umask(old)
    assert deployed.status == 0, deployed.said
    after = listing()
    assert {path: after[path] for path in untouched} == untouched
    new = {path: seen for path, seen in after.items() if path not in untouched}
    assert {path: seen for path, seen in new.items() if " 0:0 " not in seen} == {}
    modes = {
        path: seen.split()[0]
        for path, seen in new.items()
        if seen.split()[0] not in ("drwxr-xr-x", "-rw-r--r--", "lrwxrwxrwx")
    }
    assert {path for path, mode in modes.items() if mode != "-rwxr-xr-x"} == {
        str((PREFIX / "dropbear/bin/dropbearmulti").resolve())
    }
    assert {path for path in modes if "/dropbear" not in path} == {str(LAUNCHER)}


def test_the_json_says_what_the_variables_say() -> None:
    assert json.loads(HOOK_JSON.read_text(encoding="utf-8")) == {
        "version": "1.0.0",
        "hook": {
            "path": "/opt/oci-hooks/bin/ssh_hook",
            "args": ["ssh_hook", "start-ssh-daemon"],
            "env": [
                "DROPBEAR_DIR=/opt/oci-hooks/dropbear",
                "HOOK_BASE_DIR=/home",
                "JOIN_NAMESPACES=true",
                "LOG_COMMANDS=false",
                "MAKE_KEYS=true",
                "OVERLAY_MOUNT_HOME_SSH=true",
                "PASSWD_FILE=/opt/oci-hooks/etc/passwd",
                "REQUIRE_SECCOMP=true",
                "REQUIRE_SHELL=true",
                "REQUIRE_USER_ANNOTATION=false",
                "SERVER_PORT_DEFAULT=15263",
                "SSH_KEY_TYPE=ed25519",
            ],
        },
        "when": {
            "annotations": {
                r"^com\.hooks\.ssh\.enabled$": "^([^f]|f([^a]|$)|fa([^l]|$)|fal([^s]|$)|fals([^e]|$)|false.|$)"
            }
        },
        "stages": ["createRuntime", "poststop"],
    }


def test_the_json_names_the_nodes_own_addresses() -> None:
    variables = {
        "ssh_hook_listen_addresses": ["{{ ansible_facts.lo.ipv4.address }}", "::1"],
        "ssh_hook_require_seccomp": False,
        "ssh_hook_make_keys": False,
        "ssh_hook_require_user_annotation": True,
    }
    gather = str(ROOT / "molecule/default/facts.yml")
    for playbook in (["deploy", "--check", "--diff"], ["audit", "--diff"]):  # which indents them
        done = play(*playbook, gather, variables=variables)
        said = done.said
        assert re.search(r'^ *\+      "LISTEN_ADDRESSES=127.0.0.1,::1",$', said, re.MULTILINE), said
        assert '+      "REQUIRE_SECCOMP=false",' in said
        assert '+      "MAKE_KEYS=false",' in said
        assert '+      "REQUIRE_USER_ANNOTATION=true",' in said
    assert done.changed == 0, said
    differing = "; ".join(f"{path} differs from the configuration" for path in (LAUNCHER, HOOK_JSON))
    assert f"On node {differing}. Run the deployment." in said
    assert play("remove", "--check", gather, variables=variables).status == 0


def test_the_passwd_file_lists_every_account_without_passwords() -> None:
    mark, *lines = PASSWD.read_text(encoding="utf-8").splitlines(keepends=True)
    listed = [line.rstrip("\n").split(":") for line in lines]
    assert mark == MARK
    assert [(line[0], int(line[2]), int(line[3]), line[4], line[5], line[6]) for line in listed] == [
        (entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_gecos, entry.pw_dir, entry.pw_shell)
        for entry in pwd.getpwall()
    ]
    assert {line[1] for line in listed} == {"x"}


def test_an_ordinary_user_can_call_the_launcher() -> None:
    answer = subprocess.run(
        ["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups", LAUNCHER, "--help"],
        env={"PYTHONPATH": "/nonexistent", "PYTHONSTARTUP": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "keygen" in answer.stdout


@pytest.fixture
def daemons_home() -> Iterator[Path]:
    """A home of the user daemon, below the site's parent directory of homes."""
    home = Path("/home/daemon")
    home.mkdir()
    os.chown(home, 1, 1)
    yield home
    shutil.rmtree(home)


def as_daemon(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command as the user daemon."""
    return subprocess.run(
        ["setpriv", "--reuid=1", "--regid=1", "--clear-groups", *command],
        env={"LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_ordinary_user_waits_at_the_sites_port(daemons_home: Path) -> None:
    made = as_daemon(LAUNCHER, "keygen")
    assert made.stdout.startswith(f"created SSH keys for daemon in {daemons_home}/.oci-hooks/ssh/keys: "), made.stderr
    seconds = math.ceil(within(8))
    answer = as_daemon(LAUNCHER, "wait", "--timeout", str(seconds), "127.0.0.9")
    said = f"1 of 1 hosts do not answer on port {PORT} after {seconds} s: 127.0.0.9 (connection refused)"
    assert (answer.returncode, answer.stderr) == (1, f"ssh_hook: error: {said} [no-container]\n")


def imported(command: str | Path, *arguments: str, state: str = "") -> list[str]:
    """The loader, as Python prints it, of each of the hook's modules that this command imports one by one."""
    traced = subprocess.run(
        ["/usr/bin/python3", "-BISv", command, *arguments], input=state, capture_output=True, text=True, check=True
    ).stderr
    return re.findall(r"^import 'ssh_hook[a-z_.]*' # <(\S+)", traced, re.MULTILINE)


def test_the_hook_runs_from_the_bytecode_that_was_installed() -> None:
    assert {loader.rpartition(".")[2] for loader in imported(LAUNCHER, "--help")} == {"SourcelessFileLoader"}


def test_a_stage_is_loaded_from_one_file() -> None:
    state = {"ociVersion": "1.0.0", "id": "gone", "status": "stopped", "pid": 0, "bundle": "/tmp"}
    assert imported(LAUNCHER, "start-ssh-daemon", state=json.dumps(state)) == []


def test_the_hook_runs_from_its_sources_where_the_interpreter_was_upgraded(tmp_path: Path) -> None:
    launcher = tmp_path / "ssh_hook"
    text = LAUNCHER.read_text(encoding="utf-8")
    assert "{sys.implementation.cache_tag}" in text
    launcher.write_text(text.replace("{sys.implementation.cache_tag}", "cpython-27"), encoding="utf-8")
    assert {loader.rpartition(".")[2] for loader in imported(launcher, "--help")} == {"SourceFileLoader"}


def test_a_second_run_changes_nothing_also_in_check_mode() -> None:
    before = listing()
    again = play("deploy", "-vvv")
    assert (again.status, again.changed) == (0, 0), again.said
    assert again.asked("node") == ASKED, again.said
    checked = play("converge", "--check", "--diff")
    assert (checked.status, checked.changed) == (0, 0), checked.said
    assert listing() == before


def test_programs_that_were_repaired_are_verified_afterwards() -> None:
    before = listing()
    program = PREFIX / "dropbear/bin/scp"
    program.write_bytes(program.read_bytes() + b"damaged")
    repaired = play("deploy", "-vvv")
    asked = ASKED + 4  # Dropbear with a directory that is made and removed, and the verification
    assert (repaired.status, repaired.changed, repaired.asked("node")) == (0, 1, asked), repaired.said
    assert "Verify that only root can change these files" in repaired.said
    assert listing() == before


def test_an_audit_finds_nothing_and_changes_nothing() -> None:
    before = listing()
    audited = play("audit")
    assert (audited.status, audited.changed) == (0, 0), audited.said
    assert re.search(
        r"^node +ok +[0-9.]+ +[0-9.]+ +[0-9.]+p[0-9] +15263 +0\n\n1 node: 1 ok$", audited.said, re.MULTILINE
    )
    assert listing() == before


def test_an_audit_counts_daemons_and_says_who_has_keys(tmp_path: Path) -> None:
    variables: dict[str, object] = {"ssh_hook_users": ["daemon", "nobody-there"], "ssh_hook_report_dir": str(tmp_path)}
    with daemon() as pid, entry_of(pid):
        audited = play("audit", variables=variables)
    assert audited.status == 0, audited.said
    report = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))
    release = (PREFIX / "dropbear").resolve()
    assert report["nodes"][0]["daemons"] == [
        {"pid": pid, "user": "root", "ports": [PORT], "sessions": 0, "release": release.name, "outdated": False}
    ]
    assert "below /home, as node sees them: no keys: daemon, nobody-there" in audited.said
    assert [user["name"] for user in report["keys"]["users"]] == ["daemon", "nobody-there"]


def test_one_line_says_whether_the_node_is_well() -> None:
    well = subprocess.run([LAUNCHER, "doctor", "--node"], capture_output=True, text=True, check=False)
    assert (well.returncode, well.stderr, well.stdout.count("\n")) == (0, "", 1), well.stdout
    LAUNCHER.chmod(0o775)
    try:
        unwell = subprocess.run([LAUNCHER, "doctor", "--node"], capture_output=True, text=True, check=False)
    finally:
        LAUNCHER.chmod(0o755)
    assert (
        unwell.returncode,
        f"{LAUNCHER} is writable by users other than root (owner uid 0, mode 0775)" in unwell.stdout,
    ) == (1, True)


WITH_CDI: dict[str, object] = {"ssh_hook_cdi": True}


def test_the_cdi_spec_comes_and_goes_with_its_variable() -> None:
    right = listing()
    audited = play("audit", "--diff", variables=WITH_CDI)
    assert f"On node {CDI_SPEC} differs from the configuration. Run" in audited.said
    assert f"new: {CDI_SPEC} (" in audited.said
    assert audited.changed == 0, audited.said
    assert listing() == right

    assert play("converge", variables=WITH_CDI).status == 0
    hook = json.loads(HOOK_JSON.read_text(encoding="utf-8"))["hook"]
    environment = [entry.replace("ANNOTATION=false", "ANNOTATION=true") for entry in hook["env"]]
    hooks = [{"hookName": stage, **hook, "env": environment} for stage in ("createRuntime", "poststop")]
    assert json.loads(CDI_SPEC.read_text(encoding="utf-8")) == {
        "cdiVersion": "0.5.0",
        "kind": "ocihooks.org/ssh",
        "devices": [{"name": "on", "containerEdits": {"hooks": hooks}}],
    }
    with_spec = listing()
    assert {path: seen.split()[:2] for path, seen in with_spec.items() if path not in right} == {
        str(CDI_SPEC.parent): ["drwxr-xr-x", "0:0"],
        str(CDI_SPEC): ["-rw-r--r--", "0:0"],
    }
    CDI_SPEC.write_text(CDI_SPEC.read_text(encoding="utf-8").replace("poststop", "prestart"), encoding="utf-8")
    CDI_SPEC.chmod(0o664)
    audited = play("audit", variables=WITH_CDI)
    assert f"{CDI_SPEC} is writable by its group" in audited.said
    assert f"On node {CDI_SPEC} differs from the configuration. Run" in audited.said
    assert play("converge", variables=WITH_CDI).status == 0
    assert listing() == with_spec

    assert f"On node {CDI_SPEC} is a surplus hook JSON. Run" in play("audit").said
    assert play("converge").status == 0
    CDI_SPEC.parent.rmdir()
    assert listing() == right


def test_files_for_enroot_and_podman_hpc_come_where_asked_for() -> None:
    right = listing()
    directories = [Path("/etc/enroot/hooks.d"), Path("/etc/podman_hpc/modules.d")]
    for directory in directories:
        directory.mkdir(parents=True)
    names = ("ssh_hook_enroot_hooks_dir", "ssh_hook_podman_hpc_modules_dir")
    variables: dict[str, object] = dict(zip(names, map(str, directories)))
    script, module = directories[0] / "zz-ocihooks-ssh.sh", directories[1] / "ocihooks-ssh.yaml"
    try:
        assert (
            f"{script} differs from the configuration; {module} differs from the configuration."
            in play("audit", variables=variables).said
        )
        assert play("converge", variables=variables).status == 0
        assert [oct(path.stat().st_mode & 0o7777) for path in (script, module)] == ["0o755", "0o644"]
        assert f"export PASSWD_FILE={PASSWD}\n" in script.read_text(encoding="utf-8")
        subprocess.run(["sh", "-n", script], check=True)
        assert subprocess.run([script], env={}, check=False).returncode == 0
        assert play("converge", variables=variables).changed == 0
        assert play("audit", variables=variables).status == 0
        script.chmod(0o775)
        assert f"{script} is writable by its group" in play("audit", variables=variables).said
        assert play("converge", "--tags=all", variables=variables).status == 0
        assert script.stat().st_mode & 0o7777 == 0o755
    finally:
        for path in (script, module, *directories, *(directory.parent for directory in directories)):
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
    assert listing() == right


def records_in(directory: Path) -> list[bytes]:
    """Records of jobs. A file whose first byte is NUL is free."""
    found = [path.read_bytes() for path in directory.glob("j*")]
    return [data for data in found if data.startswith(b"ssh_hook job ")]


def test_slurms_scripts_come_where_asked_for_and_record_jobs() -> None:
    right = listing()
    top, entries = Path("/etc/slurm"), Path("/run/ocihooks-ssh/entries/0")
    directories = [top / "prolog.d", top / "epilog.d"]
    for directory in directories:
        directory.mkdir(parents=True)
    names = ("ssh_hook_slurm_prolog_dir", "ssh_hook_slurm_epilog_dir")
    variables: dict[str, object] = dict(zip(names, map(str, directories)))
    prolog, epilog = directories[0] / "ocihooks-ssh-prolog.sh", directories[1] / "ocihooks-ssh-epilog.sh"
    job = {"SLURM_JOB_ID": "4242", "SLURM_JOB_UID": "0", "SLURM_JOB_NODELIST": "nid[1-3]"}
    try:
        assert play("converge", variables=variables).status == 0
        assert [oct(path.stat().st_mode & 0o7777) for path in (prolog, epilog)] == ["0o755"] * 2
        assert play("converge", variables=variables).changed == 0
        assert play("audit", variables=variables).status == 0
        assert subprocess.run([prolog], env=job, check=False).returncode == 0
        (record,) = records_in(entries)
        assert b"hosts=nid1+2:1\n" in record
        assert subprocess.run([epilog], env=job, check=False).returncode == 0
        assert records_in(entries) == []
        prolog.chmod(0o775)
        assert f"{prolog} is writable by its group" in play("audit", variables=variables).said
        assert play("converge", "--tags=all", variables=variables).status == 0
    finally:
        for path in (prolog, epilog):
            path.unlink(missing_ok=True)
        for directory in (*directories, top):
            directory.rmdir()
    assert listing() == right


def test_ports_may_follow_from_jobs() -> None:
    right = listing()
    variables: dict[str, object] = {"ssh_hook_server_port": "auto", "ssh_hook_server_port_without_job": 15270}
    assert play("converge", variables=variables).status == 0
    given = json.loads(HOOK_JSON.read_text(encoding="utf-8"))["hook"]["env"]
    assert {"SERVER_PORT_DEFAULT=auto", "SERVER_PORT_WITHOUT_JOB=15270"} <= set(given)
    assert play("converge", variables=variables).changed == 0
    audited = play("audit", variables=variables)
    assert audited.status == 0, audited.said
    taken = {**variables, "ssh_hook_server_port_without_job": 20001}
    assert "ssh_hook_server_port_without_job is 20001" in play("preflight", variables=taken).said
    assert play("converge").status == 0
    assert listing() == right


def test_a_site_may_have_the_cdi_spec_alone() -> None:
    alone = {**WITH_CDI, "ssh_hook_hooks_dirs": []}
    checked = play("converge", "--check", variables=alone)
    assert (checked.status, checked.changed > 0) == (0, True), checked.said


def test_what_docker_lacks_is_told_and_set_only_where_asked_for() -> None:
    right = listing()
    settings = Path("/etc/docker/daemon.json")
    sentence = "Docker 26.1 on node does not accept CDI devices (ssh_hook_cdi): add"
    told = play("preflight", before=WITH_DOCKER, variables=WITH_CDI)
    assert (told.status, sentence in told.words) == (0, True), told.said

    settings.parent.mkdir()
    switched = {**WITH_CDI, "ssh_hook_docker_cdi": True}
    settings.write_text('{"log-level": ', encoding="utf-8")
    refused = play("preflight", before=WITH_DOCKER, variables=switched)
    assert f"{settings} is not JSON" in refused.said
    assert refused.status != 0
    settings.write_text('{"log-level": "warn"}', encoding="utf-8")
    assert f"{settings} does not switch on CDI" in play("audit", before=WITH_DOCKER, variables=switched).said
    assert settings.read_text(encoding="utf-8") == '{"log-level": "warn"}'

    deployed = play("converge", before=WITH_DOCKER, variables=switched)
    assert (deployed.status, "run systemctl restart docker when" in deployed.words) == (0, True), deployed.said
    assert json.loads(settings.read_text(encoding="utf-8")) == {"log-level": "warn", "features": {"cdi": True}}
    again = play("converge", before=WITH_DOCKER, variables=switched)
    assert (again.status, again.changed, "systemctl restart" in again.words) == (0, 0, False), again.said
    settings.write_text('{"log-level": "warn"}', encoding="utf-8")
    mended = play("converge", before=WITH_DOCKER, variables=switched)
    assert (mended.status, mended.changed) == (0, 1), mended.said
    assert json.loads(settings.read_text(encoding="utf-8")) == {"log-level": "warn", "features": {"cdi": True}}
    untold = play("converge", before=WITH_DOCKER)
    assert (untold.status, sentence in untold.words) == (0, False), untold.said
    settings.unlink()
    settings.parent.rmdir()
    CDI_SPEC.parent.rmdir()
    assert listing() == right


def test_an_audit_tells_of_a_kernel_by_which_dropbear_could_be_traced() -> None:
    audited = play("audit", before=WITH_SUID_DUMPABLE)
    assert "On node fs.suid_dumpable is 1, so users can trace Dropbear: first set it to 0 or 2. Run" in audited.said
    assert (audited.status != 0, audited.changed) == (True, 0)


@contextmanager
def removed_daemon() -> Iterator[int]:
    """Dropbear whose file has been removed since, and beside it a user's program of the same name."""
    ours, theirs = PREFIX / "dropbear-removed/bin/dropbearmulti", Path("/tmp/dropbearmulti")
    ours.parent.mkdir(parents=True)
    for program, source, mode in ((ours, PREFIX / "dropbear/bin/dropbearmulti", 0o111), (theirs, "/bin/sleep", 0o755)):
        shutil.copyfile(source, program)
        program.chmod(mode)
    arguments = ["dropbear", "-F", "-E", "-r", str(HOST_KEY), "-p", str(PORT + 1)]
    with (
        subprocess.Popen(arguments, executable=ours) as process,
        subprocess.Popen(["sleep", "1000"], executable=theirs, user=1) as other,
    ):
        shutil.rmtree(ours.parents[1])
        theirs.unlink()
        try:
            yield process.pid
        finally:
            process.kill()
            other.kill()


def test_a_daemon_of_ours_is_no_other_service_but_stops_removal(daemons_home: Path) -> None:
    as_daemon(LAUNCHER, "keygen")
    site: dict[str, object] = {"ssh_hook_remove_keys_of": ["daemon"]}
    keys = re.compile(r"^TASK \[Remove users' keys\] \*+\nchanged:", re.MULTILINE)
    with daemon() as pid, removed_daemon() as removed:
        assert play("preflight").status == 0
        checked = play("remove", "--check", variables=site)
        pids = ", ".join(map(str, sorted((pid, removed))))
        assert (
            f"On node SSH daemons of containers are still running (pids {pids}), and need the hook to end"
            in checked.said
        )
        assert (checked.status != 0, keys.search(checked.said)) == (True, None), checked.said
        checked = play("remove", "--check", variables={**site, "ssh_hook_remove_running": True})
        assert (checked.status, bool(keys.search(checked.said))) == (0, True), checked.said


def test_leaked_keys_are_revoked(daemons_home: Path) -> None:
    """With the daemons that have them, and the files of a client; those of others stay."""
    as_daemon(LAUNCHER, "keygen")
    assert as_daemon(LAUNCHER, "client-config", "node1").returncode == 0
    places = [daemons_home / ".oci-hooks/ssh" / name for name in ("keys/id_dropbear", "client/id_container")]
    before = [path.read_bytes() for path in places]
    site: dict[str, object] = {"ssh_hook_revoke_keys_of": ["daemon"]}
    with daemon(user=1) as pid, removed_daemon() as other, system_log() as log:
        checked = play("revoke", "--check", variables=site)
        assert (checked.status, checked.changed) == (0, 2), checked.said
        assert [path.read_bytes() for path in places] == before
        revoked = play("revoke", variables=site)
        assert (revoked.status, revoked.changed) == (0, 2), revoked.said
        assert f"SSH daemons of daemon that would end, with their sessions: pids {pid}." in checked.words
        assert f"SSH daemons of daemon that ended, with their sessions: pids {pid}." in revoked.words
        assert [line for line in log.of_hook() if "revoke: SSH daemons of daemon that ended" in line]
        assert (Path(f"/proc/{pid}/exe").exists(), Path(f"/proc/{other}/exe").exists()) == (False, True)
    assert not [path for path, content in zip(places, before) if path.read_bytes() == content]
    assert as_daemon(LAUNCHER, "doctor", "--json").stdout.count("is not your current key") == 0
    gone = play("revoke", variables={**site, "ssh_hook_revoke_state": "absent"})
    assert (gone.status, gone.changed) == (0, 1), gone.said
    assert not (daemons_home / ".oci-hooks").exists()


@pytest.mark.parametrize("user", ["daemon", "4711"])
def test_daemons_end_and_keys_stay(daemons_home: Path, user: str) -> None:
    """Also of a uid without account and home."""
    as_daemon(LAUNCHER, "keygen")
    key = daemons_home / ".oci-hooks/ssh/keys/id_dropbear"
    before = key.read_bytes()
    site: dict[str, object] = {"ssh_hook_revoke_keys_of": [user], "ssh_hook_revoke_state": "unchanged"}
    with daemon(user=4711 if user == "4711" else 1) as pid:
        done = play("revoke", variables=site)
        assert (done.status, done.changed) == (0, 1), done.said
        assert f"SSH daemons of {user} that ended, with their sessions: pids {pid}." in done.words
        assert not Path(f"/proc/{pid}/exe").exists()
    assert key.read_bytes() == before


def test_daemons_of_a_uid_without_account_and_home_end() -> None:
    gone: dict[str, object] = {"ssh_hook_revoke_keys_of": [4711], "ssh_hook_revoke_state": "absent"}
    with daemon(user=4711) as pid:
        done = play("revoke", variables=gone)
        assert (done.status, done.changed) == (0, 1), done.said
        assert f"SSH daemons of 4711 that ended, with their sessions: pids {pid}." in done.words
        assert not Path(f"/proc/{pid}/exe").exists()


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({}, "ssh_hook_revoke_keys_of names no user: add for example"),
        ({"ssh_hook_revoke_keys_of": ["gone"]}, "gone: there is no such user in /opt/oci-hooks/etc/passwd"),
        (
            {"ssh_hook_revoke_keys_of": ["gone"], "ssh_hook_revoke_state": "unchanged"},
            "gone: there is no such user in /opt/oci-hooks/etc/passwd",
        ),
        ({"ssh_hook_revoke_keys_of": ["daemon"], "ssh_hook_revoke_state": "new"}, "ssh_hook_revoke_state"),
    ],
)
def test_nobody_is_revoked_by_mistake(variables: dict[str, object], sentence: str) -> None:
    with daemon() as pid:
        refused = play("revoke", variables=variables)
        assert sentence in refused.words
        assert refused.status != 0
        assert Path(f"/proc/{pid}/exe").exists()


# As with SSSD that does not enumerate: the directory has users for single names alone, and the tests' answer for none.
DIRECTORY = """#!/bin/sh
[ "$1" != -s ] || exec /usr/bin/getent "$@"
shift
for name; do
    case $name in ldap*) [ -e "$0.down" ] || echo "$name:x:7${name#ldap}:100::/home/$name:/bin/sh" ;; esac
done
exit 2
"""


def test_the_recipe_of_a_passwd_file_finds_users_by_name_and_keeps_them(tmp_path: Path) -> None:
    """The script of the role's README, for users in LDAP. The directory is an imitation."""
    readme = (ROOT / "roles/ssh_hook/README.md").read_text(encoding="utf-8")
    script = textwrap.dedent(readme.partition("  ```sh\n")[2].partition("  ```\n")[0])
    assert script.startswith("#!/bin/sh\n# /etc/cron.hourly/site-passwd: ")
    getent, written = tmp_path / "getent", Path("/etc/site-passwd")
    getent.write_text(DIRECTORY, encoding="utf-8")
    getent.chmod(0o755)
    homes = [Path(f"/home/ldap{number}") for number in range(100, 300)]
    for home in homes:
        home.mkdir()
    path = f"{tmp_path}:{os.environ['PATH']}"
    try:
        before = sorted(Path("/etc").iterdir())
        subprocess.run(["sh", "-c", script], env={"PATH": path}, check=True)
        found = written.read_text(encoding="utf-8").splitlines()
        assert [line for line in found if line.startswith("root:")]
        assert found[-len(homes) :] == [f"{home.name}:x:7{home.name[4:]}:100::{home}:/bin/sh" for home in homes]
        assert stat.S_IMODE(written.stat().st_mode) == 0o644
        Path(f"{getent}.down").touch()
        failed = subprocess.run(["sh", "-c", script], env={"PATH": path}, check=False)
        assert (failed.returncode, written.read_text(encoding="utf-8").splitlines()) == (1, found)
        assert sorted(Path("/etc").iterdir()) == sorted([*before, written])
    finally:
        written.unlink(missing_ok=True)
        for home in homes:
            home.rmdir()


TAMPERED = (
    PREFIX / "dropbear/bin/dropbearmulti",
    PREFIX / "dropbear/bin/sftp-server",
    LAUNCHER,
    PASSWD,
    HOOK_JSON,
    PREFIX,
    HOOK_JSON.parent,
)


def test_an_audit_finds_all_that_could_be_tampered_with(tmp_path: Path) -> None:
    harmed = [*TAMPERED, package() / "ssh_hook/cli.py"]
    modes = {path: path.stat().st_mode for path in harmed}
    for path in harmed:
        path.chmod(modes[path] | 0o020)
    planted = package() / "ssh_hook/planted.py"
    planted.touch()
    os.chown(planted, 4711, 4711)
    expected = {str(path.resolve()) for path in [*harmed, planted]}
    try:
        audited = play("audit", variables={"ssh_hook_report_dir": str(tmp_path)})
    finally:
        planted.unlink()
        for path, mode in modes.items():
            path.chmod(mode)
    assert audited.status != 0
    (node,) = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))["nodes"]
    assert node["state"] == "unsafe"
    assert expected - {violation["path"] for violation in node["tamper"]} == set()
    assert f"more: see {tmp_path}/audit.html" in audited.said
    assert '"violations"' not in audited.said


@pytest.mark.parametrize(
    "directories",
    [(HOOK_JSON.parent, PREFIX, COMPLETIONS), (PASSWD.parent, Path("/opt"))],  # of more than three it names three
    ids=["three", "two"],
)
def test_a_deployment_changes_nothing_where_it_may_not_repair(directories: tuple[Path, ...]) -> None:
    for directory in directories:
        directory.chmod(0o775)
    LAUNCHER.chmod(0o700)
    try:
        deployed = play("deploy")
    finally:
        for directory in directories:
            directory.chmod(0o755)
        is_changed = stat.S_IMODE(LAUNCHER.stat().st_mode) != 0o700
        LAUNCHER.chmod(0o755)
    assert (deployed.status != 0, is_changed) == (True, False)
    for directory in directories:
        assert re.search(f"{directory}(, above /opt/oci-hooks,)? is writable by its group", deployed.said)
    assert deployed.changed == 0


def ldconfig() -> None:
    """Make the cache of the dynamic loader anew, in /etc, which is the bed's, and change nothing outside of it."""
    tmpfs = "mount -t tmpfs none /var/cache && exec ldconfig -X"
    subprocess.run(["unshare", "--mount", "sh", "-c", tmpfs], check=True)


def libseccomp() -> str:
    """The path of the library that the interpreter loads."""
    code = "import ctypes; ctypes.CDLL('libseccomp.so.2'); print(open('/proc/self/maps').read())"
    maps = subprocess.run(["/usr/bin/python3", "-ISBc", code], capture_output=True, text=True, check=True).stdout
    return found(r" (/\S*/libseccomp\.so\S*)$", maps)[0]


@pytest.fixture
def loader_directory() -> Iterator[Path]:
    """A directory of daemon's, in which the dynamic loader finds libseccomp since /etc/ld.so.conf.d names it."""
    directory = Path("/opt/loader/lib")
    directory.mkdir(parents=True)
    shutil.copy(libseccomp(), directory / "libseccomp.so.2")
    os.chown(directory, 1, 1)
    configuration = Path("/etc/ld.so.conf.d/00-loader.conf")
    configuration.write_text(f"{directory}  # of the department\n", encoding="utf-8")
    cache = Path("/etc/ld.so.cache")
    before = cache.read_bytes()
    ldconfig()
    assert libseccomp() == str(directory / "libseccomp.so.2")
    yield directory
    configuration.unlink()
    cache.write_bytes(before)
    shutil.rmtree(directory.parent)


@pytest.mark.parametrize("playbook", ["converge", "audit"])
def test_a_library_that_a_user_can_replace_is_found(loader_directory: Path, playbook: str) -> None:
    refused = play(playbook)
    assert refused.status != 0
    assert (
        f"On node {loader_directory} is owned by daemon (uid 1) and must be owned by root: whoever can change"
        " this can change what root runs. Give it to root, and take write permission from group and"
        " others, or remove the directory from /etc/ld.so.conf.d/00-loader.conf and run ldconfig."
    ) in refused.said
    os.chown(loader_directory, 0, 0)
    accepted = play(playbook)
    assert (accepted.status, accepted.changed) == (0, 0), accepted.said


def test_what_the_dynamic_loader_reads_must_be_roots(loader_directory: Path) -> None:
    os.chown(loader_directory, 0, 0)
    preload, configuration = Path("/etc/ld.so.preload"), Path("/etc/ld.so.conf.d/zz-loader.conf")
    preload.write_text("\n", encoding="utf-8")
    configuration.write_text("# none\n", encoding="utf-8")
    harmed = [loader_directory / "libseccomp.so.2", preload, configuration]
    for path in harmed:
        os.chown(path, 1, 1)
    try:
        refused = play("audit")
    finally:
        preload.unlink()
        configuration.unlink()
    assert refused.status != 0
    for path in harmed:
        assert f"{path} is owned by daemon (uid 1) and must be owned by root" in refused.said


def test_a_library_to_preload_that_a_user_can_make_is_found() -> None:
    preload = Path("/etc/ld.so.preload")
    preload.write_text("/run/user/preloaded.so\n", encoding="utf-8")
    directory = Path("/run/user")
    os.chown(directory, 1, 1)
    try:
        refused = play("audit")
    finally:
        os.chown(directory, 0, 0)
        preload.unlink()
    assert refused.status != 0
    assert f"On node {directory} is owned by daemon (uid 1) and must be owned by root" in refused.said


def test_packages_that_cannot_be_loaded_are_one_sentence() -> None:
    packages = Path("/run/role-test-packages")
    for name in ("cryptography", "pyroute2"):
        (packages / name).mkdir(parents=True)
        (packages / name / "__init__.py").write_text("raise ImportError('for another')\n", encoding="utf-8")
    refused = play("converge", variables={"ssh_hook_python_packages_dir": str(packages)})
    again = play("converge")
    shutil.rmtree(packages)
    said = "/usr/bin/python3 cannot import cryptography and pyroute2 as an ordinary user: ImportError: for another."
    assert f"On node {said}" in refused.said
    assert refused.status != 0
    assert again.status == 0, again.said


def test_what_was_changed_is_found_and_repaired() -> None:
    right = listing()
    module = package() / "ssh_hook/oci/settings.py"
    [compiled] = package().glob("*/ssh_hook/cli.pyc")
    module.write_text("raise SystemExit('harmed')\n", encoding="utf-8")
    compiled.write_bytes(compiled.read_bytes()[:-1])
    (package() / "ssh_hook/extra.py").write_text("", encoding="utf-8")
    LAUNCHER.write_text("#!/bin/sh\n", encoding="utf-8")
    HOOK_JSON.write_text(HOOK_JSON.read_text(encoding="utf-8").replace("poststop", "prestart"), encoding="utf-8")
    PASSWD.chmod(0o600)
    audited = play("audit")
    assert audited.status != 0
    for sentence in ("the hook is not the one of this collection", f"{LAUNCHER} differs", f"{HOOK_JSON} differs"):
        assert sentence in audited.said
    assert play("converge").status == 0
    assert listing() == right


@pytest.mark.parametrize("name", ["dropbearmulti", "ssh"])
def test_a_program_that_was_replaced_is_found_not_run_and_repaired(name: str) -> None:
    """Only root can do so, and its version is the right one."""
    right, program, ran = listing(), (PREFIX / "dropbear/bin" / name).resolve(), Path("/run/role-test-ran")
    if name == "ssh":
        program.write_text(f"#!/bin/sh\ntouch {ran}\necho OpenSSH_10.3p1\n", encoding="utf-8")
    else:
        program.write_bytes(program.read_bytes() + b"\0")
    audited = play("audit")
    assert audited.status != 0
    assert f"{program} is not the file that was installed, so Dropbear was not run. Run the deploy" in audited.words
    assert not ran.exists()
    assert play("deploy").status == 0
    assert listing() == right


def test_an_audit_finds_what_no_deployment_changes(tmp_path: Path) -> None:
    """A drop-in of a unit, and an engine that does not read the JSON."""
    drop_in, site = Path("/etc/systemd/system/ssh-hook-sweep.timer.d/own.conf"), "/etc/containers/oci/hooks.d"
    drop_in.parent.mkdir()
    drop_in.write_text("[Timer]\nOnCalendar=yearly\n", encoding="utf-8")
    before = Path("/etc/containers/containers.conf.d/zz-role-test.conf")
    before.parent.mkdir(exist_ok=True)
    before.write_text(f'[engine]\nhooks_dir = ["{site}"]\n', encoding="utf-8")
    audited = play("audit", variables={"ssh_hook_report_dir": str(tmp_path)})
    drop_in.unlink()
    drop_in.parent.rmdir()
    before.unlink()
    assert audited.status != 0
    assert f"On node {drop_in} changes a systemd unit of the hook: remove it; no engine reads the hook JSON in " in (
        audited.words
    )
    assert f"name a directory in ssh_hook_hooks_dirs that one reads (podman: {site})" in audited.words
    (node,) = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))["nodes"]
    assert (node["state"], len(node["differences"])) == ("differs", 2)


def test_containers_that_start_during_an_upgrade_never_fail(tmp_path: Path) -> None:
    first = package()
    results: list[int] = []
    done = threading.Event()

    def start_all_the_time() -> None:
        while not done.is_set():
            results.append(subprocess.run([LAUNCHER, "--help"], capture_output=True, check=False).returncode)
            done.wait(0.05)

    starter = threading.Thread(target=start_all_the_time)
    starter.start()
    versions = []
    try:
        for number in ("second", "third"):
            subprocess.run([ROOT / "tests/snapshot", tmp_path], check=True)
            for module in (tmp_path / "ansible_collections/ocihooks/ssh/files/hook/ssh_hook").glob("*.py"):
                with module.open("a", encoding="utf-8") as file:
                    file.write(f"# {number}\n")
            upgraded = play("converge", collections=str(tmp_path))
            assert upgraded.status == 0, upgraded.said
            versions.append({*map(str, (PREFIX / "lib").iterdir())})
    finally:
        done.set()
        starter.join()
    third = str(package())
    assert len(results) > 20
    assert set(results) == {0}
    assert {str(first), third} - versions[0] == {third}
    assert str(first) not in versions[1]
    assert len(versions[1]) == 2


def test_a_json_that_engines_would_not_read_never_replaces_the_old_one() -> None:
    before = HOOK_JSON.read_bytes()
    refused = play("converge", variables={"ssh_hook__environment": {"NOT A NAME": "x"}})
    assert refused.status != 0
    assert "hook.env has 'NOT A NAME=x', which is not NAME=value" in refused.said
    assert HOOK_JSON.read_bytes() == before


def refresh() -> subprocess.CompletedProcess[str]:
    """What the timer runs."""
    return subprocess.run([LAUNCHER, "refresh-passwd", PASSWD], capture_output=True, text=True, check=False)


def test_a_name_service_that_lost_its_users_never_empties_the_passwd_file() -> None:
    accounts = Path("/etc/passwd")
    before = accounts.read_text(encoding="utf-8")
    users = [f"user{uid}:*:{uid}:{uid}::/home/user{uid}:/bin/sh\n" for uid in range(3000, 3010)]
    try:
        accounts.write_text(before + "".join(users), encoding="utf-8")
        assert (refresh().stdout, refresh().stdout) == ("changed\n", "unchanged\n")
        kept = PASSWD.read_bytes()
        assert b"user3009:x:3009:3009::/home/user3009:/bin/sh\n" in kept
        for broken in ("", before + "".join(users[:4])):
            accounts.write_text(broken, encoding="utf-8")
            refused = refresh()
            assert refused.returncode == 1
            assert str(PASSWD) in refused.stderr
            assert refused.stderr.count("\n") == 1
            assert PASSWD.read_bytes() == kept
        accounts.write_text(before + "".join(users[:6]), encoding="utf-8")
        assert refresh().stdout == "changed\n"
        assert PASSWD.read_bytes().count(b"\nuser3") == 6
        PASSWD.unlink()
        accounts.write_text(before, encoding="utf-8")
        assert refresh().stdout == "changed\n"
    finally:
        accounts.write_text(before, encoding="utf-8")
        os.chmod(accounts, 0o644)


def test_the_sites_own_passwd_file_is_left_alone() -> None:
    own = Path("/etc/site-passwd")
    own.write_text("alice:x:2001:2001::/home/alice:/bin/sh\n", encoding="utf-8")
    site = {"ssh_hook_passwd_source": "file", "ssh_hook_passwd_file": str(own)}
    try:
        before = own.stat()
        assert play("converge", variables=site).status == 0
        assert '"PASSWD_FILE": "/etc/site-passwd"' in LAUNCHER.read_text(encoding="utf-8")
        assert own.stat() == before
        assert play("remove", "--check", variables=site).status == 0
    finally:
        own.unlink()


UNITS = [
    "ssh-hook-passwd.service",
    "ssh-hook-passwd.timer",
    "ssh-hook-sweep.service",
    "ssh-hook-sweep.timer",
    "ssh-hook-sweep@.service",
]


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    rendered = play("units", variables={"destination": str(tmp_path)})
    assert rendered.status == 0, rendered.said
    units = sorted(str(path) for path in tmp_path.iterdir())
    assert [os.path.basename(unit) for unit in units] == UNITS
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")


def units() -> set[str]:
    """The units that are on the node, and links by which systemd starts timers."""
    place = Path("/etc/systemd/system")
    return {str(path.relative_to(place)) for path in place.rglob("ssh-hook-*") if path.is_file()}


ENABLED = {f"timers.target.wants/{unit}" for unit in UNITS if unit.endswith(".timer")}


def test_a_node_with_systemd_gets_the_timers(as_on_systemd: tuple[str, ...]) -> None:
    assert units() == set()
    deployed = play("converge", before=as_on_systemd)
    assert deployed.status == 0, deployed.said
    assert units() == {*UNITS, *ENABLED}
    audited = play("audit", before=as_on_systemd)
    assert (audited.status, audited.changed) == (0, 0), audited.said
    harmed = Path("/etc/systemd/system/ssh-hook-sweep.service")
    harmed.write_text(f"{MARK}[Service]\nExecStart=/bin/true\n", encoding="utf-8")
    found = play("audit", before=as_on_systemd)
    assert "On node the systemd timers differ from the configuration. Run the deployment." in found.said
    assert found.status != 0
    site = {"ssh_hook_passwd_source": "file"}
    assert play("converge", before=as_on_systemd, variables=site).status == 0
    assert units() == {unit for unit in {*UNITS, *ENABLED} if "sweep" in unit}
    assert play("converge", before=as_on_systemd).status == 0
    assert units() == {*UNITS, *ENABLED}
    again = play("deploy", "-vvv", before=as_on_systemd)
    assert (again.status, again.changed, again.asked("node")) == (0, 0, ASKED), again.said


# A systemd that knows the hook's units and no others, with their timers at once in place of minutes later.
SYSTEMD = r"""
set -e
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys # the machine's settings stay as they are
mount --bind /dev/null /dev/console
mount -t tmpfs none /run
units=/run/units
mkdir "$units"
cp -a /etc/systemd/system/ssh-hook-* /etc/systemd/system/timers.target.wants "$units"
for other in basic sysinit shutdown timers nss-user-lookup; do
    printf '[Unit]\nDefaultDependencies=no\n' >"$units/$other.target"
done
for timer in sweep passwd; do
    drop_ins=$units/ssh-hook-$timer.timer.d
    mkdir "$drop_ins"
    printf '[Timer]\nOnBootSec=\nOnBootSec=1\nAccuracySec=1\nRandomizedDelaySec=0\n' >"$drop_ins/now.conf"
done
exec env -i container=test PATH="$PATH" SYSTEMD_UNIT_PATH="$units" SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1 \
    /lib/systemd/systemd --unit=timers.target --log-target=console --default-standard-output=inherit
"""


METRICS = Path("/var/lib/role-test-metrics/ssh_hook.prom")
WITH_METRICS: dict[str, object] = {"ssh_hook_metrics_dir": str(METRICS.parent)}


def test_the_directory_of_metrics_must_exist_and_be_roots(as_on_systemd: tuple[str, ...]) -> None:
    missing = play("preflight", variables=WITH_METRICS)
    assert f"There is no directory {METRICS.parent} (ssh_hook_metrics_dir) on node: create it" in missing.said
    assert missing.status != 0
    METRICS.parent.mkdir()
    METRICS.parent.chmod(0o775)
    refused = play("converge", before=as_on_systemd, variables=WITH_METRICS)
    assert f"On node {METRICS.parent} is writable by its group" in refused.said
    assert (refused.status != 0, refused.changed) == (True, 0)
    METRICS.parent.chmod(0o755)
    (METRICS.parent / "other.prom").touch()
    os.chown(METRICS.parent / "other.prom", 1, 1)
    accepted = play("converge", before=as_on_systemd, variables=WITH_METRICS)
    assert accepted.status == 0, accepted.said


def test_systemd_runs_what_the_timers_are_for() -> None:
    """As they were deployed last, with a directory of metrics."""
    for timer in ("sweep", "passwd"):  # of which only the first time is another in what follows
        installed = Path(f"/etc/systemd/system/ssh-hook-{timer}.timer").read_text(encoding="utf-8")
        assert "\nOnBootSec=" in installed
        assert "\nOnUnitActiveSec=15min\n" in installed
    abandoned = Path("/var/lib/ocihooks-ssh/daemons/1-2-3")
    abandoned.parent.mkdir(mode=0o700, parents=True)
    abandoned.touch()
    os.utime(abandoned, (0, 0))
    accounts = Path("/etc/passwd")
    before = accounts.read_text(encoding="utf-8")
    accounts.write_text(f"{before}newcomer:*:3999:3999::/home/newcomer:/bin/sh\n", encoding="utf-8")
    manager = subprocess.Popen(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", SYSTEMD],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        deadline = time.monotonic() + within(60)
        while abandoned.exists() or b"newcomer:x:3999:" not in PASSWD.read_bytes() or not METRICS.exists():
            assert manager.poll() is None and time.monotonic() < deadline, "systemd did not run both"
            time.sleep(0.1)
    finally:
        manager.kill()
        said, _nothing = manager.communicate()
        print(said.decode(errors="replace"))  # pytest shows it where the test fails
        accounts.write_text(before, encoding="utf-8")
    assert "\nssh_hook_collected_total 1\n" in METRICS.read_text(encoding="ascii")
    assert stat.filemode(METRICS.stat().st_mode) == "-rw-r--r--"
    abandoned.parent.rmdir()
    abandoned.parent.parent.rmdir()


def test_removal_leaves_nothing(untouched: dict[str, str], as_on_systemd: tuple[str, ...], tmp_path: Path) -> None:
    """On a node that was down during the first one, by the command of docs/day-2.md."""
    page = (ROOT / "docs/day-2.md").read_text(encoding="utf-8")
    (limit,) = re.findall(
        r"^\$ ansible-playbook -i inventory\.yml (--limit \w+) ocihooks\.ssh\.remove$", page, re.MULTILINE
    )
    node = limit.split()[1]
    inventory = tmp_path / "inventory.yml"
    down = {"ansible_connection": "ssh", "ansible_host": "127.0.0.9", "ansible_port": 1}
    inventory.write_text(json.dumps({"all": {"hosts": {node: down}}}), encoding="utf-8")
    from_inventory = {**WITH_METRICS, "ansible_connection": None}
    missed = play("remove", inventory=str(inventory), variables=from_inventory)
    assert re.search(rf"^{node} +: .* unreachable=1 ", missed.said, re.MULTILINE), missed.said
    assert LAUNCHER.exists()
    inventory.write_text(json.dumps({"all": {"hosts": {node: {"ansible_connection": "local"}}}}), encoding="utf-8")
    known = Path("/var/lib/ocihooks-ssh/daemons/1-2-3")
    known.parent.mkdir(parents=True)
    known.touch()
    state = Path("/run/ocihooks-ssh")
    for name in ("entries/2001", "users/2001", "users/2002", "seccomp"):
        (state / name).mkdir(parents=True)
    for uid in ("2001", "2001", "2002"):  # as by a Prolog, and by its user on that
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", state / "users" / uid], check=True)
    CDI_SPEC.parent.mkdir()
    CDI_SPEC.write_text("start-ssh-daemon REQUIRE_USER_ANNOTATION=\n", encoding="utf-8")  # as of ours
    removed = play(
        *("remove", *limit.split()), inventory=str(inventory), before=as_on_systemd, variables=from_inventory
    )
    assert removed.status == 0, removed.said
    assert listing() == untouched
    assert not state.exists()
    assert str(state) not in Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    assert [path.name for path in METRICS.parent.iterdir()] == ["other.prom"]
    shutil.rmtree(METRICS.parent)
    assert not known.parent.parent.exists()
    again = play("remove")
    assert (again.status, again.changed) == (0, 0), again.said
