# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose container it is: the ids of its user in each user namespace, and the user's name on the cluster."""

from __future__ import annotations

from ..errors import HookError, printable
from ..kernel.identity import Identity
from ..kernel.lean import TYPE_CHECKING, closing, os, read_file
from ..keys import passwd
from ..spec.annotations import USER
from .engine import NOBODY, Engine

if TYPE_CHECKING:
    from ..spec.settings import Settings

_ANNOTATION = f"the annotation {USER}"
_UNSET = 2**32 - 1  # loginuid of what no login started
_CHUNK = 64 << 10  # bytes, of which a line of PASSWD_FILE is shorter


class Owner:
    """Attributes: name, in PASSWD_FILE; file_owner, the credentials that the user's files on the host are opened with; user,
    the container's user. The ids are those of the hook's user namespace.
    """

    def __init__(self, name: str, file_owner: Identity, user: Identity) -> None:
        self.name = name
        self.file_owner = file_owner
        self.user = user


def find_owner(user: Identity, engine: Engine, settings: Settings, claimed: str) -> Owner:
    """Find the container's `user` in PASSWD_FILE. `claimed` is the name that its annotation gives, empty where there is none.

    A rootless engine is its user's own, whatever uid the container's process has. With any other, an image may have chosen
    the uid, so somebody has to vouch for it: who started the engine, by the kernel's loginuid, or the site.

    Raises HookError where there is no such user, or nobody vouches for it.
    """
    owner = _owner_of_engine(user, engine, settings.passwd_file)
    is_vouched = owner is not None
    if owner is None:
        entry = _find_by_uid(settings.passwd_file, user.uid)
        if entry is None:
            raise HookError(
                f"no user has the uid {user.uid} in PASSWD_FILE {settings.passwd_file}: add one, or refresh the file"
            )
        owner = Owner(entry.name, user, user)
    if claimed and claimed != owner.name:
        raise HookError(
            f"{_ANNOTATION} is '{printable(claimed)}', but the container runs as {owner.name} (uid {user.uid}): run it as the "
            "user whom it names"
        )
    if not is_vouched:
        _require_vouched(user.uid, owner.name, settings, claimed)
    return owner


def _owner_of_engine(user: Identity, engine: Engine, passwd_file: str) -> Owner | None:
    """Whose rootless engine it is; None for a rootful one, which may be in a user namespace too: in a system container."""
    if not engine.is_rootless or engine.host_uid in (0, NOBODY):
        return None
    entry = _find_by_uid(passwd_file, engine.host_uid)
    return None if entry is None else Owner(entry.name, Identity(0, 0), user)


def _require_vouched(uid: int, name: str, settings: Settings, claimed: str) -> None:
    login = _login_uid()
    if login not in (uid, 0, _UNSET):
        raise HookError(
            f"the container runs as {name} (uid {uid}), but uid {login} started its engine: their SSH keys are nobody else's "
            f"(podman: --user {login})"
        )
    if login != uid and settings.require_user_annotation and not claimed:
        raise HookError(
            f"the container runs as {name} (uid {uid}), which its image may have chosen: name the user by {_ANNOTATION}={name}"
        )


def _login_uid() -> int:
    """The uid of the login that the engine comes from; _UNSET where there was none. Format: proc_pid_loginuid(5)."""
    try:
        return int(read_file("/proc/self/loginuid"))
    except OSError:
        return _UNSET  # a kernel without audit


def _find_by_uid(path: str, uid: int) -> passwd.Entry | None:
    """The first entry of `uid` in a passwd file. A large one is read in parts, into the same memory: to get memory takes longer
    than to search it.
    """
    try:
        with closing(os.open(path, os.O_RDONLY | os.O_NOCTTY)) as descriptor:
            offset = 0
            buffer = bytearray(_CHUNK)
            while size := os.preadv(descriptor, [buffer], offset):
                data = buffer if size == _CHUNK else buffer[:size]
                end = data.rfind(b"\n") + 1 or len(data)  # the last line may have no end
                if end == _CHUNK and data[-1:] != b"\n":
                    raise HookError(f"PASSWD_FILE {path} has a line of more than {_CHUNK} bytes: refresh the file")
                entry = passwd.find_by_uid(data, uid, end)
                if entry is not None:
                    return entry
                offset += end
    except OSError as error:
        raise HookError(f"cannot read {path}: {error.strerror}") from None
    return None
