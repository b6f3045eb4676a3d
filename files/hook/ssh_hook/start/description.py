# SPDX-License-Identifier: GPL-3.0-or-later
"""What the entry of a daemon (node/record.py) says of its container, for people, who choose one by it."""

from __future__ import annotations

from ..errors import HookError
from ..fast_stdlib import TYPE_CHECKING, os
from ..linux.job_names import is_number
from ..linux.process import is_decimal
from ..node.conmon import JOB_VARIABLES
from ..oci.settings import NO_PORT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..linux.cgroups import Cgroups
    from ..node.job_record import JobRecord
    from .basis import Basis

APPTAINER = "apptainer"
_MAX_TEXT = 255  # characters; LISTEN_ADDRESSES, which `ports` are made of, has a limit of its own
_MAX_STEP_DIGITS = 9  # batch and interactive steps have more


def describe(
    basis: Basis, engine: str, identity: str, name: str, variables: dict[str, str], attached: str
) -> dict[str, str]:
    """Return texts by the names of `record.DESCRIPTION`. Raises OSError.

    `identity` and `name` are the container's. `variables` are the engine's: with the container's, they name the job
    where no cgroup does. `attached` is as in record.py.
    """
    server, environments = basis.server, (basis.container.environment, variables)
    owner = basis.engine.host_uid or basis.owner.file_owner.uid  # on the node
    number, step, known = basis.job.name, basis.cgroups.job[1], basis.job.record
    if not number:
        number, step = _job_by_variables(environments)
        known = _read(number, owner, basis.engine.is_rootless)
    port = "" if server.port == NO_PORT else str(server.port)
    texts = {
        "engine": engine,
        "id": identity,
        "name": name,
        "job": number,
        "step": step,
        "task": _task(number, environments),
        "leader": "" if known is None else str(known.leader),
        "cluster": "" if known is None else known.cluster,
        "ports": " ".join(f"[{address}]:{port}" for address in server.addresses if port) or port,
        "network": str(os.stat("ns/net", dir_fd=basis.process).st_ino),
        "mounts": str(os.stat("ns/mnt", dir_fd=basis.process).st_ino),
        "attached": attached,
        "owner": str(owner),
    }
    return {field: text if _is_kept(field, text) else "" for field, text in texts.items()}


def _is_kept(field: str, text: str) -> bool:
    return text.isprintable() and (field == "ports" or len(text) <= _MAX_TEXT)


def engine_of(is_podmans: bool, identity: str, cgroups: Cgroups, bundle: str = "") -> str:
    """Return the engine of the container with the id `identity`: podman or docker; empty if it is unknown.

    Rootless Docker's containers may have the cgroup of its daemon. Then the bundle, of containerd, shows the engine.
    """
    if is_podmans:
        return "podman"
    names = f"/docker/{identity}", f"/docker-{identity}.scope", f"/moby/{identity}"
    return "docker" if identity and any(path.endswith(names) for path in (*cgroups.lines, bundle)) else ""


def _job_by_variables(environments: Iterable[Mapping[str, str]]) -> tuple[str, str]:
    """Return job and step; each is empty where no variable names it."""
    for values in environments:
        for name in JOB_VARIABLES:
            if values.get(name):
                step = values.get("SLURM_STEP_ID", "")
                return values[name], step if is_decimal(step, _MAX_STEP_DIGITS) else ""
    return "", ""


def _task(job: str, environments: Iterable[Mapping[str, str]]) -> str:
    """Return the name of `job` as a task of a Slurm array; empty if it is none."""
    for values in environments:
        array, index = values.get("SLURM_ARRAY_JOB_ID"), values.get("SLURM_ARRAY_TASK_ID")
        if array and index and values.get("SLURM_JOB_ID") == job:
            return f"{array}_{index}"
    return ""


def _read(job: str, uid: int, is_rootless: bool) -> JobRecord | None:
    """Return root's record of `job` of the user `uid`, if there is one."""
    if not is_number(job):
        return None

    from ..node import job_record  # here: most containers are in no job

    try:
        return job_record.read(job, uid, is_rootless)
    except HookError:
        return None
