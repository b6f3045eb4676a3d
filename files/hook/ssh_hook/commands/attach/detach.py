# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook detach``: end a daemon that ``ssh_hook attach`` started, and its sessions."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ...errors import NO_CONTAINER, HookError
from ...log import WARNING, log
from ...start.attach import still_mounted
from ...start.server import require_undumpable
from . import apptainer, attachments, leftovers, targets

DESCRIPTION = """Stop the SSH daemon that attach started in one of your containers, and its sessions.
Without an argument, use your only container on this node, or list them if there are several."""
EXAMPLE = "ssh_hook detach 4711"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    targets.add_arguments(parser)


def run(arguments: Namespace, _settings: dict[str, str]) -> int:
    """End the daemon of the process that `arguments` name. Return 0, or 1 if there are several. Raises HookError."""
    targets.require_user("detach")
    require_undumpable()
    pid = targets.chosen_pid(arguments)
    if arguments.instance is not None:
        pid = apptainer.attached_shell(arguments.instance)
    candidates = [pid] if pid is not None else leftovers.attached() or leftovers.find()
    if not candidates:
        raise HookError(NO_CONTAINER, "you have attached no SSH daemon on this node")
    if len(candidates) > 1:
        targets.print_choice("detach", {found: targets.name_of(found) for found in candidates})
        return 1
    (pid,) = candidates
    left = attachments.end(pid)
    if left is None:
        left = leftovers.end(pid)  # its supervisor was killed
    if left:
        log(WARNING, still_mounted(left))
    print(f"detached from process {pid}")
    return 0
