# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds, and repairs, files and directories that somebody other than root could tamper with.

A path is safe when it and every directory above it, up to ``/``, are owned by root and writable by neither group nor
others. What a directory holds must be safe too, at any depth. A symbolic link must be owned by root (its mode means
nothing), and where it leads must be safe just like a path that was asked for, including the directories above it.

*   A sticky directory gets no leave. Others cannot rename root's entries in ``/tmp``, but they can put their own there
    before root does, and after every reboot or clean-up that emptied it.
*   Devices, sockets and FIFOs are judged by the same rules, and are never opened.
*   Access control lists need no rule of their own to be found: the group bits of a file's mode are the upper bound of
    all that its ACL gives to named users and groups. The ACL only tells who it is. Default ACLs give nothing today.
*   Set-user-ID and hard links let nobody change a file of root's, so they are no violations.

Everything is looked up from ``/`` on by descriptors (O_PATH, O_NOFOLLOW), each directory judged before a name is
looked up in it. So when no violation is found, nobody but root can have swapped anything on the way.

Paths are bytes, as they are for the kernel; reports show them through `printable`.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

Identity = tuple[int, int]
"""Device and inode number of a file."""

MISSING = "missing"
DANGLING_LINK = "dangling_link"
LINK_LOOP = "link_loop"
OWNER = "owner"
GROUP_WRITABLE = "group_writable"
ACL_WRITABLE = "acl_writable"
OTHER_WRITABLE = "other_writable"
UNVERIFIABLE = "unverifiable"

_MAX_LINKS = 40  # of the kernel, for one path
_SHOWN = 3  # violations in a summary

_HANDLE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

# include/uapi/linux/posix_acl_xattr.h and posix_acl.h; all little-endian.
_ACL_ATTRIBUTE = "system.posix_acl_access"
_ACL_VERSION = 2
_ACL_HEADER = struct.Struct("<I")
_ACL_ENTRY = struct.Struct("<HHI")  # tag, permissions, id
_ACL_USER = 0x02
_ACL_GROUP_OBJ = 0x04
_ACL_GROUP = 0x08
_ACL_MASK = 0x10
_ACL_WRITE = 0x02


class Permissions(NamedTuple):
    """What decides who can write to a file: its owner's uid, and its mode without the file type."""

    uid: int
    mode: int

    def shown(self) -> dict[str, object]:
        """Return them for a report: owner (None if the uid has no name), uid, and mode as an octal string."""
        return {"owner": user_name(self.uid), "uid": self.uid, "mode": f"{self.mode:04o}"}

    def text(self) -> str:
        """Return them as lines for a diff."""
        return f"owner: {_with_number(user_name(self.uid), 'uid', self.uid)}\nmode: {self.mode:04o}\n"


class Violation(NamedTuple):
    """One rule broken in one place.

    path: the file that breaks it, printable.
    rule: one of the names at the top of this file.
    message: one sentence, without a full stop.
    owner, uid, mode: name, number, octal string; None where they cannot be known.
    via: the path asked for, or the link below it, that led to the file; printable.
    """

    path: str
    rule: str
    message: str
    owner: str | None
    uid: int | None
    mode: str | None
    via: str


class Repair(NamedTuple):
    """What was, or would be, changed in one place; path is printable."""

    path: str
    before: Permissions
    after: Permissions


class Outcome(NamedTuple):
    """What a repair did.

    repairs: each change, in the order it was made.
    planned: in check mode, what files would be afterwards.
    refused: why a file was not repaired, by path.
    """

    repairs: list[Repair]
    planned: dict[Identity, Permissions]
    refused: dict[bytes, str]


