# SPDX-License-Identifier: GPL-3.0-or-later
"""The files by which engines find the hook: directories of hook JSON and CDI specs, and the files that name it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from ..schedulers.nodes import launcher
from .checks import read_text

CDI_DIRS = ("/etc/cdi", "/var/run/cdi")
_HOOKS_DIRS = ("/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d")
_CONFIGURATIONS = ("/usr/share/containers/containers.conf", "/etc/containers/containers.conf")
# The TOML that hooks_dir in containers.conf(5) needs: strings, and anything that is neither string nor comment.
_STRING = r"""\"(?:[^"\\\n]|\\.)*\"|'[^'\n]*'"""
_STRING_OR_COMMENT = re.compile(rf"({_STRING})|#[^\n]*")
_HOOKS_DIR_SETTING = re.compile(
    rf"""^\s*(?:engine\s*\.\s*)?hooks_dir\s*=\s*\[((?:{_STRING}|[^\]"'])*)\]""", re.MULTILINE
)
_APPEND = re.compile(r"\bappend\s*=\s*(true|false)\b")


def hooks_dirs() -> tuple[list[str], str]:
    """Return podman's directories for hook JSON, and the containers.conf(5) that set them last."""
    paths = list(_CONFIGURATIONS)
    paths += _files("/etc/containers/containers.conf.d", ".conf")
    own = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    paths += [f"{own}/containers/containers.conf", *_files(f"{own}/containers/containers.conf.d", ".conf")]
    override = os.environ.get("CONTAINERS_CONF")
    found, where, is_appended = list(_HOOKS_DIRS[:1]), "podman's default", False
    for path in [override] if override else paths:
        setting = _read_hooks_dir(read_text(path))
        if setting is not None:
            named, append = setting
            is_appended = is_appended if append is None else append  # applies to the following files too
            found = found + named if is_appended else named
            where = path
    return list(dict.fromkeys(found)), where


def _read_hooks_dir(text: str) -> tuple[list[str], bool | None] | None:
    """Return hooks_dir of a containers.conf(5), and its `append` if that is set; None without hooks_dir.

    tomllib is missing before Python 3.11.
    """
    match = _HOOKS_DIR_SETTING.search(_STRING_OR_COMMENT.sub(lambda found: found.group(1) or "", text))
    if match is None:
        return None
    strings = re.findall(_STRING, match.group(1))
    append = _APPEND.search(re.sub(_STRING, "", match.group(1)))
    return [_unquoted(string) for string in strings], None if append is None else append.group(1) == "true"


def _unquoted(string: str) -> str:
    """Return the content of a TOML string; only escaped quotes and backslashes are decoded."""
    return string[1:-1] if string[0] == "'" else re.sub(r"\\([\"\\])", r"\1", string[1:-1])


def _files(directory: str, suffix: str = ".json") -> list[str]:
    try:
        return sorted(f"{directory}/{name}" for name in os.listdir(directory) if name.endswith(suffix))
    except OSError:
        return []


def naming_hook(directories: Iterable[str]) -> list[str]:
    """Return the JSON files in `directories` that name this hook."""
    return [path for directory in directories for path in _files(directory) if _names_hook(path)]


def files_naming_hook() -> list[str]:
    """Return the hook JSON and the CDI specs that name this hook, in the directories that engines read."""
    return naming_hook([*hooks_dirs()[0], *CDI_DIRS])


def _names_hook(path: str) -> bool:
    return f'"{launcher()}"' in read_text(path)
