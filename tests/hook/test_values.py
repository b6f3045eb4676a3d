"""Every annotation and every setting with values of every wrong kind: one line, exit status 1, and no container.

The hook is shown these values behind the runtime's back, which refuses some of them by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers import LAUNCHER, PORT, WORK, configuration, listening, run, shell_around, wait_for
from hook_log import Syslog
from refusals import assert_refused
from starter import Start, Starter

LONG = b"/" + b"x" * 100_000
SHELL = b"/;$(id)`id`'\"|&<>*?~!#"
NO_UTF8 = b"/\xff\xfe\xed\xa0\x80"
KINDS = {  # as they stand in config.json
    "empty": b'""',
    "overlong": b'"%s"' % LONG,
    "NUL": b'"/a\\u0000b"',
    "newline": b'"/a\\nb"',
    "terminal": b'"/\\u001b[2J\\u0007\\r"',
    "shell": json.dumps(SHELL.decode()).encode(),
    "no UTF-8": b'"%s"' % NO_UTF8,
    "half a character": b'"/\\ud800"',
    "number": b"22",
    "fraction": b"1e400",
    "endless number": b"9" * 100_000,
    "true": b"true",
    "list": b'["22"]',
    "object": b'{"22": "22"}',
    "no JSON": b'"22',
}
TEXTS = ("empty", "overlong", "newline", "terminal", "shell", "no UTF-8")  # kinds that are a text at least
ANNOTATIONS = (
    "com.hooks.ssh.enabled",
    "com.hooks.ssh.require_shell",
    "com.hooks.ssh.port",
    "com.hooks.ssh.wait",
    "com.hooks.ssh.hosts",
    "com.hooks.ssh.pidfile_container",
    "com.hooks.ssh.pidfile_host",
    "com.hooks.ssh.authorize_ssh_key",
    "com.hooks.logging.level",
    "com.hooks.ssh.user",
    "com.hooks.logging.stdoutfd",
    "com.hooks.logging.stderrfd",
)
MAY_BE_EMPTY = ANNOTATIONS[-3:]
SETTINGS = (
    *("HOOK_BASE_DIR", "PASSWD_FILE", "DROPBEAR_DIR", "SERVER_PORT_DEFAULT", "SERVER_PORT", "SERVER_PORT_WITHOUT_JOB"),
    *(
        "OVERLAY_MOUNT_HOME_SSH",
        "JOIN_NAMESPACES",
        "REQUIRE_SECCOMP",
        "REQUIRE_SHELL",
        "REQUIRE_USER_ANNOTATION",
        "MAKE_KEYS",
        "LOG_COMMANDS",
        "SSH_KEY_TYPE",
        "LISTEN_ADDRESSES",
        "CONTAINER_PORTS",
    ),
)


# The kinds of errors that paths lead to which do not exist.
PATHS = {"HOOK_BASE_DIR": "no-keys", "PASSWD_FILE": "install-damaged", "DROPBEAR_DIR": "install-damaged"}
# What makes the hook read a setting.
READ_ONLY_AFTER = {
    "SERVER_PORT": "unset SERVER_PORT_DEFAULT\n",
    "SERVER_PORT_WITHOUT_JOB": "export SERVER_PORT_DEFAULT=auto\n",
}


def with_config(directory: Path, annotation: str, value: bytes) -> str:
    """A hook that is shown another config.json, with this annotation."""
    config = {**configuration(), "annotations": {annotation: "@"}}
    (directory / "config.json").write_bytes(json.dumps(config).encode().replace(b'"@"', value))
    return shell_around(directory / "hook", f'cp {directory}/config.json . && hook "$@"')


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ANNOTATIONS)
def test_annotation(start: Start, syslog: Syslog, tmp_path: Path, name: str, kind: str) -> None:
    launcher = with_config(tmp_path, name, KINDS[kind])
    if kind == "empty" and name in MAY_BE_EMPTY:
        assert start("crun", launcher=launcher).ssh("true").status == 0
    elif kind in TEXTS and name == "com.hooks.ssh.enabled":
        start("crun", launcher=launcher)  # without SSH
        assert PORT not in listening()
        warning = f"{name} is neither true nor false"
        wait_for(lambda: any(warning in entry for entry in syslog.of_hook()), "the warning in the node's log")
    else:
        is_parsed = kind not in ("no JSON", "endless number")
        words = ["config.json"] if not is_parsed else ["com.hooks.logging."] if "logging.std" in name else [name]
        message = assert_refused(start, syslog, "crun", *words, launcher=launcher)
        assert len(message) < 400  # a long value is cut, what is wrong with it is not
        assert "uid=" not in message


@pytest.mark.parametrize(
    "value", [b"", LONG, b"/a\nb", SHELL, NO_UTF8, b"\x1b[2J\r"], ids=lambda value: repr(value[:9])
)
@pytest.mark.parametrize("name", SETTINGS)
def test_setting(start: Starter, syslog: Syslog, tmp_path: Path, name: str, value: bytes) -> None:
    quoted = b"'" + value.replace(b"'", b"'\\''") + b"'"
    before = READ_ONLY_AFTER.get(name, "")
    script = f"#!/bin/sh\n{before}{name}=".encode() + quoted + f' exec {LAUNCHER} "$@"\n'.encode()
    (tmp_path / "hook").write_bytes(script)
    (tmp_path / "hook").chmod(0o755)
    launcher = str(tmp_path / "hook")
    # There are keys, so their type is not read: see test_first_keys.py.
    if name == "SSH_KEY_TYPE" or (name in ("LISTEN_ADDRESSES", "CONTAINER_PORTS") and not value):
        assert start("crun", launcher=launcher).ssh("true").status == 0
    else:
        is_path = name in PATHS and value.startswith(b"/")
        kind = PATHS[name] if is_path else "setting-wrong"
        message = assert_refused(start, syslog, "crun", *([] if is_path else [name]), kind=kind, launcher=launcher)
        assert len(message) < 1100
        assert "uid=" not in message


@pytest.fixture
def odd_mounts() -> Iterator[None]:
    """File systems that a user may mount, FUSE's, on directories with names that look like more lines to Python."""
    places = [WORK / name for name in ("a\rb", "a\x0cb", "a\x850 0 0:0 - cgroup2 x", "a\u2028b \\040", "new\nline")]
    for place in places:
        place.mkdir(parents=True)
        run(["mount", "-t", "tmpfs", "-o", "size=64k", f"source {place.name}", place]).checked()
    yield
    for place in places:
        run(["umount", place]).checked()
        place.rmdir()


@pytest.mark.parametrize("engine", ["podman-crun", "runc"])
def test_mount_points_of_odd_names(start: Start, odd_mounts: None, engine: str) -> None:
    container = start(engine)
    assert container.ssh("echo here").checked().text == "here"
    init = Path(f"/proc/{container.init()}/cgroup").read_bytes()
    assert Path(f"/proc/{container.daemon()}/cgroup").read_bytes() == init
