# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths in the container at which the hook creates or bind mounts files."""

from __future__ import annotations

BASE = "/opt/oci-hooks/ssh"  # a tmpfs, so that no key reaches the image's layer or a disk
KNOWN_HOSTS = f"{BASE}/known_hosts"
SSH_CONFIG = f"{BASE}/ssh_config"
OPENSSH_KEY = f"{BASE}/id_openssh"  # the user's key in OpenSSH's format
IMAGE_CLIENT = f"{BASE}/bin/ssh.image"  # the image's own client
HOSTFILE = f"{BASE}/hostfile"  # of Open MPI and DeepSpeed
HOSTFILE_MPICH = f"{BASE}/hostfile.mpich"
HOSTS = f"{BASE}/hosts"  # names only
HOSTFILE_DEEPSPEED = "/job/hostfile"  # DeepSpeed's default, which no variable can change
FIRST = f"{BASE}/bin/first"
FIRST_STATE = f"{BASE}/first"  # files through which the containers of a job agree which is first, and when it has ended

OVERLAY = f"{BASE}/overlay"  # the layers of the overlay on ~/.ssh
KEYS = f"{OVERLAY}/upper"  # the user's keys; without an overlay, a bind mount of ~/.ssh
DROPBEAR = f"{BASE}/dropbear"  # files that the daemon reads and writes
PROGRAMS = f"{DROPBEAR}/bin"  # bind mount of the node's directory with Dropbear's programs
SERVER_NAME = "dropbear"  # in that directory
SERVER = f"{PROGRAMS}/{SERVER_NAME}"
PIDFILE = f"{DROPBEAR}/dropbear.pid"
SESSION = f"{DROPBEAR}/session"  # owned by the user: files that sessions write
ENVIRONMENT = f"{SESSION}/environment"
ENVIRONMENT_LINK = f"{DROPBEAR}/environment"  # the path of that file with Sarus's hook

PASSWD = "/etc/passwd"
SHELLS = "/etc/shells"
PROFILE_MODULE = "/etc/profile.d/ssh-hook.sh"
USER_PROGRAMS = "/usr/bin"
SSH = f"{USER_PROGRAMS}/ssh"
COPIERS = ("scp", "sftp")  # next to it, if the image has none
DEFAULT_SHELL = "/bin/sh"


def from_programs(path: str) -> str:
    """Return `path`, which is below BASE, relative to PROGRAMS, the working directory of the daemon.

    `..` leads from the root of a mount to the directory above its mount point. So the kernel looks up none of the
    image's directories, whoever owns or moves them.
    """
    return f"../..{path.removeprefix(BASE)}"
