# SPDX-License-Identifier: GPL-3.0-or-later
"""What a session may do: no more than the container's own process, by what config.json says of that.

Format: https://github.com/opencontainers/runtime-spec (config.md, config-linux.md).
"""

from __future__ import annotations

import errno
import posix

from . import linux
from .channel import Warned
from .errors import HookError
from .identity import set_groups
from .limits import INFINITE, limit, ordinal
from .seccomp import make_filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from signal import SIG_DFL, SIG_SETMASK, pthread_sigmask
    from signal import signal as set_signal

    from .channel import Pipe
    from .container import Container
    from .labels import Labels
    from .seccomp import Filter
else:  # the C half of signal: its other half imports enum
    from _signal import SIG_DFL, SIG_SETMASK, pthread_sigmask
    from _signal import signal as set_signal

_LAST_SIGNAL = 64
_LAST_CAPABILITY = 63

# capabilities(7); include/uapi/linux/capability.h
_CAPABILITIES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""


class Confinement:
    """The confinement of a container's own process, to be taken on by another."""

    def __init__(
        self,
        container: Container,
        labels: Labels,
        require_seccomp: bool,
        state_directory: str,
        warnings: Pipe,
    ) -> None:
        """Raises HookError for a part of config.json that cannot be applied. Without `require_seccomp` a seccomp profile
        may be one. `state_directory` is the caller's own, to keep what takes long to make. `warnings` takes messages.
        """
        self._container = container
        self._limits = [(limit(name), _size(soft), _size(hard)) for name, soft, hard in container.rlimits]
        self._bounding = _capabilities(container.bounding)
        self._permitted = _capabilities(container.permitted)
        self._inheritable = _capabilities(container.inheritable) & self._bounding
        self._ambient = _capabilities(container.ambient) & self._inheritable
        self._labels = labels
        self._filter = _filter(container, require_seccomp, state_directory, warnings)

    def apply(self, root: int, directory: int) -> None:
        """Confine the calling process, which has all capabilities over its user namespace, to the directory `root` and to
        the container's rights, and enter `directory`; its next program, which is all that it may still run, has them.
        Raises OSError and HookError.
        """
        container = self._container
        self._labels.apply()
        set_groups(container.groups)
        posix.fchdir(root)
        posix.chroot(".")
        posix.fchdir(directory)
        for number, soft, hard in self._limits:
            linux.setrlimit(number, soft, hard)
        self._drop_bounding()
        _leave_session_keyring()
        linux.prctl(linux.PR_SET_KEEPCAPS, 1)  # setting the filter takes one
        posix.setresgid(container.gid, container.gid, container.gid)
        posix.setresuid(container.uid, container.uid, container.uid)
        linux.prctl(linux.PR_SET_DUMPABLE, 0)  # a change of ids may allow what was forbidden before
        self._set_ambient_capabilities()
        _reset_signals()
        posix.umask(container.umask)
        if container.no_new_privileges:
            self._drop_capabilities()  # with which root would keep them in the next program
            linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
        if self._filter is not None:
            linux.set_filter(self._filter.program, self._filter.flags)
        if not container.no_new_privileges:
            self._drop_capabilities()

    def _drop_bounding(self) -> None:
        for number in range(_LAST_CAPABILITY + 1):
            try:
                present = linux.prctl(linux.PR_CAPBSET_READ, number)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                break  # the kernel's last was the one before
            if present and not self._bounding >> number & 1:
                linux.prctl(linux.PR_CAPBSET_DROP, number)

    def _set_ambient_capabilities(self) -> None:
        _effective, permitted, _inheritable = linux.capget()
        linux.capset(permitted, permitted, self._inheritable & permitted)
        for number in range(_LAST_CAPABILITY + 1):
            if self._ambient & permitted & 1 << number:
                linux.prctl(linux.PR_CAP_AMBIENT, linux.PR_CAP_AMBIENT_RAISE, number)

    def _drop_capabilities(self) -> None:
        """Drop what the container's process does not have. None is effective until the next program runs, where root's are again:
        so root, too, may not read the file of Dropbear, and the kernel lets nobody trace a program that its user may not read.
        """
        _effective, permitted, inheritable = linux.capget()
        try:
            linux.capset(0, self._permitted & permitted, inheritable)
        except PermissionError:
            raise HookError(
                "the container's seccomp profile forbids capset, which the daemon takes, as the runtime does"
            ) from None


def _leave_session_keyring() -> None:
    """It is that of whoever ran the engine."""
    try:
        linux.join_new_session_keyring()
    except OSError as error:
        if error.errno != errno.ENOSYS:  # a kernel without keys
            raise


def _filter(container: Container, require: bool, state_directory: str, warnings: Pipe) -> Filter | None:
    if container.seccomp is None:
        return None
    try:
        return make_filter(container.seccomp, state_directory)
    except HookError as error:
        problem = f"the container's seccomp profile cannot be applied to SSH sessions: {error}"
        if require:
            raise HookError(problem) from None
        warnings.send(Warned(f"{problem}; they start without it, since REQUIRE_SECCOMP is false"))
    return None


def _reset_signals() -> None:
    for number in range(1, _LAST_SIGNAL + 1):
        try:
            set_signal(number, SIG_DFL)
        except ValueError:
            pass  # what the C library keeps for itself
        except OSError as error:
            if error.errno != errno.EINVAL:  # SIGKILL and SIGSTOP
                raise
    pthread_sigmask(SIG_SETMASK, [])


def _size(value: int) -> int:
    return linux.RLIM_INFINITY if value >= INFINITE else value


def _capabilities(names: list[str]) -> int:
    """The capabilities as a bit mask."""
    mask = 0
    for name in names:
        mask |= 1 << ordinal(name, "CAP_", _CAPABILITIES)
    return mask
