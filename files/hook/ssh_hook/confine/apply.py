# SPDX-License-Identifier: GPL-3.0-or-later
"""Confine the daemon as config.json confines the container's own process.

Format: https://github.com/opencontainers/runtime-spec (config.md, config-syscalls.md).
"""

from __future__ import annotations

import errno

from ..errors import SECCOMP_UNKNOWN, HookError
from ..fast_stdlib import TYPE_CHECKING, os, signal
from ..linux import syscalls
from ..linux.ids import set_groups
from .rlimits import INFINITE, limit, ordinal
from .seccomp import make_filter

if TYPE_CHECKING:
    from ..oci.oci_config import Container
    from .lsm import Labels
    from .scheduling import Scheduling
    from .seccomp import Filter

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
    """The confinement of one container's process, to apply to the daemon. Attributes: warnings, for the user."""

    def __init__(self, container: Container, labels: Labels, require_seccomp: bool, state_directory: str) -> None:
        """Prepare the confinement, and compile the seccomp profile. Raises HookError if a part cannot be applied.

        Without `require_seccomp`, a profile that cannot be applied only causes a warning. Compiled profiles are cached
        in `state_directory`.
        """
        self.warnings: list[str] = []
        self._container = container
        self._rlimits = [
            (limit(name), _rlimit_value(soft), _rlimit_value(hard)) for name, soft, hard in container.rlimits
        ]
        self._bounding = _capabilities(container.bounding)
        self._permitted = _capabilities(container.permitted)
        self._inheritable = _capabilities(container.inheritable) & self._bounding
        self._ambient = _capabilities(container.ambient) & self._inheritable
        self._labels = labels
        self._scheduling = _scheduling(container)
        self._filter = self._make_filter(require_seccomp, state_directory)

    def _make_filter(self, require: bool, state_directory: str) -> Filter | None:
        profile = self._container.seccomp
        if profile is None:
            return None
        try:
            return make_filter(profile, state_directory)
        except HookError as error:
            problem = f"the container's seccomp profile cannot be applied to SSH sessions: {error}"
            if require:
                raise HookError(error.kind, problem) from None
            self.warnings.append(f"{problem}; they start without it, since REQUIRE_SECCOMP is false")
        return None

    def change_root(self, root: int, directory: int) -> None:
        """Do what needs the node's /proc, chroot to `root`, and enter `directory`. Raises HookError and OSError.

        The calling process must have all capabilities over its user namespace.
        """
        self._labels.apply()
        set_groups(self._container.groups)
        os.fchdir(root)
        os.chroot(".")
        os.fchdir(directory)

    def apply(self) -> None:
        """Confine the calling process, which has called `change_root`. Raises OSError and HookError.

        Afterwards it can only exec the next program, on which LSM labels and effective capabilities take effect.
        """
        container = self._container
        for number, soft, hard in self._rlimits:
            syscalls.setrlimit(number, soft, hard)
        self._drop_bounding()
        _leave_session_keyring()
        if self._scheduling is not None:
            self._scheduling.apply()
        syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)  # loading the filter requires CAP_SYS_ADMIN
        os.setresgid(container.gid, container.gid, container.gid)
        os.setresuid(container.uid, container.uid, container.uid)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # the change of ids may have reset it
        self._set_ambient_capabilities()
        _reset_signals()
        os.umask(container.umask)
        if container.no_new_privileges:
            self._drop_capabilities()  # root would keep them across execve(2) with no_new_privs
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        if self._filter is not None:
            syscalls.set_filter(self._filter.program, self._filter.flags)
        if not container.no_new_privileges:
            self._drop_capabilities()

    def _drop_bounding(self) -> None:
        for number in range(_LAST_CAPABILITY + 1):
            if not self._bounding >> number & 1:
                try:
                    syscalls.prctl(syscalls.PR_CAPBSET_DROP, number)
                except OSError:
                    present = _bounding_has(number)
                    if present is None:
                        break  # the kernel has no more capabilities
                    if present:
                        raise  # else it is absent, and only CAP_SETPCAP allows to drop even an absent one

    def _set_ambient_capabilities(self) -> None:
        _effective, permitted, _inheritable = syscalls.capget()
        syscalls.capset(permitted, permitted, self._inheritable & permitted)
        for number in range(_LAST_CAPABILITY + 1):
            if self._ambient & permitted & 1 << number:
                syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_RAISE, number)

    def _drop_capabilities(self) -> None:
        """Drop the capabilities that the container's process lacks, and clear the effective set until execve(2).

        Without effective capabilities not even root can read Dropbear's program file, and the kernel does not let a
        user trace a program that the user may not read. Raises HookError.
        """
        _effective, permitted, inheritable = syscalls.capget()
        try:
            syscalls.capset(0, self._permitted & permitted, inheritable)
        except PermissionError:
            raise HookError(
                SECCOMP_UNKNOWN,
                "the container's seccomp profile forbids capset, which the daemon needs, as the runtime does",
            ) from None


def _scheduling(container: Container) -> Scheduling | None:
    """Return scheduler, I/O priority, memory policy and personality; None if config.json has none of them."""
    if (container.scheduler, container.io_priority, container.memory_policy, container.personality) == (None,) * 4:
        return None

    from .scheduling import Scheduling  # here: few containers have it

    return Scheduling(container)


def _bounding_has(capability: int) -> bool | None:
    """Return whether the bounding set has a capability; None if the kernel does not have it. Raises OSError.

    Needed because dropping one without CAP_SETPCAP fails with EPERM whether or not the kernel has it.
    """
    try:
        return bool(syscalls.prctl(syscalls.PR_CAPBSET_READ, capability))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return None


def _leave_session_keyring() -> None:
    """Replace the session keyring, which belongs to the user who started the engine."""
    try:
        syscalls.join_new_session_keyring()
    except OSError as error:
        if error.errno != errno.ENOSYS:  # a kernel without CONFIG_KEYS
            raise


def _reset_signals() -> None:
    for number in range(1, _LAST_SIGNAL + 1):
        # The interpreter read all handlers at its start, so this makes no system call. None: reserved by the C library.
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _rlimit_value(value: int) -> int:
    return syscalls.RLIM_INFINITY if value >= INFINITE else value


def capability_names(mask: int) -> list[str]:
    """Return the names of the capabilities in the bit mask `mask`, as far as this hook knows them."""
    return [f"CAP_{name}" for number, name in enumerate(_CAPABILITIES.split()) if mask >> number & 1]


def _capabilities(names: list[str]) -> int:
    """Return the capabilities `names` as a bit mask. Raises HookError."""
    mask = 0
    for name in names:
        mask |= 1 << ordinal(name, "CAP_", _CAPABILITIES)
    return mask
