"""What the runtime says of the container, and what the site says: values of every kind."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ssh_hook.errors import ANNOTATION_WRONG, SETTING_WRONG, HookError, printable
from ssh_hook.linux.id_maps import IdMap
from ssh_hook.oci.container_paths import PIDFILE
from ssh_hook.oci.oci_config import Container, parse_config, read_config
from ssh_hook.oci.settings import Settings, parse_port
from ssh_hook.oci.state import State

CONFIG: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "process": {
        "user": {"uid": 1000, "gid": 100, "additionalGids": [4, 5]},
        "env": ["PATH=/bin", "A=1=2", "A=3", "NOVALUE", "=x"],
        "capabilities": {"bounding": ["CAP_KILL"]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 2**64 - 1}],
        "noNewPrivileges": True,
        "oomScoreAdj": -5,
    },
    "root": {"path": "rootfs"},
    "annotations": {"com.hooks.ssh.enabled": "true"},
}
ENVIRONMENT = {
    "HOOK_BASE_DIR": "/home",
    "PASSWD_FILE": "/p",
    "DROPBEAR_DIR": "/d",
    "SERVER_PORT_DEFAULT": "15263",
}


def parsed(data: bytes) -> Container:
    return Container(parse_config(data, "/bundle"), "/bundle")


def container(**annotations: Any) -> Container:
    config = copy.deepcopy(CONFIG)
    config["annotations"].update({f"com.hooks.{name}": value for name, value in annotations.items()})
    return parsed(json.dumps(config).encode())


def test_config_as_a_runtime_writes_it() -> None:
    it = container()
    assert (it.uid, it.gid, it.groups, it.umask) == (1000, 100, [4, 5], 0o022)
    assert it.environment == {"PATH": "/bin", "A": "3"}
    assert it.rootfs == "/bundle/rootfs"
    assert it.rlimits == [("RLIMIT_NOFILE", 10, 2**64 - 1)]
    assert (it.bounding, it.no_new_privileges, it.oom_score_adj) == (["CAP_KILL"], True, -5)
    assert (it.annotations.port, it.annotations.pidfile_container, it.annotations.log_level) == (
        None,
        PIDFILE,
        2,
    )


def test_sessions_of_another_user_have_nothing_of_the_process() -> None:
    it = container()
    it.permitted, it.inheritable, it.ambient = ["CAP_KILL"], ["CAP_KILL"], ["CAP_KILL"]
    it.change_user(2001, 2002)
    assert (it.uid, it.gid, it.groups, it.has_other_user) == (2001, 2002, [], True)
    assert (it.permitted, it.inheritable, it.ambient, it.bounding) == ([], [], [], ["CAP_KILL"])


@pytest.mark.parametrize(
    "path", [("process",), ("process", "user"), ("process", "user", "uid"), ("root",), ("root", "path")]
)
def test_a_missing_part_is_an_error_and_never_root(path: tuple[str, ...]) -> None:
    config = copy.deepcopy(CONFIG)
    parent = config
    for name in path[:-1]:
        parent = parent[name]
    del parent[path[-1]]
    with pytest.raises(HookError, match="is missing"):
        parsed(json.dumps(config).encode())


@pytest.mark.parametrize("uid", [-1, 2**32 - 1, 1.5, "0", None, True, []])
def test_a_uid_of_another_kind_is_an_error(uid: object) -> None:
    config = copy.deepcopy(CONFIG)
    config["process"]["user"]["uid"] = uid
    with pytest.raises(HookError, match="uid"):
        parsed(json.dumps(config).encode())


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_value_anywhere_gives_a_container_or_one_line(value: object) -> None:
    for place in ("process", "root", "annotations"):
        try:
            parsed(json.dumps({**CONFIG, place: value}).encode())
        except HookError as error:
            assert "\n" not in str(error)


def test_an_environment_keeps_its_bytes() -> None:
    data = json.dumps({**CONFIG, "process": {**CONFIG["process"], "env": ["X=@"]}}).encode().replace(b"@", b"\xff")
    assert os.fsencode(parsed(data).environment["X"]) == b"\xff"


@pytest.mark.parametrize(
    "text", ["0", "70000", "65536", "-1", "+1", "15263abc", "", " 1", "1 ", "1.0", "0x10", "\uff11", "9" * 5000]
)
def test_a_bad_port_is_named_with_its_annotation(text: str) -> None:
    with pytest.raises(HookError, match=r"^the annotation com\.hooks\.ssh\.port is '.*': give a port number") as caught:
        container(**{"ssh.port": text})
    assert "\n" not in str(caught.value)
    assert caught.value.kind == ANNOTATION_WRONG


@pytest.mark.parametrize(("text", "port"), [("1", 1), ("22", 22), ("65535", 65535), ("00080", 80)])
def test_a_good_port(text: str, port: int) -> None:
    assert parse_port(text, "it", SETTING_WRONG) == port
    assert container(**{"ssh.port": text}).annotations.port == port


@pytest.mark.parametrize(("text", "port", "automatic"), [("auto", None, True), ("17", 17, False), (None, None, False)])
def test_a_port_that_follows_from_the_job(text: str | None, port: int | None, automatic: bool) -> None:
    found = container(**({} if text is None else {"ssh.port": text})).annotations
    assert (found.port, found.has_automatic_port) == (port, automatic)


@pytest.mark.parametrize("text", ["Auto", "auto ", "automatic"])
def test_almost_auto(text: str) -> None:
    with pytest.raises(HookError, match=f"port is '{text}': give a port number from 1 to 65535, auto or none"):
        container(**{"ssh.port": text})


@pytest.mark.parametrize(
    "text", ["86401", "-1", "+1", "1s", "", " 1", "1 ", "1.0", "0x10", "\uff11", "9" * 5000, 5, ["5"]]
)
def test_a_bad_wait_is_named_with_its_annotation(text: object) -> None:
    with pytest.raises(HookError, match=r"com\.hooks\.ssh\.wait") as caught:
        container(**{"ssh.wait": text})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("60", 60), ("86400", 86400), ("00060", 60)])
def test_a_good_wait(text: str, seconds: int) -> None:
    assert container(**{"ssh.wait": text}).annotations.wait == seconds


def test_no_wait_by_default() -> None:
    assert container().annotations.wait is None


@pytest.mark.parametrize("name", ["ssh.pidfile_container", "ssh.pidfile_host", "ssh.authorize_ssh_key"])
@pytest.mark.parametrize("value", ["relative", "/directory/", "/new\nline", "", 5, ["/x"], "/nul\0"])
def test_a_bad_path_is_named_with_its_annotation(name: str, value: object) -> None:
    with pytest.raises(HookError, match=name.replace(".", r"\.")):
        container(**{name: value})


@pytest.mark.parametrize("value", ["5", "-1", "debug", "", "1.0"])
def test_a_bad_log_level(value: str) -> None:
    with pytest.raises(HookError, match=r"com\.hooks\.logging\.level"):
        container(**{"logging.level": value})


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"status": "created", "pid": 1}, "'bundle' is missing"),
        ({"status": "created", "pid": 1, "bundle": "relative"}, "not an absolute path"),
        ({"pid": 1, "bundle": "/b"}, "'status' is missing"),
        ({"status": "created", "pid": -4, "bundle": "/b"}, "'pid' is -4"),
        ({"status": "created", "pid": "4", "bundle": "/b"}, "'pid' is not an integer"),
    ],
)
def test_a_bad_state(state: dict[str, object], message: str) -> None:
    with pytest.raises(HookError, match=message):
        State(json.dumps(state).encode())


def test_a_state_without_a_process() -> None:
    for extra in ({}, {"pid": 0}, {"pid": None}):
        assert State(json.dumps({"status": "stopped", "bundle": "/b", **extra}).encode()).pid == 0


def test_a_huge_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b" " * (17 << 20))
    bundle = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(HookError, match="larger than"):
            read_config(bundle, str(tmp_path))
    finally:
        os.close(bundle)


def test_settings_as_the_role_writes_them() -> None:
    it = Settings(ENVIRONMENT)
    assert (it.base_dir, it.passwd_file, it.dropbear_dir, it.port, it.overlay, it.join) == (
        "/home",
        "/p",
        "/d",
        15263,
        True,
        True,
    )


@pytest.mark.parametrize("name", ["HOOK_BASE_DIR", "PASSWD_FILE", "DROPBEAR_DIR", "SERVER_PORT_DEFAULT"])
def test_a_missing_setting_is_named(name: str) -> None:
    with pytest.raises(HookError, match=f"^{name} is not set"):
        Settings({key: value for key, value in ENVIRONMENT.items() if key != name})


def test_the_deprecated_port_serves_where_the_new_one_is_absent() -> None:
    old = {key: value for key, value in ENVIRONMENT.items() if key != "SERVER_PORT_DEFAULT"}
    assert Settings({**old, "SERVER_PORT": "4"}).port == 4
    assert Settings({**ENVIRONMENT, "SERVER_PORT": "4"}).port == 15263
    with pytest.raises(HookError, match=r"^SERVER_PORT in the"):
        Settings({**old, "SERVER_PORT": "x"})


@pytest.mark.parametrize("name", ["OVERLAY_MOUNT_HOME_SSH", "JOIN_NAMESPACES"])
def test_switches(name: str) -> None:
    attribute = {"OVERLAY_MOUNT_HOME_SSH": "overlay", "JOIN_NAMESPACES": "join"}[name]
    for text, value in (("true", True), ("True", True), ("FALSE", False), ("false", False)):
        assert getattr(Settings({**ENVIRONMENT, name: text}), attribute) is value
    for text in ("yes", "0", "", " true"):
        with pytest.raises(HookError, match=f"^{name} "):
            Settings({**ENVIRONMENT, name: text})


def test_as_many_addresses_as_dropbear_listens_on() -> None:
    addresses = [f"10.0.0.{number}" for number in range(10)]
    assert Settings({**ENVIRONMENT, "LISTEN_ADDRESSES": ",".join(addresses)}).listen == addresses
    with pytest.raises(HookError, match=r"has 11 addresses: Dropbear accepts at most 10$"):
        Settings({**ENVIRONMENT, "LISTEN_ADDRESSES": ",".join([*addresses, "fd00::1"])})
    with pytest.raises(HookError, match=r"'10\.0\.0' is not an IP address$"):
        Settings({**ENVIRONMENT, "LISTEN_ADDRESSES": "10.0.0"})


@pytest.mark.parametrize(
    ("namespace", "is_shared"),
    [
        ({"type": "user", "path": "/proc/1/ns/user"}, True),
        ({"type": "user", "path": ""}, False),
        ({"type": "user"}, False),
        ({"type": "network", "path": "/run/netns/x"}, False),
    ],
)
def test_whose_user_namespace_it_is(namespace: dict[str, str], is_shared: bool) -> None:
    config = {**CONFIG, "linux": {"namespaces": [{"type": "pid"}, namespace]}}
    assert parsed(json.dumps(config).encode()).has_shared_user_namespace == is_shared


def test_id_maps() -> None:
    rootless = IdMap("         0       1000          1\n         1     100000      65536\n")
    assert [rootless.outside(inside) for inside in (0, 1, 33, 65536, 65537)] == [1000, 100000, 100032, 165535, None]
    assert not rootless.is_initial()
    assert IdMap("         0          0 4294967295\n").is_initial()
    assert IdMap("").outside(0) is None


@given(st.text())
def test_a_value_in_a_message_stays_on_its_line_and_short(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown) <= 103


def test_ids_are_mapped_in_both_directions() -> None:
    id_map = IdMap("0 1000 1\n1 100000 65536\n")
    assert [id_map.outside(inside) for inside in (0, 1, 65536, 65537)] == [1000, 100000, 165535, None]
    assert [id_map.inside(outside) for outside in (1000, 100000, 165535, 165536, 0)] == [0, 1, 65536, None, None]
