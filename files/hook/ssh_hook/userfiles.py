# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of the user on the host that annotations name. All is done by a disposable process that is the user's, never as
root: a path that leads to what only root may touch fails as it would for the user, on a file system that squashes root too,
and one that never answers holds up no more than that process.
"""

from __future__ import annotations

import _stat as stat
import binascii
import errno
import posix

from . import disposable, linux
from .errors import HookError
from .log import INFO, PREFIX, log
from .paths import dirname
from .pidfile import open_pidfile
from .rootfs import open_without_magic_links
from .settings import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .identity import Identity
    from .log import Target

_MAX_PUBLIC_KEYS = 64 << 10  # bytes
_KEY_TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
_ANNOTATION_KEY = "the annotation com.hooks.ssh.authorize_ssh_key"
_ANNOTATION_PIDFILE = "the annotation com.hooks.ssh.pidfile_host"


def read_public_keys(path: str) -> bytes:
    """Return the public keys in the caller's file `path`, one on each line, as lines for authorized_keys.

    The annotation may be the image's own, which some engines pass on: so the file has to be the caller's, and no link of
    procfs may lead to it, as /proc/self/cwd or a descriptor of the engine's would lead into the image. Raises HookError for
    a file that the caller cannot read, and for one that holds anything but public keys.
    """
    what = f"{_ANNOTATION_KEY}: cannot read {printable(path)}"
    try:
        descriptor = open_without_magic_links(path, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY)
    except OSError as error:
        raise HookError(f"{what}: {error.strerror}") from None
    try:
        status = posix.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or linux.filesystem_type(descriptor) in linux.KERNEL_FILE_SYSTEMS:
            raise HookError(f"{_ANNOTATION_KEY}: {printable(path)} is not a regular file")
        if status.st_uid != posix.geteuid():
            raise HookError(f"{_ANNOTATION_KEY}: {printable(path)} is another user's file")
        data = posix.read(descriptor, _MAX_PUBLIC_KEYS + 1)
    except OSError as error:
        raise HookError(f"{what}: {error.strerror}") from None
    finally:
        posix.close(descriptor)
    return parse_public_keys(data, printable(path))


def parse_public_keys(data: bytes, path: str) -> bytes:
    """Check the text of a public key file; returns its keys, each with its newline.

    Format: "type base64 comment" (RFC 4253, section 6.6, in OpenSSH's one-line form), blank lines and "#" comments.
    Options before a key are refused: they could run commands. Raises HookError that names `path` and the line.
    """
    keys = []
    for number, line in enumerate(data.splitlines(), 1):
        fields = line.split()
        if not fields or fields[0].startswith(b"#"):
            continue
        if len(data) > _MAX_PUBLIC_KEYS or len(fields) < 2 or b"\0" in line or not _is_key(fields[0], fields[1]):
            raise HookError(f"{_ANNOTATION_KEY}: line {number} of {path} is not an SSH public key")
        keys.append(b" ".join(fields) + b"\n")
    if not keys:
        raise HookError(f"{_ANNOTATION_KEY}: {path} holds no SSH public key")
    return b"".join(keys)


def _is_key(kind: bytes, encoded: bytes) -> bool:
    try:
        blob = binascii.a2b_base64(encoded)
    except binascii.Error:
        return False
    if binascii.b2a_base64(blob, newline=False) != encoded:
        return False  # the decoder passes over what is not base64
    name = kind.decode("utf-8", "replace")
    return name in _KEY_TYPES and blob.startswith(len(kind).to_bytes(4, "big") + kind) and len(blob) > len(kind) + 4


def write_pidfile(path: str, pid: int, user: Identity) -> None:
    """Write `pid` to the file `path` as `user`. Raises HookError where the user may not, or it is another's file."""
    what = f"{_ANNOTATION_PIDFILE}: cannot write {printable(path)} as the container's user"

    def write() -> bytes:
        try:
            try:  # waits where somebody holds the directory, but makes nothing there when that is let go too late
                posix.unlink(f"{dirname(path)}/.{posix.urandom(8).hex()}")
            except OSError:
                pass  # there is no such file
            descriptor = open_pidfile(path)
            try:
                posix.write(descriptor, b"%d\n" % pid)
            except OSError:
                posix.unlink(path)
                raise
            finally:
                posix.close(descriptor)
        except OSError as error:
            raise HookError(f"{what}: {error.strerror}") from None
        return b""

    disposable.run(write, what, user)


def remove_pidfile(path: str, pid: int, user: Identity | None) -> None:
    """Remove the file `path` as `user`, or as the caller where that is None, if it still holds `pid`. What cannot be removed
    stays. Raises HookError where there is no process for that, and LateError.
    """

    def remove() -> bytes:
        try:
            descriptor = posix.open(
                path, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC
            )
            try:
                ours = posix.read(descriptor, 32) == b"%d\n" % pid
            finally:
                posix.close(descriptor)
            if ours:
                posix.unlink(path)
        except OSError:
            pass  # it is gone, or the user made it another
        return b""

    disposable.run(remove, f"cannot remove the pidfile {printable(path)}", user)


class LogFile:
    """A file of the user's on the host that the hook's messages go to. Attributes: path; user."""

    def __init__(self, path: str, user: Identity) -> None:
        self.path = path
        self.user = user

    def append(self, line: bytes) -> bytes:
        """Add `line` to the file, as the caller. Raises OSError."""
        descriptor = _open_log(self.path)
        try:
            posix.write(descriptor, line)
        finally:
            posix.close(descriptor)
        return b""


def log_target(target: str, user: Identity, default: Target) -> Target:
    """Where to log to, as an annotation com.hooks.logging.*fd names it: the number of a descriptor that the hook was
    given, or the path of a file of the `user`'s. `default` where `target` is empty, and where it is a
    descriptor of a process that is not to be had: Sarus names its own, which is root's, and runtimes close them.

    The annotation may be the image's own, which some engines pass on, and so may be words in what is logged: only a
    file that is empty or a log of ours is added to, or what a process has open.

    Raises HookError where there is no such file to write to.
    """
    if not target:
        return default
    message = f"the annotation com.hooks.logging.stdoutfd or .stderrfd: cannot log to {printable(target)}"
    is_number = target.isascii() and target.isdigit()
    try:
        if is_number:
            return _given(int(target[:9]))
    except OSError as error:
        log(INFO, f"{message}: {error.strerror}")
        return default
    file = LogFile(target, user)

    def try_it() -> bytes:
        try:
            return file.append(b"")
        except OSError as error:
            raise HookError(f"{message}: {error.strerror}") from None

    try:
        disposable.run(try_it, message, user)
        return file
    except HookError as error:
        if not _is_of_process(target):
            raise
        log(INFO, str(error))
        return default


def _given(descriptor: int) -> int:
    """The descriptor, if the hook has it from its caller. Raises OSError."""
    if descriptor > 2 and not posix.get_inheritable(descriptor):
        raise OSError(errno.EBADF, "the hook was given no such descriptor")
    posix.fstat(descriptor)
    return descriptor


def _open_log(path: str) -> int:
    flags = posix.O_APPEND | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC
    descriptor = posix.open(path, posix.O_WRONLY | flags)
    if stat.S_ISREG(posix.fstat(descriptor).st_mode) and linux.filesystem_type(descriptor) in linux.KERNEL_FILE_SYSTEMS:
        posix.close(descriptor)
        raise OSError(errno.EINVAL, "it is the kernel's own")
    is_log = not stat.S_ISREG(posix.fstat(descriptor).st_mode) or posix.fstat(descriptor).st_size == 0
    if not is_log and not _is_of_process(path):
        reader = posix.open(f"/proc/self/fd/{descriptor}", posix.O_RDONLY | posix.O_CLOEXEC)
        is_log = posix.read(reader, len(PREFIX)) == PREFIX.encode()
        posix.close(reader)
        if not is_log:
            posix.close(descriptor)
            raise OSError(errno.EEXIST, "it holds something that is not a log of this hook")
    return descriptor


def _is_of_process(path: str) -> bool:
    """Whether `path` is /proc/PID/fd/NUMBER."""
    fields = path.split("/")
    return len(fields) == 5 and fields[:2] == ["", "proc"] and fields[2].isdigit() and fields[3] == "fd"
