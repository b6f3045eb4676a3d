# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook options``: print the engine's options for starting a job's containers.

In a shell, an unquoted ``$(ssh_hook options)`` becomes one word per option: none contains a space, a quote or a glob
character. For the Sarus Suite the output is TOML instead: an EDF without an image.
"""

from __future__ import annotations

import os
import shutil
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping

from ..errors import ARGUMENTS_WRONG, HookError, printable
from ..linux.process import is_decimal
from ..node.caller import caller
from ..oci import container_paths, host_list
from ..oci.annotations import ENABLED, HOSTS, PORT, USER, WAIT, WAIT_IN_JOB, parse_seconds
from ..oci.settings import default_port, parse_port
from ..schedulers import host_notation
from ..schedulers.jobs import CallersJob, find_callers_job
from ..start.port import PORTS_OF_JOBS, job_port

_PROGRAMS = ("podman", "podman-hpc", "docker")
_EDF = "edf"  # the Sarus Suite, whose users write EDFs
_ENGINES = (*_PROGRAMS, _EDF)
_SPLITTING = ("podman", "podman-hpc")  # podman before 5.0 splits the value of --annotation at commas
_SETS = 9
_RENDEZVOUS_BELOW = 10000  # PyTorch's port of a job is this much below the containers': 10000 to 19999
_DEVICE = "ocihooks.org/ssh=on"

# The variables by which launchers find the hosts and use ssh to reach them.
_VARIABLES = {
    "PRTE_MCA_prte_default_hostfile": container_paths.HOSTFILE,  # Open MPI 5
    "OMPI_MCA_orte_default_hostfile": container_paths.HOSTFILE,  # Open MPI 4
    "HYDRA_HOST_FILE": container_paths.HOSTFILE_MPICH,
    "HYDRA_LAUNCHER": "ssh",
    "I_MPI_HYDRA_HOST_FILE": container_paths.HOSTFILE_MPICH,
    "I_MPI_HYDRA_BOOTSTRAP": "ssh",
    "PDSH_RCMD_TYPE": "ssh",
    "WCOLL": container_paths.HOSTS,  # pdsh
}

DESCRIPTION = """Print the engine options that your job's containers need. Start one container on each host.
All use the same port, which is calculated from the job ID. The options pass the job's hosts to the containers, and tell
launchers where the host files are. In a job script:
  srun podman run --rm $(ssh_hook options) IMAGE /opt/oci-hooks/ssh/bin/first mpirun ./solver"""
EXAMPLE = "ssh_hook options --engine podman --hosts 'node[1-3]:8' --set 2"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--engine",
        help=f"{', '.join(_PROGRAMS)} (default: the first that is installed), or {_EDF}: print a TOML file for "
        "base_environment in an EDF of the Sarus Suite",
    )
    parser.add_argument(
        "--hosts",
        metavar="LIST",
        help="the hosts, such as gpu[001-016] or node1:4,node2:4 (:4 means that launchers start 4 processes there); "
        "default: the hosts of the Slurm, PBS or LSF job",
    )
    parser.add_argument("--hostfile", metavar="FILE", help="read the hosts from FILE, one per line")
    parser.add_argument(
        "--set",
        metavar="N",
        default="1",
        help=f"if the job runs several groups of containers at once, the number of this group, 1 to {_SETS} "
        "(default: 1); each group has its own port",
    )
    parser.add_argument("--port", help="the containers' port, instead of the one calculated from the job ID")
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        default=str(WAIT_IN_JOB),
        help=f"how long ssh in the containers waits for a container that has not started yet (default: {WAIT_IN_JOB})",
    )


def run(arguments: Namespace, settings: dict[str, str]) -> int:
    """Print the options. Raises HookError and KeyStoreError."""
    engine = _engine(arguments.engine, settings)
    job = find_callers_job(settings)
    wait = parse_seconds(arguments.wait, "--wait", ARGUMENTS_WRONG)
    port = _port(arguments, job, settings)
    hosts_of_job = _hosts(arguments, job, settings)
    if engine in _SPLITTING:
        hosts_of_job = hosts_of_job.replace(",", "/")
    wanted = {PORT: str(port), WAIT: str(wait), HOSTS: hosts_of_job}
    variables = {**_VARIABLES, **_rendezvous(port, default_port(settings))}
    if engine == _EDF:
        print(_edf({ENABLED: "true", **wanted}, variables))
    else:
        print(" ".join(engine_options(engine, wanted, variables, settings)))
    return 0


def _edf(annotations: Mapping[str, str], variables: Mapping[str, str]) -> str:
    """Return an EDF without an image. No value needs escaping in TOML or has a ``$``, which srun would expand."""
    tables = {"annotations": annotations, "env": variables}
    return "\n\n".join(
        "\n".join([f"[{table}]", *(f'{name} = "{value}"' for name, value in entries.items())])
        for table, entries in tables.items()
    )


def _rendezvous(port: int, site_port: int) -> dict[str, str]:
    """Return variables with PyTorch's port for one job or set; none if it has no port of its own.

    Another container's SSH daemon may listen on `site_port`.
    """
    if port not in PORTS_OF_JOBS:
        return {}
    below = port - _RENDEZVOUS_BELOW
    own = str(below if below != site_port else PORTS_OF_JOBS.stop)  # not used by any job's containers or by other jobs
    return {"MASTER_PORT": own, "PET_MASTER_PORT": own}  # the second is torchrun's --master-port


def engine_options(
    engine: str, wanted: Mapping[str, str], variables: Mapping[str, str], settings: dict[str, str]
) -> list[str]:
    """Return the options for one of the caller's containers with the annotations `wanted`. Raises KeyStoreError."""
    options = ["--network=host"]
    if engine == "docker":  # Docker's daemon does not know its caller
        options += [f"--device={_DEVICE}", f"--user={os.getuid()}:{os.getgid()}"]
        wanted = {USER: caller(settings)[1], **wanted}
    else:
        wanted = {ENABLED: "true", **wanted}
    options += [f"--annotation={name}={value}" for name, value in wanted.items()]
    return options + [f"--env={name}={value}" for name, value in variables.items()]


