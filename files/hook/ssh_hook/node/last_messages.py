# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook's last messages for a user: the files that ``ssh_hook why`` reads, since runtimes drop the output of hooks.

A rootful engine's hook keeps them in root's directory for the user (places.py). A rootless engine's hook keeps them in
its user's directory. Errors and warnings have separate files, so that a later warning does not hide a failure. A start
without messages touches no file. Under enroot a third file contains the last error of a watcher
(start/enroot_watcher.py), which cannot reach the node's files: the start opens it, and it stays empty until then.

Format: a line "ssh_hook 1", then "name=value" lines: time, in seconds since the epoch, container, bundle and job, and a
line "warning=..." or "error=..." for each message, with a line "kind=..." after it. No value has control characters.
Earlier versions ignore unknown lines, and wrote neither job nor kind.
"""

from __future__ import annotations

import time

from ..errors import KINDS, NOT_TRUSTED, SYSTEM, HookError, printable
from ..fast_stdlib import TYPE_CHECKING, closing, fsencode, os, stat
from ..linux.files import READ, is_own, remove_leftovers, replace_files
from ..linux.process import MAX_ID, is_decimal
from ..log import ERROR, NAMES, one_line
from ..oci.oci_config import read_config
from . import places
from .engine import NO_LOGIN, Engine, login_uid, state_directory, temporary_directory
from .own_places import open_own

if TYPE_CHECKING:
    from typing import Any

WARNINGS = ".warning"  # the suffix of the file with only warnings
ENDED = ".ended"  # the suffix of the file, under enroot, with the error that ended SSH before its container
ROOTS_NAMES = ("error", "warning")
DIRECTORY = "last"
_VERSION = "ssh_hook 1"
_MAX_SIZE = 64 << 10  # bytes
_ENDED_SIZE = 16 << 10  # bytes; all are always written, so that nothing of an earlier error is left


class SavedMessages:
    """The messages saved from one call of the hook.

    Attributes:
        time: seconds since the epoch.
        container, bundle: the container's id and the path of its bundle; empty if unknown.
        job: the scheduler's job; empty if unknown.
        messages: each as (level, kind, text); the level is "warning" or "error", the kind is empty if unknown.
    """

    def __init__(
        self, seconds: int, container: str, bundle: str, job: str, messages: list[tuple[str, str, str]]
    ) -> None:
        self.time = seconds
        self.container = container
        self.bundle = bundle
        self.job = job
        self.messages = messages


def user_directories(uid: int) -> list[str]:
    """Return the directories in which the hook of a rootless engine of `uid` keeps files, preferred first."""
    return [state_directory(uid), temporary_directory(uid)]


def concerned_uid(bundle: str) -> int:
    """Return the uid, in the initial user namespace, of the user to notify of a start. Raises HookError."""
    engine = Engine()
    return engine.host_uid if engine.is_rootless else _user_of(bundle)


def write(container: str, bundle: str, job: str, messages: list[tuple[int, str, str]]) -> None:
    """Save `messages`, each as (level, kind, text), for the user of the container `container` in `bundle`.

    `job` is the scheduler's job. Raises OSError and HookError if no directory can be used.
    """
    engine = Engine()
    uid = concerned_uid(bundle)
    is_error = any(level >= ERROR for level, _kind, _text in messages)
    data = _format(container, bundle, job, messages)
    if engine.host_uid == 0:
        places.write(uid, ROOTS_NAMES[0 if is_error else 1], data)
        return
    name = f"{uid}" if is_error else f"{uid}{WARNINGS}"
    choices = user_directories(uid)
    for place in choices:
        try:
            with closing(open_own(f"{place}/{DIRECTORY}", create=True)) as directory:
                remove_leftovers(directory, name)
                replace_files(directory, {name: data})
            return
        except OSError:
            if place == choices[-1]:
                raise


def open_ended() -> int:
    """Open the file for errors of a rootless engine's watcher; return -1 if no directory can be used."""
    uid = Engine().host_uid
    for place in user_directories(uid):
        try:
            with closing(open_own(f"{place}/{DIRECTORY}", create=True)) as directory:
                flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
                descriptor = os.open(f"{uid}{ENDED}", flags, 0o600, dir_fd=directory)
            if is_own(os.fstat(descriptor)):
                return descriptor
            os.close(descriptor)
        except OSError:
            continue
    return -1


