# SPDX-License-Identifier: GPL-3.0-or-later
"""The cgroups of the container's first process, versions 1 and 2."""

from __future__ import annotations

from ..errors import SYSTEM, ContainerEndedError, HookError
from ..fast_stdlib import fsdecode, os, read_file
from . import syscalls
from .job_names import is_number, is_pbs
from .mounts import unescape

NO_LIMIT = 1 << 63
_SCOPE = "slurmstepd.scope"  # Slurm's directory above jobs in version 2, with an optional node name as prefix
_USERS = "uid_"  # in version 1 it is the user's, such as /slurm/uid_2001
_SERVICE, _PBS_JOBS = ".service", "jobid"  # PBS's directories above jobs, /pbs_jobs.service/jobid; sites may rename it
_LIMITS = {"pids": ("pids.max", "pids.max"), "memory": ("memory.max", "memory.limit_in_bytes")}  # versions 2 and 1


class Cgroups:
    """The cgroups of a process that differ from the hook's own.

    Attributes:
        job: the scheduler's job and step (see `job_and_step`) of the process, or else of the hook, which an engine in
            the job calls.
        lines: those of the process's /proc/PID/cgroup.
    """

    def __init__(self, process: int, rootless: bool, may_stay_out: bool = False) -> None:
        """Open the cgroups of version 2; `process` is a descriptor of a directory in /proc. Raises HookError.

        With `rootless`, a cgroup that cannot be opened is skipped: sessions are then limited like the user's processes
        outside the container. With `may_stay_out`, it is no error either if an open cgroup cannot be entered.
        """
        ours = _lines("/proc/self/cgroup", None)
        try:
            lines = _lines("cgroup", process)
        except (FileNotFoundError, ProcessLookupError):
            raise ContainerEndedError() from None
        theirs = [line.split(":", 2) for line in lines if line not in ours]
        self.lines = lines
        self.job = job_and_step(lines)
        if not self.job[0]:
            self.job = job_and_step(ours)
        self._may_stay_out = may_stay_out
        self._rootless = rootless
        self._limiting = lines + ours if rootless else lines  # for a skipped cgroup the daemon stays in the hook's own
        self._all_controllers = [line.split(":", 2)[1] for line in lines]
        self._version_1 = [(controllers, path) for _number, controllers, path in theirs if controllers]
        self._mounts: list[tuple[str, str, str]] | None = None
        version_2 = [path for _number, controllers, path in theirs if not controllers]
        self._directories = [self._open("", path, os.O_RDONLY | os.O_DIRECTORY) for path in version_2]
        self._files: list[int] = []

    def fork(self) -> int:
        """Fork a child into the cgroup of version 2, by clone3() where possible; return as fork() does. Raises OSError.

        The child must call `open` and `enter` for the other cgroups while it has one thread.
        """
        for directory in self._directories:
            if directory is not None:
                try:
                    return syscalls.clone3_into_cgroup(directory)
                except OSError:  # before Linux 5.7, or denied: `enter` then reports why
                    self._open_procs(directory)
        return syscalls.fork()

    def _open_procs(self, directory: int) -> None:
        try:
            self._files.append(os.open("cgroup.procs", os.O_WRONLY, dir_fd=directory))
        except OSError:
            if not self._may_stay_out:
                raise

    def open(self) -> None:
        """Open the cgroups of version 1, into which `fork` cannot fork. Raises HookError."""
        for controllers, path in self._version_1:
            tasks = self._open(
                controllers, f"{path}/tasks", os.O_WRONLY
            )  # cgroup.procs waits up to 10 ms for an RCU grace period
            if tasks is not None:
                self._files.append(tasks)

    def enter(self) -> None:
        """Move the calling process into the remaining cgroups. Raises OSError."""
        for file in self._files:
            try:
                os.write(file, b"0")
            except OSError:
                if not self._may_stay_out:
                    raise

    def limit(self, controller: str) -> int:
        """Return the lowest readable limit of "pids" or "memory" (bytes) in these cgroups and their ancestors."""
        least = NO_LIMIT
        for line in self._limiting:
            _number, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            name = _LIMITS[controller][1 if controllers else 0]
            mount_point, below = self._place(controllers, path) or ("", "")
            while mount_point:
                try:
                    text = read_file(f"{mount_point}/{below}/{name}").strip()
                except OSError:
                    text = b""  # the root cgroup has no limits, others only those of enabled controllers
                if text.isdigit():
                    least = min(least, int(text))
                if not below:
                    break
                below = below.rpartition("/")[0]
        return least

    def _place(self, controllers: str, path: str) -> tuple[str, str] | None:
        """Return the mount point of the hierarchy of `controllers`, and `path` below it; None if it is not mounted."""
        if self._mounts is None:
            self._mounts = _cgroup_mounts()
        for mounted, root, mount_point in self._mounts:
            if mounted == controllers and (path + "/").startswith(root.rstrip("/") + "/"):
                return mount_point, path[len(root.rstrip("/")) :].strip("/")
        return None

    def _open(self, controllers: str, path: str, flags: int) -> int | None:
        """Open `path` in the hierarchy of `controllers`; return None if it may be skipped. Raises HookError."""
        place = self._place(controllers, path)
        try:
            if place is not None:
                return os.open("/".join(place), flags)
        except OSError as error:
            if self._rootless:
                return None
            raise HookError(SYSTEM, f"cannot open the container's cgroup {path}: {error.strerror}") from None
        if not self._rootless and _can_limit(controllers, self._all_controllers):
            hierarchy = controllers or "version 2"
            raise HookError(
                SYSTEM,
                f"cannot join the container's cgroup {path}: its hierarchy ({hierarchy}) is not mounted on this node",
            )
        return None


