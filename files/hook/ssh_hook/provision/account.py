# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's account in the container, from its /etc/passwd and /etc/shells, with changes that a login needs.

Formats: passwd(5), shells(5), getusershell(3).
"""

from __future__ import annotations

from ..fast_stdlib import TYPE_CHECKING, basename, fsdecode, fsencode
from ..oci.container_paths import DEFAULT_SHELL

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_ENTRIES = 16  # for one uid
_MAX_HITS = 4096  # occurrences of ":UID:" in the file
_MAX_LINE = 4096  # bytes
_NO_LOGIN = ("nologin", "false")
_NOT_NAMES = "#+-"  # first characters of comments and of NIS lines
_STANDARD_SHELLS = ("/bin/sh", "/bin/csh")  # as in getusershell(3) without /etc/shells


class Account:
    """The user's account in the container, with the new content of files for a login.

    Attributes:
        home: an absolute path.
        login_name: the preferred login name.
        names: all names under which the user can log in.
        entries: the user's lines of /etc/passwd.
        passwd, shells: the new content of /etc/passwd and /etc/shells; None if the file is unchanged.
    """

    def __init__(
        self,
        home: str,
        login_name: str,
        names: list[str],
        entries: list[bytes],
        passwd: bytes | None,
        shells: bytes | None,
    ) -> None:
        self.home = home
        self.login_name = login_name
        self.names = names
        self.entries = entries
        self.passwd = passwd
        self.shells = shells


class AccountRequest:
    """The user who is to log in.

    Attributes:
        uid, gid: in the container's user namespace.
        name, shell: the name and the login shell on the cluster; the shell may be empty.
        home: HOME of the container's process, or a default.
        has_home: whether that HOME is usable.
    """

    def __init__(self, uid: int, gid: int, name: str, shell: str, home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.name = name
        self.shell = shell
        self.has_home = home.startswith("/") and home != "/" and _is_field(home)
        self.home = home if self.has_home else f"/home/{name}"


def find_account(
    request: AccountRequest, passwd: bytes, shells: bytes | None, is_program: Callable[[str], bool]
) -> Account | None:
    """Return the account for `request`; None if the container has no shell.

    `passwd` and `shells` are the container's files, None for a missing one. `is_program` returns whether a path is a
    program in the container. The user can log in under the image's name for the uid and under the name on the cluster.
    The latter is the same in all containers and maps to the user's uid, even if the image uses it for another uid. The
    cluster's login shell is used if the container has it and the entry names only /bin/sh, as entries added by podman
    do. Dropbear requires an entry with the gid of the process, and a shell that is listed in /etc/shells.
    """
    lines = _find_lines(passwd, request.uid)
    present = [fsdecode(passwd[start:end]).split(":") for start, end in lines]
    shell = request.shell if _is_login_shell(request.shell, is_program) else ""
    is_known = any(fields[0] == request.name for fields in present)
    added = [] if is_known else [_new_entry(request, present, shell)]
    own = []
    for fields in present + added:
        repaired = _repair(fields, request, shell, is_program)
        if repaired is None:
            return None
        own.append(repaired)
    listed = _STANDARD_SHELLS if shells is None else _shell_lines(shells)
    missing = sorted({fields[6] or DEFAULT_SHELL for fields in own} - set(listed))
    login = next((fields for fields in own if fields[0] == request.name), own[0])
    entries = [fsencode(":".join(fields)) for fields in own]
    return Account(
        login[5],
        login[0],
        [fields[0] for fields in own],
        entries,
        None if own == present and passwd.endswith(b"\n") else _with_entries(passwd, lines, entries, request.name),
        fsencode("".join(f"{shell}\n" for shell in (*listed, *missing))) if missing else None,
    )


def entries_of(passwd: bytes, uid: int) -> bytes:
    """Return the lines of a passwd file with entries of `uid`."""
    return b"".join(passwd[start:end] + b"\n" for start, end in _find_lines(passwd, uid))


def _find_lines(passwd: bytes, uid: int) -> list[tuple[int, int]]:
    """Return start and end of the first entries of `uid`; other lines are not split, since a file may have millions."""
    needle = b":%d:" % uid
    lines: list[tuple[int, int]] = []
    hit, hits = passwd.find(needle), 0
    while hit >= 0 and len(lines) < _MAX_ENTRIES and hits < _MAX_HITS:
        hits += 1
        start = passwd.rfind(b"\n", 0, hit) + 1
        end = passwd.find(b"\n", hit)
        end = len(passwd) if end < 0 else end
        if end - start < _MAX_LINE:
            fields = fsdecode(passwd[start:end]).split(":")
            if _is_entry_of(fields, uid) and _find_name(passwd, fields[0]) == start:  # else its name finds another line
                lines.append((start, end))
        hit = passwd.find(needle, end)
    return lines


def _find_name(passwd: bytes, name: str) -> int:
    """Return the start of the first line with `name`; -1 if there is none."""
    prefix = fsencode(name) + b":"
    if passwd.startswith(prefix):
        return 0
    hit = passwd.find(b"\n" + prefix)
    return hit if hit < 0 else hit + 1


def _new_entry(request: AccountRequest, present: list[list[str]], shell: str) -> list[str]:
    """Return an entry with the name on the cluster, otherwise like the user's first one, if there is one.

    Its shell is `shell`, unless that is empty.
    """
    template = present[0] if present else ["", "", str(request.uid), str(request.gid), "", request.home, ""]
    # "x" would make PAM look for the name in /etc/shadow, and so refuse even root's su.
    return [request.name, "*", *template[2:6], shell or template[6]]


def _with_entries(passwd: bytes, lines: list[tuple[int, int]], entries: list[bytes], name: str) -> bytes:
    """Return `passwd` with `lines` replaced by the first of `entries`, and the other one, of `name`, added.

    The added entry comes before another uid's line with that name. A lookup by uid still finds the user's first entry.
    """
    edits = [(start, end, entry) for (start, end), entry in zip(lines, entries)]
    place = _find_name(passwd, name)
    added = entries[len(lines) :]
    if added and place >= 0:
        leading = added if lines and lines[0][0] < place else [*entries[: min(1, len(lines))], *added]
        edits.append((place, place, b"".join(entry + b"\n" for entry in leading)))
        added = []
    pieces = []
    done = 0
    for start, end, text in sorted(edits):
        pieces += [passwd[done:start], text]
        done = end
    rest = passwd[done:].rstrip(b"\n")
    return b"".join([*pieces, rest, b"\n" if pieces or rest else b"", *(entry + b"\n" for entry in added)])


def _is_entry_of(fields: list[str], uid: int) -> bool:
    """Return whether Dropbear's C library reads `fields` as an entry of `uid`: it stops at a NUL."""
    is_entry = len(fields) == 7 and fields[0] != "" and fields[0][0] not in _NOT_NAMES and fields[2] == str(uid)
    return is_entry and "\0" not in "".join(fields)