def write_ended(descriptor: int, container: str, kind: str, text: str) -> None:
    """Write an error into the file that `open_ended` returned. Raises OSError."""
    os.pwrite(descriptor, _format(container, "", "", [(ERROR, kind, one_line(text))]).ljust(_ENDED_SIZE, b"\n"), 0)


def _format(container: str, bundle: str, job: str, messages: list[tuple[int, str, str]]) -> bytes:
    fields = [
        f"time={int(time.time())}",
        f"container={printable(container)}",
        f"bundle={bundle if bundle.isprintable() else printable(bundle)}",
        f"job={printable(job)}",
        *(f"{NAMES[level]}={text}\nkind={kind}" for level, kind, text in messages),
    ]
    return fsencode("\n".join([_VERSION, *fields, ""]))


def _user_of(bundle: str) -> int:
    """Return the uid to notify of a rootful engine's start: the login that started it, or else the container's user.

    Root if neither is known. The start may have failed before anything was checked, so this trusts only the kernel's
    loginuid; the container's uid only decides who may read a message.
    """
    login = login_uid()
    if login not in (0, NO_LOGIN):
        return login
    try:
        with closing(os.open(bundle, os.O_PATH | os.O_DIRECTORY)) as directory:
            return _outside_uid(read_config(directory, bundle).value)
    except Exception:
        return 0  # there is no such file, or no runtime would accept it


def _outside_uid(config: dict[str, Any]) -> int:
    """Return the uid of the process in `config`, a config.json, in the hook's user namespace; 0 if it has none."""
    uid = config["process"]["user"]["uid"]
    linux = config.get("linux") or {}
    if any(namespace.get("type") == "user" for namespace in linux.get("namespaces") or []):
        starts = [
            extent["hostID"] + uid - extent["containerID"]
            for extent in linux.get("uidMappings") or []
            if extent["containerID"] <= uid < extent["containerID"] + extent["size"]
        ]
        uid = starts[0] if starts else 0
    return uid if isinstance(uid, int) and 0 <= uid <= MAX_ID else 0


def paths(uid: int) -> list[str]:
    """Return the paths of the files about the user `uid`, of whom not all need to be there."""
    own = [f"{place}/{DIRECTORY}/{uid}{suffix}" for place in user_directories(uid) for suffix in ("", WARNINGS, ENDED)]
    return roots_paths(uid) + own


def roots_paths(uid: int) -> list[str]:
    """Return the paths of the files about the user `uid` of rootful engines."""
    return [f"{places.ENTRIES}/{uid}/{name}" for name in ROOTS_NAMES]


def read(path: str) -> SavedMessages | None:
    """Read a saved file; return None if there is none. Raises HookError if it is not the hook's."""
    try:
        descriptor = os.open(path, READ)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise HookError(SYSTEM, f"cannot read {path}: {error.strerror}") from None
    with closing(descriptor):
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in (0, os.geteuid()):
            raise HookError(NOT_TRUSTED, f"{path} is not one of the hook's files: remove it")
        text = places.read(descriptor)
        return _parse(text, path) if text else None


def _parse(text: str, path: str) -> SavedMessages:
    version, *lines = text.split("\n")
    fields = [line.split("=", 1) for line in lines if "=" in line]
    values = dict(fields)
    seconds = values.get("time", "")
    if version != _VERSION or not is_decimal(seconds, 11):
        raise HookError(NOT_TRUSTED, f"{path} is not a file of this version of the hook: remove it")
    messages = [
        (level, _kind_after(fields[number + 1 :]), message)
        for number, (level, message) in enumerate(fields)
        if level in NAMES
    ]
    container, bundle, job = (values.get(name, "") for name in ("container", "bundle", "job"))
    return SavedMessages(int(seconds), container, bundle, job, messages)


def _kind_after(fields: list[list[str]]) -> str:
    """Return the kind of the message before `fields`; empty if the file has none."""
    name, value = fields[0] if fields else ("", "")
    return value if name == "kind" and value in KINDS else ""
