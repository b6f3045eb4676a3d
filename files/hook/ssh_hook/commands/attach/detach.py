# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook detach``: end a daemon that ``ssh_hook attach`` started, and its sessions.

When the daemon has ended, its supervisor undoes what was changed in the container, and ends. If it was killed, `detach`
does the same.
"""

from __future__ import annotations

import os
import time
from argparse import ArgumentParser, Namespace

from ...errors import ATTACH_REFUSED, DAEMON_FAILED, NO_CONTAINER, HookError
from ...linux.process import Process
from ...log import WARNING, log
from ...node.engine import Engine
from ...node.entries import directories
from ...node.entry_reader import collect_own, own
from ...node.running import RunningProcess
from ...start.attach import still_mounted
from ...stop.changes import Changes, all_of
from ...stop.rules import require_end
from . import targets

DESCRIPTION = """Stop the SSH daemon that attach started in one of your containers, and its sessions.
Without an argument, use your only container on this node, or list them if there are several."""
EXAMPLE = "ssh_hook detach 4711"
_TIMEOUT = 20.0  # seconds; longer than the supervisor waits for sessions and for the container's file system
_POLL = 0.05  # seconds


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    targets.add_arguments(parser)


def run(arguments: Namespace, _settings: dict[str, str]) -> int:
    """End the daemon of the process that `arguments` name. Return 0, or 1 if there are several. Raises HookError."""
    targets.require_user("detach")
    pid = targets.chosen_pid(arguments)
    attached = all_of(Engine().host_uid)
    if pid is None:
        candidates = [each.pid for each in attached if _is_of_pid(each)]
        if not candidates:
            raise HookError(NO_CONTAINER, "you have attached no SSH daemon on this node")
        if len(candidates) > 1:
            targets.print_choice("detach", {found: targets.name_of(found) for found in candidates})
            return 1
        (pid,) = candidates
    process = _open_process(pid)
    found = [each for each in attached if _is_of(each, process)]
    left = [path for each in found for path in _end(each, process)]
    if not found:
        _end_unlisted(pid)
    if left:
        log(WARNING, still_mounted(left))
    print(f"detached from process {pid}")
    return 0


def _open_process(pid: int) -> Process:
    try:
        return Process(pid)
    except OSError:
        raise HookError(ATTACH_REFUSED, f"there is no process {pid} on this node") from None


def _is_of_pid(changes: Changes) -> bool:
    """Return whether the process of the attach runs."""
    try:
        return changes.is_of(Process(changes.pid))
    except OSError:
        return False


def _is_of(changes: Changes, process: Process) -> bool:
    """Return whether the attach is to `process`, or to another one in its container. Raises HookError."""
    try:
        return changes.is_of(process) or changes.is_in_container(process)
    except OSError:
        raise HookError(ATTACH_REFUSED, f"process {process.pid} has exited") from None


def _end(changes: Changes, process: Process) -> list[str]:
    """End the daemon of an attach, and see what was changed in the container of `process` undone.

    Return the mount points of mounts that are left. Raises HookError.
    """
    deadline = time.monotonic() + _TIMEOUT
    _end_daemons(changes.namespace)
    while not changes.try_lock():
        if time.monotonic() > deadline:
            raise HookError(
                DAEMON_FAILED, f"the SSH daemon of process {changes.pid} did not exit within {_TIMEOUT:.0f} s"
            )
        time.sleep(_POLL)
        _end_daemons(changes.namespace)  # attach may be about to start it
    if not changes.is_left():
        return []
    target = RunningProcess(process.pid)
    if target.process.start_time() != process.start_time():
        raise HookError(ATTACH_REFUSED, f"process {process.pid} has exited")
    left = changes.undo(target)
    collect_own(Engine().host_uid)  # normally the supervisor removes its entry
    return left


def _end_unlisted(pid: int) -> None:
    """End daemons that are attached in the container of the process `pid`; their supervisors undo the changes.

    They may be of an earlier version, or their file was removed, as from /tmp. Raises HookError if there is none.
    """
    target = RunningProcess(pid)
    if _end_daemons(str(os.fstat(target.mount_namespace).st_ino)):
        return
    problem = f"you have attached no SSH daemon to process {pid}"
    if targets.daemons_in(target):
        problem = f"the SSH daemon of process {pid} was not started by attach: it stops with its container"
    raise HookError(ATTACH_REFUSED, problem)


def _end_daemons(mounts: str) -> bool:
    """End the daemons that are attached in the mount namespace with the inode `mounts`; return whether one was there.

    Raises HookError.
    """
    has_ended = False
    for known in (known for path in directories(Engine().host_uid) for known in own(path)):
        daemon = known.process() if known.texts["attached"] and known.texts["mounts"] == mounts else None
        if daemon is not None:
            require_end(daemon)
            daemon.close()
            has_ended = True
    return has_ended
