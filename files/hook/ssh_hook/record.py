# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of a running daemon, beside the bundle, by which poststop knows it again.

A pid alone says nothing: it may be another process's by now, and a pidfile may be anybody's to write. The record is
root's, and names a process by pid, start time and boot, and its program by device and inode.

A copy of it lies with those of all other daemons in one directory, by which a sweep finds what nobody ended.

Format: a line "ssh_hook 1", then "name=value" lines; values hold no control characters.
"""

from __future__ import annotations

import errno
import posix

from .errors import HookError
from .paths import dirname, fsdecode, fsencode, is_own, read_file
from .process import Process
from .settings import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .identity import Identity

NAME = "ssh_hook.daemon"
TEMPORARY = NAME + ".new"
_VERSION = "ssh_hook 1"
_MAX_SIZE = 64 << 10  # bytes
_MAX_PID = 2**31 - 1
_MAX_ID = 2**32 - 2
_MAX_DIGITS = 20  # of 64 bits
_PIDS = ("pid", "init_pid")
_NUMBERS = ("pid", "start_time", "program_device", "program_inode", "uid", "gid", "init_pid", "init_start_time")
_TEXTS = ("boot_id", "pidfile_host", "bundle", "copy")
_ROOTS_COPIES = "/var/lib/ocihooks-ssh/daemons"


class Record:
    """Attributes: numbers, by name: pid; start_time, clock ticks since boot; program_device and program_inode; uid and
    gid of the user who owns pidfile_host; init_pid and init_start_time of the container's first process. And texts:
    boot_id; pidfile_host, empty where there is none; bundle, a path without links, empty where that is not to be had;
    copy, the path of the record's copy. All as the hook's namespaces see them.
    """

    def __init__(self, numbers: dict[str, int], texts: dict[str, str]) -> None:
        self.numbers = numbers
        self.texts = texts

    @property
    def pid(self) -> int:
        """The daemon's pid."""
        return self.numbers["pid"]

    @property
    def pidfile_host(self) -> str:
        """The pidfile on the host; empty where there is none."""
        return self.texts["pidfile_host"]

    @property
    def bundle(self) -> str:
        """The container's bundle, a path without links; empty where it has no usable one."""
        return self.texts["bundle"]

    def data(self) -> bytes:
        """The content of its file."""
        fields = [f"{name}={value}" for name, value in [*self.numbers.items(), *self.texts.items()]]
        return fsencode("\n".join([_VERSION, *fields, ""]))

    def process(self) -> Process | None:
        """The recorded process; None where it is gone, whoever has its pid by now. Raises OSError and HookError."""
        try:
            process = Process(self.pid)
        except (FileNotFoundError, ProcessLookupError):
            if self._is_of_this_boot() and _is_hidden(self.pid):
                raise HookError(
                    f"/proc is mounted with hidepid, and does not tell whether the SSH daemon with pid {self.pid} still runs"
                ) from None
            return None
        try:
            if process.is_alive() and self._is_of_this_boot() and self._names(process):
                return process
        except (FileNotFoundError, ProcessLookupError):
            pass  # it ended meanwhile
        process.close()
        return None

    def container_is_gone(self) -> bool:
        """Whether the container's first process has ended. Raises OSError where that cannot be found out."""
        if not self._is_of_this_boot():
            return True
        try:
            init = Process(self.numbers["init_pid"])
        except (FileNotFoundError, ProcessLookupError):
            return True
        try:
            return not (init.is_alive() and init.start_time() == self.numbers["init_start_time"])
        except (FileNotFoundError, ProcessLookupError):
            return True  # it ended meanwhile
        finally:
            init.close()

    def _is_of_this_boot(self) -> bool:
        return _boot_id() == self.texts["boot_id"]

    def _names(self, process: Process) -> bool:
        """Whether `process`, of this boot, is the recorded one. Raises OSError where that cannot be found out."""
        try:
            return process.identity() == self._identity()
        except PermissionError:
            # Dropbear's program cannot be read, so that a rootless engine's user is not told what the process runs
            # (ptrace(2), PTRACE_MODE_READ). Pid, start time and boot tell it from all others.
            return (process.pid, process.start_time()) == self._identity()[:2]

    def _identity(self) -> tuple[int, ...]:
        return tuple(self.numbers[name] for name in _NUMBERS[:4])


