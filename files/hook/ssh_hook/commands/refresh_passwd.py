# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook refresh-passwd``: update the hook's passwd file from the node's name service. A timer runs it."""

from __future__ import annotations

import os
import stat
from argparse import ArgumentParser, Namespace

from ..errors import ARGUMENTS_WRONG, SYSTEM, HookError, kind_of_os
from ..fast_stdlib import closing
from ..keys import name_service
from ..node.public_file import MODE, replace

DESCRIPTION = "Write the output of 'getent passwd' to FILE, and print whether the file changed."
EXAMPLE = "ssh_hook refresh-passwd /opt/oci-hooks/etc/passwd"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "file", metavar="FILE", help="the file, in the format of /etc/passwd; /etc/passwd itself is refused"
    )


def run(arguments: Namespace, _settings: dict[str, str]) -> int:
    """Refresh the file; return 0. Raises HookError if it cannot be updated."""
    path: str = arguments.file
    if name_service.is_nodes_file(path):
        raise HookError(ARGUMENTS_WRONG, f"{path} is the node's own passwd file, which is never replaced: give another")
    try:
        print("changed" if _refresh(path) else "unchanged")
    except name_service.NotRefreshed as error:
        raise HookError(SYSTEM, str(error)) from None
    except OSError as error:
        raise HookError(kind_of_os(error), f"{path} cannot be refreshed: {error.strerror}") from None
    return 0


def _refresh(path: str) -> bool:
    """Replace the file if it is outdated; return whether it was replaced.

    Raises NotRefreshed, HookError and OSError.
    """
    accounts = name_service.entries(name_service.list_accounts())
    directory, name = os.path.split(path)
    with closing(os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY)) as place:
        old, is_public = _read(name, place)
        content = name_service.new_content(path, old, accounts)
        if is_public and content == old:
            return False
        replace(path, place, content)
    return True


def _read(name: str, directory: int) -> tuple[bytes, bool]:
    """Return the file's content, and whether its owner and mode are correct; empty and False without a file."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except OSError:
        return b"", False
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        data = file.read() if stat.S_ISREG(status.st_mode) else b""
    is_public = (status.st_mode, status.st_uid, status.st_gid) == (stat.S_IFREG | MODE, os.geteuid(), os.getegid())
    return data, is_public
