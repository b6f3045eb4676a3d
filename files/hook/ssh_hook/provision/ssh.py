# SPDX-License-Identifier: GPL-3.0-or-later
"""The ssh command of the container: the script ssh.sh, after lines with the settings of one start."""

from __future__ import annotations

import sys

from ..kernel.lean import TYPE_CHECKING, dirname, fsencode
from .texts import quote

if TYPE_CHECKING:
    from typing import Any


def _read_script() -> bytes:
    loader: Any = sys.modules[__name__].__loader__  # the bundle's, or the import system's own
    _shebang, _newline, script = loader.get_data(f"{dirname(__file__)}/ssh.sh").partition(b"\n")
    return bytes(script)


_SCRIPT = _read_script()  # at import: later the host's files are no longer visible


def script(port: int, wait: int, private_key: str, login_name: str, names: list[str]) -> bytes:
    """Return the text of ssh.

    `port` is the port of containers, `wait` the seconds to wait for one that does not answer yet, and `private_key` the
    path of the user's key. `names` are all names under which the user can log in; `login_name` is the preferred one.
    """
    settings = {
        "port": str(port),
        "wait": str(wait),
        "key": private_key,
        "login": login_name,
        "names": "\n".join(names),
    }
    lines = [f"_{name}={quote(value)}\n" for name, value in settings.items()]
    return fsencode("#!/bin/sh\n" + "".join(lines)) + _SCRIPT
