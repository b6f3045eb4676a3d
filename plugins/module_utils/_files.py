# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write files by an atomic rename; compare and remove files and directories that belong to root.

Only what this collection has written is replaced or removed: see is_ours().
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import tempfile

ROOT = (0, 0)  # uid and gid
# What identifies this collection's files in formats without comments: the hook JSON and the CDI spec, the metrics, and
# the completion.
JSON_PARTS = (b"start-ssh-daemon", b"REQUIRE_USER_ANNOTATION=")
FIRST_WORDS = (b"# HELP ssh_hook_", b"# bash completion for ssh_hook:")


def write(path: str, content: bytes, mode: int = 0o644, owner: tuple[int, int] | None = ROOT) -> None:
    """Replace a file by an atomic rename. No one can read it half written, even after a crash.

    The temporary file next to it begins with a dot and has no suffix, so that no engine reads it as a hook.

    Args:
        owner: uid and gid; None for those of the process.

    Raises:
        OSError: it cannot be written. No temporary file is left then.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=".new-", dir=os.path.dirname(path))
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            if owner is not None:
                os.fchown(descriptor, *owner)  # first: then nobody can change the mode back
            os.fchmod(descriptor, mode)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def read(path: str) -> bytes:
    """Return the content of a file; empty if it is missing, or not a regular file."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return file.read() if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""
    except OSError:
        return b""


def is_as(path: str, kind_and_mode: int) -> bool:
    """Return whether a path is root's, and of this type and mode, such as 0o100644 for a file."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return (status.st_mode, status.st_uid, status.st_gid) == (kind_and_mode, *ROOT)


def digest(path: str, mode: int = 0o644) -> str | None:
    """Return the SHA-256 of root's regular file with this mode; None if it is not such a file."""
    return hashlib.sha256(read(path)).hexdigest() if is_as(path, stat.S_IFREG | mode) else None


def is_ours(path: str) -> bool:
    """Return whether this collection wrote a file: a mark in its first lines, or what no other program writes."""
    from ._keys import name_service  # here: the controller imports this module, and says so if files/ is missing

    content = read(path)
    return (
        name_service.is_marked(content)
        or all(part in content for part in JSON_PARTS)
        or content.startswith(FIRST_WORDS)
    )


def is_foreign(path: str) -> bool:
    """Return whether something that this collection did not write is at a path."""
    return os.path.lexists(path) and not is_ours(path)


def refuse_foreign(path: str) -> None:
    """Raise OSError if something that this collection did not write is at a path."""
    if is_foreign(path):
        raise OSError(errno.EEXIST, "this collection did not write it, and replaces and removes only its own", path)


def update(path: str, content: bytes, mode: int = 0o644, check: bool = False, *, is_known: bool = False) -> bool:
    """Write a file, owned by root, unless it is up to date. Return whether it had to be written.

    Args:
        check: only compare.
        is_known: whether the caller knows that this collection wrote the existing file.

    Raises:
        OSError: it cannot be written, or another program wrote it.
    """
    if is_as(path, stat.S_IFREG | mode) and read(path) == content:
        return False
    if not is_known:
        refuse_foreign(path)
    if not is_writable(os.path.dirname(path)):  # also in check mode
        raise OSError(errno.EROFS, "root cannot create files in its directory", path)
    if not check:
        write(path, content, mode)
    return True


def update_directory(path: str, check: bool = False) -> bool:
    """Create or repair a directory, owned by root, mode 0755. Return whether that was needed. Links are not followed.

    Args:
        check: only compare.

    Raises:
        OSError: it cannot be made.
    """
    if is_as(path, 0o40755):
        return False
    if check:
        return True
    if os.path.lexists(path) and (os.path.islink(path) or not os.path.isdir(path)):
        os.unlink(path)
    if not os.path.lexists(path):
        os.mkdir(path, 0o700)  # regardless of the connection's umask
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(descriptor, *ROOT)  # first: then nobody can change the mode back
        os.fchmod(descriptor, 0o755)
    finally:
        os.close(descriptor)
    return True


def is_writable(directory: str) -> bool:
    """Return whether root can create files in a directory, which need not exist.

    It cannot on a read-only file system, on a file server that grants root nothing, in an immutable directory, or below
    a file.
    """
    while not os.path.lexists(directory):
        directory = os.path.dirname(directory)
    return os.path.isdir(directory) and os.access(directory, os.W_OK | os.X_OK)


def existing(path: str) -> str:
    """Return a directory, or its nearest existing parent."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def make_missing(path: str, check: bool = False) -> bool:
    """Create a directory and missing parents, owned by root, mode 0755. Return whether any was created.

    An existing one belongs to the site, and stays as it is, also if it is a link.

    Raises:
        OSError: it cannot be made.
    """
    if os.path.isdir(path):
        return False
    if os.path.lexists(path):
        raise NotADirectoryError(errno.ENOTDIR, "it, or its target, is not a directory", path)
    if not check:
        make_missing(os.path.dirname(path))
        update_directory(path)
    return True


def remove(path: str, check: bool = False) -> bool:
    """Remove a file, a link, or a directory with its content. Return whether there was one.

    Raises:
        OSError: it cannot be removed.
    """
    if not os.path.lexists(path):
        return False
    if not check:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    return True


def remove_others(directory: str, wanted: set[str], check: bool = False) -> list[str]:
    """Remove what is in a directory but not in `wanted`. Return the removed paths."""
    if os.path.islink(directory) or not os.path.isdir(directory):
        return []
    others = sorted(os.path.join(directory, name) for name in os.listdir(directory) if name not in wanted)
    for path in others:
        remove(path, check)
    return others
