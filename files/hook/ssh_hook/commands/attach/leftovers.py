# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left in a container whose supervisor was killed, for example with the job step in which attach ran.

The kernel kills the daemon with its supervisor, unless the container has its own pid namespace. The mounts stay.
"""

from __future__ import annotations

import time

from ...errors import ATTACH_REFUSED, DAEMON_FAILED, HookError
from ...fast_stdlib import closing, os
from ...linux.mounts import mount_id
from ...linux.process import Process
from ...linux.process_search import ask_own_processes
from ...node.engine import Engine
from ...node.entry_reader import collect_own
from ...node.inventory import Daemon, find_daemons
from ...node.running_process import RunningProcess
from ...stop.ending import require_end
from . import targets
from .left_mounts import unmount_left

_TIMEOUT = 2.0  # seconds to look through all processes


def attached() -> list[int]:
    """Return the pids of the processes that the caller's daemons are attached to. Raises HookError."""
    return [daemon.attached for daemon in find_daemons() if daemon.attached]


def find() -> list[int]:
    """Return one process of each of the caller's containers that has the hook's mounts but no daemon."""
    daemons = find_daemons()
    return [
        target.process.pid
        for target in targets.find_containers()
        if target.mounts.left_by_hook() and not any(_is_in(daemon, target) for daemon in daemons)
    ]


def are_of_killed_hook(target: RunningProcess) -> bool:
    """Return whether enroot's hook started the daemon of the container of `target`, and it was killed.

    Slurm kills a pyxis container's daemon with its job step, while tasks of other steps may still be in the container.
    Its mounts stay: the container's ssh needs them, and those of attach cover them. Raises HookError.
    """
    if not target.mounts.has_daemon() or target.mounts.has_home_overlay():
        return False
    return not any(_is_in(daemon, target) for daemon in find_daemons())


def end(pid: int) -> list[str]:
    """End what is left in the container of the process `pid`; return the mount points of mounts that stay.

    Raises HookError, also if nothing is left, or the daemon was not started by attach.
    """
    target = RunningProcess(pid, may_be_served=True)
    daemons = [daemon for daemon in find_daemons() if _is_in(daemon, target)]
    if any(daemon.attached is None for daemon in daemons):
        raise HookError(
            ATTACH_REFUSED, f"the SSH daemon of process {pid} was not started by attach: it stops with its container"
        )
    if not daemons and not target.mounts.left_by_hook():
        raise HookError(ATTACH_REFUSED, f"you have attached no SSH daemon to process {pid}")
    for daemon in daemons:
        _kill(daemon)
    _require_unused(target)
    collect_own(Engine().host_uid)  # normally the supervisor removes them
    return unmount_left(target)


def _is_in(daemon: Daemon, target: RunningProcess) -> bool:
    """Return whether `daemon` serves `target`'s container, even from a mount namespace of its own."""
    _device, inode = target.namespace("mnt")
    return daemon.mounts == str(inode)


def _require_unused(target: RunningProcess) -> None:
    """Raise HookError if a daemon without an entry runs in the container of `target`, as one of an earlier version."""
    mounts = target.mounts.of_programs()

    def runs_from_them(process: Process) -> bytes:
        with closing(process.open("exe", os.O_PATH)) as program:
            return b"yes" if mount_id(program) in mounts else b""

    for pid in ask_own_processes(runs_from_them, time.monotonic() + _TIMEOUT):
        raise HookError(
            ATTACH_REFUSED,
            f"process {pid} ({targets.name_of(pid)}) runs from the hook's mounts in the container of process "
            f"{target.process.pid}, and has no entry: nothing was unmounted; if attach started it, end it, and detach "
            "again",
        )


def _kill(daemon: Daemon) -> None:
    try:
        with Process(daemon.pid) as process:
            require_end(process)
    except (FileNotFoundError, ProcessLookupError):
        pass  # it has exited
    except OSError as error:
        raise HookError(DAEMON_FAILED, f"cannot stop the SSH daemon with pid {daemon.pid}: {error.strerror}") from None
