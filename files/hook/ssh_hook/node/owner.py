# SPDX-License-Identifier: GPL-3.0-or-later
"""The owner of a container: the user's name on the cluster and ids in each user namespace."""

from __future__ import annotations

from ..errors import ANNOTATION_WRONG, CONTAINER_UNFIT, INSTALL_DAMAGED, USER_UNKNOWN, HookError, printable
from ..fast_stdlib import TYPE_CHECKING, closing, os
from ..keys import passwd
from ..linux.id_maps import read_map
from ..linux.identity import ROOT, Identity
from ..log import log
from ..oci.annotations import USER
from .engine import NO_LOGIN, Engine, login_uid

if TYPE_CHECKING:
    from ..oci.oci_config import Container
    from ..oci.settings import Settings

_ANNOTATION = f"the annotation {USER}"
_TO_BECOME_ANY_USER = {"CAP_SETUID", "CAP_SETGID"}
_CHUNK = 64 << 10  # bytes; a line of PASSWD_FILE must be shorter


class Owner:
    """The owner of one container. Ids are those of the hook's user namespace.

    Attributes:
        entry: the user's line in PASSWD_FILE.
        name: the name there.
        file_owner: the credentials for opening the user's files on the host.
        user: the container's user.
        is_vouched: whether more than the container's uid, which the image may have chosen, confirms the identity.
    """

    def __init__(self, entry: passwd.Entry, file_owner: Identity, user: Identity, is_vouched: bool = False) -> None:
        self.entry = entry
        self.name = entry.name
        self.is_vouched = is_vouched
        self.file_owner = file_owner
        self.user = user


def find_owner(user: Identity, engine: Engine, settings: Settings, claimed: str) -> Owner:
    """Find the container's `user` in PASSWD_FILE. `claimed` is the name in the annotation, or empty.

    The owner of a rootless engine's container is the engine's user, regardless of its process's uid. With a rootful
    engine the image may have chosen the uid, so the engine's loginuid, or the site's policy, has to confirm it.

    Raises HookError if there is no such user, or the uid is not confirmed.
    """
    owner = _owner_of_engine(user, engine, settings.passwd_file)
    if owner is None:
        entry = _find_by_uid(settings.passwd_file, user.uid)
        if entry is None:
            raise HookError(
                USER_UNKNOWN,
                f"no user has the uid {user.uid} in PASSWD_FILE {settings.passwd_file}: add one, or refresh the file",
            )
        owner = Owner(entry, user, user)
    log.user = owner.name
    if claimed and claimed != owner.name:
        raise HookError(
            ANNOTATION_WRONG,
            f"{_ANNOTATION} is '{printable(claimed)}', but the container runs as {owner.name} (uid {user.uid}): run "
            "the container as that user",
        )
    if not owner.is_vouched:
        owner.is_vouched = _verify_uid(user.uid, owner.name, settings, claimed)
    return owner


def _owner_of_engine(user: Identity, engine: Engine, passwd_file: str) -> Owner | None:
    """Return the user of a rootless engine; None for a rootful one, also in a system container's user namespace."""
    if not engine.is_users():
        return None
    entry = _find_by_uid(passwd_file, engine.host_uid)
    return None if entry is None else Owner(entry, ROOT, user, is_vouched=True)


def _verify_uid(uid: int, name: str, settings: Settings, claimed: str) -> bool:
    """Return whether the loginuid or, if the site allows it, the annotation confirms `uid`. Raises HookError."""
    login = login_uid()
    if login not in (uid, 0, NO_LOGIN):
        raise HookError(
            USER_UNKNOWN,
            f"the container runs as {name} (uid {uid}), but uid {login} started its engine: only {name} may use "
            f"{name}'s SSH keys (podman: --user {login})",
        )
    if login != uid and settings.require_user_annotation and not claimed:
        raise HookError(
            USER_UNKNOWN,
            f"the container runs as {name} (uid {uid}), a uid that its image may have chosen: name the user with "
            f"{_ANNOTATION}={name}",
        )
    return login == uid or settings.require_user_annotation


def _find_by_uid(path: str, uid: int) -> passwd.Entry | None:
    """Return the first entry of `uid` in the passwd file `path`, or None. Raises HookError.

    A large file is read in chunks into one buffer, since allocating memory takes longer than searching it.
    """
    try:
        with closing(os.open(path, os.O_RDONLY | os.O_NOCTTY)) as descriptor:
            offset = 0
            buffer = bytearray(_CHUNK)
            while size := os.preadv(descriptor, [buffer], offset):
                data = buffer if size == _CHUNK else buffer[:size]
                end = data.rfind(b"\n") + 1 or len(data)  # the last line may lack a newline
                if end == _CHUNK and data[-1:] != b"\n":
                    raise HookError(
                        INSTALL_DAMAGED, f"PASSWD_FILE {path} has a line of more than {_CHUNK} bytes: refresh the file"
                    )
                entry = passwd.find_by_uid(data, uid, end)
                if entry is not None:
                    return entry
                offset += end
    except OSError as error:
        raise HookError(INSTALL_DAMAGED, f"cannot read {path}: {error.strerror}") from None
    return None


def prefer_own_user(container: Container, process: int) -> None:
    """Let sessions run as the user of a rootless engine if the container's process is root with a subordinate uid.

    It is so with `podman run --userns=keep-id --user=root`, which distrobox calls: users work under their own uid, and
    root only sets the container up. This gives nobody a new right: root in the container can become that user.

    `process` is the open directory in /proc of a process in the container's user namespace.
    """
    uid = read_map("uid_map", process).inside(os.geteuid())
    gid = read_map("gid_map", process).inside(os.getegid())
    if container.uid == 0 and uid and gid is not None and _TO_BECOME_ANY_USER.issubset(container.permitted):
        container.change_user(uid, gid)


def outside_user(container: Container, process: int, has_user_namespace: bool) -> Identity:
    """Return the container's user with ids of the hook's user namespace. Raises HookError if they are not mapped.

    `process` is the open directory in /proc of a process in the container's user namespace, if it has one of its own.
    """
    if not has_user_namespace:
        return Identity(container.uid, container.gid)
    return Identity(_map_id(process, "uid_map", container.uid), _map_id(process, "gid_map", container.gid))


def _map_id(process: int, kind: str, inside: int) -> int:
    outside = read_map(kind, process).outside(inside)
    if outside is None:
        raise HookError(
            CONTAINER_UNFIT,
            f"the container's process has the id {inside}, which its user namespace does not map ({kind})",
        )
    return outside
