# SPDX-License-Identifier: GPL-3.0-or-later
"""The descriptors with which Dropbear writes a line for each login into the node's system log.

The hook connects to the log's socket on the node, because in the container the same path may be missing, or be a socket
of the image. Dropbear (svr-logins.c, patch 11-logins) writes the formats of system_log.py.

A restarted system log may create a new socket at the same path. To connect to that, Dropbear also gets a mount of the
socket's directory. The mount is in no mount namespace, so no path leads out of it, not even "..", and no device in it
can be opened. If the kernel or the hook's privileges do not allow this, or Dropbear is root on the node, Dropbear gets
no such mount. Then lines are lost after a restart of the log.
"""

from __future__ import annotations

import time

from .. import system_log
from ..fast_stdlib import basename, dirname, os
from ..linux import syscalls
from ..linux.mounts import clone_mount
from ..linux.process import sees_all_processes
from ..log import log, one_line

_TIMEOUT = 48_000  # microseconds to send a line: at most 50 ms with any kernel's timer resolution
_MAX_VALUE = 200  # bytes; Dropbear accepts less than 4096 in total
_HARMLESS = (
    syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV | syscalls.MOUNT_ATTR_NOEXEC
)


class LoginLog:
    """The descriptors for one daemon; none if it does not log logins."""

    def __init__(self, descriptors: list[int]) -> None:
        """Take over `descriptors`: the log's socket, a pipe with the description, and the log's directory, if any."""
        self._descriptors = descriptors

    def descriptors(self) -> list[int]:
        """Return the descriptors that Dropbear gets."""
        return self._descriptors

    def arguments(self) -> list[str]:
        """Return Dropbear's command-line arguments for them."""
        return ["-L", ",".join(map(str, self._descriptors))] if self._descriptors else []

    def close(self) -> None:
        """Close the descriptors in the calling process."""
        for descriptor in self._descriptors:
            os.close(descriptor)


def open_login_log(user: str, with_commands: bool, known: dict[str, str]) -> LoginLog:
    """Return the descriptors for the daemon of a container of `user`. It never raises, since a start must not fail.

    There are none if the node's log has no datagram socket, or if /proc hides processes (hidepid): a daemon that logs
    is not dumpable, so poststop and sweeps could not find its sessions. `with_commands`: whether the lines contain the
    commands. `known` are further fields of the lines, by name.
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
            break  # such as too many open files
        # In a container without a user namespace, root may trace Dropbear and take its descriptors.
        directory = -1 if known.get("uid") == "0" else _open_directory(dirname(path))
        return LoginLog([socket, text] if directory < 0 else [socket, text, directory])
    return LoginLog([])


def _readable(data: bytes) -> int:
    """Return the read end of a pipe that contains `data`, which must be less than a page. Raises OSError."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    os.write(writer, data)
    os.close(writer)
    return reader


def _description(path: str, user: str, with_commands: bool, known: dict[str, str]) -> bytes:
    """Return what Dropbear reads first: how to write to the log at `path`, and the fields that all lines have."""
    found = {"user": user, "container": "", "container_id": log.subject[0], "job": "", **known}
    fields = {name: _ascii(value) for name, value in found.items() if value}
    is_journal = path == system_log.JOURNAL
    protocol = "journal" if is_journal else "syslog"
    zone = 0 if is_journal else time.localtime().tm_gmtoff
    label = "".join(f", {name} {fields[name]}" for name in ("user", "container", "job") if name in fields)
    rendered = system_log.journal_fields(fields) if is_journal else system_log.parameters(fields)
    return f"{protocol} {basename(path)} {zone} {with_commands:d}\n{label}\n{rendered}".encode("ascii")


def _open_directory(path: str) -> int:
    """Return a mount of the directory `path` that is in no mount namespace; -1 if that is not possible."""
    try:
        mounted = clone_mount(path)
    except OSError:
        return -1  # before Linux 5.2, without CAP_SYS_ADMIN, or with locked mounts below it
    try:
        syscalls.set_mount_attributes(mounted, _HARMLESS)
    except OSError:
        os.close(mounted)
        return -1  # before Linux 5.12
    return mounted


def _ascii(value: str) -> str:
    return one_line(value).encode("ascii", "backslashreplace")[:_MAX_VALUE].decode("ascii")
