# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook dev``: a container of the user's own in a Slurm job that ``ssh dev-NAME`` submits, waits for and enters.

A job belongs to a profile by its name and its user, and by nothing that is written down. After the first job, only a
person submits: an editor that reconnects by itself, after a job has ended, would otherwise start jobs all night. A
file, the profile's mark, shows that there was a first job. It is created before sbatch runs, and only ever forbids.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace

from ...errors import ARGUMENTS_WRONG, NO_CONTAINER, HookError, printable
from ...schedulers import own_jobs
from ...schedulers.nodes import add_way, launcher
from ...schedulers.own_jobs import PENDING, RUNNING, OwnJob, SubmissionError
from .. import ssh_config
from ..connect import hangs_up
from . import profiles, templates
from .profiles import PREFIX, Profiles

_JOB = "ocihooks-dev-"  # begins the names of jobs
_POLL = 10.0  # seconds between two questions to Slurm, whose controller serves all users
_MAX_SILENCE = 60.0  # seconds without a question, while another process has the turn
_MAX_WAIT = 86400.0  # seconds until the job starts; a client's ConnectTimeout is usually shorter
_SUBMISSION = 30.0  # seconds until another connection's sbatch has answered or was killed, after 20
_MARK_POLL = 0.5  # seconds
_CONTAINER = 120  # seconds until the container of a running job has its SSH daemon

DESCRIPTION = """Work in a container of a Slurm job that 'ssh dev-NAME' starts, from a job script of yours: a profile.
Without an argument, list your profiles and their jobs."""
EXAMPLE = "ssh_hook dev --new gpu"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--new", metavar="NAME", help="write a new profile, for you to edit")
    choice.add_argument("--start", metavar="NAME", help="submit the profile's job, unless it has one")
    choice.add_argument("--cancel", metavar="NAME", help="end the profile's job")
    choice.add_argument("--log", metavar="NAME", help="print the end of the output of the profile's newest job")
    choice.add_argument("--connect", metavar="HOST", help="connect to the container, as ssh's ProxyCommand")
    choice.add_argument("--has", metavar="HOST", help="exit with 0 if HOST is dev-NAME and you have this profile")
    parser.add_argument("--terminal", action="store_true", help="with --connect: a person waits, who may start a job")
    add_way(parser)


def run(arguments: Namespace, settings: dict[str, str]) -> int:
    """Run the action that `arguments` select; return its exit status. Raises HookError and KeyStoreError."""
    own = Profiles(settings)
    if arguments.has is not None:
        return 0 if _profile_of(arguments.has) in own.names() else 1
    try:
        if arguments.connect is not None:
            is_person = arguments.terminal or os.isatty(2)
            return _Profile(own, _profile_of(arguments.connect)).connect(is_person, arguments.via)
        if arguments.start is not None:
            return _Profile(own, arguments.start).start()
    except SubmissionError as error:
        sys.stderr.write(error.said)
        return error.status
    if arguments.new is not None:
        _create(own, arguments.new, settings.get("DEV_TEMPLATE", ""))
    elif arguments.cancel is not None:
        _Profile(own, arguments.cancel).cancel()
    elif arguments.log is not None:
        _Profile(own, arguments.log).print_log()
    else:
        _list(own)
    return 0


def _profile_of(host: str) -> str:
    """Return the name of the profile in a host's name; the quotes around it are client-config's, left by Windows."""
    return host.strip("'").removeprefix(PREFIX)


def _create(own: Profiles, name: str, template: str) -> None:
    """Write a profile from the site's `template`, or from ours if the path is empty. Raises HookError."""
    own.path_of(name)
    host = f"{PREFIX}{name}"
    taken = ssh_config.line_for(host)
    if taken is not None:
        raise HookError(
            ARGUMENTS_WRONG, f"your ~/.ssh/config is for the host {host} too: {printable(taken)}: choose another name"
        )
    script = templates.of_site(template) if template else templates.script(shutil.which, launcher()).encode()
    path = own.create(name, script)
    print(f"Wrote {path}: edit its #SBATCH lines, and its image.\nThen run: ssh {host}")


def _list(own: Profiles) -> None:
    """Print the profiles with their jobs. Raises HookError."""
    names = own.names()
    if not names:
        print("You have no profiles: 'ssh_hook dev --new NAME' writes one.")
        return
    jobs = {job.name: job for job in reversed(own_jobs.find([_JOB + name for name in names]))}
    rows = [("PROFILE", "JOB", "STATE", "NODE", "TIME LEFT")]
    for name in names:
        job = jobs.get(_JOB + name)
        rows.append((name, job.number, job.state, job.node or "-", job.left) if job else (name, *"----"))
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip())


