# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook's daemons on a node, as root: those that the hook lists, and all processes that run its program.

A release of Dropbear stays as long as a process runs it, whatever the hook's entries say (node/inventory.py). So these
are found by their program, which only root can install.
"""

from __future__ import annotations

import fcntl
import glob
import json
import os
import pwd
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress

from . import _dropbear, _files
from ._linux.process_questions import ask

LISTENING = "0A"
SECONDS = 60  # for the hook's answer
END_SECONDS = 10  # for processes that were killed to exit
NS_GET_OWNER_UID = 0xB704  # linux/nsfs.h


def listening_sockets(pid: int | str) -> dict[str, int]:
    """Return the ports of the TCP sockets that listen in the network of a process, of both address families.

    The keys are the sockets' inodes.
    """
    found = {}
    for table in (f"/proc/{pid}/net/tcp", f"/proc/{pid}/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                rows = file.read().splitlines()[1:]
        except OSError:  # a kernel without IPv6, or it has exited
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == LISTENING:
                found[fields[9]] = int(fields[1].rpartition(":")[2], 16)
    return found


def socket_inodes(pid: int) -> bytes:
    """Return the inodes of the sockets that a process has open. Raises OSError if it has exited."""
    prefix, inodes = "socket:[", []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # closed meanwhile
            target = os.readlink(f"/proc/{pid}/fd/{name}")
            if target.startswith(prefix):
                inodes.append(target[len(prefix) : -1])
    return " ".join(inodes).encode()


def process_name(pid: int) -> str:
    """Return the name of a process; "a process" if it has exited."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "a process"


def running_daemons(dropbear_dir: str) -> list[int]:
    """Return the pids of processes that run our Dropbear, also in containers (another path) or if it was removed.

    Raises TimeoutError, with a complete message.
    """
    statuses = [os.stat(path) for path in glob.glob(glob.escape(dropbear_dir) + f"*/bin/{_dropbear.PROGRAM}")]
    programs = {(status.st_dev, status.st_ino) for status in statuses}
    devices = {status.st_dev for status in [*statuses, os.stat(_files.existing(dropbear_dir))]}

    def is_ours(pid: int) -> bytes:
        status = os.stat(f"/proc/{pid}/exe")
        name = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
        is_removed = name == f"{_dropbear.PROGRAM} (deleted)" and was_ours(status, devices)
        return b"yes" if is_removed or (status.st_dev, status.st_ino) in programs else b""

    return [pid for pid, answer in _dropbear.ask_all(is_ours).items() if answer]


def releases(dropbear_dir: str) -> dict[tuple[int, int] | None, str]:
    """Return the names of the releases of Dropbear on the node, by device and inode of their programs."""
    found = {
        _dropbear.identity(f"{path}/bin/{_dropbear.PROGRAM}"): os.path.basename(path)
        for path in reversed(_dropbear.releases(os.path.dirname(dropbear_dir)))
    }
    found.pop(None, None)  # a release without a program
    return found


def servers(known: Iterable[Mapping[str, int]], dropbear_dir: str) -> list[dict[str, object]]:
    """Return the daemons of the hook's list `known`, each with what an audit reports.

    That is its pid, the name of its user (the uid if there is no name), its TCP ports, the number of its sessions, the
    `release` of Dropbear that it runs (empty if it has exited, or runs none of ours), and whether that is not the one
    that new containers get (`outdated`).
    """
    current, names = os.path.basename(os.path.realpath(dropbear_dir)), releases(dropbear_dir)

    def release_of(pid: int) -> bytes:
        return names.get(_dropbear.identity(f"/proc/{pid}/exe"), "").encode()

    listed_ones = list(known)
    running = ask(release_of, {each["pid"] for each in listed_ones})
    return [
        {
            "pid": each["pid"],
            "user": user_name(each["owner"]),
            "ports": [each["port"]] * bool(each["port"]),
            "sessions": each["sessions"],
            "release": name,
            "outdated": name != current,
        }
        for each in listed_ones
        for name in [running.get(each["pid"], b"").decode()]
    ]