class File(NamedTuple):
    """An open file: a descriptor that names it and cannot read it, its path without links, and its status."""

    fd: int
    path: bytes
    status: os.stat_result

    @property
    def identity(self) -> Identity:
        """Return what tells the file from all others."""
        return self.status.st_dev, self.status.st_ino

    @property
    def permissions(self) -> Permissions:
        """Return owner and mode as they were when the file was opened."""
        return Permissions(self.status.st_uid, stat.S_IMODE(self.status.st_mode))

    @property
    def is_directory(self) -> bool:
        """Return whether it is a directory."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_link(self) -> bool:
        """Return whether it is a symbolic link."""
        return stat.S_ISLNK(self.status.st_mode)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


class _Unreachable(Exception):
    """A path cannot be followed to its end; link is the one whose text it was, or None for the path asked for."""

    def __init__(self, error: OSError, path: bytes, link: File | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.path = path
        self.link = link


def parse_paths(paths: Sequence[str]) -> list[bytes]:
    """Return the paths, without duplicates and in order, as the kernel wants them.

    Raises ValueError, with a sentence, if there is none or one is not absolute, has a ``..`` or a NUL character.
    """
    if not paths:
        raise ValueError("path is an empty list: name at least one path")
    parsed = set()
    for path in paths:
        shown = printable(path.encode("utf-8", "surrogateescape"))
        if not path.startswith("/"):
            raise ValueError(f"path '{shown}' must be absolute")
        if "\0" in path:
            raise ValueError(f"path '{shown}' must not contain a NUL character")
        parts = [part for part in path.encode("utf-8", "surrogateescape").split(b"/") if part not in (b"", b".")]
        if b".." in parts:
            raise ValueError(f"path '{shown}' must not contain '..': name the directory that is meant")
        parsed.add(b"/" + b"/".join(parts))
    return sorted(parsed)  # and so a link comes before what is asked for below it


def verify(
    *,
    paths: Sequence[bytes],
    directories: Sequence[bytes] = (),
    planned: Mapping[Identity, Permissions] | None = None,
    refused: Mapping[bytes, str] | None = None,
) -> list[Violation]:
    """Return all violations of the given paths (of `parse_paths`), each place and rule once.

    directories must be safe, and so must the directories above them; what they hold is not checked. Where one does not
    exist, whoever can write to the nearest directory above it that does exist could make it, so that one is checked.

    planned, of `Outcome`, is believed instead of what a file is now; refused adds the reason to a violation's message.
    """
    verification = _Verification(planned or {}, refused or {})
    for directory in directories:
        verification.check_alone(directory)
    for path in paths:
        verification.add(path)
    verification.run()
    return list(verification.violations.values())


def repair(*, paths: Sequence[bytes], apply: bool) -> Outcome:
    """Give the paths, and all below them, to root and take write permission from group and others.

    What is not below a path stays: the directories above it, and where links lead. Nor is anything repaired below a
    directory that stays unsafe, for others could swap what is repaired there. A file with several hard links is
    refused: another name of it may lie outside, put there by the one who owns it. Files that change owner lose
    set-user-ID and set-group-ID. The group stays as it is, for it can no longer write.

    Contents are not judged: what others wrote stays, and so do descriptors that they hold open.

    With apply=False nothing is changed, and the outcome is what would be. What cannot be repaired is left to `verify`.
    Raises ValueError if a path is ``/``.
    """
    if b"/" in paths:
        raise ValueError("path '/' cannot be enforced: that would give every file of the system to root")
    reparation = _Reparation(apply)
    for path in paths:
        reparation.run(path)
    return reparation.outcome


def summary(violations: Sequence[Violation]) -> str:
    """Return one line that counts the violations and says the first ones."""
    shown = [violation.message for violation in violations[:_SHOWN]]
    if len(violations) > _SHOWN:
        shown.append(f"and {len(violations) - _SHOWN} more")
    return f"{len(violations)} violation{'s' if len(violations) != 1 else ''}: {'; '.join(shown)}"


def report(outcome: Outcome) -> dict[str, object]:
    """Return what a repair did as a module's result: changed, repaired, and diff with one entry for each file."""
    repaired = [
        {"path": repair.path, "before": repair.before.shown(), "after": repair.after.shown()}
        for repair in outcome.repairs
    ]
    diff = [
        {
            "before_header": repair.path,
            "after_header": repair.path,
            "before": repair.before.text(),
            "after": repair.after.text(),
        }
        for repair in outcome.repairs
    ]
    return {"changed": bool(repaired), "repaired": repaired, "diff": diff}


def printable(path: bytes) -> str:
    """Return a path on one line: what is not printable, and the backslash itself, as a backslash escape."""

    def shown(character: str) -> str:
        if character.isprintable() and character != "\\":
            return character
        if "\udc80" <= character <= "\udcff":  # a byte that is not UTF-8
            return f"\\x{ord(character) - 0xDC00:02x}"
        return character.encode("unicode_escape").decode("ascii")

    return "".join(map(shown, path.decode("utf-8", "surrogateescape")))


@cache
def user_name(uid: int) -> str | None:
    """Return the name of a uid, or None if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


@cache
def group_name(gid: int) -> str | None:
    """Return the name of a gid, or None if it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return None


