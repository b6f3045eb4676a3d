"""What is fuzzed: each target gives bytes to a parser of the hook, and fails where that does other than it promises.

A parser takes its input or refuses it by one short line. What it took has to be what an independent reading of the same
bytes gives: that of Python's json, or of the C library that Dropbear is linked with.

The fuzzer, the property tests and the kept corpus all call these.
"""

from __future__ import annotations

import binascii
import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from ssh_hook.confine.libseccomp import compile_profile
from ssh_hook.errors import HookError
from ssh_hook.keys import passwd, store
from ssh_hook.keys.errors import KeyStoreError
from ssh_hook.keys.formats import check_private_key
from ssh_hook.keys.store import KeySet
from ssh_hook.log import ERROR, Log, LogTarget
from ssh_hook.node import record, userfiles
from ssh_hook.oci import json_reader
from ssh_hook.oci.annotations import Annotations
from ssh_hook.oci.container_paths import PIDFILE
from ssh_hook.oci.json_reader import Node
from ssh_hook.oci.oci_config import Container, parse_config
from ssh_hook.oci.settings import Settings
from ssh_hook.oci.state import State
from ssh_hook.provision.account import AccountRequest, find_account

Result = TypeVar("Result")

LONGEST = 1000  # characters of a message
MAX_ID = 2**32 - 2
PASSWD_LINE = re.compile(rb"([^:#+-][^:]*):[^:]*:(0|[1-9][0-9]{0,9}):(0|[1-9][0-9]{0,9}):([^:]*):([^:]*):([^:]*)")
LIBC_LINE = re.compile(rb"(.[^:]*):[^:]*:([0-9]*):([0-9]*):[^:]*:([^:]*):(.*)", re.DOTALL)
BLOB_SIZES = {
    "ssh-ed25519": 51,
    "ecdsa-sha2-nistp256": 104,
    "ecdsa-sha2-nistp384": 136,
    "ecdsa-sha2-nistp521": 172,
}  # bytes
SEPARATOR = b"\n--\n"  # between the parts of an input that has several


def accepted(parse: Callable[..., Result], *arguments: object) -> Result | None:
    """What `parse` gives; None where it refuses, which it may do by one short printable line alone."""
    try:
        return parse(*arguments)
    except (HookError, KeyStoreError) as error:
        message = str(error)
    assert message.isprintable(), message
    assert 0 < len(message) <= LONGEST, message
    return None


def document_of(data: bytes) -> Any:
    """The JSON document in `data` as Python's json reads it; None where it is none."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        return json.loads(data.decode("utf-8", "surrogateescape"), parse_constant=refuse)
    except (ValueError, RecursionError):
        return None


def json_object(data: bytes) -> None:
    """Any bytes, against Python's json; numbers without end are refused."""
    value = accepted(json_reader.parse, data, "it")
    expected = document_of(data)
    if not re.search(rb"[0-9]{40}", data):
        assert value == (expected if isinstance(expected, dict) else None)
    elif value is not None:
        assert value == expected


def state(data: bytes) -> None:
    """The runtime's state of a container."""
    it = accepted(State, data)
    if it is not None:
        document = document_of(data)
        assert (it.status, it.pid, it.bundle) == (document["status"], document.get("pid") or 0, document["bundle"])
        assert 0 <= it.pid < 2**31
        assert os.fsencode(it.bundle).startswith(b"/")
        assert "\0" not in it.bundle


def config(data: bytes) -> None:
    """The config.json of a bundle."""
    it = accepted(lambda data: Container(parse_config(data, "/bundle"), "/bundle"), data)
    if it is None:
        return
    process = document_of(data)["process"]
    user = process["user"]
    assert (it.uid, it.gid, it.groups) == (user["uid"], user["gid"], user.get("additionalGids") or [])
    assert all(not isinstance(number, bool) and 0 <= number <= MAX_ID for number in (it.uid, it.gid, *it.groups))
    assert 0 <= it.umask <= 0o777
    given = process.get("env") or []
    assert set(it.environment) == {entry.partition("=")[0] for entry in given if "=" in entry} - {""}
    for name, value in it.environment.items():
        assert f"{name}={value}" in given
        assert b"\0" not in os.fsencode(name + value)
    assert os.fsencode(it.rootfs).startswith(b"/")
    asked = {name: text for name, text in (document_of(data).get("annotations") or {}).items() if text is not None}
    _check_annotations(it.annotations, asked)