def _engine(wanted: str | None, settings: Mapping[str, str]) -> str:
    if wanted is not None:
        if wanted not in _ENGINES:
            raise HookError(ARGUMENTS_WRONG, f"--engine is '{printable(wanted)}': give one of {', '.join(_ENGINES)}")
        return wanted
    for name in _PROGRAMS:
        if shutil.which(name, path=settings.get("PATH")):
            return name
    raise HookError(
        ARGUMENTS_WRONG, f"there is no container engine in PATH: choose one with --engine, of {', '.join(_ENGINES)}"
    )


def _port(arguments: Namespace, job: CallersJob | None, settings: Mapping[str, str]) -> int:
    """Return the port of all containers in one set. Without a job, the first set has the site's port."""
    if not (is_decimal(arguments.set, 1) and arguments.set != "0"):
        raise HookError(ARGUMENTS_WRONG, f"--set is '{printable(arguments.set)}': give a number from 1 to {_SETS}")
    number = int(arguments.set)
    if arguments.port is not None:
        return parse_port(arguments.port, "--port", ARGUMENTS_WRONG)
    if job is None and number == 1:
        return default_port(settings)
    return job_port(os.getuid() if job is None else job.number, number)


def _hosts(arguments: Namespace, job: CallersJob | None, settings: Mapping[str, str]) -> str:
    """Return the value of the annotation. Raises HookError."""
    found: list[tuple[str, int | None]] = []
    if arguments.hosts is not None:
        found += host_notation.expand_slots(arguments.hosts, "--hosts")
    if arguments.hostfile is not None:
        found += host_notation.read_slots(arguments.hostfile, "--hostfile")
    if arguments.hosts is None and arguments.hostfile is None:
        if job is None:
            raise HookError(
                ARGUMENTS_WRONG,
                "no hosts: give them with --hosts or --hostfile, or run this in a Slurm, PBS or LSF job",
            )
        found += job.slots(settings).items()
    for host, _count in found:
        if not host_list.is_name(host):
            raise HookError(
                ARGUMENTS_WRONG,
                f"cannot use the host '{printable(host)}': launchers accept only names and IPv4 addresses",
            )
    text = host_list.compress(host_notation.add_up(found).items())  # a host file may list a host once per slot
    host_list.parse(text, "the list of hosts", ARGUMENTS_WRONG)  # enforces limits
    return text
