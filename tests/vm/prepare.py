"""Makes a virtual machine a node where the hook is installed, and loads the policy of the security module that it has.

Runs as root in the machine; tests/hook/lib is on PYTHONPATH.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from containers import ALICE, IMAGES, as_user, run
from install import PREFIX, add_users, install_dropbear, install_hook

STORAGE = """[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
"""
ENGINE = """[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
HERE = Path(__file__).resolve().parent
SELINUX = Path("/sys/fs/selinux")
TARGETED = Path("/etc/selinux/targeted")
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


def load_distributions_policy() -> None:
    """Load the policy in /etc/selinux/targeted and give all files their labels. A test enforces it later.

    Dropbear's programs get the label that the role's variable dropbear_selinux_type gives them.
    """
    contexts = TARGETED / "contexts" / "files" / "file_contexts"
    rule = f"{PREFIX}/dropbear(/.*)? system_u:object_r:container_ro_file_t:s0\n"
    with contexts.with_name("file_contexts.local").open("a", encoding="ascii") as own:
        own.write(rule)
    (policy,) = (TARGETED / "policy").iterdir()
    run(as_user(ALICE, "podman", "system", "migrate")).checked()  # ends what keeps the mounts of now for her podman
    run(["mount", "-t", "selinuxfs", "selinuxfs", SELINUX]).checked()
    (SELINUX / "load").write_bytes(policy.read_bytes())
    run(["setfiles", "-F", contexts, "/", "/dev", "/dev/shm", "/run"]).checked()
    # else the kernel drops messages of what it denies
    Path("/proc/sys/kernel/printk_ratelimit").write_text("0", encoding="ascii")


def make_podman_ready(driver: str) -> None:
    """Give root and alice an image. Alice's storage is of the driver."""
    own = Path("/home/alice/.config/containers")
    own.mkdir(parents=True)
    Path("/etc/containers/containers.conf").write_text(ENGINE, encoding="ascii")
    Path("/etc/containers/storage.conf").write_text(STORAGE, encoding="ascii")
    (own / "storage.conf").write_text(f'[storage]\ndriver = "{driver}"\n', encoding="ascii")
    for path in (own.parent, own, own / "storage.conf"):
        os.chown(path, ALICE, ALICE)
    command = ["podman", "import", "--quiet", str(IMAGES / "busybox.tar"), "localhost/ssh-test/busybox"]
    run(command).checked()
    run(as_user(ALICE, *command)).checked()


def main() -> int:
    machine = os.environ["MACHINE"]
    if machine == "apparmor":
        load_apparmor()
    if machine == "selinux":
        load_selinux()
    Path("/run/hook-test-dev").mkdir()  # the sign of a bed: nothing here is anybody's but the tests'
    if machine == "autofs":
        return 0  # a file server is one without the hook
    install_hook()
    install_dropbear()
    add_users()
    if machine == "linux_5_10":
        make_podman_ready("vfs")  # before Linux 5.11 the kernel mounts no overlay for alice
    if machine == "policy":
        make_podman_ready("overlay")
        load_distributions_policy()
    return 0


if __name__ == "__main__":
    sys.exit(main())