def _check_annotations(it: Annotations, asked: dict[str, str]) -> None:
    port = asked.get("com.hooks.ssh.port")
    assert port is None or re.fullmatch("[0-9]{1,5}", port)
    assert it.port == (None if port is None else int(port))
    assert it.port is None or 0 < it.port < 65536
    for path, name, default in (
        (it.pidfile_container, "pidfile_container", PIDFILE),
        (it.pidfile_host, "pidfile_host", ""),
        (it.authorize_ssh_key, "authorize_ssh_key", ""),
    ):
        assert path == asked.get(f"com.hooks.ssh.{name}", default)
        assert not path or re.fullmatch(rb"/[^\0-\x1f]*[^\0-\x1f/]", os.fsencode(path))
    assert str(it.log_level) == asked.get("com.hooks.logging.level", "2")
    assert it.log_level in range(5)
    assert it.log_stdout == asked.get("com.hooks.logging.stdoutfd", "")
    assert it.log_stderr == asked.get("com.hooks.logging.stderrfd", "")


def may_loop(profile: dict[str, object]) -> bool:
    """Whether libseccomp (2.6.0) may never come back from it, as from two rules of one call that begin with the same
    condition. A start ends then by the hook's deadline.
    """
    rules = profile.get("syscalls")
    seen: set[object] = set()
    for rule in rules if isinstance(rules, list) else []:
        if not isinstance(rule, dict):
            continue
        names, conditions = rule.get("names"), rule.get("args")
        if isinstance(names, list) and isinstance(conditions, list) and len(conditions) > 1:
            again = [name for name in names if isinstance(name, str) and name in seen]
            if again:
                return True
            seen.update(name for name in names if isinstance(name, str))
    return False


def seccomp(data: bytes) -> None:
    """A seccomp profile, which libseccomp compiles into instructions of eight bytes."""
    profile = document_of(data)
    if isinstance(profile, dict) and not may_loop(profile):
        program = accepted(compile_profile, Node(profile, "config.json: linux: seccomp"))
        assert program is None or (program and len(program) % 8 == 0)


def settings(data: bytes) -> None:
    """The site's settings, as in /proc/PID/environ."""
    variables = dict(entry.split("=", 1) for entry in os.fsdecode(data).split("\0") if "=" in entry)
    it = accepted(Settings, variables)
    if it is not None:
        assert all(path.startswith("/") for path in (it.base_dir, it.passwd_file, it.dropbear_dir))
        port = variables["SERVER_PORT_DEFAULT" if "SERVER_PORT_DEFAULT" in variables else "SERVER_PORT"]
        assert re.fullmatch("[0-9]{1,5}", port)
        assert 0 < it.port == int(port) < 65536
        switches = {
            "OVERLAY_MOUNT_HOME_SSH": it.overlay,
            "JOIN_NAMESPACES": it.join,
            "REQUIRE_SECCOMP": it.require_seccomp,
            "REQUIRE_SHELL": it.require_shell,
            "MAKE_KEYS": it.make_keys,
        }
        assert {name: variables.get(name, "true").lower() for name in switches} == {
            name: str(value).lower() for name, value in switches.items()
        }
        assert variables.get("LOG_COMMANDS", "false").lower() == str(it.log_commands).lower()
        assert ",".join(it.listen) == variables.get("LISTEN_ADDRESSES", "")
        assert all(0 < port < 65536 for port in it.container_ports)
        assert ",".join(map(str, it.container_ports)) == re.sub(r"\b0+(?=\d)", "", variables.get("CONTAINER_PORTS", ""))
        assert all(ipaddress.ip_address(address).version in (4, 6) for address in it.listen)


def passwd_file(data: bytes) -> None:
    """PASSWD_FILE: every look-up finds the first line that a regular expression takes for the entry."""
    expected = [
        (match[1], int(match[2]), int(match[3]), match[4], match[5], match[6])
        for match in map(PASSWD_LINE.fullmatch, data.split(b"\n"))
        if match and int(match[2]) <= MAX_ID and int(match[3]) <= MAX_ID
    ]
    assert [_fields(entry) for entry in passwd.iterate(data)] == expected
    for _name, uid, *_others in expected:
        assert _fields(passwd.find_by_uid(data, uid)) == next(entry for entry in expected if entry[1] == uid)


def _fields(entry: passwd.Entry | None) -> tuple[object, ...] | None:
    if entry is None:
        return None
    texts = [text.encode("utf-8", "surrogateescape") for text in (entry.name, entry.gecos, entry.home, entry.shell)]
    return texts[0], entry.uid, entry.gid, *texts[1:]


class Login(NamedTuple):
    """An entry of a passwd file."""

    name: bytes
    uid: int
    gid: int
    home: bytes
    shell: bytes


def logins(data: bytes) -> Iterator[Login]:
    """The entries of a passwd file as musl's getpwent(3) reads them, which takes much for an entry."""
    for line in re.findall(rb"[^\n]*\n|[^\n]+", data):
        match = LIBC_LINE.fullmatch(line[:-1].partition(b"\0")[0])  # the last character goes, newline or not
        if match:
            uid, gid = (int(match[number] or b"0") % 2**32 for number in (2, 3))
            yield Login(match[1], uid, gid, match[4], match[5])