def listed(launcher: str) -> list[dict[str, int]] | None:
    """Return pid, owner (a uid), port and number of sessions of the daemons that the hook lists; None without answer.

    Only root must be able to change the hook. Hooks that do not report owners report the uid of the daemon.
    """
    try:
        done = subprocess.run(
            [launcher, "status", "--json"], stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=True
        )
        return [
            {
                "owner": int(found.get("owner", found["uid"])),
                **{name: int(found[name]) for name in ("pid", "port", "sessions")},
            }
            for found in json.loads(done.stdout)["containers"]
        ]
    except (AttributeError, OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError):
        return None


def processes_of(uids: set[int], known: Iterable[Mapping[str, int]], dropbear_dir: str) -> list[int]:
    """Return the processes that run our Dropbear for these users: daemons, and those that serve their sessions.

    They run as the user, in a user namespace that the user has made, or, in one that root has made, where the hook's
    list `known` says so. A user can remove only the user's own entries from that list.
    """
    parents, found, theirs = {}, set(), {each["pid"] for each in known if each["owner"] in uids}
    for pid, answer in ask(describe_ids, running_daemons(dropbear_dir)).items():
        if answer:
            parents[pid], uid, maker = map(int, answer.split())
            if pid in theirs or {uid, maker or uid} & uids:
                found.add(pid)
    served = found
    while served:
        served = {pid for pid, parent in parents.items() if parent in served} - found
        found |= served
    return sorted(found)


def describe_ids(pid: int) -> bytes:
    """Return the parent's pid of a process, its uid, and that of `namespace_owner`. Raises OSError."""
    return b"%d %d %d" % (*ids(pid), namespace_owner(pid))


def ids(pid: int) -> tuple[int, int]:
    """Return the parent's pid and the uid of a process. Raises OSError."""
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        text = file.read()
    parent, uid = (re.search(rf"^{name}:\t([0-9]+)", text, re.MULTILINE) for name in ("PPid", "Uid"))
    return int(parent[1]) if parent else 0, int(uid[1]) if uid else 0


def namespace_owner(pid: int) -> int:
    """Return the uid of the user who has made the user namespace of a process (ioctl_ns(2)). Raises OSError."""
    with open(f"/proc/{pid}/ns/user", "rb") as namespace:
        return int.from_bytes(fcntl.ioctl(namespace, NS_GET_OWNER_UID, bytes(4)), sys.byteorder)


def end(pids: Iterable[int]) -> list[int]:
    """Kill processes, and wait until they have exited. Return those that have not within END_SECONDS."""
    left, deadline = set(pids), time.monotonic() + END_SECONDS
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while left and time.monotonic() < deadline:
        left = {pid for pid in left if not has_exited(pid)}
        time.sleep(0.02)
    return sorted(left)


def has_exited(pid: int) -> bool:
    """Return whether a process is gone, or a zombie."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            return re.search(r"^State:\t[ZX]", file.read(), re.MULTILINE) is not None
    except OSError:
        return True


def user_name(uid: int) -> str:
    """Return a user's name; the uid if there is none, as in a user namespace."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


def was_ours(status: os.stat_result, devices: set[int]) -> bool:
    """Return whether a deleted file was our Dropbear: as the role installs it, and on one of `devices`.

    A user can choose any file name, but cannot create a file owned by root, nor a hard link to one that users cannot
    read (fs.protected_hardlinks).
    """
    is_roots = stat.S_ISREG(status.st_mode) and status.st_uid == 0
    return is_roots and stat.S_IMODE(status.st_mode) == _dropbear.PROGRAM_MODE and status.st_dev in devices


def port_holders(port: int, daemons: list[int]) -> list[str]:
    """Return the processes that listen on a port, except for our daemons: "name (pid 1)"."""
    wanted = {inode for inode, number in listening_sockets("self").items() if number == port}
    holders = []
    for pid, inodes in _dropbear.ask_all(socket_inodes).items() if wanted else ():
        held = wanted & set(inodes.decode().split())
        wanted -= held
        if held and pid not in daemons:
            holders.append(f"{process_name(pid)} (pid {pid})")
    return holders + ["a process of another pid namespace"] * bool(wanted)
