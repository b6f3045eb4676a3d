# SPDX-License-Identifier: GPL-3.0-or-later
"""The bundle of a running container, from the state that crun or runc keeps for the calling user.

Format: crun's status and runc's state.json, which name the pid of the container's first process and the bundle.
"""

from __future__ import annotations

from ..errors import HookError
from ..fast_stdlib import closing, os
from ..linux.process import MAX_PID
from ..oci.json_reader import Node, parse, read_document

_MAX_SIZE = 16 << 20  # bytes; runc stores the whole configuration
_LABEL = "bundle="  # of runc


def find_bundle(mount_namespace: tuple[int, int], runtime_directory: str) -> str | None:
    """Return the bundle path of the container with this `mount_namespace`; None if neither runtime has it.

    `runtime_directory` is the user's, /run/user/UID. `mount_namespace` is device and inode.
    """
    for runtime, name in (("crun", "status"), ("runc", "state.json")):
        try:
            containers = os.listdir(f"{runtime_directory}/{runtime}")
        except OSError:
            continue
        for container in containers:
            path = f"{runtime_directory}/{runtime}/{container}/{name}"
            try:
                with closing(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)) as descriptor:
                    state = Node(parse(read_document(descriptor, _MAX_SIZE, path), path), path)
                pid, bundle = _crun(state) if runtime == "crun" else _runc(state)
                status = os.stat(f"/proc/{pid}/ns/mnt")
            except (OSError, HookError):
                continue  # it is about to end, or is not a container's
            if (status.st_dev, status.st_ino) == mount_namespace:
                return bundle
    return None


def _crun(state: Node) -> tuple[int, str]:
    return state.integer("pid", 1, MAX_PID), state.text("bundle")


def _runc(state: Node) -> tuple[int, str]:
    bundles = [label for label in state.node("config").texts("labels") if label.startswith(_LABEL)]
    return state.integer("init_process_pid", 1, MAX_PID), (bundles or [_LABEL])[0][len(_LABEL) :]
