# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook detach``: end a daemon that ``ssh_hook attach`` started, and its sessions.

When the daemon has ended, its supervisor undoes what was changed in the container, and ends. If it was killed, `detach`
does the same.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ...errors import ATTACH_REFUSED, NO_CONTAINER, HookError
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


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    targets.add_arguments(parser)


def run(arguments: Namespace, _settings: dict[str, str]) -> int:
    """End the daemon of the process that `arguments` name. Return 0, or 1 if there are several. Raises HookError."""
    targets.require_user("detach")
    pid = targets.chosen_pid(arguments)
    attached = all_of(Engine().host_uid)
    if pid is None:
        candidates = [each.pid for each in attached if not each.is_stale()]
        if not candidates:
            raise HookError(NO_CONTAINER, "you have attached no SSH daemon on this node")
        if len(candidates) > 1:
            targets.print_choice("detach", {found: targets.name_of(found) for found in candidates})
            return 1
        (pid,) = candidates
    process = _open_process(pid)
    found = [each for each in attached if _is_of(each, process)]
    if not found:
        raise _nothing_attached(pid)
    for changes in found:
        _end(changes, process)
        left = changes.left_in(process)
        if left:
            log(WARNING, still_mounted(left))
    print(f"detached from process {pid}")
    return 0


def _open_process(pid: int) -> Process:
    try:
        return Process(pid)
    except OSError:
        raise HookError(ATTACH_REFUSED, f"there is no process {pid} on this node") from None


def _is_of(changes: Changes, process: Process) -> bool:
    """Return whether the attach is to `process`, or to another one in its container. Raises HookError."""
    try:
        is_attached = changes.pid == process.pid and not changes.is_stale()
        return is_attached or changes.is_in_container(process)
    except OSError:
        raise HookError(ATTACH_REFUSED, f"process {process.pid} has exited") from None


def _nothing_attached(pid: int) -> HookError:
    """Return why there is nothing to detach from the process `pid`. Raises HookError, if it is in no container."""
    target = RunningProcess(pid)
    if targets.daemons_in(target):
        return HookError(
            ATTACH_REFUSED, f"the SSH daemon of process {pid} was not started by attach: it stops with its container"
        )
    return HookError(ATTACH_REFUSED, f"you have attached no SSH daemon to process {pid}")


def _end(changes: Changes, process: Process) -> None:
    """End the daemon of an attach, and see what was changed in the container of `process` undone. Raises HookError."""
    uid = Engine().host_uid
    for known in (known for path in directories(uid) for known in own(path)):
        daemon = known.process() if known.texts["attached"] == str(changes.pid) else None
        if daemon is not None:
            require_end(daemon)
            daemon.close()
    if changes.await_lock():
        changes.undo(RunningProcess(process.pid))
        collect_own(uid)  # normally the supervisor removes its entry
