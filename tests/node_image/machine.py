"""The virtual machine that boots the image: its kernel, its systemd, in memory, as a stateless node does."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from image import CACHE, IMAGES, ROOT, TREE
from patience import within

HOST = "node001"
ADDRESS = "127.0.0.1"
SSH_PORT = 2222  # of the bed, which is nobody else's
KEY = CACHE / "key"
KNOWN_HOSTS = CACHE / "known_hosts"
OPTIONS = f"-i {KEY} -o IdentitiesOnly=yes -o UserKnownHostsFile={KNOWN_HOSTS} -o LogLevel=ERROR"
SITE = CACHE / "site"
INITRD = CACHE / "initrd"
CONSOLE = CACHE / "console"
BOOT_SECONDS = 450  # emulated; a fifth of that alone on an idle processor
COMMAND_SECONDS = 300
ALICE = 2001

# Containers cannot pivot away from the initial ramdisk's own root, as a runtime has to: a mount of it is no such root.
# Provisioners put the image into a tmpfs for this reason.
INIT = """\
#!/bin/sh
mount -n --bind / /mnt
cd /mnt
mount -n --move . /
exec chroot . /sbin/init
"""
SYSTEMD = "systemd.firstboot=no systemd.mask=sshd-keygen.service"  # which would make host keys of more types
NETWORK = "[Match]\nType=ether\n[Network]\nAddress=10.0.2.15/24\n"


def make_key(path: Path) -> str:
    """Make an SSH key; return the public one."""
    path.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path.with_suffix(".pub").read_text(encoding="utf-8")


def write(name: str, text: str, mode: int = 0o644) -> None:
    """Write a file of the site's."""
    path = SITE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def provision() -> None:
    """Make what a provisioner adds to the image of each node: name, network, keys, homes; and what the tests need."""
    shutil.rmtree(SITE, ignore_errors=True)
    write("init", INIT, 0o755)
    write("etc/hostname", f"{HOST}\n")
    write("etc/hosts", f"127.0.0.1 localhost\n10.0.2.15 {HOST}\n")
    write("etc/systemd/network/node.network", NETWORK)
    write("root/.ssh/authorized_keys", make_key(KEY), 0o600)
    public = make_key(CACHE / "host_key")
    write("etc/ssh/ssh_host_ed25519_key.pub", public)
    write("etc/ssh/ssh_host_ed25519_key", (CACHE / "host_key").read_text(encoding="utf-8"), 0o600)
    KNOWN_HOSTS.write_text(f"[{ADDRESS}]:{SSH_PORT} {public}", encoding="utf-8")
    home = SITE / "home/alice"
    home.mkdir(mode=0o700, parents=True)
    os.chown(home, ALICE, ALICE)
    (SITE / "srv").mkdir()
    shutil.copy(IMAGES / "busybox.tar", SITE / "srv")
    (SITE / "usr/local/bin").mkdir(parents=True)
    shutil.copy(ROOT / "tests/testbed/launch", SITE / "usr/local/bin")


def make_initrd() -> None:
    """Pack the image, and the site's files on top of it."""
    busybox = IMAGES / "busybox.rootfs/bin/busybox"
    with INITRD.open("wb") as packed:
        for tree in (TREE, SITE):
            subprocess.run(
                ["sh", "-c", f"find . | {busybox} cpio --quiet -o -H newc"], cwd=tree, stdout=packed, check=True
            )


class Machine:
    """The virtual machine."""

    def __init__(self) -> None:
        provision()
        make_initrd()
        (kernel,) = (TREE / "boot").glob("vmlinuz-*")
        network = f"user,id=net,restrict=on,hostfwd=tcp:{ADDRESS}:{SSH_PORT}-:22"
        qemu = (
            "setpriv --pdeathsig KILL qemu-system-x86_64 -accel tcg -cpu max -m 2560 -display none -no-reboot".split()
        )
        boot = ["-kernel", str(kernel), "-initrd", str(INITRD), "-append", f"console=ttyS0 panic=-1 {SYSTEMD}"]
        devices = ["-serial", f"file:{CONSOLE}", "-netdev", network, "-device", "virtio-net-pci,netdev=net,romfile="]
        self._process = subprocess.Popen([*qemu, *boot, *devices], stdin=subprocess.DEVNULL)

    def wait_until_up(self) -> None:
        """Wait until sshd answers."""
        deadline = time.monotonic() + (seconds := within(BOOT_SECONDS))
        while self.run("true").returncode != 0:
            assert self._process.poll() is None, f"the machine ended: see {CONSOLE}"
            assert time.monotonic() < deadline, f"no sshd answered within {seconds:.0f} s: see {CONSOLE}"
            time.sleep(1)
        INITRD.unlink()

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a line of shell as root."""
        return subprocess.run(
            ["ssh", *OPTIONS.split(), "-o", "ConnectTimeout=20", "-p", str(SSH_PORT), f"root@{ADDRESS}", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within(COMMAND_SECONDS),
            check=False,
        )

    def checked(self, command: str) -> str:
        """Run a line of shell as root, which has to succeed; return what it prints."""
        done = self.run(command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def inventory(self) -> dict[str, object]:
        """Return the inventory of the machine."""
        return {
            "hosts": {HOST: {"ansible_host": ADDRESS, "ansible_port": SSH_PORT, "ansible_user": "root"}},
            "vars": {"ansible_ssh_common_args": OPTIONS},
        }

    def end(self) -> None:
        """End the machine."""
        self._process.kill()
        self._process.wait()
