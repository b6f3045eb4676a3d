# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of a running daemon, beside the bundle, by which poststop knows it again.

A pid alone says nothing: it may be another process's by now, and a pidfile may be anybody's to write. The record is
root's, and names a process by pid, start time and boot, and its program by device and inode.

Format: a line "ssh_hook 1", then "name=value" lines; values hold no control characters.
"""

from __future__ import annotations

import errno
import os
import stat

from .errors import HookError
from .process import Process

NAME = "ssh_hook.daemon"
_TEMPORARY = NAME + ".new"
_VERSION = "ssh_hook 1"
_MAX_SIZE = 64 << 10  # bytes
_MAX_PID = 2**31 - 1
_MAX_ID = 2**32 - 2
_MAX_DIGITS = 20  # of 64 bits
_NUMBERS = ("pid", "start_time", "program_device", "program_inode", "uid", "gid")


class Record:
    """Attributes: pid; start_time, clock ticks since boot; boot_id; program_device and program_inode; pidfile_host,
    empty where there is none; uid and gid of the user who owns it. All as the hook's namespaces see them.
    """

    def __init__(self, numbers: dict[str, int], boot_id: str, pidfile_host: str) -> None:
        self.numbers = numbers
        self.boot_id = boot_id
        self.pidfile_host = pidfile_host

    @property
    def pid(self) -> int:
        """The daemon's pid."""
        return self.numbers["pid"]

    def process(self) -> Process | None:
        """The recorded process; None where it is gone, whoever has its pid by now. Raises OSError."""
        try:
            process = Process(self.pid)
        except (FileNotFoundError, ProcessLookupError):
            return None
        try:
            if process.is_alive() and _boot_id() == self.boot_id and process.identity() == self._identity():
                return process
        except (FileNotFoundError, ProcessLookupError):
            pass  # it ended meanwhile
        process.close()
        return None

    def _identity(self) -> tuple[int, ...]:
        return tuple(self.numbers[name] for name in _NUMBERS[:4])


def record_of(identity: tuple[int, int, int, int], uid: int, gid: int, pidfile_host: str) -> Record:
    """The record of a process with that `identity`, as Process.identity() gives it, on this boot."""
    return Record(dict(zip(_NUMBERS, (*identity, uid, gid))), _boot_id(), pidfile_host)


def write(record: Record, bundle: int) -> None:
    """Write `record` into the open directory `bundle`; one of an earlier start is replaced. Raises OSError."""
    fields = [f"{name}={value}" for name, value in record.numbers.items()]
    lines = [_VERSION, *fields, f"boot_id={record.boot_id}", f"pidfile_host={record.pidfile_host}", ""]
    remove(bundle)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(_TEMPORARY, flags, 0o600, dir_fd=bundle)
    try:
        data = os.fsencode("\n".join(lines))
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)
    os.rename(_TEMPORARY, NAME, src_dir_fd=bundle, dst_dir_fd=bundle)


def read(bundle: int) -> Record | None:
    """The record in the open directory `bundle`; None where there is none.

    Raises HookError for one that is not root's alone to write, or not of this format.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(NAME, flags, dir_fd=bundle)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HookError(f"cannot read {NAME} in the bundle: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise HookError(
                f"{NAME} in the bundle is not a file that only root can write: remove it when its container is gone"
            )
        text = os.fsdecode(os.read(descriptor, _MAX_SIZE))
    finally:
        os.close(descriptor)
    return _parse(text)


def remove(bundle: int) -> None:
    """Remove the record from the open directory `bundle`, and one that was not finished. Raises OSError."""
    for name in (_TEMPORARY, NAME):
        try:
            os.unlink(name, dir_fd=bundle)
        except FileNotFoundError:
            pass


def _parse(text: str) -> Record:
    version, *lines = text.split("\n")
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    try:
        if version != _VERSION:
            raise ValueError
        numbers = {name: _number(fields[name]) for name in _NUMBERS}
        if not 2 <= numbers["pid"] <= _MAX_PID or max(numbers["uid"], numbers["gid"]) > _MAX_ID or "\0" in text:
            raise ValueError
        return Record(numbers, fields["boot_id"], fields["pidfile_host"])
    except (KeyError, ValueError):
        raise HookError(
            f"{NAME} in the bundle is not a record of this hook: remove it when its container is gone"
        ) from None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise ValueError
    return int(text)


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
        return file.read().strip()
