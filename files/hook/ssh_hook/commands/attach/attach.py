# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook attach``: start an SSH daemon in one of the caller's running containers.

The command forks a supervisor, and exits when the daemon listens. The supervisor keeps running: attachments.py.
"""

from __future__ import annotations

import os
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import NoReturn

from ...confine.process_scheduling import ProcessScheduling
from ...errors import ANNOTATION_WRONG, ARGUMENTS_WRONG, HOME_HANGS, NO_CONTAINER, HookError, describe_failure, kind_of
from ...keys.passwd import Entry
from ...linux import syscalls
from ...linux.process import Process
from ...log import ERROR, WARNING, log
from ...node.caller import caller_entry
from ...node.engine import runtime_directory
from ...node.running_process import RunningProcess
from ...oci.annotations import AUTHORIZE_SSH_KEY, HOSTS, PORT, REQUIRE_SHELL, WAIT
from ...oci.requests import named_by_variables, requested
from ...oci.settings import Settings, parse_port_choice
from ...start.attach import Attach, attach
from ...start.from_process import from_process
from . import apptainer, attachments, job_step, leftovers, targets

DESCRIPTION = """Start an SSH daemon in one of your running containers.
Without an argument, use your only container on this node, or list them if there are several."""
EXAMPLE = "ssh_hook attach 4711 --port 15300"
_REQUESTS = (PORT, WAIT, HOSTS, AUTHORIZE_SSH_KEY)
_DONE, _FAILED = b"+", b"-"
_TIMEOUT = 60.0  # seconds; the supervisor's own deadlines are shorter


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    targets.add_arguments(parser)
    parser.add_argument(
        "--port",
        metavar="PORT",
        help="the port to listen on, instead of the site's; auto: the job's port; none: no port",
    )
    parser.add_argument(
        "--without-seccomp",
        action="store_true",
        help="if only root can read the container's seccomp filter, start the daemon anyway; sessions then lack the "
        "filter, and are less confined than the container",
    )


def run(arguments: Namespace, settings: dict[str, str]) -> int:
    """Attach to the container that `arguments` name; return 0, or 1 on failure or if the user has to choose one.

    Raises HookError and KeyStoreError.
    """
    try:
        return _attach(arguments, settings)
    except HookError as error:
        raise HookError(error.kind, named_by_variables(str(error))) from None


def _attach(arguments: Namespace, settings: dict[str, str]) -> int:
    """Implement `run`, with error messages that name annotations instead of options."""
    targets.require_user("attach")
    site = Settings(settings)
    annotations = _requests(arguments, settings)
    entry = caller_entry(settings)
    pid = _choose_target(arguments)
    if pid is None:
        return 1
    target = RunningProcess(pid, leftovers.are_of_killed_hook(RunningProcess(pid, may_be_served=True)))
    first = apptainer.first_process(target.process) if arguments.instance is not None else target.process
    supervisor = _start_supervisor(target, lambda: _plan(target, entry, site, settings, arguments, annotations))
    if supervisor is None:
        return 1
    step = job_step.foreign_step(first)
    return job_step.wait_for_supervisor(supervisor, step) if step else 0


def _requests(arguments: Namespace, settings: dict[str, str]) -> dict[str, str]:
    """Return the annotations for the environment variables and `arguments`. Raises HookError for an invalid port."""
    annotations = {REQUIRE_SHELL: "true", **requested(settings, _REQUESTS)}  # nothing is left to start without SSH
    if PORT in annotations:
        parse_port_choice(annotations[PORT], f"the annotation {PORT}", ANNOTATION_WRONG)
    if arguments.port is not None:
        parse_port_choice(arguments.port, "--port", ARGUMENTS_WRONG)
        annotations[PORT] = arguments.port
    return annotations


def _choose_target(arguments: Namespace) -> int | None:
    """Return the pid that `arguments` name, or that of the only container; print a choice of several and return None.

    Raises HookError if the caller has no container.
    """
    pid = targets.chosen_pid(arguments)
    if arguments.instance is not None:
        return apptainer.start_shell(arguments.instance)
    if pid is not None:
        return pid
    containers = targets.find_containers()
    found = [each for each in containers if not each.mounts.has_daemon() or leftovers.are_of_killed_hook(each)]
    if not found:
        raise HookError(
            NO_CONTAINER, "you have no container on this node that attach can serve: 'ssh_hook attach PID' shows why"
        )
    if len(found) > 1:
        targets.print_choice("attach", {each.process.pid: each.name for each in found})
        return None
    return found[0].process.pid


def _plan(
    target: RunningProcess,
    entry: Entry,
    site: Settings,
    settings: dict[str, str],
    arguments: Namespace,
    annotations: dict[str, str],
) -> Attach:
    """Plan the attach. Raises HookError, also if the process has exited, and OSError."""
    runtime = settings.get("XDG_RUNTIME_DIR") or runtime_directory(os.geteuid())
    instance = arguments.instance or ""
    try:
        return from_process(target, entry, site, runtime, arguments.without_seccomp, annotations, instance)
    except (HookError, OSError):
        if target.process.is_alive():
            raise
        raise HookError(NO_CONTAINER, f"process {target.process.pid} has exited") from None


def _start_supervisor(target: RunningProcess, plan: Callable[[], Attach]) -> int | None:
    """Fork the supervisor; return its pid when the daemon listens, or None if the supervisor has logged an error.

    Raises HookError if it does not answer.
    """
    reader, writer = os.pipe()
    supervisor = os.fork()
    if supervisor == 0:
        _run_supervisor(target, plan, writer)
    os.close(writer)
    if not syscalls.poll([reader], time.monotonic() + _TIMEOUT):
        raise HookError(
            HOME_HANGS, f"attach did not finish within {_TIMEOUT:.0f} s: its background process was stopped"
        )
    return supervisor if os.read(reader, 1) == _DONE else None


def _run_supervisor(target: RunningProcess, plan: Callable[[], Attach], writer: int) -> NoReturn:
    """Run the supervisor; exit with 0, or 1 after logging an error."""
    status = 1
    try:
        with attachments.claim(target.process) as file:
            _supervise(plan(), file, writer)
        status = 0
    except Exception as error:
        log(ERROR, named_by_variables(describe_failure(error)), kind_of(error))
        os.write(writer, _FAILED)  # not EOF: a provisioner that was left behind may hold this pipe open too
    finally:
        os._exit(status)


def _supervise(wanted: Attach, file: int, writer: int) -> None:
    """Attach, report to the command, wait for the end, and undo what attach did. Raises HookError and OSError.

    `file` is the supervisor's, locked.
    """
    os.setsid()
    os.chdir("/")
    target = wanted.target
    _raise_oom_score(target.read("oom_score_adj"))
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    attachment = attach(wanted)
    process, daemon = target.process, attachment.daemon
    try:
        for warning in wanted.warnings + missed_cgroups(process, daemon) + missed_scheduling(process, daemon):
            log(WARNING, warning)
        signals = attachments.redirect_signals(file)
        place = wanted.plan.server.place
        print(f"attached to process {process.pid} ({target.name}): its SSH daemon listens on {place}", flush=True)
        os.write(writer, _DONE)
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        attachments.wait(daemon, target.pidfd, signals)
    finally:
        attachments.finish(attachment, file)


def _raise_oom_score(score: str) -> None:
    """Give the daemon the OOM score of the process, while the caller may still write oom_score_adj."""
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)  # otherwise root owns that file; no other process knows this one yet
    try:
        with open("/proc/self/oom_score_adj", "r+", encoding="ascii") as file:
            if int(score) > int(file.read()):
                file.seek(0)
                file.write(score)
    except OSError:
        pass  # sessions keep the caller's score
    finally:
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)


def missed_cgroups(process: Process, daemon: Process) -> list[str]:
    """Return a warning if the daemon is not in the cgroups of the process."""
    try:
        is_same = daemon.read("cgroup") == process.read("cgroup")
    except OSError:
        return []  # one of them has exited
    return [] if is_same else ["sessions run in your own cgroup, since you may not move processes into the container's"]


def missed_scheduling(process: Process, daemon: Process) -> list[str]:
    """Return a warning if the daemon is not scheduled as the process is."""
    try:
        is_same = ProcessScheduling(daemon).values == ProcessScheduling(process).values
    except OSError:
        return []  # one of them has exited
    different = "sessions have another scheduling policy, nice value or I/O priority than the process"
    return [] if is_same else [f"{different}: the kernel did not let you set them"]
