# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the work of the module user_keys in an interpreter of its own.

It forks for each user who needs keys, and a fork's time depends on the size of the process: with Ansible's modules
loaded it is three times as long.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys

from ._as_user import AsUserError, look_as_users, run_as_users
from ._keys import writer
from ._keys.passwd import Entry
from ._user_keys import KeyTask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

_PROGRAM = (
    f"import json, sys; order = json.load(sys.stdin); sys.path[:] = order['path']; import {__name__} as w; "
    "w.work(order)"
)

_LIBRARIES = ("binascii", "fcntl", "hashlib", "time")  # modules that the key store imports in functions


class WorkerImportError(Exception):
    """The package cryptography cannot be imported. The text is the traceback."""


def run(
    users: list[Entry], params: dict[str, Any], check_mode: bool
) -> Generator[tuple[Entry, dict[str, Any] | AsUserError], None, None]:
    """Run the task as each of the users; yield (user, result or error) as they finish.

    `params` are those of KeyTask. Raises WorkerImportError, before any key is created.
    """
    import subprocess  # here: it imports threading, which makes each fork of the worker twice as long
    import tempfile

    order = {
        "path": sys.path,
        "users": [[user.name, user.uid, user.gid] for user in users],
        "params": {name: params[name] for name in ("base_dir", "key_type", "overwrite", "state")},
        "check_mode": check_mode,
    }
    waiting = dict(enumerate(users))
    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as errors:
        file.write(json.dumps(order).encode())
        file.seek(0)
        command = [sys.executable, "-BIS", "-c", _PROGRAM]
        with subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE, stderr=errors) as process:
            for line in process.stdout or ():  # never None here; for the type checker
                index, outcome, error = json.loads(line)
                if index is None:
                    raise WorkerImportError(error)
                yield waiting.pop(index), outcome if error is None else AsUserError(error)
        errors.seek(0)
        messages = errors.read().decode(errors="replace").splitlines()
        reason = messages[-1] if messages else f"status {process.returncode}"
    for user in waiting.values():
        yield user, AsUserError(f"the process that works for the users ended unexpectedly: {reason}")


def work(order: dict[str, Any]) -> None:
    """Run the worker: execute the `order` from `run`, and print a line of JSON for each user."""
    task = KeyTask(order["params"], order["check_mode"])
    waiting = {Entry(name, uid, gid, "", "", ""): index for index, (name, uid, gid) in enumerate(order["users"])}
    for name in _LIBRARIES:  # once, as root: users may lack access to the interpreter's files
        importlib.import_module(name)
    for user, settled in look_as_users(list(waiting), task.look):
        _answer(waiting.pop(user), settled, None)
    if not waiting:
        return
    try:
        if not task.absent:
            writer.warm_up()
    except ImportError:
        import traceback

        _answer(None, None, traceback.format_exc())
        return
    gc.disable()  # a collection in the children causes copy-on-write faults
    for user, outcome in run_as_users(list(waiting), task):
        is_error = isinstance(outcome, AsUserError)
        _answer(waiting[user], None if is_error else outcome, str(outcome) if is_error else None)


def _answer(index: int | None, outcome: object, error: str | None) -> None:
    sys.stdout.write(json.dumps([index, outcome, error]) + "\n")
    sys.stdout.flush()
