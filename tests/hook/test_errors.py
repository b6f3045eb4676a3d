"""Errors: each is one line that says what to do, the container does not start, and nothing stays."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from containers import ALICE, ENGINES, SETTINGS, call_hook, configuration, keys, shell_around, wait_for
from held import private_fuse
from hook_log import Syslog
from refusals import assert_one_line, assert_refused
from starter import Starter

PORT_ANNOTATION = "com.hooks.ssh.port"


@pytest.fixture
def no_keys() -> Iterator[None]:
    """alice has no keys for a while."""
    aside = keys().with_name("aside")
    keys().rename(aside)
    yield
    aside.rename(keys())


@pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine != "rootless"])  # which makes them
def test_no_keys(start: Starter, syslog: Syslog, no_keys: None, engine: str) -> None:
    assert_refused(
        start, syslog, engine, "alice has no SSH keys in", str(keys()), "run 'ssh_hook keygen'", kind="no-keys"
    )


def test_a_home_that_is_the_users_own_fuse(start: Starter, syslog: Syslog) -> None:
    home = Path("/run/hook-test-homes/alice")
    home.mkdir(parents=True)
    try:
        with private_fuse(home):
            assert_refused(
                *(start, syslog, "crun"),
                f"cannot open the user's directory {home}: Permission denied: if it is on FUSE",
                "mount it with allow_other",
                kind="no-keys",
                settings={"HOOK_BASE_DIR": str(home.parent)},
            )
    finally:
        home.rmdir()
        home.parent.rmdir()


@pytest.mark.parametrize("engine", ["crun", "runc"])
def test_user_is_not_in_passwd_file(start: Starter, syslog: Syslog, engine: str) -> None:
    def change(config: dict[str, Any]) -> None:
        config["process"]["user"]["uid"] = 2999

    assert_refused(
        start, syslog, engine, "2999", "PASSWD_FILE", SETTINGS["PASSWD_FILE"], kind="user-unknown", change=change
    )


@pytest.mark.parametrize("name", ["HOOK_BASE_DIR", "PASSWD_FILE", "DROPBEAR_DIR", "SERVER_PORT_DEFAULT"])
@pytest.mark.parametrize("value", [None, ""])
def test_missing_setting(start: Starter, syslog: Syslog, name: str, value: str | None) -> None:
    assert_refused(start, syslog, "crun", name, "not set", kind="setting-wrong", settings={name: value})


@pytest.mark.parametrize("name", ["OVERLAY_MOUNT_HOME_SSH", "JOIN_NAMESPACES"])
@pytest.mark.parametrize("value", ["yes", "1", "", "true "])
def test_switch_that_is_neither_true_nor_false(start: Starter, syslog: Syslog, name: str, value: str) -> None:
    assert_refused(start, syslog, "crun", name, "true or false", settings={name: value})


@pytest.mark.parametrize("name", ["HOOK_BASE_DIR", "PASSWD_FILE", "DROPBEAR_DIR"])
def test_relative_path_in_a_setting(start: Starter, syslog: Syslog, name: str) -> None:
    assert_refused(start, syslog, "crun", name, "absolute path", settings={name: "relative"})


@pytest.mark.parametrize("directory", ["/no/such/dropbear", "/etc"])
def test_dropbear_is_missing(start: Starter, syslog: Syslog, directory: str) -> None:
    assert_refused(start, syslog, "crun", "DROPBEAR_DIR", directory, settings={"DROPBEAR_DIR": directory})


def test_dropbear_dir_without_a_server(start: Starter, syslog: Syslog, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir(parents=True)
    assert_refused(start, syslog, "crun", "dropbear", kind="install-damaged", settings={"DROPBEAR_DIR": str(tmp_path)})


def test_passwd_file_is_missing(start: Starter, syslog: Syslog) -> None:
    assert_refused(
        start, syslog, "crun", "/no/such/passwd", kind="install-damaged", settings={"PASSWD_FILE": "/no/such/passwd"}
    )


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")])
@pytest.mark.parametrize("engine", ["crun", "podman-crun", "rootless"])
def test_port_is_taken(start: Starter, syslog: Syslog, engine: str, family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as holder:
        if family == socket.AF_INET6:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        holder.bind((address, 16001))
        holder.listen()
        words = ["16001", PORT_ANNOTATION]
        # rootless: another user's processes are not the hook's to see
        words.append("another user" if engine == "rootless" else f"process {os.getpid()} ")
        assert_refused(start, syslog, engine, *words, kind="port-taken", annotations={PORT_ANNOTATION: "16001"})


def test_port_is_taken_by_another_container(start: Starter, syslog: Syslog) -> None:
    first = start("crun")
    assert_refused(start, syslog, "crun", "15263", f"process {first.daemon()} (dropbear)", f"uid {ALICE}")
    assert first.ssh("echo still").checked().text == "still"


def test_port_is_taken_by_another_container_of_a_rootless_engine(start: Starter, syslog: Syslog) -> None:
    """Which may not see who listens, and names the daemon."""
    first = start("rootless")
    assert_refused(start, syslog, "rootless", "15263", f"process {first.daemon()} (dropbear)", f"uid {ALICE}")


def test_port_that_the_user_may_not_use(start: Starter, syslog: Syslog) -> None:
    limit = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    before = limit.read_text(encoding="ascii")
    limit.write_text("1024", encoding="ascii")
    try:
        assert_refused(
            start, syslog, "crun", "port 22", "1024", kind="port-unusable", annotations={PORT_ANNOTATION: "22"}
        )
    finally:
        limit.write_text(before, encoding="ascii")


def test_image_without_a_shell(start: Starter, syslog: Syslog) -> None:
    def prepare(root: Path) -> None:
        for name in ("sh", "ash", "hush", "bash"):
            (root / "bin" / name).unlink(missing_ok=True)

    words = ("no shell", "/bin/sh", "com.hooks.ssh.require_shell=false")
    assert_refused(start, syslog, "crun", *words, image="busybox", prepare=prepare)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("com.hooks.ssh.pidfile_container", "relative", "give the absolute path"),
        ("com.hooks.ssh.pidfile_host", "/a\nb", "give the absolute path"),
        ("com.hooks.ssh.pidfile_host", "relative", "give the absolute path"),
        ("com.hooks.ssh.authorize_ssh_key", "relative", "give the absolute path"),
        ("com.hooks.ssh.authorize_ssh_key", "/no/such/key.pub", "No such file"),
        ("com.hooks.ssh.authorize_ssh_key", "/etc/hostname", "belongs to another user"),
        ("com.hooks.ssh.authorize_ssh_key", "/home", "is not a regular file"),
        (
            "com.hooks.ssh.pidfile_host",
            "/root/pid",
            "cannot write /root/pid as the container's user: Permission denied",
        ),
        ("com.hooks.ssh.pidfile_host", "/no/such/directory/pid", "No such file"),
        ("com.hooks.ssh.pidfile_container", "/etc/pid", "cannot write /etc/pid as the container's user: Permission"),
        ("com.hooks.logging.level", "5", "give a level from 0"),
        ("com.hooks.logging.level", "debug", "give a level from 0"),
        ("com.hooks.logging.stderrfd", "/root/log", "cannot log to /root/log: Permission denied"),
        ("com.hooks.logging.stdoutfd", "/no/such/log", "cannot log to /no/such/log: No such file"),
    ],
)
def test_bad_annotation(start: Starter, syslog: Syslog, name: str, value: str, problem: str) -> None:
    words = [name] if "logging.std" not in name else ["com.hooks.logging."]
    assert_refused(start, syslog, "crun", *words, problem, annotations={name: value})


def test_key_that_only_root_may_read(start: Starter, syslog: Syslog) -> None:
    """It is the user's, and a key: nothing but the user's rights keeps the hook from it."""
    key = Path("/home/alice/unreadable.pub")
    key.write_text(f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5{'A' * 48}\n", encoding="ascii")
    os.chown(key, ALICE, ALICE)
    key.chmod(0)
    name = "com.hooks.ssh.authorize_ssh_key"
    try:
        assert_refused(start, syslog, "crun", name, "Permission denied", annotations={name: str(key)})
        key.chmod(0o400)
        start("crun", annotations={name: str(key)})
    finally:
        key.unlink()


# The hook called with what no runtime would hand over.


def state(bundle: Path, **values: object) -> dict[str, object]:
    return {"ociVersion": "1.0.2", "id": "x", "status": "created", "pid": 1, "bundle": str(bundle), **values}


def refused(data: dict[str, object] | bytes, syslog: Syslog, *words: str) -> None:
    result = call_hook(data)
    assert result.status == 1
    assert result.out == ""
    assert_one_line(result.err, *words)
    wait_for(syslog.of_hook, "a message in syslog")
    assert len(syslog.of_hook()) == 1


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "on standard input is not JSON: a value is missing"),
        (b"{", "on standard input is not JSON"),
        (b"null", "on standard input is not a JSON object"),
        (b"[]", "on standard input is not a JSON object"),
        (b'"text"', "on standard input is not a JSON object"),
        (b"{}", "'status' is missing"),
        (b'{"status": "created", "pid": 1', "on standard input is not JSON"),
        (b'{"status": "created", "pid": "1", "bundle": "/"}', "'pid' is not an integer"),
        (b'{"status": "created", "pid": -1, "bundle": "/"}', "'pid' is -1, which is not between 0 and"),
        (b'{"status": "created", "pid": 1e99, "bundle": "/"}', "'pid' is not an integer"),
        (b'{"status": "created", "pid": true, "bundle": "/"}', "'pid' is not an integer"),
        (b'{"status": 1, "pid": 1, "bundle": "/"}', "'status' is not a string"),
        (b'{"status": "created", "pid": 1, "bundle": "relative"}', "'bundle' is 'relative', not an absolute path"),
        (b'{"status": "created", "pid": 1, "bundle": "/no/such/bundle"}', "/no/such/bundle: No such file"),
        (b'{"status": "created", "pid": 1, "bundle": "/etc/passwd"}', "/etc/passwd: Not a directory"),
        (b'{"status": "created", "pid": NaN, "bundle": "/"}', "on standard input is not JSON: NaN is not JSON"),
        (b'{"status": "created", "pid": 1, "bundle": "/\\u0000"}', "'bundle' contains a NUL character"),
        (b'{"a": ' * 100_000, "on standard input is nested too deeply"),
        (b"[" * 1_000_000, "on standard input is nested too deeply"),
        (b'{"status": "' + b"x" * 2_000_000 + b'"}', "on standard input is larger than"),
        (b"\0\xff\xfe", "on standard input is not JSON"),
    ],
    ids=lambda value: value[:60].decode("ascii", "replace") if isinstance(value, bytes) else "",
)
def test_state_that_is_none(syslog: Syslog, data: bytes, problem: str) -> None:
    refused(data, syslog, problem)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tmp_path


def edited(edit: Callable[[dict[str, Any]], object]) -> bytes:
    config = configuration()
    edit(config)
    return json.dumps(config).encode()


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "config.json"),
        (edited(lambda config: None)[:-40], "config.json"),
        (b'{"process": ' * 50_000, "nested"),
        (b"[]", "config.json"),
        (edited(lambda config: config["process"].pop("user")), "uid"),
        (edited(lambda config: config.pop("process")), "uid"),
        (edited(lambda config: config["process"]["user"].pop("uid")), "uid"),
        (edited(lambda config: config["process"]["user"].update(uid="2001")), "uid"),
        (edited(lambda config: config["process"]["user"].update(uid=-1)), "uid"),
        (edited(lambda config: config["process"]["user"].update(uid=2**32 - 1)), "uid"),
        (edited(lambda config: config["process"]["user"].update(gid=None)), "gid"),
        (edited(lambda config: config["process"]["user"].update(additionalGids=[2**40])), "additionalGids"),
        (edited(lambda config: config["process"].update(env="A=b")), "env"),
        (edited(lambda config: config["process"].update(env=["A=b\0c"])), "env"),
        (edited(lambda config: config.pop("root")), "path"),
        (edited(lambda config: config.update(annotations={"com.hooks.ssh.port": 5})), "com.hooks.ssh.port"),
        (edited(lambda config: config.update(annotations=[])), "annotations"),
    ],
)
def test_config_json_that_is_none(bundle: Path, syslog: Syslog, data: bytes, word: str) -> None:
    (bundle / "config.json").write_bytes(data)
    refused(state(bundle), syslog, word)


def test_config_json_is_missing(bundle: Path, syslog: Syslog) -> None:
    refused(state(bundle), syslog, "config.json", "No such file")


def test_config_json_is_huge(bundle: Path, syslog: Syslog) -> None:
    with (bundle / "config.json").open("wb") as file:
        file.truncate(1 << 34)
    refused(state(bundle), syslog, "larger than")


def test_process_of_the_state_is_gone(bundle: Path, syslog: Syslog) -> None:
    (bundle / "config.json").write_bytes(edited(lambda config: None))
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    refused(state(bundle, pid=ended.pid), syslog, str(ended.pid))


@pytest.mark.parametrize(
    "edit",
    [
        lambda config: config["process"]["rlimits"].append({"type": "RLIMIT_NONSENSE", "soft": 1, "hard": 1}),
        lambda config: config["process"]["capabilities"]["bounding"].append("CAP_NONSENSE"),
    ],
)
def test_limit_or_capability_of_another_kernel(
    start: Starter, syslog: Syslog, tmp_path: Path, edit: Callable[[dict[str, Any]], object]
) -> None:
    """The runtime would refuse it by itself, so the hook is shown another config.json."""
    (tmp_path / "config.json").write_bytes(edited(edit))
    launcher = shell_around(tmp_path / "hook", f'cp {tmp_path}/config.json . && hook "$@"')
    assert_refused(start, syslog, "crun", "NONSENSE", launcher=launcher)


def test_failure_leaves_nothing_but_empty_mount_points(start: Starter, syslog: Syslog, tmp_path: Path) -> None:
    """The last thing that can fail does: all is mounted by then, and the daemon runs."""
    launcher = shell_around(
        tmp_path / "hook",
        f"""hook "$@"; status=$?
        find layer/upper -type f -size +0 >{tmp_path}/files
        grep -c ' - tmpfs ocihooks-ssh ' /proc/self/mountinfo >{tmp_path}/mounts
        exit $status""",
    )
    annotations = {"com.hooks.ssh.pidfile_host": "/root/pid"}
    assert_refused(start, syslog, "crun", "pidfile_host", launcher=launcher, annotations=annotations)
    assert (tmp_path / "files").read_text(encoding="utf-8") == ""
    assert (tmp_path / "mounts").read_text(encoding="utf-8") == "0\n"
    assert not Path("/root/pid").exists()
