# SPDX-License-Identifier: GPL-3.0-or-later
"""SSH for a job step whose tasks join the running container of an earlier step (pyxis, ``--container-name``).

pyxis starts a second container in the same root file system for the later step, for its hooks and variables alone; the
tasks join the namespaces of the first container. Its SSH daemon serves them too, but Slurm kills it with the earlier
step. So the hook leaves a process in the later step, the successor. While a task of its step is in that container, and
no daemon, it runs ``ssh_hook attach``: in another step, by srun, because no process in the second container's user
namespace can enter the first one.

The container is recognized by what the kernel shows to all users: the device and directory of its root file system, the
id of its root mount, and the uid of its processes.

Format: proc_pid_mountinfo(5).
"""

from __future__ import annotations

import time

from ..errors import DAEMON_FAILED
from ..linux import syscalls
from ..linux.cgroups import job_and_step
from ..linux.fast_stdlib import TYPE_CHECKING, closing, fsdecode, os, read_file
from ..linux.files import close_all_but
from ..linux.mounts import mount_id
from ..linux.process import Process, all_processes
from ..log import log
from ..node import last_messages
from ..oci.container_paths import SERVER_NAME
from .members import await_end_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_POLL = 0.2  # seconds
_PAUSE = 2.0  # seconds before the next attempt to attach
_ATTEMPTS = 5  # to attach; the first may come before the task has executed its program
_SRUN = ["env", "srun", "--quiet", "--overlap", "--nodes=1", "--ntasks=1", "--mpi=none", "--chdir=/", "--input=none"]
# Variables for srun and attach. Others of Slurm's are options for srun, and some would start a container.
_KEPT = (
    *("HOME", "LOGNAME", "PATH", "USER", "XDG_RUNTIME_DIR"),
    *("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT"),
)
_REQUESTS = "OCIHOOKS_"
_OURS = (f"{SERVER_NAME}\n".encode(), b"ssh_hook\n")  # the content of comm


class JoinedContainer:
    """A running container of the caller in the root file system of the one that starts.

    Attributes:
        mount: the id of its root mount.
    """

    def __init__(self, root: bytes, mount: bytes) -> None:
        """`root` is the part of a line in mountinfo that shows a mount of the root file system at /."""
        self._root = root
        self.mount = mount

    def has_daemon(self, port: int) -> bool:
        """Return whether an SSH daemon in the container was started for `port`."""
        for process in self._daemons():
            words = fsdecode(process.read("cmdline")).split("\0")
            if any(word == "-p" and place.rpartition(":")[2] == str(port) for word, place in zip(words, words[1:])):
                return True
        return False

    def await_daemon_end(self) -> bool:
        """Wait until one of its daemon's processes has exited; return False if there is none. Raises OSError."""
        for process in self._daemons():
            await_end_of(process)
            return True
        return False

    def oldest_task(self, step: tuple[str, str]) -> int:
        """Return the pid of its oldest process, or 0 if no process of the job step `step` is in it.

        All successors choose the same process, for which only one of them can attach.
        """
        found, is_used = [], False
        for process in self._processes():
            if process.read("comm") in _OURS:
                continue  # the daemon's, and its watcher's, which is about to exit
            lines = fsdecode(process.read("cgroup")).split("\n")
            found.append((process.start_time(), process.pid))
            is_used = is_used or job_and_step(lines) == step
        return min(found)[1] if is_used else 0

    def _daemons(self) -> Iterator[Process]:
        return (process for process in self._processes() if process.read("comm") == _OURS[0])

    def _processes(self) -> Iterator[Process]:
        for process in all_processes():
            try:
                if process.uid() == os.geteuid() and _root_mount(process, self._root) == self.mount:
                    yield process
            except OSError:
                continue  # it has exited


def find_joined(rootfs: str) -> JoinedContainer | None:
    """Return the caller's container that runs in the root file system `rootfs`; None if there is none. Raises OSError.

    If there are several, it is that of the lowest pid, as for pyxis.
    """
    with closing(os.open(rootfs, os.O_PATH | os.O_DIRECTORY)) as directory:
        mount = mount_id(directory)
    lines = [line.split(b" ", 4) for line in read_file("/proc/self/mountinfo").split(b"\n")]
    root = next((b" %s %s / " % (fields[2], fields[3]) for fields in lines if fields[0] == mount), b"")
    for process in all_processes():
        try:
            found = _root_mount(process, root)
            if found and process.uid() == os.geteuid():
                return JoinedContainer(root, found)
        except OSError:
            continue  # it has exited
    return None


def _root_mount(process: Process, root: bytes) -> bytes:
    """Return the id of the mount at / of `process`, if it is of the root file system `root`; otherwise empty."""
    data = process.read("mountinfo")
    position = data.find(root)
    if position < 0:
        return b""
    return data[data.rfind(b"\n", 0, position) + 1 :].split(b" ", 1)[0]


def leave_successor(container: JoinedContainer, init: Process, variables: Mapping[str, str], launcher: str) -> None:
    """Fork the successor for `container`. Raises OSError.

    `init` is the first process of the second container, which exits when all tasks have joined. `variables` are the
    user's, and `launcher` is the path of ``ssh_hook``.
    """
    step = job_and_step(fsdecode(read_file("/proc/self/cgroup")).split("\n"))
    job = variables.get("SLURM_JOB_ID", "")
    if not job:
        return  # without Slurm no task joins
    ended = last_messages.open_ended()
    if syscalls.fork() != 0:
        return
    try:
        os.setsid()
        # The container's switch of the root would take the node's files away.
        syscalls.unshare(syscalls.CLONE_NEWNS)
        os.chdir("/")
        close_all_but({ended, *init.descriptors()}, os.open("/dev/null", os.O_RDWR))
        node = variables.get("SLURMD_NODENAME") or os.uname().nodename
        command = [*_SRUN, f"--jobid={job}", f"--nodelist={node}", launcher, "attach", "--without-seccomp"]
        kept = {name: value for name, value in variables.items() if name in _KEPT or name.startswith(_REQUESTS)}
        if not _serve(container, init, step, command, kept) and ended >= 0:
            text = (
                "SSH in the container has ended with the job step that started it, and could not be started again by "
                f"another step: run srun --overlap --jobid={job} {launcher} attach --without-seccomp"
            )
            last_messages.write_ended(ended, log.subject[0], DAEMON_FAILED, text)
    finally:
        os._exit(0)


def _serve(
    container: JoinedContainer, init: Process, step: tuple[str, str], command: list[str], variables: dict[str, str]
) -> bool:
    """Attach to `container` by `command` whenever it has no daemon; return when no task of `step` is left in it.

    Return False if that has failed too often. Raises OSError.
    """
    failures = 0
    while failures < _ATTEMPTS:
        if container.await_daemon_end():
            failures = 0
            time.sleep(_POLL)  # Slurm kills the processes of a step one after the other
            continue
        are_joining = init.is_alive()  # before the tasks are looked for
        pid = container.oldest_task(step)
        if pid == 0:
            if not are_joining:
                return True
            time.sleep(_POLL)
        elif _run([*command, str(pid)], variables) == 0:
            failures = 0  # the process has ended
        else:
            failures += 1
            time.sleep(_PAUSE)
    return False


def _run(command: list[str], variables: dict[str, str]) -> int:
    """Run `command` with `variables`; return its wait status. Raises OSError."""
    child = syscalls.fork()
    if child == 0:
        try:
            os.execve("/usr/bin/env", command, variables)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]