def record_of(
    identity: tuple[int, int, int, int],
    init: Process | None,
    keeper: Identity,
    pidfile_host: str,
    bundle: int,
    copies: str,
) -> Record:
    """The record of a process with that `identity`, as Process.identity() gives it, on this boot.

    `init` is the container's first process; None where it is not known: then the container lasts as long as the
    daemon. `keeper` owns `pidfile_host`. `bundle` is the open directory of the bundle, `copies` the directory for the
    record's copy. Raises OSError.
    """
    pid, start_time = identity[:2]
    container = identity[:2] if init is None else (init.pid, init.start_time())
    path = posix.readlink(f"/proc/self/fd/{bundle}")
    boot_id = _boot_id()
    texts = (boot_id, pidfile_host, path if path.isprintable() else "", f"{copies}/{pid}-{start_time}-{boot_id[:8]}")
    return Record(dict(zip(_NUMBERS, (*identity, keeper.uid, keeper.gid, *container))), dict(zip(_TEXTS, texts)))


def directory_of_copies(runner: int) -> str:
    """Where the copies are of records whose engine was run by the user `runner`.

    A power cut must not take root's away, and users have no such place that is certain to be the node's own.
    """
    return _ROOTS_COPIES if runner == 0 else f"/run/user/{runner}/ocihooks-ssh/daemons"


def write(record: Record, bundle: int) -> None:
    """Write `record` into the open directory `bundle`; one of an earlier start is replaced. Raises OSError."""
    data = record.data()
    _write_copy(record.texts["copy"], data)  # first: a record is never without a copy
    remove(bundle)
    _write_new(TEMPORARY, data, bundle)
    posix.rename(TEMPORARY, NAME, src_dir_fd=bundle, dst_dir_fd=bundle)


def _write_copy(path: str, data: bytes) -> None:
    """Keep a copy if that can be done: poststop needs none."""
    directory = dirname(path)
    try:
        try:
            _write_new(path, data)
        except FileNotFoundError:
            for missing in (dirname(directory), directory):
                try:
                    posix.mkdir(missing, 0o700)
                except FileExistsError:
                    pass
            _write_new(path, data)
    except OSError:
        _remove_copy(path)


def _remove_copy(path: str) -> None:
    try:
        posix.unlink(path)
    except OSError:
        pass  # it could not be written, or is a sweep's to remove


def _write_new(path: str, data: bytes, directory: int | None = None) -> None:
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
    descriptor = posix.open(path, flags, 0o600, dir_fd=directory)
    try:
        if posix.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, posix.strerror(errno.ENOSPC))
    finally:
        posix.close(descriptor)


def read(directory: int, name: str = NAME, where: str = "the bundle") -> Record | None:
    """The record in the open `directory`, which messages call `where`; None where there is none.

    Raises HookError for one that is not root's alone to write, or not of this format.
    """
    flags = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC
    try:
        descriptor = posix.open(name, flags, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HookError(f"cannot read {printable(name)} in {where}: {error.strerror}") from None
    what = f"{printable(name)} in {where} is not"
    remedy = "remove it when its container is gone"
    try:
        if not is_own(posix.fstat(descriptor)):
            raise HookError(f"{what} a file that only root can write: {remedy}")
        text = fsdecode(posix.read(descriptor, _MAX_SIZE))
    finally:
        posix.close(descriptor)
    record = _parse(text)
    if record is None:
        raise HookError(f"{what} a record of this hook: {remedy}")
    return record


def remove(bundle: int, record: Record | None = None) -> None:
    """Remove the record from the open directory `bundle`, and one that was not finished; and the copy of `record`.

    Raises OSError.
    """
    for name in (TEMPORARY, NAME):
        try:
            posix.unlink(name, dir_fd=bundle)
        except FileNotFoundError:
            pass
    if record is not None:
        _remove_copy(record.texts["copy"])


def _parse(text: str) -> Record | None:
    version, *lines = text.split("\n")
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    try:
        numbers = {name: _number(fields[name]) for name in _NUMBERS}
        texts = {name: fields[name] for name in _TEXTS}
    except (KeyError, ValueError):
        return None
    are_pids = all(2 <= numbers[name] <= _MAX_PID for name in _PIDS)
    are_ids = max(numbers["uid"], numbers["gid"]) <= _MAX_ID
    return Record(numbers, texts) if version == _VERSION and are_pids and are_ids and "\0" not in text else None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise ValueError
    return int(text)


def _is_hidden(pid: int) -> bool:
    """Whether the caller may signal a process that /proc does not show, as it may not trace it (hidepid, proc(5))."""
    try:
        posix.kill(pid, 0)
    except OSError:
        return False
    return True


def _boot_id() -> str:
    return read_file("/proc/sys/kernel/random/boot_id").decode().strip()
