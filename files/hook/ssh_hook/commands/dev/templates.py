# SPDX-License-Identifier: GPL-3.0-or-later
"""The job script that `ssh_hook dev --new` writes: the site's, or one that works with the engine that the node has."""

from __future__ import annotations

import os
from collections.abc import Callable

from ...errors import SETTING_WRONG, HookError, printable
from ...fast_stdlib import closing, read_all
from ...node.access import open_roots
from .profiles import MAX_SIZE

_HEAD = """\
#!/bin/sh
# The container of 'ssh dev-NAME'. Lines for Slurm, such as partition, account and GPUs:
#SBATCH --nodes=1
#SBATCH --time=04:00:00
# ssh_hook sets --job-name, --output and --dependency. The last command starts the container, and the job ends with it.
"""
_PODMAN = """\
srun {engine} run --rm --volume "$HOME:$HOME" --workdir "$HOME" $({launcher} options --engine {engine}) \\
    docker.io/library/busybox sleep infinity
"""
_PYXIS = """\
export OCIHOOKS_SSH=1 OCIHOOKS_SSH_PORT=auto
srun --container-image=busybox --container-mount-home sleep infinity
"""


def script(which: Callable[[str], str | None], launcher: str) -> str:
    """Return the job script; `which` finds programs, and `launcher` is the path of ssh_hook."""
    for engine in ("podman-hpc", "podman"):
        if which(engine):
            return _HEAD + _PODMAN.format(engine=engine, launcher=launcher)
    if which("enroot"):
        return _HEAD + _PYXIS
    return _HEAD + _PODMAN.format(engine="podman", launcher=launcher)  # a login node without an engine


def of_site(path: str) -> bytes:
    """Return the site's template. Raises HookError, also if others than root can write it."""
    try:
        with closing(open_roots(path, os.O_RDONLY | os.O_NONBLOCK, None, is_rootless=False)) as file:
            return read_all(file, MAX_SIZE)
    except OSError as error:
        raise HookError(
            SETTING_WRONG,
            f"cannot read the site's template {printable(path)}: {error.strerror}: ask the administrator "
            "(ssh_hook_dev_template)",
        ) from None
