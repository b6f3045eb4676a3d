# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths inside the container that the hook puts something at."""

from __future__ import annotations

BASE = "/opt/oci-hooks/ssh"  # a tmpfs: no key touches the image's layer or a disk
KNOWN_HOSTS = f"{BASE}/known_hosts"
OPENSSH_KEY = f"{BASE}/id_openssh"  # the user's key, as the image's own client takes it
IMAGE_CLIENT = f"{BASE}/bin/ssh.image"  # the image's own client

DROPBEAR = f"{BASE}/dropbear"  # what the daemon reads and writes
PROGRAMS = f"{DROPBEAR}/bin"  # the node's directory of Dropbear's programs
DBCLIENT = f"{PROGRAMS}/dbclient"
ENVIRONMENT = f"{DROPBEAR}/environment"
PIDFILE = f"{DROPBEAR}/dropbear.pid"

PASSWD = "/etc/passwd"
SHELLS = "/etc/shells"
PROFILE_MODULE = "/etc/profile.d/ssh-hook.sh"
SSH = "/usr/bin/ssh"
COPIERS = ("scp", "sftp")  # in /usr/bin, where the image has none
DEFAULT_SHELL = "/bin/sh"
