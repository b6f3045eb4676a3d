# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Enable CDI in the configuration of Docker's daemon, and keep everything else."""

from __future__ import annotations

import json
import os
from typing import Any

from . import _files

INDENT = 4  # as in Docker's documentation


class NotChanged(Exception):
    """The file was not changed; str() is the line for the admin."""


def read(path: str) -> dict[str, Any]:
    """Return the settings in the file, with features; a missing or empty file has no others, as in Docker.

    Raises:
        NotChanged: it is not a JSON object, or its features are not.
    """
    try:
        with open(path, encoding="utf-8") as file:
            settings = json.loads(file.read().strip() or "{}")
    except FileNotFoundError:
        return {"features": {}}
    except ValueError as error:
        raise NotChanged(f"{path} is not JSON ({error}): Docker does not start with it; correct it") from error
    if isinstance(settings, dict) and settings.get("features") is None:
        settings["features"] = {}
    if not isinstance(settings, dict) or not isinstance(settings["features"], dict):
        raise NotChanged(
            f"{path} is not an object with 'features' as another object: Docker does not start with it; correct it"
        )
    return settings


def switch_on(path: str, check: bool) -> tuple[str, str] | None:
    """Enable CDI in the file, or in a link's target. Owner, mode, and the order of settings stay.

    Returns: this setting before and after, as JSON, or None if it was enabled. The rest of the file may contain
    secrets, such as a proxy's password.

    Raises:
        NotChanged: Docker would not accept the file.
        OSError: it cannot be written.
    """
    settings = read(path)
    if settings["features"].get("cdi") is True:
        return None
    before = {name: value for name, value in settings["features"].items() if name == "cdi"}
    settings["features"]["cdi"] = True
    path = os.path.realpath(path)
    if not check:
        _files.make_missing(os.path.dirname(path))
        mode, owner = 0o644, _files.ROOT
        if os.path.exists(path):
            status = os.stat(path)
            mode, owner = status.st_mode & 0o777, (status.st_uid, status.st_gid)
        _files.write(path, text_of(settings).encode(), mode, owner)
    return text_of({"features": before}), text_of({"features": {"cdi": True}})


def text_of(settings: dict[str, Any]) -> str:
    """Return settings in the file's format."""
    return json.dumps(settings, indent=INDENT, ensure_ascii=False) + "\n"