def _repair(
    fields: list[str], request: AccountRequest, preferred: str, is_program: Callable[[str], bool]
) -> list[str] | None:
    """Return the entry with the gid of the process, a home, and an existing shell; None if no shell exists.

    The shell `preferred`, unless empty, replaces a missing shell, /bin/sh, and one that does not allow logins.
    """
    name, password, uid, _gid, gecos, home, shell = fields
    # podman gives a user who is not in the image an entry with the home "/", regardless of HOME.
    if not home.startswith("/") or home == "/nonexistent" or (home == "/" and request.has_home):
        home = request.home
    if basename(shell) in _NO_LOGIN or (shell and not (shell.startswith("/") and is_program(shell))):
        shell = DEFAULT_SHELL
    if preferred and shell in ("", DEFAULT_SHELL):
        shell = preferred
    if shell in ("", DEFAULT_SHELL) and not is_program(DEFAULT_SHELL):
        return None
    return [name, password, uid, str(request.gid), gecos, home, shell]


def _is_login_shell(shell: str, is_program: Callable[[str], bool]) -> bool:
    return shell.startswith("/") and _is_field(shell) and basename(shell) not in _NO_LOGIN and is_program(shell)


def _shell_lines(shells: bytes) -> tuple[str, ...]:
    lines = fsdecode(shells).split("\n")
    return tuple(line for line in lines if line and not line.startswith("#") and "\0" not in line)


def _is_field(text: str) -> bool:
    return not any(character in text for character in ":\n\0")
