# SPDX-License-Identifier: GPL-3.0-or-later
"""What Dropbear needs to tell the node's system log of logins: a socket, whose container it is, and a way to a new one.

The hook opens the socket, whose path leads to the node's own log here. In the container it may lead nowhere, or to a
socket of the image's. Dropbear (svr-logins.c, patch 11-logins) has the formats of system_log.py.

A daemon of the log that was started anew may have another socket at the same path. To connect to it, Dropbear has a
mount of the socket's directory that is in no mount namespace: no path leads out of it, "..", too, and no device in it
can be opened. Where the kernel or the hook's rights do not allow that, and where Dropbear is root on the node, lines
are lost from then on.
"""

from __future__ import annotations

import time

from .. import system_log
from ..linux import syscalls
from ..linux.fast_stdlib import basename, dirname, os
from ..linux.mounts import clone_mount
from ..linux.process import sees_all_processes
from ..log import log, one_line

_TIMEOUT = 48_000  # microseconds that a line may wait: 50 ms at most, by any kernel's clock
_MAX_VALUE = 200  # bytes; Dropbear takes less than 4096 for all
_HARMLESS = (
    syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV | syscalls.MOUNT_ATTR_NOEXEC
)


class LoginLog:
    """What one daemon gets; nothing where it logs no logins."""

    def __init__(self, descriptors: list[int]) -> None:
        """Take open descriptors: the log's socket, what is read of the container, and the log's directory, if any."""
        self._descriptors = descriptors

    def descriptors(self) -> list[int]:
        """Return the descriptors that Dropbear gets."""
        return self._descriptors

    def arguments(self) -> list[str]:
        """Return the arguments with which Dropbear uses them."""
        return ["-L", ",".join(map(str, self._descriptors))] if self._descriptors else []

    def close(self) -> None:
        """Close the descriptors of a caller that stays."""
        for descriptor in self._descriptors:
            os.close(descriptor)


def open_login_log(user: str, with_commands: bool, known: dict[str, str]) -> LoginLog:
    """Return what the daemon of a container of `user` gets. Never raises: it must not fail the start.

    That is nothing where the node has no log for datagrams, or hides processes (hidepid): the processes of sessions,
    which nobody may trace, would be hidden from those who end them. `known` are other fields of its lines.
    """
    if not sees_all_processes():
        return LoginLog([])
    for path in (system_log.JOURNAL, system_log.SYSLOG):
        try:
            socket = syscalls.connect_to_path(path, syscalls.SOCK_DGRAM)
        except OSError:
            continue
        try:
            syscalls.set_send_timeout(socket, _TIMEOUT)
            text = _readable(_description(path, user, with_commands, known))
        except OSError:
            os.close(socket)
            break  # no descriptors are left, or the like
        # In a container without a user namespace, root may trace Dropbear, and use what is root's alone in there.
        directory = -1 if known.get("uid") == "0" else _open_directory(dirname(path))
        return LoginLog([socket, text] if directory < 0 else [socket, text, directory])
    return LoginLog([])


def _readable(data: bytes) -> int:
    """Return a descriptor from which `data`, less than a page, can be read without waiting. Raises OSError."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    os.write(writer, data)
    os.close(writer)
    return reader


def _description(path: str, user: str, with_commands: bool, known: dict[str, str]) -> bytes:
    """Return what Dropbear has to know of the log at `path`, and what its lines say of the container."""
    found = {"user": user, "container": "", "container_id": log.subject[0], "job": "", **known}
    fields = {name: _ascii(value) for name, value in found.items() if value}
    is_journal = path == system_log.JOURNAL
    protocol = "journal" if is_journal else "syslog"
    zone = 0 if is_journal else time.localtime().tm_gmtoff
    label = "".join(f", {name} {fields[name]}" for name in ("user", "container", "job") if name in fields)
    rendered = system_log.journal_fields(fields) if is_journal else system_log.parameters(fields)
    return f"{protocol} {basename(path)} {zone} {with_commands:d}\n{label}\n{rendered}".encode("ascii")


def _open_directory(path: str) -> int:
    """Return a mount of the directory `path` that is in no mount namespace; -1 where that is not possible."""
    try:
        mounted = clone_mount(path)
    except OSError:
        return -1  # before Linux 5.2, or without the right to mount, or with mounts below that the node has locked
    try:
        syscalls.set_mount_attributes(mounted, _HARMLESS)
    except OSError:
        os.close(mounted)
        return -1  # before Linux 5.12
    return mounted


def _ascii(value: str) -> str:
    return one_line(value).encode("ascii", "backslashreplace")[:_MAX_VALUE].decode("ascii")
