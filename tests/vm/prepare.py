"""Makes the virtual machine a node where the hook is installed, and loads the policy of the security module that it
has.

Runs as root in the machine; tests/hook/lib is on PYTHONPATH.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from containers import run
from install import add_users, install_dropbear, install_hook

HERE = Path(__file__).resolve().parent
SELINUX = Path("/sys/fs/selinux")
POLICY_VERSION = "33"  # the newest that the machine's kernel reads


def load_apparmor() -> None:
    run(["apparmor_parser", "--replace", "--skip-cache", HERE / "apparmor.profile"]).checked()


def load_selinux() -> None:
    """From here on the kernel enforces: it does so without being told, because of its command line."""
    policy = Path("/run/policy")
    output: list[str | Path] = ["--output", policy, "--filecontext", "/dev/null"]
    run(["secilc", "--policyvers", POLICY_VERSION, *output, HERE / "selinux.cil"]).checked()
    run(["mount", "-t", "selinuxfs", "selinuxfs", SELINUX]).checked()
    (SELINUX / "load").write_bytes(policy.read_bytes())
    # a program that starts loses the open files that it may not write: containers get theirs of the tests' making
    os.setxattr(tempfile.gettempdir(), "security.selinux", b"system_u:object_r:box_file_t:s0")


def main() -> int:
    modules = Path("/sys/kernel/security/lsm").read_text(encoding="ascii").split(",")
    if "apparmor" in modules:
        load_apparmor()
    if "selinux" in modules:
        load_selinux()
    Path("/run/hook-test-dev").mkdir()  # the sign of a bed: nothing here is anybody's but the tests'
    install_hook()
    install_dropbear()
    add_users()
    return 0


if __name__ == "__main__":
    sys.exit(main())
