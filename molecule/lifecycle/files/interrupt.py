"""Run ansible-playbook, and kill it and every process that it started on this machine some time after a task has begun.

interrupt.py TASK SECONDS COMMAND...

TASK is the task's number, from 1 on. Fails where the command ends before.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

MARK = "INTERRUPT"  # an environment variable, by which processes are known that have made themselves independent


def started(value: str) -> list[int]:
    """Pids of the processes that the command started, itself among them."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARK}={value}".encode() in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
        except OSError:  # it has ended, or is a thread of the kernel
            continue
    return found


def main(task: int, seconds: float, command: list[str]) -> int:
    """The exit status."""
    value = str(os.getpid())
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, MARK: value}) as run:
        assert run.stdout
        begun = (line for line in run.stdout if line.startswith("TASK ["))
        last = next((line for number, line in enumerate(begun, 1) if number == task), None)
        if last is None:
            print(f"it had ended before its task {task}", file=sys.stderr)
            return 1
        time.sleep(seconds)
        while pids := started(value):
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        print(last.strip(" *\n"))
        return 0 if run.wait() == -signal.SIGKILL else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
