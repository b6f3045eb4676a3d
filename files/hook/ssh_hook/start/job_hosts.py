# SPDX-License-Identifier: GPL-3.0-or-later
"""The job that a container is part of, from the scheduler's cgroup and root's record of the job.

This needs no environment variables: Slurm's plugins call engines without those of the job.
"""

from __future__ import annotations

from ..errors import HookError, describe_failure, kind_of
from ..fast_stdlib import TYPE_CHECKING
from ..linux.job_names import is_pbs, number_of
from ..log import WARNING, log
from ..oci.settings import NO_PORT

if TYPE_CHECKING:
    from ..linux.cgroups import Cgroups
    from ..node.job_record import JobRecord
    from ..oci.annotations import Annotations


class Job:
    """The job of one container.

    Attributes:
        name: the job's name from the scheduler's cgroup; empty outside jobs.
        step: the number of its step; 0 if the container is not in a step.
        leader: the number that all components of the job have in common; 0 outside jobs.
        hosts: the job's hosts, each with its slots; empty if unknown, or if the container has no port, without which
            hosts cannot reach each other.
        variables: the scheduler's variables of the job, for its sessions; none that are specific to a user or a task.
        record: root's record of the job; None if there is none.
    """

    def __init__(self, name: str, step: int, record: JobRecord | None, annotations: Annotations) -> None:
        """Take hosts from the `record`, unless the user's annotation names some."""
        self.record = record
        self.name = name
        self.step = step
        own = number_of(name) if name else 0
        self.leader = own if record is None else record.leader
        known = {} if record is None or annotations.port == NO_PORT else record.hosts
        self.hosts = annotations.hosts or list(known.items())
        self.variables = _variables(name, record) if name else {}


def _variables(name: str, record: JobRecord | None) -> dict[str, str]:
    """Return the known variables of the whole job. For PBS that is only the job's name."""
    if is_pbs(name):
        return {"PBS_JOBID": name}
    variables = {"SLURM_JOB_ID": name}
    if record is None:
        return variables

    from ..oci.host_list import MAX_TEXT, in_slurms_notation  # here: most containers are in no job

    hosts = in_slurms_notation(record.hosts)
    variables["SLURM_JOB_UID"] = str(record.uid)
    variables["SLURM_JOB_NUM_NODES"] = str(len(record.hosts))
    if len(hosts) <= MAX_TEXT:
        variables["SLURM_JOB_NODELIST"] = hosts
    if record.cluster:
        variables["SLURM_CLUSTER_NAME"] = record.cluster
    if str(record.leader) != name:  # otherwise the job may not be heterogeneous
        variables["SLURM_HET_JOB_ID"] = str(record.leader)
    return variables


def find_job(cgroups: Cgroups, uid: int, is_rootless: bool, annotations: Annotations) -> Job:
    """Return the job of the container with these `cgroups` and `annotations`; `uid` is its user on the cluster.

    Another user's job does not count, if root has a record of it. `is_rootless`: whether the hook is in a user
    namespace.
    """
    name, step = cgroups.job
    record = None
    if name:
        from ..node import job_record  # here: most containers are in no job

        try:
            record = job_record.read(name, uid, is_rootless)
            if record is None and not is_rootless and job_record.is_anothers(name, uid):
                name, step = "", ""
        except (HookError, OSError) as error:
            what = f"{describe_failure(error)}: the container does not know the hosts of its job"
            log(WARNING, what, kind_of(error))
    return Job(name, int(step or 0), record, annotations)
