"""Records of daemons, as the hook would write them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from containers import ALICE, ENTRIES, RECORD, kept_records

BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()

# What a record may say of a process that is not the one which has its pid.
OTHERS: tuple[dict[str, object], ...] = (
    {"start_time": 1},
    {"boot_id": "00000000-0000-0000-0000-000000000000"},
    {"program_inode": 1},
    {"program_device": 1},
)


def describe(pid: int) -> dict[str, object]:
    """What a record says of the process `pid`, as if that were a daemon and a container's first process in one."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    program = Path(f"/proc/{pid}/exe").stat()
    return {
        "pid": pid,
        "start_time": int(fields[19]),
        "program_device": program.st_dev,
        "program_inode": program.st_ino,
        "uid": ALICE,
        "gid": ALICE,
        "boot_id": BOOT_ID,
        "pidfile_host": "",
        "init_pid": pid,
        "init_start_time": int(fields[19]),
        "pid_namespace": os.stat("/proc/self/ns/pid").st_ino,
        "bundle": "/no/such/bundle",
        "copy": "/no/such/copy",
    }


def write_record(directory: Path, values: Mapping[str, object], name: str = RECORD) -> Path:
    """Write a record of `values` into `directory`; returns its path."""
    path = directory / name
    path.write_text("\n".join(["ssh_hook 1", *(f"{k}={v}" for k, v in values.items()), ""]), encoding="utf-8")
    path.chmod(0o600)
    return path


def age(*paths: Path) -> None:
    """Make files, or else all entries, half ones too, as old as what a sweep looks at."""
    for path in paths or (*kept_records(), *ENTRIES.glob("*/[0-9]*")):
        os.utime(path, (time.time() - 120,) * 2, follow_symlinks=False)
