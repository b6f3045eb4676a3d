"""What user_keys needs for a passwd file with many accounts: accounts.py DIRECTORY [ACCOUNTS [HOMES]]

All of it is real, on this machine: as root the module makes the keys in the homes, below DIRECTORY, as their owners.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

FIRST_UID = 100_000
ACCOUNTS, HOMES = 100_000, 1_000
TITLES = ("user_keys", "Seconds", "Processor time, s", "MiB at most", "Changed")


def make_accounts(place: Path, accounts: int, homes: int) -> None:
    """Write the passwd file, and make the homes of the first of its users."""
    (place / "homes").mkdir(parents=True)
    lines = []
    for uid in range(FIRST_UID, FIRST_UID + accounts):
        home = place / "homes" / f"user{uid}"
        lines.append(f"user{uid}:x:{uid}:{uid}::{home}:/bin/bash\n")
        if uid < FIRST_UID + homes:
            home.mkdir()
            os.chown(home, uid, uid)
    (place / "passwd").write_text("".join(lines), encoding="ascii")


def play(place: Path) -> str:
    """Run the module by Ansible; return the cells about it. RuntimeError with what Ansible says, if it fails."""
    module = {
        "passwd_file": f"{place}/passwd",
        "base_dir": f"{place}/homes",
        "uid_min": FIRST_UID,
        "uid_max": FIRST_UID + 10 * ACCOUNTS,
        "missing_homes": "skip",
    }
    playbook = place / "play.yml"
    tasks = [{"ocihooks.ssh.user_keys": module}]
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    command = ["ansible-playbook", "--inventory", "localhost,", "--connection", "local"]
    command += ["--extra-vars", "ansible_python_interpreter=/usr/bin/python3", str(playbook)]
    start = time.monotonic()
    with (place / "log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        _pid, status, usage = os.wait4(process.pid, 0)
        log.seek(0)
        said = log.read()
    if status:
        raise RuntimeError(said[-2000:])
    changed = re.findall(r"changed=(\d+)", said)[-1]
    processor = usage.ru_utime + usage.ru_stime
    return f"{time.monotonic() - start:.1f} | {processor:.1f} | {usage.ru_maxrss / 1024:.0f} | {changed}"


def main(arguments: list[str]) -> int:
    """Print the table; returns the exit status."""
    place, sizes = Path(arguments[0]), [int(argument) for argument in arguments[1:]]
    accounts, homes = sizes + [ACCOUNTS, HOMES][len(sizes) :]
    shutil.rmtree(place / "homes", ignore_errors=True)
    make_accounts(place, accounts, homes)
    print("| " + " | ".join(TITLES) + " |", "|---" * len(TITLES) + "|", sep="\n")
    try:
        for run in ("first", "second"):
            print(f"| {run} run, {accounts:,} accounts, {homes:,} homes | {play(place)} |", flush=True)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(place / "homes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
