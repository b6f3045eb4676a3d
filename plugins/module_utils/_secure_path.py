# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find and repair files and directories that users other than root could tamper with.

A path is safe when it and every directory above it, up to ``/``, are owned by root and not writable by group or others.
The contents of a directory must be safe too, at any depth. A symbolic link must be owned by root (its mode has no
meaning), and its target must be safe like a requested path, including the directories above it.

*   A sticky directory is no exception. Others cannot rename root's entries in ``/tmp``, but they can create their own
    before root does, and after every reboot or clean-up that emptied it.
*   Devices, sockets and FIFOs are judged by the same rules, and are never opened.
* Access control lists need no extra rule: the group bits of a file's mode are the mask of what its ACL grants to named
users and groups. The ACL only names them. Default ACLs grant nothing by themselves.
*   Set-user-ID bits and hard links do not let users change root's files, so they are no violations.

The hook uses the same functions (`_linux.ownership`, `_linux.resolution`), for example in ``ssh_hook doctor --node``.

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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from ._linux.ownership import other_writers
from ._linux.resolution import File, UnreachableError, open_above, open_entry, resolve
from .fast_stdlib import MAX_LINKS

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

ABSENT = (MISSING, DANGLING_LINK)  # a missing file cannot be changed
CHANGEABLE = (OWNER, GROUP_WRITABLE, ACL_WRITABLE, OTHER_WRITABLE)

_SHOWN = 3  # violations in a summary

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
    """The owner of a file (a uid), and its mode without the file type."""

    uid: int
    mode: int

    def shown(self) -> dict[str, object]:
        """Return a dict for reports: owner (None if the uid has no name), uid, and mode as an octal string."""
        return {"owner": user_name(self.uid), "uid": self.uid, "mode": f"{self.mode:04o}"}

    def text(self) -> str:
        """Return text lines for a diff."""
        return f"owner: {_with_number(user_name(self.uid), 'uid', self.uid)}\nmode: {self.mode:04o}\n"


class Violation(NamedTuple):
    """A violation of a rule by a file.

    Attributes:
        path: the file's path, printable.
        rule: one of the constants above.
        message: one sentence, without a full stop.
        owner, uid, mode: name, number, octal string; None if unknown.
        via: the requested path, or the link below it, that led to the file; printable.
    """

    path: str
    rule: str
    message: str
    owner: str | None
    uid: int | None
    mode: str | None
    via: str


class Repair(NamedTuple):
    """A change of a file, made or (in check mode) planned. path is printable."""

    path: str
    before: Permissions
    after: Permissions


class Outcome(NamedTuple):
    """The outcome of a repair.

    Attributes:
        repairs: the changes, in order.
        planned: in check mode, the permissions that files would get.
        refused: why a file was not repaired, keyed by path.
    """

    repairs: list[Repair]
    planned: dict[Identity, Permissions]
    refused: dict[bytes, str]


def permissions_of(file: File) -> Permissions:
    """Return owner and mode at the time when the file was opened."""
    return Permissions(file.status.st_uid, stat.S_IMODE(file.status.st_mode))


class WeakPoint(NamedTuple):
    """A file on the path to another, through which a user can replace the other.

    Attributes:
        path: the file's path, printable
        owner: name and uid of its owner, if the owner can do so; None if others can because of its mode
    """

    path: str
    owner: str | None