def login_shells(data: bytes) -> set[bytes]:
    """What musl's getusershell(3) gives for the content of /etc/shells."""
    return {line.partition(b"\0")[0] for line in data.split(b"\n")}


def account(data: bytes) -> None:
    """HOME, /etc/shells and /etc/passwd of an image: Dropbear, which is linked with musl, can log the user in."""
    home, shells, before = [*data.split(SEPARATOR, 2), b"", b""][:3]
    wanted = AccountRequest(1000, 100, "alice", "/bin/zsh", os.fsdecode(home))
    it = find_account(wanted, before, shells or None, lambda path: path.endswith("sh"))
    assert it is not None
    after = before if it.passwd is None else it.passwd
    listed = it.shells or shells or b"/bin/sh\n/bin/csh\n"
    name = b"alice"
    assert it.login_name == "alice"
    login = next(entry for entry in logins(after) if entry.name == name)
    assert login == Login(name, 1000, 100, os.fsencode(it.home), login.shell)
    assert login.home.startswith(b"/")
    assert (login.shell or b"/bin/sh") in login_shells(listed)
    assert (login.shell or b"/bin/sh").endswith(b"sh")
    others = [line for line in before.split(b"\n") if b":1000:" not in line]
    kept = iter(after.split(b"\n"))
    assert all(line in kept for line in others if line)  # in their order: `in` takes from the iterator


def private_key(data: bytes) -> None:
    """A private key in Dropbear's format: one that is taken has a public key that holds nothing else of it."""
    kind = accepted(check_private_key, data, "/keys/id_dropbear")
    if kind is None:
        return
    keys = KeySet(data, b"", {"": data})
    name, encoded = store.public_key(keys).split(" ")
    assert store.host_public_keys(keys) == [f"{name} {encoded}"]
    blob = binascii.a2b_base64(encoded)
    fields = _strings(data)
    assert fields[0] == name.encode() == kind == _strings(blob)[0]
    assert len(blob) == BLOB_SIZES.get(name, len(blob))
    assert len(store.fingerprint(keys)) == len("SHA256:") + 43
    if kind != b"ssh-dss":  # no key to let in any more
        line = f"{name} {encoded}\n".encode()
        assert userfiles.parse_public_keys(line, "it") == line


def _strings(data: bytes) -> list[bytes]:
    """The strings (RFC 4251, section 5) of which `data` is made, with nothing after the last."""
    if not data:
        return []
    end = 4 + int.from_bytes(data[:4], "big")
    assert end <= len(data)
    return [data[4:end], *_strings(data[end:])]


def public_keys(data: bytes) -> None:
    """A file of public keys: what is taken of it is one key on each line, without options, and exact base64."""
    taken = accepted(userfiles.parse_public_keys, data, "/key.pub")
    if taken is not None:
        assert userfiles.parse_public_keys(taken, "it") == taken
        assert store._has_public_key(taken)
        for line in taken.split(b"\n")[:-1]:
            kind, encoded = line.split(b" ")[:2]
            blob = binascii.a2b_base64(encoded)
            assert binascii.b2a_base64(blob, newline=False) == encoded
            assert blob.startswith(len(kind).to_bytes(4, "big") + kind)


def daemon_record(data: bytes) -> None:
    """The record of a daemon."""
    it = accepted(record.parse, os.fsdecode(data))
    if it is not None:
        assert 2 <= it.pid < 2**31
        assert all(0 <= it.numbers[name] <= MAX_ID for name in ("uid", "gid"))
        for name, number in it.numbers.items():
            assert re.search(rb"^%s=0*%d$" % (name.encode(), number), data, re.MULTILINE)
        assert b"\0" not in data


def log_line(data: bytes) -> None:
    """A message with words of an image's or user's in it: one printable line, and not an endless one."""
    log = Log()
    log.stderr = LogTarget(os.memfd_create("log"))
    try:
        log(ERROR, os.fsdecode(data))
        line = os.pread(log.stderr.descriptor, 1 << 20, 0).decode()
    finally:
        os.close(log.stderr.descriptor)
    assert line.startswith("ssh_hook: error: ")
    assert line.endswith("\n")
    assert line[:-1].isprintable()


JSON_TARGETS = ("state", "config", "seccomp")  # to be fuzzed by changing values of a document
TARGETS: dict[str, Callable[[bytes], None]] = {
    "json": json_object,
    "state": state,
    "config": config,
    "seccomp": seccomp,
    "settings": settings,
    "passwd": passwd_file,
    "account": account,
    "private_key": private_key,
    "public_keys": public_keys,
    "record": daemon_record,
    "log": log_line,
}