def job_and_step(lines: list[str]) -> tuple[str, str]:
    """Return the job and step in the lines of /proc/PID/cgroup; each is empty if there is none.

    For Slurm both are numbers; the steps batch, extern and interactive, which last as long as the job, do not count.
    For PBS the job is its identifier, and there are no steps. A job's cgroup is recognized by its parent. A user with a
    delegated cgroup can imitate both, so the name alone grants nothing.
    """
    job = ""
    for line in lines:
        if "/jobid/" in line:
            job = job or _pbs_job(line)
        if "/job_" not in line:
            continue
        names = _names(line)
        for above, name, below in zip(names, names[1:], [*names[2:], ""]):
            number = _number_after("job_", name)
            if number and (above.endswith(_SCOPE) or above.startswith(_USERS)):
                step = _number_after("step_", below.partition("+")[0])  # step_3+1: a component of a heterogeneous step
                if step:
                    return number, step
                job = job or number
                break
    return job, ""


def _names(line: str) -> list[str]:
    """Return the names in the path of a line of /proc/PID/cgroup."""
    return line.split(":", 2)[-1].split("/")


def _number_after(prefix: str, name: str) -> str:
    number = name[len(prefix) :] if name.startswith(prefix) else ""
    return number if is_number(number) else ""


def _pbs_job(line: str) -> str:
    """Return the identifier of the PBS job in a line of /proc/PID/cgroup; empty if there is none."""
    names = _names(line)
    for service, jobs, name in zip(names, names[1:], names[2:]):
        if service.endswith(_SERVICE) and jobs == _PBS_JOBS and is_pbs(name):
            return name
    return ""


def _can_limit(controllers: str, all_controllers: list[str]) -> bool:
    """Return whether a hierarchy can limit resources: not a named one, nor version 2 if version 1 has controllers."""
    if controllers:
        return not controllers.startswith("name=")
    return not any(_can_limit(others, []) for others in all_controllers if others)


def _cgroup_mounts() -> list[tuple[str, str, str]]:
    """Return (controllers as in /proc/PID/cgroup, "" for version 2; root; mount point) of each mounted hierarchy."""
    mounts = []
    for line in _lines("/proc/self/mountinfo", None):
        if " - cgroup" not in line:
            continue
        before, _dash, after = line.partition(" - ")
        kind, _source, options = after.split(" ", 2)
        root, mount_point = map(unescape, before.split(" ", 5)[3:5])
        if kind == "cgroup2":
            mounts.append(("", root, mount_point))
        elif kind == "cgroup":
            names = [option for option in options.split(",") if option not in ("rw", "ro", "xattr", "noprefix")]
            mounts.append((",".join(names), root, mount_point))
    return mounts


def _lines(path: str, directory: int | None) -> list[str]:
    """Return the lines of a file of /proc; splitlines() would split at other characters that names may contain."""
    return fsdecode(read_file(path, directory)).split("\n")[:-1]