def parse_paths(paths: Sequence[str]) -> list[bytes]:
    """Return the paths as normalized bytes, sorted and without duplicates.

    Raises ValueError if the list is empty, or a path is not absolute, or contains ``..`` or a NUL character.
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
    return sorted(parsed)  # a link comes before paths below it


def verify(
    *,
    paths: Sequence[bytes],
    directories: Sequence[bytes] = (),
    planned: Mapping[Identity, Permissions] | None = None,
    refused: Mapping[bytes, str] | None = None,
) -> list[Violation]:
    """Return all violations in the given paths (of `parse_paths`), each pair of file and rule once.

    directories are checked with the directories above them, but without their contents. If one does not exist, its
    nearest existing parent is checked, since a user who can write to that could create it.

    planned, of `Outcome`, overrides the permissions of files; refused adds the reason to a violation's message.
    """
    verification = _Verification(planned or {}, refused or {})
    for directory in directories:
        verification.check_alone(directory)
    for path in paths:
        verification.add(path)
    verification.run()
    return list(verification.violations.values())


def violations_of(*paths: str) -> list[Violation]:
    """Return what `verify` finds in these paths, at least one. Raises ValueError like `parse_paths`."""
    return verify(paths=parse_paths(paths))


def weak_points(path: bytes, trusted: Collection[int]) -> list[WeakPoint]:
    """Return the files on the way to a path, including itself, through which an untrusted user can replace it.

    A sticky directory does not count: others can create entries there, but rename or remove only their own. Neither
    does a directory that is writable by its owner's private group, as some distributions create them. If the path does
    not exist, its existing part is checked. Check it again after creating it.

    Args:
        path: an absolute path; links and ``..`` are followed like in the kernel
        trusted: uids of the trusted users

    Raises:
        OSError: the path cannot be resolved.
    """
    found = []

    def visit(file: File) -> None:
        uid, mode = permissions_of(file)
        if uid not in trusted:
            found.append(WeakPoint(printable(file.path), _with_number(user_name(uid), "uid", uid)))
        elif file.is_link or mode & stat.S_ISVTX:
            pass
        elif mode & stat.S_IWOTH or (mode & stat.S_IWGRP and not _is_private_group(file)):
            found.append(WeakPoint(printable(file.path), None))

    try:
        resolve(path, follow=True, visit=visit).close()
    except UnreachableError as unreachable:
        if unreachable.error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise unreachable.error from None
    return found


def _is_private_group(file: File) -> bool:
    """Return whether a file's group is its owner's private group, without other members, and no ACL adds others."""
    if file.status.st_uid == 0:
        return False
    try:
        owner, group = pwd.getpwuid(file.status.st_uid), grp.getgrgid(file.status.st_gid)
    except KeyError:
        return False
    is_own = (group.gr_name, group.gr_gid) == (owner.pw_name, owner.pw_gid)
    users = {entry.pw_name for entry in pwd.getpwall() if entry.pw_gid == group.gr_gid} | set(group.gr_mem)
    return is_own and users <= {owner.pw_name} and not _access_acl(file)


def repair(*, paths: Sequence[bytes], apply: bool) -> Outcome:
    """Make root own the paths and everything below, and remove write permission of group and others. Idempotent.

    Directories above a path, and the targets of links, stay as they are. Nothing is repaired below a directory that
    stays unsafe, since others could replace files there. A file with several hard links is refused: its owner may have
    another link to it elsewhere. Files that change owner lose set-user-ID and set-group-ID. The group stays, since it
    can no longer write.

    Contents are not checked: what others wrote stays, and so do their open descriptors.

    With apply=False nothing is changed, and the outcome is the plan. `verify` reports what cannot be repaired. Raises
    ValueError if a path is ``/``.
    """
    if b"/" in paths:
        raise ValueError("path '/' cannot be enforced: that would give every file of the system to root")
    repair_run = _RepairRun(apply)
    for path in paths:
        repair_run.run(path)
    return repair_run.outcome


def summary(violations: Sequence[Violation], named_by: Sequence[str]) -> str:
    """Return one line with the number of violations and the result of `sentences`."""
    number = f"{len(violations)} violation{'s' if len(violations) != 1 else ''}"
    return f"{number}: {sentences(violations, named_by)}"


def sentences(violations: Sequence[Violation], named_by: Sequence[str]) -> str:
    """Return one line with the first messages and, if others can change something, the remedy.

    Args:
        named_by: files that name a directory with a violation to the dynamic loader
    """
    messages = first_messages([violation.message for violation in violations])
    is_changeable = any(violation.rule in CHANGEABLE for violation in violations)
    return f"{messages}: {remedy(named_by)}" if is_changeable else f"{messages}."


def first_messages(messages: Sequence[str]) -> str:
    """Return one line with the first messages of violations, and the number of the others."""
    more = [f"and {len(messages) - _SHOWN} more"] if len(messages) > _SHOWN else []
    return "; ".join([*messages[:_SHOWN], *more])


def remedy(named_by: Sequence[str]) -> str:
    """Return what to do about violations, as the end of a message after a colon.

    Args:
        named_by: files that name a directory with a violation to the dynamic loader
    """
    removal = f", or remove the directory from {' and '.join(named_by)} and run ldconfig" if named_by else ""
    return (
        "whoever can change this can change what root runs. Give it to root, and take write permission from group and "
        f"others{removal}."
    )


def report(outcome: Outcome) -> dict[str, object]:
    """Return a module's result for a repair: changed, repaired, and diff with one entry for each file."""
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
    """Return a path on one line, with unprintable characters and backslashes escaped."""

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
    """Return who can write according to an access ACL: the named users and groups, and whether the owning group can.

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
    """Return a file's access ACL, or b"" if it has none or cannot be read."""
    try:
        return os.getxattr(f"/proc/self/fd/{file.fd}", _ACL_ATTRIBUTE)
    except OSError:
        return b""  # no ACL, or the file system has none: only the mode counts


