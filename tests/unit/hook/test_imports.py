"""What the start of a container imports, which is most of its time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HOOK = Path(__file__).resolve().parents[3] / "files" / "hook"
# What the hook, its provisioner and the daemon's process import at createRuntime, for a container with a seccomp
# profile.
START = [
    "cli",
    "oci.settings",
    "start.from_runtime",
]
STOP = ["cli", "stop.poststop"]
# Modules in C, and what takes as little; where `os` came in, it would come with a dozen more.
CHEAP = {
    *{
        "__future__",
        "_ctypes",
        "_sha2",
        "_sha256",
        "_socket",
        "_stat",
        "binascii",
        "errno",
        "gc",
        "posix",
        "resource",
    },
    *{"_signal", "time"},
}


def imported(names: list[str]) -> set[str]:
    """The modules that these of the hook's bring along, without the hook's own."""
    program = "import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules)\n"
    program += "\n".join(f"import ssh_hook.{name}" for name in names)
    program += "\nprint(*set(sys.modules) - before)"
    command = [sys.executable, "-ISXutf8", "-c", program, str(HOOK)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name for name in output.split() if not name.startswith("ssh_hook")}


def test_start() -> None:
    assert imported(START) <= CHEAP


def test_stop() -> None:
    assert imported(STOP) <= CHEAP - {"_ctypes", "_sha2", "_sha256", "_socket", "binascii", "resource"}
