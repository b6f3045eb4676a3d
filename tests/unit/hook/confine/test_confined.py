"""What a program may do once it was confined: for real, in a user namespace of the test's."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

HOOK = Path(__file__).resolve().parents[4] / "files" / "hook"
IS_ROOT = os.geteuid() == 0
UID, GID, GROUPS = (1000, 1001, [2000, 2001]) if IS_ROOT else (0, 0, [])  # other users map only themselves here
CHOWN, KILL, SETGID = 0, 5, 6  # capabilities(7)
# Confines itself by a config.json. Its root directory is the node's in another mount, so that the first argument, which
# is not empty on the node, is an empty directory there. A child maps the ids, which takes the rights from outside.
PROGRAM = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from ssh_hook.confine.apply import Confinement
from ssh_hook.confine.lsm import Labels
from ssh_hook.linux import syscalls
from ssh_hook.oci.oci_config import Container, parse_config

def show_keyring():
    get_keyring, of_session = 0, -3
    return syscalls._call("syscall", syscalls._syscall_number(syscalls._SYS_KEYCTL), get_keyring, of_session, 0)

place, count = sys.argv[2], int(sys.argv[4])
parent, ids = os.getpid(), (os.geteuid(), os.getegid())
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    os.close(writer)
    os.read(reader, 1)
    if count == 1:
        with open(f"/proc/{parent}/setgroups", "w") as file:
            file.write("deny")
    for name, own in zip(("uid_map", "gid_map"), ids):
        with open(f"/proc/{parent}/{name}", "w") as file:
            file.write(f"0 {own} {count}")
    os._exit(0)
syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
os.close(writer)
assert os.waitpid(child, 0)[1] == 0
syscalls.mount(b"/", os.fsencode(place), b"", 0x1000 | 0x4000)  # MS_BIND, MS_REC
syscalls.join_new_session_keyring()
keyring = show_keyring()
signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
container = Container(parse_config(sys.argv[3].encode(), "/bundle"), "/bundle")
confinement = Confinement(container, Labels(container), sys.argv[6] == "True", place)
print("Warnings:", *confinement.warnings)
confinement.change_root(os.open(place, os.O_PATH), os.open(f"{place}/usr", os.O_PATH))
confinement.apply()
effective, _permitted, _inheritable = syscalls.capget()
print("Effective before exec:", effective)
print("Dumpable before exec:", syscalls.prctl(3))  # PR_GET_DUMPABLE
print("Has another keyring:", show_keyring() != keyring, flush=True)
os.execv("/bin/sh", ["sh", "-c", sys.argv[5], "sh", place])
"""
SHOW = """
cat /proc/self/status /proc/self/limits
echo "Personality: $(cat /proc/self/personality)"
echo "Directory: $(readlink /proc/self/cwd)"
echo "Of the node: $(ls "$1")"
echo "New directory: $(mkdir /proc/new 2>&1)"
"""


def run(root: Path, require: bool, **process: Any) -> subprocess.CompletedProcess[str]:
    """Run a shell that is confined as `process` and its neighbours of a config.json say."""
    linux = {name: process.pop(name) for name in ("seccomp", "personality") if name in process}
    user = {name: process.pop(name) for name in ("uid", "gid", "additionalGids", "umask") if name in process}
    config = {"process": {"user": {"uid": UID, "gid": GID, **user}, **process}, "root": {"path": "rootfs"}}
    arguments = [str(HOOK), str(root), json.dumps({**config, "linux": linux}), "65536" if IS_ROOT else "1", SHOW]
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, *arguments, str(require)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def confine(root: Path, require: bool = True, **process: Any) -> dict[str, str]:
    """What is said in a shell that is confined so, by the names of what says it."""
    done = run(root, require, **process)
    assert done.returncode == 0, done.stderr
    lines = (re.split(r":\s*|\s{2,}", line, maxsplit=1) for line in done.stdout.splitlines())
    return {line[0]: " ".join(line[1].split()) for line in lines if len(line) == 2}


def denied(*names: str) -> dict[str, Any]:
    """A profile in which these system calls fail with "Protocol error"."""
    denial = {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EPROTO}
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [denial]}