class _Profile:
    """One profile, and the caller's job of it."""

    def __init__(self, own: Profiles, name: str) -> None:
        """Raise HookError unless there is such a profile, which only the caller can change."""
        self.own = own
        self.name = name
        self.script = own.read(name)

    def start(self) -> int:
        """Submit a job unless there is one; print which one there is. Raises HookError."""
        job = self._job() or self._submit(is_person=True)
        print(f"job {job.number} of {PREFIX}{self.name}: {job.state.lower()}")
        return 0

    def cancel(self) -> None:
        """Cancel the profile's jobs. Raises HookError."""
        jobs = [job.number for job in own_jobs.find([_JOB + self.name])]
        if not jobs:
            raise HookError(NO_CONTAINER, f"{PREFIX}{self.name} has no job")
        own_jobs.cancel(jobs)
        print(f"cancelled job {', '.join(jobs)}")

    def print_log(self) -> None:
        """Print the end of the newest job's output. Raises HookError and OSError."""
        logs = self.own.logs(self.name)
        if not logs:
            raise HookError(NO_CONTAINER, f"no job of {PREFIX}{self.name} has written anything to {self.own.path}")
        print(f"{logs[-1]}:", *profiles.last_lines(logs[-1]), sep="\n")

    def connect(self, is_person: bool, way: str) -> int:
        """Relay standard input and output to the container of the profile's job; return 0 or an error's status.

        Only if `is_person`, or for the first time, a job is submitted. `way` is how the node is reached. Raises
        HookError and OSError.
        """
        job = self._wait_until_running(self._job() or self._submit(is_person))
        command = [launcher(), "connect", "--job", job.number, "--wait", str(_CONTAINER), "--via", way, job.node]
        status = subprocess.run(command, check=False).returncode
        if status == 0 or hangs_up(0):
            return min(abs(status), 1)
        if all(other.number != job.number for other in own_jobs.find([job.name])):
            raise self._ended(job)
        return 1

    def _job(self) -> OwnJob | None:
        """Return the profile's job, or None; cancel jobs that others of the user's connections submitted after it.

        Slurm numbers jobs in the order of submission, and each connection asks after its own submission. So all but one
        see a lower number. A second job does not start before the first one has ended. Raises HookError.
        """
        jobs = own_jobs.find([_JOB + self.name])
        later = [job.number for job in jobs[1:] if job.state == PENDING]
        if later:
            try:
                own_jobs.cancel(later)
            except HookError as error:
                _tell(str(error))  # the next connection tries again
        return jobs[0] if jobs else None

    def _submit(self, is_person: bool) -> OwnJob:
        """Submit a job; return it, or the one that another connection has submitted first.

        Unless `is_person`, this is only for the profile's first job. Raises HookError.
        """
        log = f"{self.own.path.replace('%', '%%')}/{self.name}-%j.log"
        try:
            mark = self.own.mark(self.name, must_be_first=not is_person)
        except FileExistsError:
            return self._first_of_another()
        try:
            try:
                number = own_jobs.submit(_JOB + self.name, self.script, self.own.home, log)
            finally:
                profiles.end_submission(mark)
        except HookError:  # a limit of one job per user, or sbatch was too slow
            job = self._job()
            if job is None:
                raise
            return job
        job = self._job() or OwnJob(number, _JOB + self.name, "", "", "", "", "")
        if job.number == number:
            self.own.remove_old_logs(self.name, number)
        if not job.state:
            raise self._ended(job)
        return job

    def _first_of_another(self) -> OwnJob:
        """Return the job that another connection is submitting, such as another one of the same editor.

        Raises HookError if there is none.
        """
        deadline = time.monotonic() + _SUBMISSION
        while self.own.is_submitting(self.name) and time.monotonic() < deadline and not hangs_up(_MARK_POLL):
            pass
        job = self._job()
        if job is None:
            raise HookError(
                NO_CONTAINER,
                f"{PREFIX}{self.name} has no job, and only a person starts another: run 'ssh {PREFIX}{self.name}' in a "
                f"terminal, or 'ssh_hook dev --start {self.name}' on a login node",
            )
        return job

    def _wait_until_running(self, job: OwnJob) -> OwnJob:
        """Return the profile's job once it runs, and print what it waits for. Raises HookError."""
        said = ""
        asked = time.monotonic()
        deadline = asked + _MAX_WAIT
        with socket.socket(socket.AF_UNIX) as turn:
            while job.state != RUNNING or not job.node:
                now = _describe(job)
                if now != said:
                    said = now
                    _tell(
                        f"job {job.number} of {PREFIX}{self.name} is {now}; if you stop waiting, it stays: end it with "
                        f"'ssh_hook dev --cancel {self.name}'"
                    )
                if hangs_up(_POLL) or time.monotonic() > deadline:
                    raise HookError(NO_CONTAINER, f"job {job.number} of {PREFIX}{self.name} has not started")
                if not self._has_turn(turn) and time.monotonic() < asked + _MAX_SILENCE:
                    continue
                asked = time.monotonic()
                found = self._job()
                if found is None:
                    raise self._ended(job)
                job = found
        return job

    def _has_turn(self, turn: socket.socket) -> bool:
        """Return whether this one of the user's processes on this node that wait for the profile asks Slurm.

        It is the one whose socket has the name. Another user may take the name: then each process asks, but rarely.
        """
        try:
            if not turn.getsockname():
                turn.bind(f"\0{_JOB}{self.name}-{os.getuid()}")
        except OSError:
            return False
        return True

    def _ended(self, job: OwnJob) -> HookError:
        """Return the error for a job that has ended, after printing the end of its output."""
        state = own_jobs.state_of(job.number)
        lines = profiles.last_lines(self.own.log_of(self.name, job.number))
        for line in lines:
            print(line, file=sys.stderr)
        shown = "the lines above are the end of its output" if lines else "it has no output"
        return HookError(
            NO_CONTAINER, f"job {job.number} of {PREFIX}{self.name} has ended{f' ({state})' if state else ''}: {shown}"
        )


def _describe(job: OwnJob) -> str:
    """Return the state of a job that does not run, with its reason and its expected start."""
    start = "" if job.start == "N/A" else f", start {job.start}"
    return printable(f"{job.state.lower()} ({job.reason}){start}")


def _tell(line: str) -> None:
    """Print a line for the person who waits: standard output is the connection."""
    print(f"ssh_hook: {line}", file=sys.stderr, flush=True)
