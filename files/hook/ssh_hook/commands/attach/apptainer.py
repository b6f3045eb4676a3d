# SPDX-License-Identifier: GPL-3.0-or-later
"""Instances of Apptainer. The first process of one never executes a program, so `attach` needs another process in it.

That is a shell that Apptainer starts there, with the rights and the environment of all that the user runs in the
instance. It waits for the end of a pipe that the supervisor of the attach holds, and exits with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time

from ...errors import ATTACH_REFUSED, NO_CONTAINER, SYSTEM, HookError, printable
from ...linux import syscalls
from ...linux.process import Process, parent_of, pid_is_taken
from ...linux.process_search import ask_own_processes, processes_until
from ...node.inventory import find_daemons
from ...schedulers.bounded_output import last_line
from ...start.description import APPTAINER

_TIMEOUT = 20.0  # seconds to start the shell, and to find processes
_POLL = 0.05  # seconds
_MAX_MESSAGE = 4096  # bytes


def start_shell(name: str) -> int:
    """Start a shell in the instance `name`; return its pid. It exits when all copies of the caller's descriptors close.

    Raises HookError, also if the caller has attached to the instance already.
    """
    if _attached(name):
        raise HookError(
            ATTACH_REFUSED,
            f"the instance {printable(name)} already has an SSH daemon: 'ssh_hook detach --instance {printable(name)}' "
            "stops it",
        )
    return _start(name)


def attached_shell(name: str) -> int:
    """Return the pid of the shell in the instance `name` that the caller has attached to, or of a new one.

    A new one if the supervisor was killed, and so the shell has exited. Raises HookError.
    """
    running = [pid for pid in _attached(name) if pid_is_taken(pid)]
    return running[0] if running else _start(name)


def _start(name: str) -> int:
    reader, _writer = os.pipe()
    program = "apptainer" if shutil.which("apptainer") or not shutil.which("singularity") else "singularity"
    try:
        process = subprocess.Popen(
            [program, "--quiet", "exec", f"instance://{name}", "/bin/sh", "-c", "read -r end"],
            stdin=reader,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # it outlives the terminal, as the supervisor does
        )
    except OSError as error:
        raise HookError(SYSTEM, f"cannot run {program} to enter the instance: {error.strerror}") from None
    os.close(reader)
    deadline = time.monotonic() + _TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        for each in processes_until(deadline):
            if parent_of(each) == process.pid and _is_in_container(each):
                return each.pid
        time.sleep(_POLL)
    process.kill()
    assert process.stderr is not None
    has_message = syscalls.poll([process.stderr.fileno()], time.monotonic())
    message = process.stderr.read(_MAX_MESSAGE).decode("utf-8", "replace") if has_message else ""
    reason = last_line(message, f"it did not start a shell within {_TIMEOUT:.0f} s")
    raise HookError(NO_CONTAINER, f"{program} cannot enter the instance {printable(name)}: {reason}")


def first_process(shell: Process) -> Process:
    """Return the first process of the instance that `shell` is in. Raises HookError."""
    namespace = _pid_namespace(shell)

    def is_first(process: Process) -> bytes:
        return b"yes" if process.own_pid() == 1 and _pid_namespace(process) == namespace else b""

    for pid in ask_own_processes(is_first, time.monotonic() + _TIMEOUT):
        try:
            return Process(pid)
        except OSError:
            break  # it has exited
    raise HookError(NO_CONTAINER, "the Apptainer instance has exited")


def _attached(name: str) -> list[int]:
    return [each.attached for each in find_daemons() if each.attached and (each.engine, each.name) == (APPTAINER, name)]


def _pid_namespace(process: Process) -> int:
    return os.stat("ns/pid", dir_fd=process.directory).st_ino


def _is_in_container(process: Process) -> bool:
    """Return whether `process`, a child of Apptainer's, has executed a program in another mount namespace."""
    own = os.stat("/proc/self/ns/mnt")
    return process.mount_namespace() not in (None, (own.st_dev, own.st_ino)) and not process.is_before_exec()
