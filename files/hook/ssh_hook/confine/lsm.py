# SPDX-License-Identifier: GPL-3.0-or-later
"""LSM labels (AppArmor, SELinux) of the container's processes and mounts.

Like the runtime, the hook ignores the label of a module that is not enabled.

Formats: https://github.com/opencontainers/runtime-spec (config.md, config-linux.md); proc_pid_attr(5).
"""

from __future__ import annotations

from ..errors import LSM_REFUSED, HookError, printable
from ..fast_stdlib import TYPE_CHECKING, closing, exists, fsdecode, fsencode, os, read_file

if TYPE_CHECKING:
    from ..linux.process import Process
    from ..oci.oci_config import Container

_APPARMOR_SWITCH = "/sys/module/apparmor/parameters/enabled"
_SELINUX = "/sys/fs/selinux/enforce"
# Before Linux 5.8 AppArmor has no directory of its own and uses the common file.
_APPARMOR_FILES = ("/proc/self/attr/apparmor/exec", "/proc/self/attr/exec")
_SELINUX_FILES = ("/proc/self/attr/exec",)


class Labels:
    """One container's labels that this kernel enforces.

    Attributes:
        mount_context: the SELinux label for new mounts; empty for none.
        changes_selinux: whether the daemon's SELinux label differs from the hook's.
        socket_label: the SELinux label for a socket passed to the daemon; empty for the hook's own.
    """

    def __init__(self, container: Container) -> None:
        """Select the labels of `container`. Raises HookError if the mount label cannot be a mount option."""
        self._process_labels: list[tuple[str, str, tuple[str, ...]]] = []
        self.mount_context = ""
        self.changes_selinux = False
        self.socket_label = ""
        if container.apparmor_profile and _has_apparmor():
            self._process_labels.append(
                (
                    f"AppArmor profile '{container.apparmor_profile}'",
                    f"exec {container.apparmor_profile}",
                    _APPARMOR_FILES,
                )
            )
        if exists(_SELINUX):
            if container.selinux_label:
                self.changes_selinux = True
                self.socket_label = container.selinux_label
                self._process_labels.append(
                    (f"SELinux label '{container.selinux_label}'", container.selinux_label, _SELINUX_FILES)
                )
            if '"' in container.mount_label:
                raise HookError(
                    LSM_REFUSED,
                    f"config.json: linux: 'mountLabel' is '{printable(container.mount_label)}', not a label",
                )
            self.mount_context = container.mount_label

    def apply(self) -> None:
        """Set the labels for the caller's next execve(2). Raises HookError if the kernel rejects one."""
        for name, value, files in self._process_labels:
            try:
                _write(files, value)
            except OSError as error:
                raise HookError(
                    LSM_REFUSED, f"the container's {printable(name)} cannot be set: {error.strerror}"
                ) from None


def label_of(process: Process) -> tuple[str, str]:
    """Return the AppArmor profile and the SELinux label of a process.

    Each is empty if the module is not enabled or the label is the caller's own. Raises OSError.
    """
    apparmor = selinux = ""
    if _has_apparmor():
        name = "attr/apparmor/current" if exists("/proc/self/attr/apparmor/current") else "attr/current"
        apparmor = _text(process.read(name)).rpartition(" (")[0]  # "profile (enforce)", or "unconfined"
    if exists(_SELINUX):
        label = process.read("attr/current")
        selinux = "" if label == read_file("/proc/self/attr/current") else _text(label)
    return apparmor, selinux


def _text(label: bytes) -> str:
    return fsdecode(label).rstrip("\n\0")


def _has_apparmor() -> bool:
    try:
        return read_file(_APPARMOR_SWITCH).startswith(b"Y")
    except OSError:
        return False


def _write(files: tuple[str, ...], value: str) -> None:
    path = next((path for path in files if exists(path)), files[-1])
    with closing(os.open(path, os.O_WRONLY)) as descriptor:
        os.write(descriptor, fsencode(value))
