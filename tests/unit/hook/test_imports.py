"""What the start of a container imports, which is most of its time."""

from __future__ import annotations

import importlib.util
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
# What only some starts need. The others do not load it, in the one file of their stage or beside it.
OF_SOME_STARTS = {
    "ssh_hook.node.door_collection",
    "ssh_hook.node.job_record",
    "ssh_hook.node.last_messages",
    "ssh_hook.node.access",
    "ssh_hook.node.earlier",
    "ssh_hook.node.entry_reader",
    "ssh_hook.node.user_child",
    "ssh_hook.node.subject",
    "ssh_hook.oci.host_list",
}
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
    """The modules that these of the hook's bring along."""
    program = "import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules)\n"
    program += "\n".join(f"import ssh_hook.{name}" for name in names)
    program += "\nprint(*set(sys.modules) - before)"
    command = [sys.executable, "-ISXutf8", "-c", program, str(HOOK)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return set(output.split())


def others(modules: set[str]) -> set[str]:
    """Those that are not the hook's own."""
    return {name for name in modules if name.partition(".")[0] != "ssh_hook"}


def test_start() -> None:
    found = imported(START)
    assert others(found) <= CHEAP
    assert not found & OF_SOME_STARTS
    assert all(importlib.util.find_spec(name) for name in OF_SOME_STARTS)


def test_stop() -> None:
    found = imported(STOP)
    assert others(found) <= CHEAP - {"_ctypes", "_sha2", "_sha256", "_socket", "binascii", "resource"}
    assert "ssh_hook.node.door" not in found
    of_a_rootless_engine = imported([*STOP, "node.own_places"])  # where the record names a door or an entry of a user
    assert "_ctypes" not in of_a_rootless_engine
