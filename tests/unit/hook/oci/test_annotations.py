"""Annotations that the hook knows, and those of which it warns."""

from __future__ import annotations

import pytest
from ssh_hook.errors import HookError
from ssh_hook.oci.annotations import Annotations
from ssh_hook.oci.json_reader import Node
from ssh_hook.oci.settings import NO_PORT


def annotations(**values: str) -> Annotations:
    return Annotations(Node({f"com.hooks.ssh.{name}": value for name, value in values.items()}, "it"))


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("enable", "enabled"),
        ("Port", "port"),
        ("ports", "port"),
        ("users", "user"),
        ("timeout_wait", "wait"),
        ("pidfile-host", "pidfile_host"),
        ("pid_container", "pidfile_container"),
        ("authorize_key", "authorize_ssh_key"),
        ("require-shell", "require_shell"),
    ],
)
def test_nearest_annotation(wrong: str, right: str) -> None:
    assert annotations(**{wrong: "1"}).warnings == [
        f"the annotation com.hooks.ssh.{wrong} has no effect: did you mean com.hooks.ssh.{right}?"
    ]


def test_no_warning() -> None:
    assert annotations(enabled="true", port="22", user="alice", wait="3", require_shell="true").warnings == []
    assert Annotations(Node({"com.hooks.mpi.enabled": "1", "com.hooks.sshd": "1"}, "it")).warnings == []


@pytest.mark.parametrize(("value", "is_undecided"), [("true", False), ("false", False), ("True", True), ("", True)])
def test_enabled(value: str, is_undecided: bool) -> None:
    assert annotations(enabled=value).is_undecided is is_undecided
    assert annotations().is_undecided is False


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("false", False)])
def test_require_shell(value: str, expected: bool) -> None:
    assert annotations(require_shell=value).require_shell is expected
    assert annotations().require_shell is None
    with pytest.raises(HookError, match=r"com\.hooks\.ssh\.require_shell is 'x': give true or false"):
        annotations(require_shell="x")


def test_port() -> None:
    assert [annotations(port=value).port for value in ("1", "65535", "none")] == [1, 65535, NO_PORT]
    assert annotations().port is None
    for value in ("None", "0", "", "no"):
        with pytest.raises(HookError, match=rf"^the annotation com\.hooks\.ssh\.port is '{value}': give a port number"):
            annotations(port=value)


def test_hosts_need_a_port() -> None:
    with pytest.raises(
        HookError, match=r"^the annotation com\.hooks\.ssh\.port is none, but the hosts of com\.hooks\.ssh\.h"
    ):
        annotations(port="none", hosts="node001:1")
