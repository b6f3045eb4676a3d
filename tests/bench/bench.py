"""Measures the collection against its peers, in a bed where the hook is installed, and prints a table.

bench.py [ROW...]    the rows of these names; all of them, if none is named
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

import footprint
import gate
import keys
import loaded
import podman_run
import sessions
import start
import table
import throughput

ROWS: dict[str, Callable[[], Iterable[table.Row]]] = {
    "start": start.rows,
    "loaded": loaded.rows,
    "passwd": start.passwd_rows,
    "gate": gate.rows,
    "run": podman_run.rows,
    "footprint": footprint.rows,
    "login": sessions.login_rows,
    "logins": sessions.many_logins_rows,
    "launch": sessions.launch_rows,
    "throughput": throughput.rows,
    "keygen": keys.keygen_rows,
    "first": keys.first_container_rows,
    "user_keys": keys.user_keys_rows,
}


def version(*command: str) -> str:
    """What a program says it is, in the first line."""
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return said.stdout.partition("\n")[0]


def machine() -> str:
    """What the table was taken on."""
    cgroups = "v2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "v1"
    return ", ".join(
        (
            f"{os.cpu_count()} processors ({platform.machine()})",
            f"Linux {os.uname().release}, cgroup {cgroups}",
            version("/usr/bin/python3", "-V"),
            version("crun", "--version"),
            version("podman", "--version"),
            version("ssh", "-V"),
            f"load {os.getloadavg()[0]:.1f}",
        )
    )


def main(names: list[str]) -> int:
    """Measure and print."""
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        print(f"usage: bench.py [ROW...]; rows: {' '.join(ROWS)}", file=sys.stderr)
        return int(unknown != ["--help"])
    print(f"{machine()}\n\n{table.header()}", flush=True)
    shutil.rmtree(start.PLACE, ignore_errors=True)
    began = time.monotonic()
    for name in names or ROWS:
        for row in ROWS[name]():
            print(table.line(row.cells()), flush=True)
    print(f"\ntaken in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
