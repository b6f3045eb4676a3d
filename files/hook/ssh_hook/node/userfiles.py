# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's files on the host that are named in annotations.

They are only accessed with the user's credentials, never as root: the kernel checks every path for the user, also with
root_squash. That happens in the provisioner or in a disposable process, which the hook can leave behind if a file
system never answers.
"""

from __future__ import annotations

import binascii
import errno

from ..errors import ANNOTATION_WRONG, HookError, kind_of_os, printable
from ..fast_stdlib import TYPE_CHECKING, closing, dirname, os, read_all, stat
from ..linux import disposable_process, syscalls
from ..linux.files import READ
from ..linux.pidfile import MAX_PIDFILE, open_pidfile
from ..linux.rootfs import open_without_magic_links
from ..log import INFO, PREFIX, LogTarget, log
from ..oci.annotations import AUTHORIZE_SSH_KEY, LOG_STDOUT, PIDFILE_HOST

if TYPE_CHECKING:
    from ..linux.identity import Identity

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
_ANNOTATION_KEY = f"the annotation {AUTHORIZE_SSH_KEY}"
_CERTIFICATE = b"-cert-v01@openssh.com"  # the end of a type
_ANNOTATION_PIDFILE = f"the annotation {PIDFILE_HOST}"


def read_public_keys(path: str) -> bytes:
    """Return the public keys in the file `path` as lines for authorized_keys. The caller must act as the user.

    The annotation may come from the image, since some engines pass on an image's annotations. So the caller must own
    the file, and no magic link of procfs may lead to it: /proc/self/cwd or a descriptor of the engine could lead into
    the image. Raises HookError if the caller cannot read the file, or it contains anything but public keys.
    """
    what = f"{_ANNOTATION_KEY}: cannot read {printable(path)}"
    try:
        descriptor = open_without_magic_links(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise HookError(ANNOTATION_WRONG, f"{what}: {error.strerror}") from None
    with closing(descriptor):
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or syscalls.filesystem_type(descriptor) in syscalls.KERNEL_FILE_SYSTEMS:
                raise HookError(ANNOTATION_WRONG, f"{_ANNOTATION_KEY}: {printable(path)} is not a regular file")
            if status.st_uid != os.geteuid():
                raise HookError(ANNOTATION_WRONG, f"{_ANNOTATION_KEY}: {printable(path)} belongs to another user")
            data = read_all(descriptor, _MAX_PUBLIC_KEYS)
        except OSError as error:
            raise HookError(ANNOTATION_WRONG, f"{what}: {error.strerror}") from None
    return parse_public_keys(data, printable(path))


def parse_public_keys(data: bytes, path: str) -> bytes:
    """Validate the content of a public key file; return its keys, one per line.

    Format: "type base64 comment" (RFC 4253, section 6.6, in OpenSSH's one-line form), blank lines and "#" comments.
    Options before a key are rejected, since they could run commands. Raises HookError, which names `path` and the line.
    """
    keys = []
    for number, line in enumerate(data.splitlines(), 1):
        fields = line.split()
        if not fields or fields[0].startswith(b"#"):
            continue
        if fields[0].endswith(_CERTIFICATE):
            raise HookError(
                ANNOTATION_WRONG,
                f"{_ANNOTATION_KEY}: line {number} of {path} is a certificate, which Dropbear does not accept: give "
                "the file with the public key itself, such as id_ed25519.pub",
            )
        if len(data) > _MAX_PUBLIC_KEYS or len(fields) < 2 or b"\0" in line or not _is_key(fields[0], fields[1]):
            raise HookError(ANNOTATION_WRONG, f"{_ANNOTATION_KEY}: line {number} of {path} is not an SSH public key")
        keys.append(b" ".join(fields) + b"\n")
    if not keys:
        raise HookError(ANNOTATION_WRONG, f"{_ANNOTATION_KEY}: {path} contains no SSH public key")
    return b"".join(keys)


def _is_key(kind: bytes, encoded: bytes) -> bool:
    try:
        blob = binascii.a2b_base64(encoded)
    except binascii.Error:
        return False
    if binascii.b2a_base64(blob, newline=False) != encoded:
        return False  # the decoder skips characters that are not base64
    name = kind.decode("utf-8", "replace")
    return name in _KEY_TYPES and blob.startswith(len(kind).to_bytes(4, "big") + kind) and len(blob) > len(kind) + 4


def write_pidfile(path: str, pid: int, user: Identity) -> None:
    """Write `pid` to the file `path` as `user`. Raises HookError if the user may not, or it is not a pidfile."""
    what = f"{_ANNOTATION_PIDFILE}: cannot write {printable(path)} as the container's user"

    def write() -> bytes:
        try:
            try:  # wait for the directory's lock first: a child that is killed while waiting creates no pidfile
                os.unlink(f"{dirname(path)}/.{os.urandom(8).hex()}")
            except OSError:
                pass  # no such file
            with closing(open_pidfile(path)) as descriptor:
                try:
                    os.write(descriptor, b"%d\n" % pid)
                except OSError:
                    os.unlink(path)
                    raise
        except OSError as error:
            raise HookError(kind_of_os(error, ANNOTATION_WRONG), f"{what}: {error.strerror}") from None
        return b""

    disposable_process.run(write, what, user)


def remove_pidfile(path: str, pid: int, user: Identity | None) -> None:
    """Remove the file `path` as `user` (None: as the caller), if it still holds `pid`; ignore a failure to remove it.

    Raises HookError if no child can be forked, and LateError.
    """
    from .user_child import NAME  # here: few containers have a pidfile

    def remove() -> bytes:
        syscalls.set_name(NAME)
        try:
            with closing(os.open(path, READ)) as descriptor:
                ours = read_all(descriptor, MAX_PIDFILE) == b"%d\n" % pid
            if ours:
                os.unlink(path)
        except OSError:
            pass  # it is gone, or the user has replaced it
        return b""

    disposable_process.run(remove, f"cannot remove the pidfile {printable(path)}", user)


class LogFile(LogTarget):
    """A user's log file on the host.

    Attributes:
        path: its path.
        may_be_new: whether to create it if missing.
    """

    def __init__(self, path: str, user: Identity, may_be_new: bool) -> None:
        super().__init__(-1, user)
        self.path = path
        self.may_be_new = may_be_new

    def write(self, line: bytes) -> None:
        """Append `line`; the caller must have the credentials of `user`. Raises OSError."""
        with closing(_open_log(self.path, self.may_be_new)) as descriptor:
            os.write(descriptor, line)


def log_target(target: str, user: Identity, home: str, default: LogTarget) -> LogTarget:
    """Return the destination `target` of an annotation com.hooks.logging.*fd; `default` if that is empty.

    `target` is the number of a descriptor that the hook inherited, or the path of a file that `user` can write; it may
    be new (`may_be_new`) below the user's `home`. The result is also `default` if a descriptor, by number or as
    /proc/PID/fd/N, is closed or not permitted: Sarus names descriptors of its own, which are root's and which runtimes
    close.

    The annotation may come from the image, since some engines pass on an image's annotations, and so may text in
    messages. So a regular file must be empty or a log of this hook, unless a process has it open. Raises HookError if
    it is not usable.
    """
    if not target:
        return default
    message = f"the annotation {LOG_STDOUT} or .stderrfd: cannot log to {printable(target)}"
    is_number = target.isascii() and target.isdigit()
    try:
        if is_number:
            return LogTarget(_require_inherited(int(target[:9])))
    except OSError as error:
        log(INFO, f"{message}: {error.strerror}")
        return default
    file = LogFile(target, user, may_be_new(target, home))

    def probe() -> bytes:
        try:
            file.write(b"")
        except OSError as error:
            raise HookError(ANNOTATION_WRONG, f"{message}: {error.strerror}") from None
        return b""

    try:
        disposable_process.run(probe, message, user)
        return file
    except HookError as error:
        if not _is_proc_fd(target):
            raise
        log(INFO, str(error))
        return default


def _require_inherited(descriptor: int) -> int:
    """Return `descriptor` if the hook inherited it. Raises OSError."""
    if descriptor > 2 and not os.get_inheritable(descriptor):
        raise OSError(errno.EBADF, "the hook was given no such descriptor")
    os.fstat(descriptor)
    return descriptor


def may_be_new(path: str, home: str) -> bool:
    """Return whether the hook may create the log file `path` in the user's `home` on behalf of an image.

    Its name must be that of a log, and no part hidden: programs read hidden files, and shells execute some of them, and
    the image controls text in the messages.
    """
    base = home.rstrip("/") + "/"
    names = path[len(base) :].split("/")
    is_below = home.startswith("/") and base != "/" and path.startswith(base)
    return is_below and path.endswith(".log") and not any(name == "" or name.startswith(".") for name in names)


def _open_log(path: str, may_be_new: bool) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        if not may_be_new:
            raise
        descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    if (
        stat.S_ISREG(os.fstat(descriptor).st_mode)
        and syscalls.filesystem_type(descriptor) in syscalls.KERNEL_FILE_SYSTEMS
    ):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is a file of the kernel")
    is_log = not stat.S_ISREG(os.fstat(descriptor).st_mode) or os.fstat(descriptor).st_size == 0
    if not is_log and not _is_proc_fd(path):
        reader = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
        is_log = os.read(reader, len(PREFIX)) == PREFIX.encode()
        os.close(reader)
        if not is_log:
            os.close(descriptor)
            raise OSError(errno.EEXIST, "it contains something that is not a log of this hook")
    return descriptor


def _is_proc_fd(path: str) -> bool:
    """Return whether `path` is /proc/PID/fd/NUMBER."""
    fields = path.split("/")
    return len(fields) == 5 and fields[:2] == ["", "proc"] and fields[2].isdigit() and fields[3] == "fd"
