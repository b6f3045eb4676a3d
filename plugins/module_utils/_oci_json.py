# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check JSON files in which engines find OCI hooks: hook configurations of schema 1.0.0, and CDI specs."""

from __future__ import annotations

import json
import os
import re

STAGES = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
CDI_VERSION = r"0\.[3-9]\.[0-9]+|1\.[0-9]+\.[0-9]+"
CDI_KIND = r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z]([A-Za-z0-9_-]*[A-Za-z0-9])?"
CDI_NAME = r"[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?"
CONDITIONS = {"always": bool, "annotations": dict, "commands": list, "hasBindMounts": bool}


class BadHook(Exception):
    """The hook does not conform to the schema; str() is the reason."""


def need(condition: object, reason: str) -> None:
    """Raise BadHook with the reason unless the condition holds."""
    if not condition:
        raise BadHook(reason)


def keys(value: object, where: str, required: set[str], optional: set[str]) -> dict[str, object]:
    """Return the value, an object with the required keys and no unknown ones; raises BadHook."""
    if not isinstance(value, dict):
        raise BadHook(f"{where} is not an object")
    for name in sorted(required - set(value)):
        raise BadHook(f"{where} has no '{name}'")
    for name in sorted(set(value) - required - optional):
        raise BadHook(f"{where} has the unknown key '{name}'")
    return value


def strings(value: object, where: str) -> list[str]:
    """Return the value, a list of strings that can be passed to a program; raises BadHook."""
    if not isinstance(value, list) or not all(isinstance(item, str) and "\0" not in item for item in value):
        raise BadHook(f"{where} is not a list of strings")
    return value


def pattern(value: object, where: str) -> None:
    """Raise BadHook unless the value is a regular expression."""
    try:
        re.compile(str(value))
    except re.error as error:
        raise BadHook(f"{where} is not a regular expression: {error}") from error
    need(isinstance(value, str), f"{where} is not a string")


def json_of(text: str) -> object:
    """Return the value of a JSON text; raises BadHook."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadHook(f"not JSON: {error}") from error


def program(hook: dict[str, object], where: str) -> None:
    """Raise BadHook unless an OCI hook has the path of a program on this node, and valid arguments."""
    path = hook["path"]
    if not isinstance(path, str) or not os.path.isabs(path):
        raise BadHook(f"{where}.path is not an absolute path")
    need(os.path.isfile(path) and os.access(path, os.X_OK), f"{where}.path {path} is not a program")
    need(strings(hook.get("args", ["hook"]), f"{where}.args"), f"{where}.args is empty")
    for item in strings(hook.get("env", []), f"{where}.env"):
        need(re.match(r"[A-Za-z_][A-Za-z0-9_]*=", item), f"{where}.env has '{item}', which is not NAME=value")
    timeout = hook.get("timeout", 1)
    need(
        isinstance(timeout, int) and timeout is not True and timeout > 0,
        f"{where}.timeout is not a number of seconds from 1 on",
    )


def named(value: object, pattern_text: str, where: str) -> None:
    """Raise BadHook unless the value is a string that matches the pattern."""
    need(
        isinstance(value, str) and re.fullmatch(pattern_text, value), f"{where} is '{value}', which CDI does not accept"
    )


def items(value: object, where: str) -> list[object]:
    """Return the value, a list that is not empty; raises BadHook."""
    if not isinstance(value, list) or not value:
        raise BadHook(f"{where} is not a list with an entry")
    return value


def check_cdi(text: str) -> None:
    """Raise BadHook unless the text is a CDI spec with only OCI hooks, which can be run on this node."""
    root = keys(json_of(text), "the file", {"cdiVersion", "kind", "devices"}, set())
    named(root["cdiVersion"], CDI_VERSION, "cdiVersion")
    named(root["kind"], CDI_KIND, "kind")
    for number, entry in enumerate(items(root["devices"], "devices")):
        where = f"devices[{number}]"
        device = keys(entry, where, {"name", "containerEdits"}, set())
        named(device["name"], CDI_NAME, f"{where}.name")
        edits = keys(device["containerEdits"], f"{where}.containerEdits", {"hooks"}, set())
        for index, item in enumerate(items(edits["hooks"], f"{where}.hooks")):
            name = f"{where}.hooks[{index}]"
            hook = keys(item, name, {"hookName", "path"}, {"args", "env", "timeout"})
            need(hook["hookName"] in STAGES, f"{name}.hookName is '{hook['hookName']}', none of {', '.join(STAGES)}")
            program(hook, name)


def check(text: str) -> None:
    """Raise BadHook unless the text is an OCI hook of schema 1.0.0 that can be run on this node."""
    root = keys(json_of(text), "the file", {"version", "hook", "when", "stages"}, set())
    need(root["version"] == "1.0.0", "version is not '1.0.0'")
    program(keys(root["hook"], "hook", {"path"}, {"args", "env", "timeout"}), "hook")

    when = keys(root["when"], "when", set(), set(CONDITIONS))
    need(when, "when names no condition")
    for name, value in when.items():
        need(isinstance(value, CONDITIONS[name]), f"when.{name} is not a {CONDITIONS[name].__name__}")
    annotations = when.get("annotations", {})
    for name, value in annotations.items() if isinstance(annotations, dict) else ():
        pattern(name, f"when.annotations: '{name}'")
        pattern(value, f"when.annotations: the value of '{name}'")
    for value in strings(when.get("commands", []), "when.commands"):
        pattern(value, f"when.commands: '{value}'")

    stages = strings(root["stages"], "stages")
    need(stages, "stages is empty")
    for stage in stages:
        need(stage in STAGES, f"stages has '{stage}', which is none of {', '.join(STAGES)}")


KINDS = {"hook": ("an OCI hook of schema 1.0.0", check), "cdi": ("a CDI spec of OCI hooks", check_cdi)}


def refusal(path: str, kind: str, text: str) -> str | None:
    """Return the error message for a text for `path`, or None if engines can read it.

    Args:
        kind: one of KINDS
    """
    name, check_kind = KINDS[kind]
    try:
        check_kind(text)
    except BadHook as error:
        return f"{path} is not {name}: {error}"
    return None
