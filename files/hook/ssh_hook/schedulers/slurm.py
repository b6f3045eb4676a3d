# SPDX-License-Identifier: GPL-3.0-or-later
"""Slurm: the job in the variables of a process, or of a Prolog, and what squeue and sacct report on jobs."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from ..errors import ARGUMENTS_WRONG, NO_CONTAINER, SYSTEM, HookError, printable, shorten
from ..linux.job_names import is_number
from ..node import job_record
from .bounded_output import MIN_TIMEOUT, TooLongError, last_line, output
from .host_notation import expand, required, whole_nodes
from .job_names import is_task

JOB = "SLURM_JOB_ID"
_HET_JOB = "SLURM_HET_JOB_ID"  # the leader's number, set in each component of a heterogeneous job
_NODE_LISTS = "SLURM_JOB_NODELIST", "SLURM_NODELIST"  # Slurm 22.05 gives a Prolog only the latter
_COUNTS = re.compile(r"([0-9]{1,9})(?:\(x([0-9]{1,6})\))?")  # in Slurm's notation "72(x2),36" is 72, 72, 36
_GPUS = re.compile(r"[0-9]{1,4}")
_TIMEOUT = 20.0  # seconds for an answer
_MAX_ANSWER = 1 << 24  # bytes: a line for each array task
_UNKNOWN_JOB = "Invalid job id"  # squeue's message
_SACCT = ("sacct", "--noheader", "--parsable2", "--delimiter= ", "--allocations", "--format=JobIDRaw,NodeList")


class NotYetError(HookError):
    """The job may have nodes later: it is pending, or Slurm did not answer in time."""


class Task:
    """A job, a component of a heterogeneous one, or a task of an array, as squeue reports it.

    Attributes:
        number: its own, as in its cgroup.
        name: with its array's number, such as 1234_5, or its leader's, such as 1234+1; for a plain job its number.
        state: such as PENDING.
        nodes: in Slurm's notation; empty if it has none.
    """

    def __init__(self, number: str, name: str, state: str, nodes: str = "") -> None:
        self.number = number
        self.name = name
        self.state = state
        self.nodes = nodes


def number(environment: Mapping[str, str]) -> int:
    """Return the job's number, or its leader's if it is heterogeneous. Raises HookError."""
    name = _HET_JOB if environment.get(_HET_JOB) else JOB
    if not is_number(environment[name]):
        raise HookError(ARGUMENTS_WRONG, f"{name} is '{printable(environment[name])}', not a job ID")
    return int(environment[name])


def slots(environment: Mapping[str, str]) -> dict[str, int]:
    """Return hosts and slots from the variables of the job, not of a step: containers are part of the whole job.

    Raises HookError.
    """
    return _slots_on(expand(required(environment, _NODE_LISTS[0]), _NODE_LISTS[0]), environment)


def checked_name(name: str) -> str:
    """Return the name of the job that begins or ends on this node. Raises HookError."""
    job_record.checked_number(name, JOB)
    return name


def begun(name: str, environment: Mapping[str, str]) -> tuple[str, dict[str, int], int]:
    """Return the cluster of the job `name`, its hosts with slots, and its leader, from a Prolog's variables.

    Raises HookError.
    """
    leader = job_record.checked_number(environment.get(_HET_JOB) or name, _HET_JOB)
    variable = next(filter(environment.get, _NODE_LISTS), None)
    if variable is None:
        raise HookError(ARGUMENTS_WRONG, f"{_NODE_LISTS[0]} is not set: slurmd must call this, as its Prolog")
    hosts = expand(environment[variable], variable)
    nodes = environment.get("SLURM_JOB_NUM_NODES")  # newer versions of Slurm set it
    if nodes and nodes != str(len(hosts)):
        raise HookError(
            ARGUMENTS_WRONG,
            f"{variable} lists {len(hosts)} of the job's {printable(nodes)} nodes, as if for a single step: set "
            "PrologFlags=Alloc or PrologFlags=Contain in slurm.conf",
        )
    return environment.get("SLURM_CLUSTER_NAME", ""), _slots_on(hosts, environment), leader


def _slots_on(hosts: list[str], environment: Mapping[str, str]) -> dict[str, int]:
    """Return the slots of the hosts of a whole job, in order. Raises HookError.

    If a job has one task per node, to start one container each, the number of processes is that of its GPUs or else of
    its CPUs.
    """
    tasks = _counts(environment, "SLURM_TASKS_PER_NODE", hosts) or dict.fromkeys(hosts, 1)
    gpus = _gpus(environment)
    return whole_nodes(
        tasks,
        lambda: dict.fromkeys(hosts, gpus) if gpus else _counts(environment, "SLURM_JOB_CPUS_PER_NODE", hosts),
    )


def _gpus(environment: Mapping[str, str]) -> int:
    """Return the number of the job's GPUs on this node; 0 if unknown. A Prolog gets a list instead of a count."""
    count = environment.get("SLURM_GPUS_ON_NODE", "")
    if _GPUS.fullmatch(count):
        return int(count)
    return len(list(filter(None, environment.get("SLURM_JOB_GPUS", "").split(","))))


def _counts(environment: Mapping[str, str], name: str, hosts: list[str]) -> dict[str, int]:
    """Return the count of each host; empty if the variable is not set. Raises HookError."""
    text = environment.get(name, "")
    counts: list[int] = []
    for item in text.split(",") if text else []:
        found = _COUNTS.fullmatch(item)
        repeated = int(found.group(2) or 1) if found else 0
        if found is None or int(found.group(1)) == 0 or not 0 < repeated <= len(hosts) - len(counts):
            raise _no_counts(name, text, hosts)
        counts += [int(found.group(1))] * repeated
    if counts and len(counts) < len(hosts):
        raise _no_counts(name, text, hosts)
    return dict(zip(hosts, counts))


