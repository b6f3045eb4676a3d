"""Check that a file is an OCI hook of schema 1.0.0. If not, prints one line with the reason and exits with 1.

Usage: python3 -I -S check_json.py FILE [DESTINATION]

With a DESTINATION, installs the hook there: by an atomic rename of a file with a name that engines do not read.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile

STAGES = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
CONDITIONS = {"always": bool, "annotations": dict, "commands": list, "hasBindMounts": bool}


class BadHook(Exception):
    """The hook does not conform to the schema; str() is the reason."""


def need(condition: object, reason: str) -> None:
    """Raise BadHook with the reason unless the condition holds."""
    if not condition:
        raise BadHook(reason)


def keys(value: object, where: str, required: set[str], optional: set[str]) -> dict[str, object]:
    """Return the value, an object that has the required keys and no unknown ones; raises BadHook."""
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


def check(text: str) -> None:
    """Raise BadHook unless the text is an OCI hook of schema 1.0.0 that can be run on this node."""
    try:
        root = keys(json.loads(text), "the file", {"version", "hook", "when", "stages"}, set())
    except ValueError as error:
        raise BadHook(f"not JSON: {error}") from error
    need(root["version"] == "1.0.0", "version is not '1.0.0'")

    hook = keys(root["hook"], "hook", {"path"}, {"args", "env", "timeout"})
    path = hook["path"]
    if not isinstance(path, str) or not os.path.isabs(path):
        raise BadHook("hook.path is not an absolute path")
    need(os.path.isfile(path) and os.access(path, os.X_OK), f"hook.path {path} is not a program")
    need(strings(hook.get("args", ["hook"]), "hook.args"), "hook.args is empty")
    for item in strings(hook.get("env", []), "hook.env"):
        need(re.match(r"[A-Za-z_][A-Za-z0-9_]*=", item), f"hook.env has '{item}', which is not NAME=value")
    timeout = hook.get("timeout", 1)
    need(
        isinstance(timeout, int) and timeout is not True and timeout > 0,
        "hook.timeout is not a number of seconds from 1 on",
    )

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


def place(text: str, destination: str) -> None:
    """Replace a file by an atomic rename of a new one that belongs to the caller."""
    descriptor, temporary = tempfile.mkstemp(prefix=".hook-", suffix=".new", dir=os.path.dirname(destination))
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
            os.fchown(file.fileno(), os.geteuid(), os.getegid())  # whatever the directory's group
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, destination)
    except BaseException:
        os.unlink(temporary)
        raise


def main(path: str, destination: str = "") -> int:
    """Check one file and install it. Return 0 on success."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        check(text)
    except (BadHook, OSError, UnicodeDecodeError) as error:
        print(f"{destination or path} is not an OCI hook of schema 1.0.0: {error}", file=sys.stderr)
        return 1
    try:
        if destination:
            place(text, destination)
    except OSError as error:
        print(f"{destination} cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
