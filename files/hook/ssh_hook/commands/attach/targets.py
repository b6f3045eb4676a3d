# SPDX-License-Identifier: GPL-3.0-or-later
"""The caller's containers that can be attached to, found by their namespaces, and the arguments that select one."""

from __future__ import annotations

import subprocess
import time
from argparse import ArgumentParser, Namespace

from ...errors import ARGUMENTS_WRONG, ATTACH_REFUSED, NO_CONTAINER, SYSTEM, HookError, printable
from ...fast_stdlib import os
from ...linux.process import MAX_PID, Process, is_decimal
from ...linux.process_search import ask_own_processes, require_time
from ...node.running_process import RunningProcess

_TIMEOUT = 20.0  # seconds for podman
_SEARCH_TIMEOUT = 2.0  # seconds to find all containers
_MAX_CONTAINERS = 64


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments that select a container."""
    parser.add_argument("pid", nargs="?", metavar="PID", help="PID on this node of a process in the container")
    parser.add_argument("--name", metavar="NAME", help="the name of one of your podman containers")
    parser.add_argument("--instance", metavar="NAME", help="the name of one of your Apptainer instances")


def require_user(command: str) -> None:
    """Raise HookError if the caller is root or a set-user-ID program: `command` joins a user's namespaces."""
    if os.geteuid() == 0 or os.getuid() != os.geteuid():
        raise HookError(
            ATTACH_REFUSED, f"{command} is only for the users of containers: run it as the container's user"
        )


def chosen_pid(arguments: Namespace) -> int | None:
    """Return the pid of the process that `arguments` name, or None if they name none or an instance.

    Raises HookError.
    """
    if [arguments.pid, arguments.name, arguments.instance].count(None) < 2:
        raise HookError(ARGUMENTS_WRONG, "give only one of PID, --name and --instance")
    if arguments.name is not None:
        return _pid_of_name(arguments.name)
    text = arguments.pid
    if text is None:
        return None
    if is_decimal(text, 10) and 1 <= int(text) <= MAX_PID:
        return int(text)
    raise HookError(
        ARGUMENTS_WRONG,
        f"'{printable(text)}' is not a PID: give the number of a process, or --name for a podman container",
    )


def _pid_of_name(name: str) -> int:
    command = ["podman", "container", "inspect", "--format", "{{.State.Pid}}", "--", name]
    try:
        found = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except OSError as error:
        raise HookError(
            SYSTEM, f"cannot run podman to find the container {printable(name)}: {error.strerror}"
        ) from None
    except subprocess.TimeoutExpired:
        raise HookError(
            SYSTEM, f"podman did not report the container {printable(name)} within {_TIMEOUT:.0f} s"
        ) from None
    text = found.stdout.strip()
    if found.returncode != 0 or not text.isdigit():
        raise HookError(
            NO_CONTAINER, f"your podman has no container {printable(name)}: {printable(found.stderr.strip())}"
        )
    if int(text) == 0:
        raise HookError(NO_CONTAINER, f"your podman container {printable(name)} is not running")
    return int(text)


def print_choice(command: str, names: dict[int, str]) -> None:
    """Print processes (pid and name) for the user to choose from."""
    for pid, name in sorted(names.items()):
        print(f"{pid:>8}  {name:16}  ssh_hook {command} {pid}")


def find_containers() -> list[RunningProcess]:
    """Return the first process of each of the caller's containers on this node, also of those with an SSH daemon.

    Images decide how many processes and mount namespaces there are. Raises HookError if there are too many.
    """
    deadline = time.monotonic() + _SEARCH_TIMEOUT
    own = os.stat("/proc/self/ns/mnt")
    candidates: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for pid, answer in ask_own_processes(_describe, deadline).items():
        device, inode, start_time = map(int, answer.split())
        if (device, inode) != (own.st_dev, own.st_ino):
            candidates.setdefault((device, inode), []).append((start_time, pid))
    if len(candidates) > _MAX_CONTAINERS:
        raise HookError(
            ATTACH_REFUSED,
            f"your processes on this node are in more than {_MAX_CONTAINERS} mount namespaces: give the PID of one",
        )
    found = []
    for processes in candidates.values():
        for _start_time, pid in sorted(processes):
            require_time(deadline)
            try:
                found.append(RunningProcess(pid, may_be_served=True))
                break
            except HookError:
                continue
    return found


def _describe(process: Process) -> bytes:
    """Return device and inode of the mount namespace of a process, and its start time; empty if it is not traceable."""
    namespace = process.mount_namespace()
    return b"" if namespace is None else b"%d %d %d" % (*namespace, process.start_time())


def name_of(pid: int) -> str:
    """Return the name that a process has given itself; empty if it has exited."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return printable(file.read().rstrip("\n"))
    except OSError:
        return ""