def mask(*numbers: int) -> str:
    return f"{sum(1 << number for number in numbers):016x}"


def test_a_user_of_a_container_has_what_its_process_has(tmp_path: Path) -> None:
    shown = confine(
        tmp_path,
        additionalGids=GROUPS,
        umask=0o27,
        noNewPrivileges=True,
        rlimits=[
            {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 2**63},  # crun's "unlimited" may be less than RLIM_INFINITY
        ],
        capabilities={
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETGID"],
            "permitted": ["CAP_KILL"],
            "inheritable": ["CAP_KILL", "CAP_SETGID"],
            "ambient": ["CAP_KILL", "CAP_CHOWN"],  # the second is not inheritable
        },
        seccomp=denied("mkdir", "mkdirat"),
        personality={"domain": "LINUX32"},
    )
    assert (shown["Uid"], shown["Gid"]) == (" ".join([str(UID)] * 4), " ".join([str(GID)] * 4))
    assert shown["Groups"] == " ".join(map(str, GROUPS)) or not IS_ROOT
    assert (shown["Umask"], shown["NoNewPrivs"], shown["Seccomp"]) == ("0027", "1", "2")
    assert (shown["Max open files"], shown["Max core file size"]) == ("100 200 files", "0 unlimited bytes")
    assert shown["CapBnd"] == mask(CHOWN, KILL, SETGID)
    assert shown["CapPrm"] == shown["CapEff"] == shown["CapAmb"] == mask(KILL)
    assert shown["CapInh"] == mask(KILL, SETGID)
    assert "Protocol error" in shown["New directory"], "by the seccomp profile"
    assert shown["SigBlk"] == shown["SigIgn"] == mask()
    assert (shown["Directory"], shown["Of the node"]) == ("/usr", "")
    assert shown["Has another keyring"] == "True"
    assert (shown["Personality"], shown["Warnings"]) == ("00000008", "")


def test_root_of_a_container_has_the_capabilities_of_its_process(tmp_path: Path) -> None:
    """With no_new_privs an exec adds nothing; without it, an exec by root gives what the bounding set has."""
    chosen = {"bounding": ["CAP_KILL", "CAP_SETGID"], "permitted": ["CAP_KILL"]}
    kept = confine(tmp_path, uid=0, gid=0, capabilities=chosen, noNewPrivileges=True)
    given = confine(tmp_path, uid=0, gid=0, capabilities=chosen)
    assert (kept["CapPrm"], kept["CapBnd"], kept["NoNewPrivs"]) == (mask(KILL), mask(KILL, SETGID), "1")
    assert (given["CapPrm"], given["CapBnd"], given["NoNewPrivs"]) == (mask(KILL, SETGID), mask(KILL, SETGID), "0")


def test_until_the_exec_nobody_may_trace_it_and_it_may_nothing(tmp_path: Path) -> None:
    """So nobody reads Dropbear's program file, which is not readable, before the kernel forbids to trace it."""
    for is_kept in (False, True):
        shown = confine(tmp_path, uid=0, gid=0, capabilities={"bounding": ["CAP_KILL"]}, noNewPrivileges=is_kept)
        assert (shown["Effective before exec"], shown["Dumpable before exec"]) == ("0", "0")


def test_a_profile_that_cannot_be_applied_ends_the_start_or_is_told(tmp_path: Path) -> None:
    profile = {"defaultAction": "SCMP_ACT_PROPHECY"}
    refused = run(tmp_path, require=True, seccomp=profile)
    assert "the container's seccomp profile cannot be applied to SSH sessions: " in refused.stderr.splitlines()[-1]
    shown = confine(tmp_path, require=False, seccomp=profile)
    assert shown["Warnings"].endswith("; they start without it, since REQUIRE_SECCOMP is false")
    assert shown["Seccomp"] == "0"


def test_a_profile_that_forbids_to_drop_capabilities_ends_the_start(tmp_path: Path) -> None:
    profile = denied("capset")
    profile["syscalls"][0]["errnoRet"] = errno.EPERM
    refused = run(tmp_path, require=True, seccomp=profile, noNewPrivileges=False)
    assert "forbids capset, which the daemon needs" in refused.stderr.splitlines()[-1]