def _violated_rules(file: File, permissions: Permissions) -> Iterator[tuple[str, str]]:
    """Yield each rule that a file with these permissions violates, and the message without the path."""
    kind = stat.S_IFMT(file.status.st_mode)
    by_owner, by_group, by_others = other_writers(permissions.uid, kind | permissions.mode, 0)
    if by_owner:
        owner = _with_number(user_name(permissions.uid), "uid", permissions.uid)
        yield OWNER, f"is owned by {owner} and must be owned by root"
    if by_group:
        yield from _violated_group_rules(file)
    if by_others:
        yield OTHER_WRITABLE, "is writable by everyone and must not be"


def _violated_group_rules(file: File) -> Iterator[tuple[str, str]]:
    """Yield the rules that a group-writable file violates: the group, or the ACL's users and groups, can write."""
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
    return next(_violated_rules(file, permissions), None) is None


def _names(directory: File) -> list[bytes]:
    """Return the names in a directory in descending order."""
    fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory.fd)
    try:
        names = os.listdir(fd)
    finally:
        os.close(fd)
    return sorted(map(os.fsencode, names), reverse=True)


def _walk(top: File, *, visit: Callable[[File], bool], fail: Callable[[bytes, OSError], None]) -> None:
    """Visit all files in a directory, at any depth, each directory before its contents.

    visit is called with each open file, and returns whether to enter a directory. fail is called with a path that
    cannot be visited or entered, and the error. Only one directory is open at a time: the walk returns through "..".
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
                    child = open_entry(name, here)
                except FileNotFoundError:
                    continue  # it was removed
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
    except UnreachableError as unreachable:
        fail(unreachable.path, unreachable.error)
    finally:
        here.close()


def _back(directory: File, expected: Identity) -> File:
    """Open the parent directory. Raises UnreachableError if it is not the `expected` one: the directory was moved."""
    try:
        above = open_above(directory)
    except OSError as error:
        raise UnreachableError(error, directory.path, None) from error
    if above.identity != expected:
        above.close()
        moved = OSError(errno.EAGAIN, "it was moved during the check, try again")
        raise UnreachableError(moved, directory.path, None)
    return above


class _Verification:
    """A run of `verify`. Attributes: violations, those found so far."""

    def __init__(self, planned: Mapping[Identity, Permissions], refused: Mapping[bytes, str]) -> None:
        self.violations: dict[tuple[bytes, str], Violation] = {}
        self._planned = planned
        self._refused = refused
        self._queue: deque[bytes] = deque()
        self._queued: set[bytes] = set()
        self._walked: set[bytes] = set()

    def add(self, path: bytes) -> None:
        """Queue a requested path, or a link that was found, unless it was queued before."""
        if path not in self._queued:
            self._queued.add(path)
            self._queue.append(path)

    def run(self) -> None:
        """Check all queued paths, and the links that they lead to."""
        while self._queue:
            via = self._queue.popleft()
            try:
                self._check(via)
            except UnreachableError as unreachable:
                self._report_unreachable(unreachable, via)

    def check_alone(self, directory: bytes) -> None:
        """Check a directory and those above it, but not its contents."""
        try:
            resolve(directory, follow=True, visit=lambda passed: self._judge(passed, directory)).close()
        except UnreachableError as unreachable:
            if unreachable.error.errno not in (errno.ENOENT, errno.ENOTDIR):
                self._report_unreachable(unreachable, directory)

    def _check(self, via: bytes) -> None:
        file = resolve(via, follow=True, visit=lambda passed: self._judge(passed, via))
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
        """Return whether a directory, or one above it, was walked before, which also ends loops of links."""
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
        permissions = self._planned.get(file.identity, permissions_of(file))
        for rule, sentence in _violated_rules(file, permissions):
            self._report(file.path, rule, sentence, permissions, via)

    def _report_unreachable(self, unreachable: UnreachableError, via: bytes) -> None:
        error, link = unreachable.error, unreachable.link
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            if link is None:
                self._report(via, MISSING, "does not exist", None, via)
            else:
                sentence = f"is a link to {printable(unreachable.path)}, which does not exist"
                self._report(link.path, DANGLING_LINK, sentence, permissions_of(link), via)
        elif error.errno == errno.ELOOP and link is not None:
            self._report(
                link.path,
                LINK_LOOP,
                f"leads in a circle, or through more than {MAX_LINKS} links",
                permissions_of(link),
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
    """Return a path for a message, with its relation to `via` unless it is below that."""
    if _is_at_or_below(path, via):
        return printable(path)
    if _is_at_or_below(via, path):
        return f"{printable(path)}, above {printable(via)},"
    return f"{printable(path)}, to which {printable(via)} leads,"


def _is_at_or_below(path: bytes, directory: bytes) -> bool:
    return path == directory or path.startswith(directory.rstrip(b"/") + b"/")


class _RepairRun:
    """A run of `repair`. Attributes: outcome."""

    def __init__(self, apply: bool) -> None:
        self.outcome = Outcome([], {}, {})
        self._apply = apply

    def run(self, path: bytes) -> None:
        """Repair a path and everything below it."""
        unsafe: list[bytes] = []

        def visit(file: File) -> None:
            if not _is_safe(file, self._permissions(file)):
                unsafe.append(file.path)

        try:
            file = resolve(path, follow=False, visit=visit)
        except UnreachableError:
            return  # it does not exist; `verify` reports that
        try:
            above = [place for place in unsafe if place != file.path]
            if above:
                self.outcome.refused[file.path] = f"{printable(above[0])} must be safe first"
            elif self._repair(file):
                # `verify` reports what cannot be read.
                _walk(file, visit=self._repair, fail=lambda _path, _error: None)
        finally:
            file.close()

    def _permissions(self, file: File) -> Permissions:
        return self.outcome.planned.get(file.identity, permissions_of(file))

    def _repair(self, file: File) -> bool:
        """Repair a file; return whether it is a safe directory, whose contents can be repaired."""
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
        """Change a file through its descriptor; return its new permissions."""
        place = f"/proc/self/fd/{file.fd}"  # the opened file itself, even if it is a link
        try:
            # The owner first, otherwise the old one could restore the mode.
            if after.uid != before.uid:
                os.chown(place, after.uid, -1)
            if not file.is_link and stat.S_IMODE(os.fstat(file.fd).st_mode) != after.mode:
                os.chmod(place, after.mode)
        except OSError as error:
            self.outcome.refused[file.path] = error.strerror or str(error)
        status = os.fstat(file.fd)
        return Permissions(status.st_uid, stat.S_IMODE(status.st_mode))


def _repaired(file: File, before: Permissions) -> Permissions:
    """Return the permissions that a file must get."""
    mode = before.mode
    if not file.is_link:
        mode &= ~(stat.S_IWGRP | stat.S_IWOTH)
        if before.uid != 0 and not file.is_directory:
            mode &= ~(stat.S_ISUID | stat.S_ISGID)  # another user's program must not become set-user-ID root
    return Permissions(0, mode)
