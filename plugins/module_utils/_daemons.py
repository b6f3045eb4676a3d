# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the hook's daemons among a node's processes, as root, by the program file that a process runs.

A release of Dropbear stays as long as a process runs it, whatever entries say (the hook's node/inventory.py). So these
are found by their program, which only root can install.
"""

from __future__ import annotations

import glob
import os
import pwd
import stat

from . import _dropbear, _files

LISTENING = "0A"


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


def processes() -> list[int]:
    """Return the pids of all processes."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def socket_inodes(pid: int) -> set[str]:
    """Return the inodes of the sockets that a process has open; empty if it has exited."""
    inodes = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            target = os.readlink(f"/proc/{pid}/fd/{name}")
            if target.startswith("socket:["):
                inodes.add(target[len("socket:[") : -1])
    except OSError:
        pass
    return inodes


def process_name(pid: int) -> str:
    """Return the name of a process; "a process" if it has exited."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "a process"


def running_daemons(dropbear_dir: str) -> list[int]:
    """Return the pids of processes that run our Dropbear, also in containers (another path) or if it was removed."""
    statuses = [os.stat(path) for path in glob.glob(glob.escape(dropbear_dir) + f"*/bin/{_dropbear.PROGRAM}")]
    programs = {(status.st_dev, status.st_ino) for status in statuses}
    devices = {status.st_dev for status in [*statuses, os.stat(_files.existing(dropbear_dir))]}
    daemons = []
    for pid in processes():
        try:
            status = os.stat(f"/proc/{pid}/exe")
            name = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
        except OSError:  # it has exited, or is a kernel thread
            continue
        is_removed = name == f"{_dropbear.PROGRAM} (deleted)" and was_ours(status, devices)
        if (status.st_dev, status.st_ino) in programs or is_removed:
            daemons.append(pid)
    return daemons


def servers(daemons: list[int]) -> list[dict[str, object]]:
    """Return the listening daemons among `daemons`: a child of another one is one of its sessions."""
    parents = {pid: parent_and_owner(pid) for pid in daemons}
    found: list[dict[str, object]] = []
    for pid, (parent, uid) in parents.items():
        if uid is None or parent in parents:
            continue
        children = [child for child, (other, _uid) in parents.items() if other == pid]
        ports = ports_of([pid, *children])
        found.append({"pid": pid, "user": user_name(uid), "ports": ports, "sessions": len(children)})
    return found


def parent_and_owner(pid: int) -> tuple[int | None, int | None]:
    """Return the pid of a process's parent, and the process's uid; None for both if it has exited."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            fields = dict(line.split(":\t", 1) for line in file if ":\t" in line)
        return int(fields["PPid"]), int(fields["Uid"].split()[0])
    except OSError:
        return None, None


def user_name(uid: int) -> str:
    """Return a user's name; the uid if there is none, as in a user namespace."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def ports_of(pids: list[int]) -> list[int]:
    """Return the ports on which processes of one network listen, whatever their command lines say."""
    held = {inode for pid in pids for inode in socket_inodes(pid)}
    return sorted({port for inode, port in listening_sockets(pids[0]).items() if inode in held})


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
    for pid in processes() if wanted else []:
        held = wanted & socket_inodes(pid)
        wanted -= held
        if held and pid not in daemons:
            holders.append(f"{process_name(pid)} (pid {pid})")
    return holders + ["a process of another pid namespace"] * bool(wanted)