def acl_writers(acl: bytes) -> tuple[list[str], bool]:
    """Return who can write by an access ACL: the named users and groups, and whether the file's own group can.

    acl is the value of the attribute system.posix_acl_access. The user root does not count. Raises ValueError if it
    is not an ACL.
    """
    try:
        (version,) = _ACL_HEADER.unpack_from(acl)
        entries = list(_ACL_ENTRY.iter_unpack(acl[_ACL_HEADER.size :]))
    except struct.error as error:
        raise ValueError(f"not an access control list: {error}") from None
    if version != _ACL_VERSION:
        raise ValueError(f"not an access control list: version {version}")
    named, own_group, mask = [], False, _ACL_WRITE
    for tag, permissions, number in entries:
        if tag == _ACL_MASK:
            mask = permissions & _ACL_WRITE
        elif permissions & _ACL_WRITE:
            if tag == _ACL_USER and number != 0:
                named.append(f"user {_with_number(user_name(number), 'uid', number)}")
            elif tag == _ACL_GROUP:
                named.append(f"group {_with_number(group_name(number), 'gid', number)}")
            elif tag == _ACL_GROUP_OBJ:
                own_group = True
    return (named, own_group) if mask else ([], False)


def _with_number(name: str | None, kind: str, number: int) -> str:
    return f"{kind} {number}" if name is None else f"{name} ({kind} {number})"


def _access_acl(file: File) -> bytes:
    """Return a file's access ACL, or b"" if it has none that can be read."""
    try:
        return os.getxattr(f"/proc/self/fd/{file.fd}", _ACL_ATTRIBUTE)
    except OSError:
        return b""  # none, or a file system without; the mode alone decides then


def _broken(file: File, permissions: Permissions) -> Iterator[tuple[str, str]]:
    """Yield each rule that a file with these permissions breaks, and the sentence that follows its path."""
    if permissions.uid != 0:
        owner = _with_number(user_name(permissions.uid), "uid", permissions.uid)
        yield OWNER, f"is owned by {owner} and must be owned by root"
    if file.is_link:
        return
    if permissions.mode & stat.S_IWGRP:
        yield from _group_broken(file)
    if permissions.mode & stat.S_IWOTH:
        yield OTHER_WRITABLE, "is writable by everyone and must not be"


