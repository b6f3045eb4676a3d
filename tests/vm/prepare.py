"""Makes a virtual machine a node where the hook is installed, and loads the policy of the security module that it has.

Runs as root in the machine; tests/hook/lib is on PYTHONPATH.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from containers import ALICE, IMAGES, as_user, run
from install import add_users, install_dropbear, install_hook

STORAGE = """[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
"""
ROOTLESS_STORAGE = """[storage]
driver = "vfs"
"""
ENGINE = """[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
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


def make_podman_ready() -> None:
    """Give root and alice an image. Before Linux 5.11 the kernel mounts no overlay for alice, so she has copies."""
    own = Path("/home/alice/.config/containers")
    own.mkdir(parents=True)
    Path("/etc/containers/containers.conf").write_text(ENGINE, encoding="ascii")
    Path("/etc/containers/storage.conf").write_text(STORAGE, encoding="ascii")
    (own / "storage.conf").write_text(ROOTLESS_STORAGE, encoding="ascii")
    for path in (own.parent, own, own / "storage.conf"):
        os.chown(path, ALICE, ALICE)
    command = ["podman", "import", "--quiet", str(IMAGES / "busybox.tar"), "localhost/ssh-test/busybox"]
    run(command).checked()
    run(as_user(ALICE, *command)).checked()


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
    if os.environ["MACHINE"] == "linux_5_10":
        make_podman_ready()
    return 0


if __name__ == "__main__":
    sys.exit(main())
