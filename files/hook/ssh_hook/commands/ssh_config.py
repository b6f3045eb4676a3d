# SPDX-License-Identifier: GPL-3.0-or-later
"""The caller's ~/.ssh/config on this node: put a line at its top, or remove it. All other bytes stay as they are.

OpenSSH looks for it in the home of the passwd database, whatever HOME is. It may be a link, as dotfile managers make
them: the file that it leads to is then replaced, and the link stays.
"""

from __future__ import annotations

import os
import pwd
import re
import stat
from fnmatch import fnmatchcase
from glob import glob

from ..errors import SYSTEM, HookError, kind_of_os, printable
from ..fast_stdlib import closing, read_all
from ..linux.files import remove_leftovers, replace_files

_MAX_SIZE = 1 << 20  # bytes
_SEPARATORS = re.compile(r"[\s=,\"]+")
_MAX_DEPTH = 16  # of Include, as in ssh
_OWN = "/.oci-hooks/ssh/client/config"  # ends the path of what client-config writes, for each dev-NAME
_COPY = ".before-ocihooks"  # ends the name of the copy


def put_on_top(line: str) -> str | None:
    """Make `line` the first one of the caller's configuration, and remove it from other places there.

    A copy of the old file is beside it, and ends with ``.before-ocihooks``. Return the path of the file, or None if it
    was right already. Raises HookError; the file is then as it was.
    """
    return _change(line, [line.encode() + b"\n"])


def take_out(line: str) -> str | None:
    """Remove `line` from the caller's configuration; otherwise as `put_on_top`."""
    return _change(line, [])


def line_for(host: str) -> str | None:
    """Return the first Host or Match line that names `host` in the caller's configuration or what it includes, or None.

    Patterns such as ``*``, which are for all hosts, do not name one. Raises HookError.
    """
    path = _path()
    try:
        return _line_for(host, path, _MAX_DEPTH)
    except OSError as error:
        raise HookError(SYSTEM, f"cannot read {printable(path)}: {error.strerror}") from None


def _line_for(host: str, path: str, depth: int) -> str | None:
    """As `line_for`, in the file `path`, from which ssh follows Include `depth` times. Raises HookError and OSError."""
    _mode, data = _read(path, f"cannot read {printable(path)}")
    for line in data.decode("utf-8", "replace").split("\n"):
        keyword, *words = filter(None, _SEPARATORS.split(line)) if line.strip() else [""]
        if keyword.lower() in ("host", "match") and any(
            fnmatchcase(host, pattern.lower()) and not fnmatchcase("-", pattern) for pattern in words
        ):
            return line.strip()
        if keyword.lower() == "include" and depth:
            named = [os.path.join(_home(), ".ssh", re.sub(r"\A~/", f"{_home()}/", word)) for word in words]
            for included in sorted(file for word in named if not word.endswith(_OWN) for file in glob(word)):
                try:
                    found = _line_for(host, included, depth - 1)
                except (HookError, OSError):
                    continue  # nor does ssh read it
                if found is not None:
                    return found
    return None


def _path() -> str:
    """Return the path of the configuration, after its links. Raises HookError."""
    return os.path.realpath(f"{_home()}/.ssh/config")


def _home() -> str:
    """Return the caller's home according to the passwd database. Raises HookError."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        raise HookError(SYSTEM, f"cannot find ~/.ssh/config: uid {os.getuid()} has no home on this node") from None


def _change(line: str, first: list[bytes]) -> str | None:
    """Have the configuration begin with the lines `first`, and contain `line` nowhere else."""
    path = _path()
    directory, name = os.path.split(path)
    what = f"cannot change {printable(path)}"
    try:
        if first and not os.path.exists(directory):
            os.mkdir(directory, 0o700)
        mode, old = _read(path, what)
        others = [other for other in old.split(b"\n") if other.strip() != line.encode()]
        new = b"".join(first) + b"\n".join(others)
        if new == old:
            return None
        with closing(os.open(directory, os.O_RDONLY | os.O_DIRECTORY)) as parent:
            remove_leftovers(parent, name)
            copy = {name + _COPY: old} if old else {}
            replace_files(parent, {**copy, name: new}, lambda file: os.fchmod(file, mode))
    except OSError as error:
        raise HookError(kind_of_os(error), f"{what}: {error.strerror}") from None
    return path


def _read(path: str, what: str) -> tuple[int, bytes]:
    """Return the mode and the content of the file; of a new one if it is missing. Raises OSError and HookError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        return 0o600, b""
    with closing(descriptor):
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
            raise HookError(SYSTEM, f"{what}: it is not a regular file of yours")
        data = read_all(descriptor, _MAX_SIZE)
    if len(data) > _MAX_SIZE:
        raise HookError(SYSTEM, f"{what}: it is larger than {_MAX_SIZE} bytes")
    return stat.S_IMODE(status.st_mode), data
