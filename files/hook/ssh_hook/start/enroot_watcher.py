# SPDX-License-Identifier: GPL-3.0-or-later
"""The watcher: it opens the gate and ends the daemon when there is no OCI runtime, as under enroot.

The daemon's process forks it just before it execs Dropbear: so it is confined like Dropbear, in the container's root
directory, and not dumpable. It opens the gate when the container's first process runs a program of the container with
no_new_privs.

A container has ended when its first process has exited and only the daemon, its sessions, and the watcher are left in
its mount namespace (enroot_members.py): pyxis ends the first process as soon as the tasks of a job have joined. Orphans
of sessions become children of the daemon (PR_SET_CHILD_SUBREAPER), so that all descendants of sessions can be
recognized. If SSH ends before the container, the watcher saves a message for ``ssh_hook why``.

Format: proc_pid_status(5).
"""

from __future__ import annotations

import time

from .. import system_log
from ..errors import CONTAINER_UNFIT, DAEMON_FAILED, HookError, describe_failure, kind_of
from ..fast_stdlib import TYPE_CHECKING, closing, os, read_file, signal
from ..linux import disposable_process, syscalls
from ..linux.files import close_all_but
from ..linux.mounts import mount_id, reachable_mounts
from ..linux.process import Process
from ..log import log
from ..node import last_messages
from ..stop.ending import end_daemon
from .enroot_members import Members, await_end_of
from .imitated_gate import Gate
from .plan import Ending

if TYPE_CHECKING:
    from typing import NoReturn

    from ..linux.rootfs import Rootfs

_SETS = ("CapInh", "CapPrm", "CapBnd", "CapAmb")
_MAX_STATUS = 16 << 10  # bytes
_FIRST_DELAY, _LAST_DELAY = 0.001, 0.1  # seconds between two checks of the first process
_SHARE = 64  # the delay is at most this fraction (1/64) of the time waited
_SETTLE = 1.0  # seconds for a container to end whose processes are killed together with the daemon
_REPORT_TIMEOUT = 2  # seconds


class _DaemonEndedError(Exception):
    """The daemon, the watcher's parent, has exited."""


