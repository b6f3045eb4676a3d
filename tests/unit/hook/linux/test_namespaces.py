"""The namespaces of a container's first process: those that differ are joined, the rest is not touched."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from ssh_hook.errors import ContainerEndedError
from ssh_hook.linux import namespaces, syscalls
from ssh_hook.linux.namespaces import Namespaces
from ssh_hook.linux.process import Process

JOINED = ("cgroup", "ipc", "uts", "net")
NEW = (syscalls.CLONE_NEWCGROUP, syscalls.CLONE_NEWIPC, syscalls.CLONE_NEWUTS, syscalls.CLONE_NEWNET)


def inodes(process: int | str) -> dict[str, int]:
    return {name: os.stat(f"/proc/{process}/ns/{name}").st_ino for name in (*JOINED, "mnt", "user", "pid")}


def test_a_process_joins_those_that_differ(in_namespaces: Callable[[Callable[[], object]], Any]) -> None:
    def work() -> list[object]:
        ready, is_ready = os.pipe()
        init = os.fork()
        if init == 0:
            syscalls.unshare(sum(NEW) | syscalls.CLONE_NEWNS)
            os.write(is_ready, b"x")
            time.sleep(1000)
        os.read(ready, 1)
        before = inodes("self")
        with Process(init) as process:
            found = Namespaces(process.directory)
        opened = [name for name in before if found.has(name)]
        found.join_all_but_mount_and_user()
        after, theirs = inodes("self"), inodes(init)
        joined = [name for name in before if after[name] == theirs[name] != before[name]]
        mount = found.take("mnt")
        taken = (mount is not None, found.take("mnt"), found.has("mnt"))
        count = len(os.listdir("/proc/self/fd"))
        found.close()
        closed = count - len(os.listdir("/proc/self/fd"))
        os.kill(init, signal.SIGKILL)
        os.waitpid(init, 0)
        return [opened, joined, after["mnt"] == before["mnt"], taken, closed]

    assert in_namespaces(work) == [[*JOINED, "mnt"], [*JOINED], True, (True, None, False), len(JOINED)]


def test_a_process_that_has_exited_has_none() -> None:
    child = os.fork()
    if child == 0:
        time.sleep(1000)
    with Process(child) as process:
        assert not any(Namespaces(process.directory).has(name) for name in inodes("self"))
        os.kill(child, signal.SIGKILL)
        for options in (os.WNOWAIT, 0):
            os.waitid(os.P_PID, child, os.WEXITED | options)
            with pytest.raises(ContainerEndedError):
                Namespaces(process.directory)


def test_the_hooks_own_are_none_to_join() -> None:
    own = Namespaces(None)
    assert not any(own.has(name) for name in inodes("self"))
    own.join("net", "user")


def test_which_network_is_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody can tell, it is: then a missing address of the site's is an error."""
    stat = os.stat
    shown: dict[str, Any] = {"/proc/self/ns/net": stat("/"), "/proc/1/ns/net": stat("/")}

    def show(path: str) -> os.stat_result:
        if isinstance(shown[path], OSError):
            raise shown[path]
        found: os.stat_result = shown[path]
        return found

    monkeypatch.setattr(namespaces.os, "stat", show)
    found = []
    for other in (shown["/proc/1/ns/net"], stat("/proc"), PermissionError(), FileNotFoundError()):
        shown["/proc/1/ns/net"] = other
        found.append(namespaces.is_in_hosts_network())
    assert found == [True, False, True, True]
