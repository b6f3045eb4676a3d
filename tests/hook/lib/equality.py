"""What a process may do, as /proc tells it: for comparing a session with the process that it is beside."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

# Of /proc/PID/status what is each process's own: its place in the tree, its memory, its time, what its program handles.
OWN = set(
    """
    Name State Tgid Ngid Pid PPid TracerPid NStgid NSpid NSpgid NSsid Kthread FDSize HugetlbPages CoreDumping
    THP_enabled untag_mask Threads SigQ SigPnd ShdPnd SigBlk SigIgn SigCgt
    voluntary_ctxt_switches nonvoluntary_ctxt_switches x86_Thread_features x86_Thread_features_locked
    """.split()
)
CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
# Of each login its own.
LOGIN = set("USER LOGNAME HOME SHELL TERM PWD OLDPWD SHLVL _ SSH_CLIENT SSH_CONNECTION SSH_PUBKEYINFO".split())
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")

# What tells, one after the other, all of it; $P is the process.
FILES = ("status", "cgroup", "limits", "oom_score_adj", "attr/current", "timens_offsets", "stat")
# In stat, counted after the name: proc_pid_stat(5).
SCHEDULING = {"nice": 16, "real-time priority": 37, "scheduling policy": 38}
IOPRIO_GET, IOPRIO_WHO_PROCESS = 252, 1  # ioprio_get(2) on x86_64
SCRIPT = "; echo ---; ".join(f"cat /proc/$P/{name} 2>/dev/null || echo none" for name in FILES)


def facts(output: str) -> dict[str, object]:
    """What the output of SCRIPT says of a process: each field of its status, and of the other files."""
    text, cgroup, limits, oom, label, offsets, stat = output.split("---\n")
    status = dict(line.split(":", 1) for line in text.splitlines())
    found: dict[str, object] = {
        name: value.split() for name, value in status.items() if name not in OWN and not name.startswith(("Vm", "Rss"))
    }
    for name in CAPABILITY_SETS:
        found[name] = int(status[name], 16)
    # Whether a process's own group is among the others makes no difference to what it may do.
    found["Groups"] = sorted({*status["Groups"].split(), status["Gid"].split()[1]})
    lines = {f"limits: {line[:25].strip()}": line[25:].split() for line in limits.splitlines()[1:]}
    return {
        **found,
        **lines,
        "cgroup": sorted(cgroup.splitlines()),
        "oom_score_adj": oom.strip(),
        "label": label.strip("\0\n"),
        "clocks": offsets,
        **{name: stat.rpartition(")")[2].split()[field] for name, field in SCHEDULING.items()},
    }


def seen_from_outside(pid: int) -> tuple[int, str]:
    """What no process of a container can read of another: I/O priority, with its class, and personality."""
    priority: int = ctypes.CDLL(None, use_errno=True).syscall(IOPRIO_GET, IOPRIO_WHO_PROCESS, pid)
    return priority, Path(f"/proc/{pid}/personality").read_text(encoding="ascii")


def environment(output: bytes) -> dict[bytes, bytes]:
    return dict(entry.split(b"=", 1) for entry in output.split(b"\0") if entry)


LIST_DESCRIPTORS = "ls -l /proc/self/fd"


def listed_descriptors(listing: str) -> list[str]:
    """The numbers of the descriptors in the output of LIST_DESCRIPTORS. One more than a session has is its own."""
    return [line.split()[8] for line in listing.splitlines()[1:]]


def strange_descriptors(daemon: int) -> list[str]:
    """What a daemon has open beyond that which Dropbear itself opens or is given.

    Where it logs logins, a child with the same command line serves in its place (patch 11-logins).
    """
    command = Path(f"/proc/{daemon}/cmdline").read_bytes()
    children = Path(f"/proc/{daemon}/task/{daemon}/children").read_text(encoding="ascii").split()
    servers = [int(pid) for pid in children if Path(f"/proc/{pid}/cmdline").read_bytes() == command]
    return [target for pid in (daemon, *servers) for target in _strange_descriptors_of(pid)]


def _strange_descriptors_of(pid: int) -> list[str]:
    own_program = "/opt/oci-hooks/ssh/dropbear/bin/dropbearmulti"  # which it runs anew for each session; by O_PATH
    allowed = ("/dev/null", "socket:", "pipe:", "/dev/urandom", "/memfd:logins ", own_program)
    root = str(Path(f"/proc/{pid}/root").readlink()).rstrip("/")
    opened = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir() if not _is_directory_of_log(path)]
    inside = [target[len(root) :] if target.startswith(f"{root}/") else target for target in opened]
    return [target for target in inside if not target.startswith(allowed)]


def _is_directory_of_log(descriptor: Path) -> bool:
    """Whether it is what Dropbear has to connect to a new socket of the log: a mount that is in no mount namespace."""
    information = Path(str(descriptor).replace("/fd/", "/fdinfo/")).read_text(encoding="ascii").split()
    mount = information[information.index("mnt_id:") + 1]
    tables = [
        Path(path).read_text(encoding="utf-8") for path in ("/proc/self/mountinfo", descriptor.parents[1] / "mountinfo")
    ]
    is_mounted = any(line.split()[0] == mount for table in tables for line in table.splitlines())
    return not is_mounted and os.path.samestat(descriptor.stat(), os.stat("/dev"))


def namespaces(pid: int) -> dict[str, tuple[int, int]]:
    found = {}
    for name in NAMESPACES:
        status = Path(f"/proc/{pid}/ns/{name}").stat()
        found[name] = (status.st_dev, status.st_ino)
    return found