class Watcher(Ending):
    """The watcher of one container: what ends its daemon.

    Attributes:
        init: the container's first process.
        gate: the gate of the daemon.
    """

    def __init__(self, init: Process) -> None:
        """Make the gate, closed. Raises OSError."""
        self.init = init
        self.gate = Gate()
        self._status = init.open("status", os.O_RDONLY)
        self._ended = last_messages.open_ended()
        self._proc = -1  # the container's /proc, open from `before_exec` on

    def descriptors(self) -> set[int]:
        """Return the descriptors that the watcher needs."""
        return {self.gate.descriptor, self._status, self._ended, *self.init.descriptors()} - {-1}

    def require(self, rootfs: Rootfs) -> None:
        """Raise HookError if the container has no /proc, in which the watcher finds its processes."""
        try:
            with closing(rootfs.open("/proc", os.O_PATH | os.O_DIRECTORY)) as directory:
                is_proc = syscalls.filesystem_type(directory) == syscalls.PROC_SUPER_MAGIC
        except OSError:
            is_proc = False
        if not is_proc:
            raise HookError(
                CONTAINER_UNFIT,
                "the container has no /proc, which its SSH daemon needs to notice its end: let enroot mount it "
                "(mounts.d/10-system.fstab)",
            )

    def before_exec(self, place: str) -> None:
        """Fork the watcher of the calling process, which then execs Dropbear for `place`. Raises OSError.

        That uses more system calls than a seccomp profile must allow: enroot has no profile.
        """
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        # Later the path may lead nowhere: if a step is cancelled, pyxis removes the root file system, and with it the
        # mount on its /proc.
        self._proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        daemon = os.getpid()
        if syscalls.fork() != 0:
            return
        try:
            kind, problem = self._explain_end(daemon)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if problem:
                self._report(kind, f"SSH at {place} has ended before the container: {problem}")
        finally:
            if os.getppid() == daemon:
                os.kill(daemon, signal.SIGKILL)
            os._exit(0)

    def _explain_end(self, daemon: int) -> tuple[str, str]:
        """Watch until SSH must end; return kind and text of the error if it ends before its container, else empty."""
        try:
            return DAEMON_FAILED, self._run(daemon)
        except Exception as error:
            return kind_of(error), describe_failure(error)

    def _run(self, daemon: int) -> str:
        members = Members(daemon, self._proc)
        try:
            signal.signal(signal.SIGTERM, _raise_daemon_ended)
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != daemon:
                raise _DaemonEndedError
            close_all_but({0, 1, 2, self._proc, *self.descriptors()}, 0, self._proc)
            # The container's: with `enroot start --root` all over its user namespace, otherwise none. There the first
            # process's program would be hidden without them, and with hidepid also the other processes.
            syscalls.raise_capabilities()
            self._watch(members)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent when the daemon ends
            _end(daemon, self._proc)
        except _DaemonEndedError:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(_SETTLE)
            if self.init.is_alive() or members.find():
                return (
                    "its daemon was killed by the user, by Slurm (scancel), or by the kernel when memory ran out: "
                    "start "
                    "the container again"
                )
        return ""

    def _watch(self, members: Members) -> None:
        """Open the gate when the container runs, and return when it has ended. Raises HookError, OSError."""
        runs_program = self._await_program()
        statuses = [self._read_status()] if runs_program else []
        if not any(statuses):  # it has exited: members that have switched their root joined later
            statuses = [_status_fields(data) for data in members.statuses()]
        if not statuses:
            return
        own = _own_status(self._proc)
        if not all(_allows_sessions(status, own) for status in statuses):
            raise HookError(
                CONTAINER_UNFIT,
                "its sessions would have more rights than the container, whose first process dropped more rights than "
                "usual",
            )
        self.gate.open()
        os.close(self._status)
        await_end_of(self.init)
        members.await_end()

    def _await_program(self) -> bool:
        """Wait until the first process runs a program of the container; return False if it exits before."""
        waited = 0.0
        while self.init.is_alive():
            if self._runs_program():
                return True
            delay = min(max(_FIRST_DELAY, waited / _SHARE), _LAST_DELAY)
            time.sleep(delay)
            waited += delay
        return False

    def _runs_program(self) -> bool:
        """Return whether the first process has switched its root, dropped its capabilities and executed a program.

        The program that switches roots is on a mount outside the watcher's root directory.
        """
        status = self._read_status()  # before its exe: it may drop its capabilities between the two
        if status.get("NoNewPrivs") != "1":
            return False
        try:
            program = self.init.open("exe", os.O_PATH)
        except PermissionError:
            # It has capabilities that the watcher lacks, or runs a program that its user may not read
            return _is_subset("CapPrm", status, _own_status(self._proc))
        except OSError:
            return False  # it has exited
        with closing(program):
            return mount_id(program, self._proc) in reachable_mounts(self._proc)

    def _read_status(self) -> dict[str, str]:
        """Return the fields of the first process's /proc/PID/status; none if it has exited."""
        try:
            return _status_fields(os.pread(self._status, _MAX_STATUS, 0))
        except OSError:
            return {}

    def _report(self, kind: str, text: str) -> None:
        """Save an error for ``ssh_hook why``, and log it if the container has the node's /dev/log.

        The watcher no longer has the user's terminal. A child logs, for at most two seconds: /dev/log may be the
        image's, and its owner may never read from it.
        """
        if self._ended >= 0:
            last_messages.write_ended(self._ended, log.subject[0], kind, text)
        child = syscalls.fork()
        if child != 0:
            disposable_process.reap(child, _REPORT_TIMEOUT)
            return
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.alarm(_REPORT_TIMEOUT)  # kills the child
            container = {"user": log.user, "uid": str(os.getuid()), "container_id": log.subject[0]}
            system_log.send(system_log.ERROR, f"{text} [{kind}]", {"kind": kind, **container})
        finally:
            os._exit(0)


def _raise_daemon_ended(_signal: int, _frame: object) -> NoReturn:
    raise _DaemonEndedError


def _allows_sessions(status: dict[str, str], own: dict[str, str]) -> bool:
    """Return whether a process has at least the privileges of the watcher, and so of a session.

    `status` and `own` are the fields of the status of that process and of the watcher.
    """
    has_capabilities = all(_is_subset(name, own, status) for name in _SETS)
    is_filtered = status.get("Seccomp") == own["Seccomp"] and (
        int(status.get("Seccomp_filters", "0")) <= int(own.get("Seccomp_filters", "0"))
    )
    return has_capabilities and is_filtered


def _own_status(proc: int) -> dict[str, str]:
    return _status_fields(read_file("self/status", proc))


def _status_fields(data: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in data.decode("ascii", "replace").split("\n"))
    return {name: value.strip() for name, _colon, value in lines}


def _is_subset(name: str, fields: dict[str, str], others: dict[str, str]) -> bool:
    """Return whether the capability set `name` of the status `fields` is a subset of that of `others`."""
    return int(fields.get(name, "0"), 16) & ~int(others.get(name, "0"), 16) == 0


def _end(daemon: int, proc: int) -> None:
    """End `daemon`, the parent, with its sessions."""
    try:
        parent = Process(daemon, proc)
    except OSError:
        return  # it has exited, or has no session yet: hidepid hides it until its gate is open
    if os.getppid() == daemon:
        end_daemon(parent, proc=proc)
