"""Imports have ended before anything of the container's can be reached: no module comes from an image."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ssh_hook.errors import CONTAINER_ENDED, HookError
from ssh_hook.linux.process import Process
from ssh_hook.linux.root_mount import OuterMounts
from ssh_hook.start.enter import MountedRoot

HOOK = Path(__file__).resolve().parents[4] / "files" / "hook"
# Enters a container whose namespaces, when they are joined, and whose root directory, when it is looked into, have a
# module for whoever imports one. It prints each step that it came to, and what could be imported there.
PROGRAM = """
import os, sys
sys.path.insert(0, sys.argv[1])
from types import SimpleNamespace
from ssh_hook.start import attach, enter
sys.path.insert(0, sys.argv[2])
def try_import(step):
    try:
        __import__(f"module_{step}")
        print(step, "imported")
    except ImportError:
        print(step)
def join(*names):
    try_import("join")
    raise InterruptedError
def look(path, flags):
    try_import("open")
    return os.open("/dev/null", flags)
try_import("before")
root = enter._OpenMountedRoot(SimpleNamespace(descriptor=-1), None, None, SimpleNamespace(join=join), "")
if sys.argv[3] == "attach":
    root = attach._OpenRunningRoot(SimpleNamespace(open=look, descriptor=-1), None, -1)
try:
    enter.EnteredContainer(root, None)
except InterruptedError:
    pass
"""


def enter(image: Path, how: str) -> list[str]:
    for step in ("before", "join", "open"):
        (image / f"module_{step}.py").write_bytes(b"")
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, str(HOOK), str(image), how]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_no_module_comes_from_an_image_that_is_joined(tmp_path: Path) -> None:
    assert enter(tmp_path, "start") == ["before imported", "join"]


def test_no_module_comes_from_a_root_directory_that_was_entered_before(tmp_path: Path) -> None:
    assert enter(tmp_path, "attach") == ["before imported", "open"]


def test_a_container_that_has_ended_has_no_root() -> None:
    """It is a zombie then, or gone: what procfs says of it is no reason to blame whoever may rename directories."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    init = Process(pid)
    container: Any = SimpleNamespace(rootfs="/run")
    unused: Any = None
    root = MountedRoot(container, unused, init, init.directory, unused, OuterMounts, "")
    for _is_reaped in (False, True):
        with pytest.raises(HookError) as refused:
            root.open()
        assert refused.value.kind == CONTAINER_ENDED
        if not _is_reaped:
            os.waitpid(pid, 0)
    init.close()
