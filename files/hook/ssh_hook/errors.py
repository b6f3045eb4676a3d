# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook's exceptions, their kinds, and the one-line description of a failure in any of its processes.

Each error has a kind, by which people and programs recognize it: texts may change, kinds do not. Their meanings and
remedies are in health/error_catalogue.py, which is not imported when a container starts.
"""

from __future__ import annotations

from .keys import errors as keys

# Kinds of the key store, which the Ansible modules share.
DISK_FULL = keys.DISK_FULL
KEYS_DAMAGED = keys.KEYS_DAMAGED
KEYS_UNSAFE = keys.KEYS_UNSAFE
NO_KEYS = keys.NO_KEYS
SYSTEM = keys.SYSTEM
kind_of_os = keys.kind_of_os
HookError = keys.HookError

ANNOTATION_WRONG = "annotation-wrong"
ARGUMENTS_WRONG = "arguments-wrong"
ATTACH_REFUSED = "attach-refused"
CONFIG_WRONG = "config-wrong"
CONFINEMENT_REFUSED = "confinement-refused"
CONTAINER_ENDED = "container-ended"
CONTAINER_UNFIT = "container-unfit"
DAEMON_FAILED = "daemon-failed"
HOME_HANGS = "home-hangs"
IMAGE_UNFIT = "image-unfit"
INSTALL_DAMAGED = "install-damaged"
INTERNAL = "internal"
LSM_REFUSED = "lsm-refused"
MOUNT_REFUSED = "mount-refused"
NO_CONTAINER = "no-container"
NO_MEMORY = "no-memory"
NO_SHELL = "no-shell"
NOT_TRUSTED = "not-trusted"
PORT_TAKEN = "port-taken"
PORT_UNUSABLE = "port-unusable"
ROOT_NOT_A_MOUNT = "root-not-a-mount"
SECCOMP_UNKNOWN = "seccomp-unknown"
SETTING_WRONG = "setting-wrong"
USER_UNKNOWN = "user-unknown"

KINDS = (
    *(ANNOTATION_WRONG, ARGUMENTS_WRONG, ATTACH_REFUSED, CONFIG_WRONG, CONFINEMENT_REFUSED, CONTAINER_ENDED),
    *(CONTAINER_UNFIT, DAEMON_FAILED, DISK_FULL, HOME_HANGS, IMAGE_UNFIT, INSTALL_DAMAGED, INTERNAL, KEYS_DAMAGED),
    *(KEYS_UNSAFE, LSM_REFUSED, MOUNT_REFUSED, NO_CONTAINER, NO_KEYS, NO_MEMORY, NO_SHELL, NOT_TRUSTED, PORT_TAKEN),
    *(PORT_UNUSABLE, ROOT_NOT_A_MOUNT, SECCOMP_UNKNOWN, SETTING_WRONG, SYSTEM, USER_UNKNOWN),
)

_NO_MEMORY = (
    "there is not enough memory for the hook: the node has run out, or the container's RLIMIT_AS or RLIMIT_DATA, "
    "which crun also applies to its hooks, is too low"
)
_MAX_SHOWN = 100  # characters
_MAX_NAMED = 8


class UnservedError(HookError):
    """The container cannot have SSH, but may start without it."""


class NotCreatedError(HookError):
    """The kernel does not let the hook create a file or directory in the container."""


class LateError(HookError):
    """An operation that a user can block forever did not finish in time."""


class ContainerEndedError(HookError):
    """The container has ended before the hook finished."""

    def __init__(self) -> None:
        super().__init__(CONTAINER_ENDED, "the container exited during its creation: see the engine's own error")


def printable(text: str) -> str:
    """Return `text` for a one-line message: truncated, with unprintable characters escaped."""
    shown = text if text.isprintable() else ascii(text)[1:-1]
    return shown if len(shown) <= _MAX_SHOWN else shown[:_MAX_SHOWN] + "..."


def shorten(names: list[str]) -> str:
    """Return the first of `names` for a message, and the number of the others."""
    more = f" and {len(names) - _MAX_NAMED} more" if names[_MAX_NAMED:] else ""
    return ", ".join(names[:_MAX_NAMED]) + more


def known_kind(kind: str) -> str:
    """Return `kind`, received from another process, if it is one of KINDS, else INTERNAL."""
    return kind if kind in KINDS else INTERNAL


def kind_of(error: BaseException) -> str:
    """Return the kind of any exception."""
    if isinstance(error, HookError):
        return error.kind
    if isinstance(error, MemoryError):
        return NO_MEMORY
    return kind_of_os(error) if isinstance(error, OSError) and error.strerror else INTERNAL


def describe_failure(error: BaseException) -> str:
    """Return one line for `error`: a HookError's text, an OSError's reason; for others with the place in the code."""
    if isinstance(error, HookError):
        return str(error)
    if isinstance(error, MemoryError):
        return _NO_MEMORY
    if isinstance(error, OSError) and error.strerror:
        name = error.filename.decode("utf-8", "replace") if isinstance(error.filename, bytes) else error.filename
        return f"{name}: {error.strerror}" if name else error.strerror
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    code = None if place is None else place.tb_frame.f_code
    where = "" if code is None else f" in {code.co_name} ({code.co_filename.rpartition('/')[2]})"
    return f"{error.__class__.__name__}{where}: {error}"
