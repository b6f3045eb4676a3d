"""OCI hook configurations and CDI specs that engines cannot read are refused, each for its reason."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils import _oci_json as oci_json

HOOK: dict[str, Any] = {
    "version": "1.0.0",
    "hook": {"path": "/bin/sh", "args": ["ssh_hook", "start-ssh-daemon"], "env": ["PORT=15263", "EMPTY="]},
    "when": {"annotations": {r"^com\.hooks\.ssh\.enabled$": "^true$"}},
    "stages": ["createRuntime", "poststop"],
}


def test_a_right_hook_is_accepted() -> None:
    oci_json.check(json.dumps(HOOK))
    oci_json.check(json.dumps({**HOOK, "hook": {"path": "/bin/sh", "timeout": 3}, "when": {"always": True}}))


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda hook: hook.pop("version"), "the file has no 'version'"),
        (lambda hook: hook.update(version="1.1.0"), "version is not '1.0.0'"),
        (lambda hook: hook.update(stage=["poststop"]), "the file has the unknown key 'stage'"),
        (lambda hook: hook.update(hook="/bin/sh"), "hook is not an object"),
        (lambda hook: hook["hook"].update(path="bin/sh"), "hook.path is not an absolute path"),
        (
            lambda hook: hook["hook"].update(path="/bin/no such program"),
            "hook.path /bin/no such program is not a program",
        ),
        (lambda hook: hook["hook"].update(args=[]), "hook.args is empty"),
        (lambda hook: hook["hook"].update(args="ssh_hook"), "hook.args is not a list of strings"),
        (lambda hook: hook["hook"].update(args=["a\0b"]), "hook.args is not a list of strings"),
        (lambda hook: hook["hook"].update(env=["PORT"]), "hook.env has 'PORT', which is not NAME=value"),
        (lambda hook: hook["hook"].update(env=[15263]), "hook.env is not a list of strings"),
        (lambda hook: hook["hook"].update(environment=[]), "hook has the unknown key 'environment'"),
        (lambda hook: hook["hook"].update(timeout=True), "hook.timeout is not a number of seconds from 1 on"),
        (lambda hook: hook.update(when={}), "when names no condition"),
        (lambda hook: hook.update(when={"annotation": {}}), "when has the unknown key 'annotation'"),
        (lambda hook: hook.update(when={"annotations": []}), "when.annotations is not a dict"),
        (
            lambda hook: hook.update(when={"annotations": {"(": "x"}}),
            "when.annotations: '(' is not a regular expression",
        ),
        (
            lambda hook: hook.update(when={"annotations": {"x": True}}),
            "when.annotations: the value of 'x' is not a string",
        ),
        (lambda hook: hook.update(when={"commands": ["*"]}), "when.commands: '*' is not a regular expression"),
        (lambda hook: hook.update(stages=[]), "stages is empty"),
        (lambda hook: hook.update(stages=["createruntime"]), "stages has 'createruntime', which is none of"),
    ],
)
def test_a_wrong_hook_is_refused_for_its_reason(harm: Callable[[dict[str, Any]], object], reason: str) -> None:
    hook = copy.deepcopy(HOOK)
    harm(hook)
    with pytest.raises(oci_json.BadHook) as refused:
        oci_json.check(json.dumps(hook))
    assert str(refused.value).startswith(reason)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", json.dumps(HOOK)[:-1]])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(oci_json.BadHook):
        oci_json.check(text)


CDI: dict[str, Any] = {
    "cdiVersion": "0.5.0",
    "kind": "ocihooks.org/ssh",
    "devices": [
        {
            "name": "on",
            "containerEdits": {
                "hooks": [
                    {"hookName": "createRuntime", "path": "/bin/sh", "args": ["ssh_hook"], "env": ["PORT=1"]},
                    {"hookName": "poststop", "path": "/bin/sh", "timeout": 3},
                ]
            },
        }
    ],
}


def device_of(spec: dict[str, Any]) -> Any:
    return spec["devices"][0]


def hooks_of(spec: dict[str, Any]) -> Any:
    return device_of(spec)["containerEdits"]["hooks"]


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda spec: spec.pop("kind"), "the file has no 'kind'"),
        (lambda spec: spec.update(version="1.0.0"), "the file has the unknown key 'version'"),
        (lambda spec: spec.update(cdiVersion="2.0.0"), "cdiVersion is '2.0.0', which CDI does not accept"),
        (lambda spec: spec.update(kind="ssh"), "kind is 'ssh', which CDI does not accept"),
        (lambda spec: spec.update(kind=1), "kind is '1', which CDI does not accept"),
        (lambda spec: spec.update(devices={}), "devices is not a list with an entry"),
        (lambda spec: spec.update(devices=[]), "devices is not a list with an entry"),
        (lambda spec: spec.update(devices=["on"]), "devices[0] is not an object"),
        (lambda spec: device_of(spec).update(name=""), "devices[0].name is '', which CDI does not accept"),
        (
            lambda spec: device_of(spec)["containerEdits"].update(mounts=[]),
            "devices[0].containerEdits has the unknown key 'mounts'",
        ),
        (lambda spec: hooks_of(spec).clear(), "devices[0].hooks is not a list with an entry"),
        (lambda spec: hooks_of(spec)[1].pop("hookName"), "devices[0].hooks[1] has no 'hookName'"),
        (
            lambda spec: hooks_of(spec)[1].update(hookName="createruntime"),
            "devices[0].hooks[1].hookName is 'createruntime', none of prestart",
        ),
        (lambda spec: hooks_of(spec)[0].update(path="sh"), "devices[0].hooks[0].path is not an absolute path"),
        (lambda spec: hooks_of(spec)[0].update(env=["PORT"]), "devices[0].hooks[0].env has 'PORT', which is not"),
    ],
)
def test_a_wrong_cdi_spec_is_refused_for_its_reason(harm: Callable[[dict[str, Any]], object], reason: str) -> None:
    spec = copy.deepcopy(CDI)
    harm(spec)
    said = oci_json.refusal("/etc/cdi/x.json", "cdi", json.dumps(spec))
    assert said is not None
    assert said.startswith(f"/etc/cdi/x.json is not a CDI spec of OCI hooks: {reason}")


def test_what_engines_can_read_is_not_refused() -> None:
    assert oci_json.refusal("/x.json", "hook", json.dumps(HOOK)) is None
    assert oci_json.refusal("/x.json", "cdi", json.dumps(CDI)) is None
    said = oci_json.refusal("/x.json", "hook", json.dumps(CDI))
    assert said == "/x.json is not an OCI hook of schema 1.0.0: the file has no 'hook'"
