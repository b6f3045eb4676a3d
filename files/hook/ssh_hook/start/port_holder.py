# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the process that listens on a port, for a message."""

from __future__ import annotations

import time

from ..fast_stdlib import TYPE_CHECKING, fsdecode, os, read_file
from ..linux import syscalls
from ..linux.cgroups import job_and_step
from ..linux.id_maps import read_map
from ..linux.identity import Identity
from ..linux.process_search import ask_own_processes
from ..node.inventory import find_daemon_of
from ..oci.container_paths import SERVER_NAME

if TYPE_CHECKING:
    from ..linux.process import Process

_TCP_LISTEN = 10
_TIMEOUT = 2.0  # seconds to find the process that listens
_HIDEPID_OFF = ("hidepid=0", "hidepid=off")


def describe_holder(port: int, user: Identity) -> str:
    """Return text for a message to `user` about the process that listens on `port`; empty if unknown."""
    try:
        from pyroute2 import DiagSocket

        with DiagSocket() as diagnosis:
            for family in (syscalls.AF_INET, syscalls.AF_INET6):
                for sock in diagnosis.get_sock_stats(states=1 << _TCP_LISTEN, family=family):
                    if sock["idiag_sport"] == port:
                        return _describe_process(port, sock["idiag_inode"], sock["idiag_uid"], user)
    except Exception:
        pass  # pyroute2 or the kernel's sock_diag is missing: leave it out of the message
    return ""


def _describe_process(port: int, inode: int, uid: int, user: Identity) -> str:
    owner = _describe_uid(uid)
    holder = None
    if uid == user.uid and (daemon := find_daemon_of(uid, port)) is not None:
        holder = daemon.pid, SERVER_NAME
    elif uid == user.uid or not _hides_processes():
        holder = _find_holder(f"socket:[{inode}]")
    if holder is None:
        return f" by a process of {owner}"
    pid, name = holder
    return f" by process {pid} ({name}) of {owner}{_describe_job(str(pid))}"


def _find_holder(file: str) -> tuple[int, str] | None:
    """Return pid and name of a process that has `file` open, such as socket:[123], if the caller may trace it.

    Raises LateError.
    """

    def name_of_holder(process: Process) -> bytes:
        return process.read("comm").partition(b"\n")[0] if _has_open(process.pid, file) else b""

    found = ask_own_processes(name_of_holder, time.monotonic() + _TIMEOUT)
    return next(((pid, name.decode("utf-8", "backslashreplace").strip()) for pid, name in found.items()), None)


def _has_open(pid: int, file: str) -> bool:
    """Return whether the process has `file` open. Raises OSError if it is gone, or not the caller's to trace."""
    descriptors = f"/proc/{pid}/fd"
    for name in os.listdir(descriptors):
        try:
            if os.readlink(f"{descriptors}/{name}") == file:
                return True
        except FileNotFoundError:
            continue  # closed meanwhile
    return False


def _describe_job(pid: str) -> str:
    """Return text about the job of the process `pid`; empty outside jobs, or if the process has exited."""
    try:
        job, _step = job_and_step(fsdecode(read_file(f"/proc/{pid}/cgroup")).split("\n"))
    except OSError:
        return ""
    return f" in job {job}" if job else ""


def _hides_processes() -> bool:
    """Return whether the node's /proc is mounted with hidepid: then messages must not reveal other users' processes."""
    mounts = [line.split() for line in read_file("/proc/self/mountinfo").decode("utf-8", "replace").splitlines()]
    options = [line[-1].split(",") for line in mounts if line[4] == "/proc"]
    return any(option.startswith("hidepid=") and option not in _HIDEPID_OFF for option in (options or [[]])[-1])


def _describe_uid(uid: int) -> str:
    """Describe the user `uid` of this user namespace by the uid in the initial one."""
    ours = read_map("/proc/self/uid_map")
    if ours.is_initial():
        return f"uid {uid}"
    with open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:
        unknown = int(file.read())  # replaces every unmapped uid
    outside = None if uid == unknown else ours.outside(uid)
    return "another user" if outside is None else f"uid {outside}"