def _no_counts(name: str, text: str, hosts: list[str]) -> HookError:
    return HookError(ARGUMENTS_WRONG, f"{name} is '{printable(text)}', not a list of counts for {len(hosts)} hosts")


def find_nodes(job: str, timeout: float) -> tuple[int, list[str]]:
    """Ask Slurm for `job`, a number or the name of an array task; return its number and its nodes.

    For a heterogeneous job these are its leader's number and the nodes of all components. `timeout` is in seconds, at
    most 20. Raises HookError, and NotYetError if a later query may succeed.
    """
    advice = "give the hosts and their --port"
    tasks = _tasks(job, min(timeout, _TIMEOUT), advice)
    if not tasks:
        raise HookError(
            ARGUMENTS_WRONG, f"cannot find where job {job} runs, since there is no squeue in PATH: {advice}"
        )
    own = _choose(tasks, job).number
    components = [task for task in tasks if task.nodes and (task.number == own or "+" in task.name)]
    names = (host for task in components for host in expand(task.nodes, "the output of squeue"))
    leader, plus, _component = components[0].name.partition("+")
    return int(leader if plus else own), list(dict.fromkeys(names))


def locate(job: str) -> tuple[str, str] | None:
    """Ask Slurm for `job`, as `find_nodes`; return its number and its first node, or None without Slurm.

    Raises HookError.
    """
    tasks = _tasks(job, _TIMEOUT, "give the node too: ssh_hook connect --job JOB NODE")
    if not tasks:
        return None
    task = _choose(tasks, job)
    return task.number, expand(task.nodes, "the output of squeue")[0]


def find_nodes_even_ended(job: str, deadline: float) -> tuple[set[str], list[str]]:
    """Return the own number of `job` or those of its tasks, and its nodes, even if it has ended.

    Slurm may answer until `deadline` (monotonic). Raises HookError.
    """
    is_there = False
    for command, read in ((_squeue(job, "--states=all"), _read), ([*_SACCT, f"--jobs={job}"], _read_ended)):
        now = time.monotonic()
        try:
            tasks = read(output(command, now + max(MIN_TIMEOUT, (deadline - now) / 2), _MAX_ANSWER)[0])
        except FileNotFoundError:
            continue
        except (OSError, TooLongError):
            tasks = []
        is_there = True
        placed = [task for task in tasks if task.nodes and "(" not in task.nodes]
        if placed:
            hosts = [host for task in placed for host in expand(task.nodes, f"the output of {command[0]}")]
            return {task.number for task in placed}, list(dict.fromkeys(hosts))
    if not is_there:
        raise HookError(SYSTEM, "there is no squeue in PATH: run 'ssh_hook why' on the job's nodes")
    raise HookError(
        NO_CONTAINER,
        f"Slurm lists no nodes for job {job} (has it started?): see sacct --jobs {job}, or run 'ssh_hook why' on the "
        "nodes",
    )


def _tasks(job: str, timeout: float, advice: str) -> list[Task]:
    """Return the tasks of `job` that have not ended; none without Slurm.

    `advice` ends the message if Slurm does not answer. Raises HookError, and NotYetError if squeue takes more than
    `timeout` seconds or cannot reach Slurm.
    """
    try:
        stdout, stderr, status = output(_squeue(job), time.monotonic() + timeout, _MAX_ANSWER)
    except FileNotFoundError:
        return []
    except (OSError, TooLongError) as error:
        kind = NotYetError if isinstance(error, TimeoutError) else HookError
        raise kind(SYSTEM, f"Slurm did not report where job {job} runs (squeue): {advice}") from None
    if status != 0:
        said = last_line(stderr, "squeue failed")
        if _UNKNOWN_JOB in said:
            raise HookError(NO_CONTAINER, f"Slurm has no job {job}: {said}")
        raise NotYetError(SYSTEM, f"Slurm did not report where job {job} runs ({said}): {advice}")
    tasks = _read(stdout)
    if not tasks:
        raise HookError(NO_CONTAINER, f"job {job} has ended: see sacct --jobs {job}")
    return tasks


def _squeue(job: str, *options: str) -> list[str]:
    return ["squeue", "--noheader", "--jobs", job, "--format", "%A %i %T %N", *options]


def _read(stdout: str) -> list[Task]:
    """Return the tasks in the output of squeue."""
    lines = map(str.split, stdout.splitlines())
    return [Task(*fields) for fields in lines if len(fields) in (3, 4) and is_number(fields[0])]


def _read_ended(stdout: str) -> list[Task]:
    """Return the tasks in the output of sacct."""
    lines = map(str.split, stdout.splitlines())
    return [Task(fields[0], fields[0], "", fields[1]) for fields in lines if len(fields) == 2 and is_number(fields[0])]


def _choose(tasks: list[Task], job: str) -> Task:
    """Return the running task, which has nodes. Raises HookError, also if several array tasks run."""
    placed = [task for task in tasks if task.nodes]
    if not placed:
        kind = NotYetError if any(task.state == "PENDING" for task in tasks) else HookError
        raise kind(NO_CONTAINER, f"job {job} has no node yet ({tasks[0].state.lower()}): see squeue --jobs {job}")
    placed = [task for task in placed if task.state == "RUNNING"] or placed  # others may be completing
    if len(placed) > 1 and all(is_task(task.name) for task in placed):
        shown = shorten([printable(f"{task.name} ({task.nodes})") for task in placed])
        raise HookError(
            ARGUMENTS_WRONG,
            f"job {job} is an array with {len(placed)} running tasks: choose one, such as job{placed[0].name}: {shown}",
        )
    return placed[0]
