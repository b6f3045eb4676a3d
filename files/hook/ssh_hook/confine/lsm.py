# SPDX-License-Identifier: GPL-3.0-or-later
"""The labels that Linux security modules give to the container's processes and mounts.

Where the kernel has no such module, a label means nothing, to the runtime as to the hook.

Formats: https://github.com/opencontainers/runtime-spec (config.md, config-linux.md); proc_pid_attr(5).
"""

from __future__ import annotations

from ..errors import HookError, printable
from ..kernel.lean import TYPE_CHECKING, closing, exists, fsencode, os, read_file

if TYPE_CHECKING:
    from ..spec.config import Container

_APPARMOR_SWITCH = "/sys/module/apparmor/parameters/enabled"
_SELINUX = "/sys/fs/selinux/enforce"
# Before Linux 5.8 AppArmor has no directory of its own, and is alone in the other.
_APPARMOR_FILES = ("/proc/self/attr/apparmor/exec", "/proc/self/attr/exec")
_SELINUX_FILES = ("/proc/self/attr/exec",)


class Labels:
    """The labels of `container` that this kernel's modules enforce. Attributes: mount_context, the SELinux label of what
    is mounted for the container, empty where there is none.
    """

    def __init__(self, container: Container) -> None:
        """Raises HookError for a label that cannot be one."""
        self._of_process: list[tuple[str, str, tuple[str, ...]]] = []
        self.mount_context = ""
        if container.apparmor_profile and _has_apparmor():
            self._of_process.append(
                (
                    f"AppArmor profile '{container.apparmor_profile}'",
                    f"exec {container.apparmor_profile}",
                    _APPARMOR_FILES,
                )
            )
        if exists(_SELINUX):
            if container.selinux_label:
                self._of_process.append(
                    (f"SELinux label '{container.selinux_label}'", container.selinux_label, _SELINUX_FILES)
                )
            if '"' in container.mount_label:
                raise HookError(
                    f"config.json: linux: 'mountLabel' is '{printable(container.mount_label)}', not a label"
                )
            self.mount_context = container.mount_label

    def apply(self) -> None:
        """Give the calling process's next program the labels. Raises HookError where the kernel refuses one."""
        for name, value, files in self._of_process:
            try:
                _write(files, value)
            except OSError as error:
                raise HookError(f"the container's {printable(name)} cannot be set: {error.strerror}") from None


def _has_apparmor() -> bool:
    try:
        return read_file(_APPARMOR_SWITCH).startswith(b"Y")
    except OSError:
        return False


def _write(files: tuple[str, ...], value: str) -> None:
    path = next((path for path in files if exists(path)), files[-1])
    with closing(os.open(path, os.O_WRONLY)) as descriptor:
        os.write(descriptor, fsencode(value))
