# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths that the runtime takes away from a container only when that starts, taken away before, so that no session has them.

The runtime does it once more, on top. Before that, runc sets kernel parameters: their files stay as they are until it covers
them too, with a copy that lacks these mounts.

Format: https://github.com/opencontainers/runtime-spec (config-linux.md, Masked Paths, Readonly Paths).
"""

from __future__ import annotations

import posix

from .errors import HookError
from .mounts import MountTable, make_read_only, make_unbindable, mount_bind, mount_mask, mount_tree
from .settings import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .container import Container
    from .entry import Entry


class Restrictions:
    """The masked and the read-only paths of a container."""

    def __init__(self, container: Container, entry: Entry, context: str) -> None:
        """`context` is the SELinux label of what is mounted, empty where there is none."""
        self._container = container
        self._entry = entry
        self._context = context
        self._table: MountTable | None = None

    def apply(self, in_kernel: bool) -> None:
        """Apply those below /proc and /sys, or all others, which may lie above what the hook itself mounts. Raises HookError."""
        sysctls, readonly, masked = (
            [path for path in paths if _is_kernels(path) == in_kernel]
            for paths in (self._container.sysctl_paths, self._container.readonly_paths, self._container.masked_paths)
        )
        files = {path: self._open_present(path) for path in sysctls}
        for path in readonly:
            self._restrict(path, lambda target: mount_tree(target, target), make_read_only)
        if files:
            self._table = None  # they may lie on what was just mounted
        for path, file in files.items():
            if file is not None:
                self._uncover(path, file)
        for path in masked:
            self._restrict(path, lambda target: mount_mask(target, self._entry.null, self._context))

    def _uncover(self, path: str, file: int) -> None:
        """Have at `path` the `file` that was there before."""
        self._restrict(path, lambda target: mount_bind(file, target), make_unbindable)

    def _restrict(self, path: str, mount: Callable[[int], None], finish: Callable[[int], None] | None = None) -> None:
        """Let `mount` mount on `path`, if that is there, and `finish` do the rest with what is mounted."""
        target = self._open_present(path)
        if target is None:
            return
        self._table = self._table or MountTable()
        self._table.refuse_shared(target, printable(path))
        try:
            mount(target)
            if finish is not None:
                mounted = self._entry.rootfs.open(path, posix.O_PATH)
                finish(mounted)
                posix.close(mounted)
        except OSError as error:
            raise HookError(f"cannot restrict {printable(path)} in the container: {error.strerror}") from None
        posix.close(target)

    def _open_present(self, path: str) -> int | None:
        """Open `path`, to name it; None where it is not there."""
        try:
            return self._entry.rootfs.open(path, posix.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise HookError(f"cannot open {printable(path)} in the container: {error.strerror}") from None


def _is_kernels(path: str) -> bool:
    return f"{path}/".startswith(("/proc/", "/sys/")) and "/.." not in path
