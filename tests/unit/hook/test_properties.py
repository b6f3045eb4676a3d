"""Every parser of the hook under values of every kind. What each promises is said in tests/fuzz/targets.py."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from corpus import kept, names
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ssh_hook.keys import store, writer
from ssh_hook.linux.id_maps import IdMap
from ssh_hook.linux.identity import Identity
from ssh_hook.linux.process import Process
from ssh_hook.node import record
from ssh_hook.oci.settings import parse_port
from targets import MAX_ID, SEPARATOR, TARGETS, accepted

CHARACTERS = st.characters(exclude_categories=[])  # lone surrogates too
TEXTS = st.text(CHARACTERS, max_size=20) | st.sampled_from(["", "\0", "\n", "$(id)", "/", "\ud800", "x" * 5000])
NUMBERS = [-1, 0o1000, 1001, -1001, 2**31, 2**32 - 2, 2**32 - 1, 2**64 - 1, 2**64, 10**50, 0.5, 1e400]
WRONG = [
    None,
    True,
    "",
    "\0",
    "/\0",
    "\n",
    "/a\nb",
    "/",
    "/d/",
    "a=\ud800",
    "/\udcff",
    "22",
    "२२",
    "²",
    "+1",
    " 1",
    [],
    [1],
    {},
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def test_every_target_has_kept_inputs() -> None:
    assert names() == sorted(TARGETS)
    assert all(kept(name) for name in TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_kept_inputs(name: str) -> None:
    for data in kept(name):
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
@given(st.binary(max_size=300))
def test_any_bytes(name: str, data: bytes) -> None:
    TARGETS[name](data)


@st.composite
def spoiled(draw: st.DrawFn, inputs: list[bytes]) -> bytes:
    """One of `inputs` with some of its bytes replaced, removed or added."""
    data = draw(st.sampled_from(inputs))
    for _change in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        data = data[:start] + draw(st.binary(max_size=4)) + data[start + draw(st.integers(0, 4)) :]
    return data


@pytest.mark.parametrize("name", TARGETS)
@given(st.data())
def test_kept_inputs_with_changes(name: str, data: st.DataObject) -> None:
    TARGETS[name](data.draw(spoiled(kept(name))))


# JSON


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a document."""
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))]


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A document with another value at `path`."""
    if not path:
        return value
    copy = document.copy()
    copy[path[0]] = replaced(document[path[0]], path[1:], value)
    return copy


CONFIG = {
    "process": {
        "user": {"uid": 1000, "gid": 100, "umask": 18, "additionalGids": [4, 5]},
        "env": ["PATH=/bin", "NOVALUE", "=x"],
        "capabilities": {"bounding": ["CAP_KILL"]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 2**64 - 1}],
        "noNewPrivileges": True,
        "oomScoreAdj": -5,
        "apparmorProfile": "a",
        "selinuxLabel": "l",
    },
    "root": {"path": "rootfs"},
    "linux": {"mountLabel": "l", "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}},
    "annotations": {
        f"com.hooks.{name}": value
        for name, value in {
            "ssh.port": "22",
            "ssh.pidfile_container": "/p",
            "ssh.pidfile_host": "/p",
            "ssh.authorize_ssh_key": "/k",
            "logging.level": "0",
            "logging.stdoutfd": "1",
            "logging.stderrfd": "/l",
        }.items()
    },
}
STATE = {"status": "created", "pid": 4, "bundle": "/b"}


PROFILE = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "architectures": ["SCMP_ARCH_X86_64"],
    "syscalls": [
        {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
        {
            "names": ["clone"],
            "action": "SCMP_ACT_TRACE",
            "errnoRet": 5,
            "args": [{"index": 1, "value": 2, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}],
        },
    ],
}
DOCUMENTS = {"config": CONFIG, "state": STATE, "seccomp": PROFILE}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_each_wrong_value_at_each_place(name: str) -> None:
    for path in places(DOCUMENTS[name]):
        for value in (*NUMBERS, *WRONG):
            TARGETS[name](json.dumps(replaced(DOCUMENTS[name], path, value)).encode())


@pytest.mark.parametrize("name", DOCUMENTS)
@given(st.data())
def test_any_value_at_any_place(name: str, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(places(DOCUMENTS[name])))
    TARGETS[name](json.dumps(replaced(DOCUMENTS[name], path, data.draw(VALUES))).encode())


@given(st.dictionaries(TEXTS, VALUES), st.booleans(), st.binary(max_size=3))
@example({"a": "\udcff\ud800"}, False, b"")
def test_documents_that_python_writes(document: dict[str, Any], is_ascii: bool, tail: bytes) -> None:
    TARGETS["json"](json.dumps(document, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass") + tail)


# Variables

SETTINGS = (
    *("HOOK_BASE_DIR", "PASSWD_FILE", "DROPBEAR_DIR", "SERVER_PORT_DEFAULT", "SERVER_PORT"),
    *(
        "OVERLAY_MOUNT_HOME_SSH",
        "JOIN_NAMESPACES",
        "REQUIRE_SECCOMP",
        "REQUIRE_SHELL",
        "LOG_COMMANDS",
        "LISTEN_ADDRESSES",
        "CONTAINER_PORTS",
    ),
)
USUAL = st.sampled_from(["/x", "22", "65536", "true", "FALSE", "", "::1,127.0.0.1", "::1%eth0", "127.1", "1.2.3.04"])
OTHER = st.binary(max_size=10).map(lambda data: data.replace(b"\0", b""))


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(SETTINGS), USUAL.map(os.fsencode) | OTHER))
def test_settings(values: dict[str, bytes]) -> None:
    good = {"HOOK_BASE_DIR": b"/h", "PASSWD_FILE": b"/p", "DROPBEAR_DIR": b"/d", "SERVER_PORT_DEFAULT": b"22"}
    for variables in (values, {**good, **values}):
        TARGETS["settings"](b"\0".join(name.encode() + b"=" + value for name, value in variables.items()))


@given(TEXTS | st.integers(-10, 70000).map(str) | st.sampled_from(WRONG).map(str))
@example("२२")
@example("²")
def test_a_port_is_what_five_digits_say(text: str) -> None:
    is_port = re.fullmatch("[0-9]{1,5}", text) and 1 <= int(text) <= 65535
    assert accepted(parse_port, text, "it", "system") == (int(text) if is_port else None)


# passwd

ALICE = b"1000"
IDS = st.sampled_from([ALICE, b"01000", b"4294968296", b"0", b"", b"x", b"1001", b"4294967295", b"-1", b" 1000"])
NAMES = st.sampled_from([b"alice", b"user", b"uid1000", b"#alice", b"+", b"-", b"", b"\0", b"\xff", b"al\0ice"])
PATHS = st.sampled_from([b"/home/alice", b"", b"/", b"relative", b"/nonexistent", b"/h\0", b"/\xff\r", b"/h/"])
PROGRAMS = st.sampled_from(
    [b"/bin/sh", b"/bin/bash", b"", b"/bin/gone", b"/usr/sbin/nologin", b"/\0sh", b"sh", b"/ sh "]
)
ENTRIES = st.tuples(NAMES, st.sampled_from([b"x", b"", b"*"]), IDS, IDS, st.just(b"g"), PATHS, PROGRAMS).map(b":".join)
LINES = ENTRIES | st.sampled_from([b"", b":", b"alice", b"alice:x:1000:1000:", b"::::::", b"\0", b"\r", b"#"])
FILES = st.tuples(st.lists(LINES, max_size=6).map(b"\n".join), st.sampled_from([b"", b"\n"])).map(b"".join)
SHELLS = st.lists(PROGRAMS | st.sampled_from([b"# c", b"/bin/\xffsh"]), max_size=4).map(b"\n".join)


@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@given(PATHS, SHELLS, FILES)
@example(b"", b"", b"alice:x:1000:100::/home/alice:/bin/sh")
@example(b"", b"/bin/sh", b"alice:x:7:7::/:/bin/sh\nalice:x:1000:100::/home/alice:/bin/sh\n")
def test_account(home: bytes, shells: bytes, passwd: bytes) -> None:
    TARGETS["account"](SEPARATOR.join((home, shells, passwd)))


@given(FILES)
def test_passwd(data: bytes) -> None:
    TARGETS["passwd"](data)


# What is written is read again


@given(st.binary(max_size=64), st.integers(2, 2**31 - 1), st.integers(0, MAX_ID), st.integers(0, MAX_ID))
def test_a_record_is_read_as_it_was_written(path: bytes, pid: int, uid: int, gid: int) -> None:
    pidfile = os.fsdecode(b"/" + path.replace(b"\0", b"").replace(b"\n", b""))
    identity = (pid, 2**63, 2**32, 2**64 - 1)
    with tempfile.TemporaryDirectory() as name:
        bundle = os.open(name, os.O_RDONLY)
        try:
            init = Process(os.getpid())
            description = {**dict.fromkeys(record.DESCRIPTION, "="), "owner": str(uid)}
            written = record.record_of(
                identity, 2**32 - 1, init, Identity(uid, gid), pidfile, name, pidfile, description
            )
            init.close()
            record.write(written, bundle)
            found = [record.read(bundle), record.parse(os.fsdecode(written.data()))]
            record.remove(bundle, written)
            assert os.listdir(bundle) == []
        finally:
            os.close(bundle)
    for there in found:
        assert there is not None
        assert (there.numbers, there.texts, there.pidfile_host) == (written.numbers, written.texts, pidfile)
    assert (written.bundle, written.numbers["init_pid"], written.numbers["uid"]) == (
        name,
        os.getpid(),
        uid,
    )


EXTENTS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2**32 - 40), st.integers(1, 10)), max_size=4)


@given(EXTENTS)
def test_an_id_map_gives_what_its_extents_say(extents: list[tuple[int, int, int]]) -> None:
    outside: dict[int, int] = {}
    for first, outer, count in extents:
        for offset in range(count):
            outside.setdefault(first + offset, outer + offset)
    id_map = IdMap("".join(f"{first:>10} {outer:>10} {count:>10}\n" for first, outer, count in extents))
    assert [id_map.outside(inside) for inside in range(50)] == [outside.get(inside) for inside in range(50)]


@pytest.fixture(scope="module")
def key_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a set of keys."""
    home = tmp_path_factory.mktemp("home")
    (home / "alice").mkdir(mode=0o755)
    directory = store.key_directory(str(home), "alice")
    writer.generate(directory, "alice")
    return Path(directory)


@given(st.data())
def test_a_set_of_keys_with_any_file_spoiled(key_set: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(key_set.iterdir())))
    whole = path.read_bytes()
    try:
        path.write_bytes(data.draw(spoiled([whole]) | st.just(b"") | st.binary()))
        keys = accepted(store.load, str(key_set), "alice")
        if keys is not None:
            files = {"id_dropbear": keys.id_dropbear, "authorized_keys": keys.authorized_keys, **keys.host_keys}
            assert files == {file.name: file.read_bytes() for file in key_set.iterdir()}
            for private in (keys.id_dropbear, *keys.host_keys.values()):
                TARGETS["private_key"](private)
    finally:
        path.write_bytes(whole)