def _group_broken(file: File) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a file whose mode lets the group write: it may be the group, or others by an ACL."""
    try:
        named, own_group = acl_writers(_access_acl(file))
    except ValueError:
        named, own_group = [], True
    if named:
        yield ACL_WRITABLE, f"is writable by {', '.join(named)} through its access control list and must not be"
    if own_group or not named:
        group = _with_number(group_name(file.status.st_gid), "gid", file.status.st_gid)
        yield GROUP_WRITABLE, f"is writable by its group {group} and must not be"


def _is_safe(file: File, permissions: Permissions) -> bool:
    return next(_broken(file, permissions), None) is None


def _as_file(fd: int, path: bytes) -> File:
    try:
        return File(fd, path, os.fstat(fd))
    except OSError:
        os.close(fd)
        raise


def _root() -> File:
    return _as_file(os.open(b"/", _HANDLE | os.O_DIRECTORY), b"/")


def _open(name: bytes, parent: File) -> File:
    """Open an entry of a directory, not following it."""
    try:
        # As a directory first, for that is what makes an automounter mount what belongs there.
        fd = os.open(name, _HANDLE | os.O_DIRECTORY, dir_fd=parent.fd)
    except NotADirectoryError:
        fd = os.open(name, _HANDLE, dir_fd=parent.fd)
    return _as_file(fd, os.path.join(parent.path, name))


def _above(directory: File) -> File:
    return _as_file(
        os.open(b"..", _HANDLE | os.O_DIRECTORY, dir_fd=directory.fd),
        os.path.dirname(directory.path),
    )


def _names(directory: File) -> list[bytes]:
    """Return the names in a directory, the last one first."""
    fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory.fd)
    try:
        names = os.listdir(fd)
    finally:
        os.close(fd)
    return sorted(map(os.fsencode, names), reverse=True)


def _resolve(path: bytes, *, follow: bool, visit: Callable[[File], None]) -> File:
    """Follow a path from ``/`` to its end; the last component only if told to, if it is a link.

    visit is called with each file on the way and the last one, open, in order, before it is used. The caller closes
    the file that is returned. Raises _Unreachable.
    """
    pending = _components(path, None)
    here = _root()
    links = 0
    try:
        visit(here)
        while pending:
            name, origin = pending.pop()
            below = os.path.join(here.path, name)
            try:
                there = _above(here) if name == b".." else _open(name, here)
            except OSError as error:
                raise _Unreachable(error, below, origin) from error
            if not there.is_link or not (pending or follow):
                here.close()
                here = there
                visit(here)
                continue
            try:
                visit(there)
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                target = os.readlink(b"", dir_fd=there.fd)
            except OSError as error:
                raise _Unreachable(error, below, there) from error
            finally:
                there.close()
            pending += _components(target, there)
            if target.startswith(b"/"):
                root = _root()
                here.close()
                here = root
    except BaseException:
        here.close()
        raise
    return here


def _components(path: bytes, origin: File | None) -> list[tuple[bytes, File | None]]:
    """Return the names in a path, the last one first, each with the link whose text the path is."""
    return [(name, origin) for name in reversed(path.split(b"/")) if name not in (b"", b".")]


def _walk(top: File, *, visit: Callable[[File], bool], fail: Callable[[bytes, OSError], None]) -> None:
    """Visit all that a directory holds, at any depth, each directory before what it holds.

    visit is called with each open file, and says of a directory whether to enter it. fail is called with a path
    that cannot be visited or entered, and why. Holds one directory open, however deep it is, and goes back up by "..".
    """
    here = File(os.dup(top.fd), top.path, top.status)
    levels: list[tuple[Identity, list[bytes]]] = []

    def enter(directory: File) -> bool:
        try:
            levels.append((directory.identity, _names(directory)))
        except OSError as error:
            fail(directory.path, error)
            return False
        return True

    try:
        enter(here)
        while levels:
            names = levels[-1][1]
            if names:
                name = names.pop()
                try:
                    child = _open(name, here)
                except FileNotFoundError:
                    continue  # removed since the directory was read
                except OSError as error:
                    fail(os.path.join(here.path, name), error)
                    continue
                if visit(child) and enter(child):
                    here, child = child, here
                child.close()
                continue
            levels.pop()
            if levels:
                below = here
                here = _back(below, levels[-1][0])
                below.close()
    except _Unreachable as unreachable:
        fail(unreachable.path, unreachable.error)
    finally:
        here.close()


def _back(directory: File, expected: Identity) -> File:
    """Return the directory above, if it is still the one that this one was entered from."""
    try:
        above = _above(directory)
    except OSError as error:
        raise _Unreachable(error, directory.path, None) from error
    if above.identity != expected:
        above.close()
        moved = OSError(errno.EAGAIN, "it was moved meanwhile, try again")
        raise _Unreachable(moved, directory.path, None)
    return above


class _Verification:
    """One run of `verify`: a queue of paths and links to follow, and the violations found so far."""

    def __init__(self, planned: Mapping[Identity, Permissions], refused: Mapping[bytes, str]) -> None:
        self.violations: dict[tuple[bytes, str], Violation] = {}
        self._planned = planned
        self._refused = refused
        self._queue: deque[bytes] = deque()
        self._queued: set[bytes] = set()
        self._walked: set[bytes] = set()

    def add(self, path: bytes) -> None:
        """Put a path, or a link found on the way, into the queue, if it never was there."""
        if path not in self._queued:
            self._queued.add(path)
            self._queue.append(path)

    def run(self) -> None:
        """Check what is in the queue, and all that it leads to."""
        while self._queue:
            via = self._queue.popleft()
            try:
                self._check(via)
            except _Unreachable as unreachable:
                self._report_unreachable(unreachable, via)

    def check_alone(self, directory: bytes) -> None:
        """Check a directory and those above it, and nothing that it holds."""
        try:
            _resolve(directory, follow=True, visit=lambda passed: self._judge(passed, directory)).close()
        except _Unreachable as unreachable:
            if unreachable.error.errno not in (errno.ENOENT, errno.ENOTDIR):
                self._report_unreachable(unreachable, directory)

    def _check(self, via: bytes) -> None:
        file = _resolve(via, follow=True, visit=lambda passed: self._judge(passed, via))
        try:
            if file.is_directory and not self._was_walked(file.path):
                self._walked.add(file.path)
                _walk(
                    file,
                    visit=lambda found: self._visit(found, via),
                    fail=lambda path, error: self._report_unverifiable(path, error, via),
                )
        finally:
            file.close()

    def _was_walked(self, path: bytes) -> bool:
        """Return whether a directory, or one above it, was walked: then all in it was seen, and loops end here."""
        while path not in self._walked:
            if path == b"/":
                return False
            path = os.path.dirname(path)
        return True

    def _visit(self, file: File, via: bytes) -> bool:
        self._judge(file, via)
        if file.is_link:
            self.add(file.path)
        return file.is_directory

    def _judge(self, file: File, via: bytes) -> None:
        permissions = self._planned.get(file.identity, file.permissions)
        for rule, sentence in _broken(file, permissions):
            self._report(file.path, rule, sentence, permissions, via)

    def _report_unreachable(self, unreachable: _Unreachable, via: bytes) -> None:
        error, link = unreachable.error, unreachable.link
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            if link is None:
                self._report(via, MISSING, "does not exist", None, via)
            else:
                sentence = f"is a link to {printable(unreachable.path)}, which does not exist"
                self._report(link.path, DANGLING_LINK, sentence, link.permissions, via)
        elif error.errno == errno.ELOOP and link is not None:
            self._report(
                link.path,
                LINK_LOOP,
                f"leads in a circle, or through more than {_MAX_LINKS} links",
                link.permissions,
                via,
            )
        else:
            self._report_unverifiable(unreachable.path, error, via)

    def _report_unverifiable(self, path: bytes, error: OSError, via: bytes) -> None:
        self._report(path, UNVERIFIABLE, f"cannot be checked: {error.strerror}", None, via)

    def _report(self, path: bytes, rule: str, sentence: str, permissions: Permissions | None, via: bytes) -> None:
        refusal = self._refused.get(path)
        place = printable(path) if path in self._queued else _place(path, via)
        violation = Violation(
            path=printable(path),
            rule=rule,
            message=f"{place} {sentence}" + (f" (not repaired: {refusal})" if refusal else ""),
            owner=user_name(permissions.uid) if permissions else None,
            uid=permissions.uid if permissions else None,
            mode=f"{permissions.mode:04o}" if permissions else None,
            via=printable(via),
        )
        self.violations.setdefault((path, rule), violation)


def _place(path: bytes, via: bytes) -> str:
    """Return a path for a sentence, with the reason why it matters unless that is plain."""
    if _is_at_or_below(path, via):
        return printable(path)
    if _is_at_or_below(via, path):
        return f"{printable(path)}, above {printable(via)},"
    return f"{printable(path)}, to which {printable(via)} leads,"


def _is_at_or_below(path: bytes, directory: bytes) -> bool:
    return path == directory or path.startswith(directory.rstrip(b"/") + b"/")


class _Reparation:
    """One run of `repair`."""

    def __init__(self, apply: bool) -> None:
        self.outcome = Outcome([], {}, {})
        self._apply = apply

    def run(self, path: bytes) -> None:
        """Repair one path and all below it."""
        unsafe: list[bytes] = []

        def visit(file: File) -> None:
            if not _is_safe(file, self._permissions(file)):
                unsafe.append(file.path)

        try:
            file = _resolve(path, follow=False, visit=visit)
        except _Unreachable:
            return  # there is nothing to repair
        try:
            above = [place for place in unsafe if place != file.path]
            if above:
                self.outcome.refused[file.path] = f"{printable(above[0])} must be safe first"
            elif self._repair(file):
                # What cannot be read is left as it is.
                _walk(file, visit=self._repair, fail=lambda _path, _error: None)
        finally:
            file.close()

    def _permissions(self, file: File) -> Permissions:
        return self.outcome.planned.get(file.identity, file.permissions)

    def _repair(self, file: File) -> bool:
        """Repair one file, and return whether it is a directory whose contents are worth repairing."""
        before = self._permissions(file)
        after = _repaired(file, before)
        if after != before:
            if not file.is_directory and file.status.st_nlink > 1:
                names = file.status.st_nlink
                self.outcome.refused[file.path] = f"it has {names} hard links, replace it by a copy"
                return False
            if self._apply:
                after = self._change(file, before, after)
            else:
                self.outcome.planned[file.identity] = after
            if after != before:
                self.outcome.repairs.append(Repair(printable(file.path), before, after))
        return file.is_directory and _is_safe(file, after)

    def _change(self, file: File, before: Permissions, after: Permissions) -> Permissions:
        """Change a file by its descriptor, and return what became of it."""
        place = f"/proc/self/fd/{file.fd}"  # leads to that very file, a link too
        try:
            # The owner first, or the old one could take the mode back.
            if after.uid != before.uid:
                os.chown(place, after.uid, -1)
            if not file.is_link and stat.S_IMODE(os.fstat(file.fd).st_mode) != after.mode:
                os.chmod(place, after.mode)
        except OSError as error:
            self.outcome.refused[file.path] = error.strerror or str(error)
        status = os.fstat(file.fd)
        return Permissions(status.st_uid, stat.S_IMODE(status.st_mode))


def _repaired(file: File, before: Permissions) -> Permissions:
    """Return what a file must become."""
    mode = before.mode
    if not file.is_link:
        mode &= ~(stat.S_IWGRP | stat.S_IWOTH)
        if before.uid != 0 and not file.is_directory:
            mode &= ~(stat.S_ISUID | stat.S_ISGID)  # nobody's program becomes one that makes its users root
    return Permissions(0, mode)
