# SPDX-License-Identifier: GPL-3.0-or-later
"""A process of a running container, and its privileges, as shown in /proc.

Nothing here opens a file in the container, since its file system may hang. A read of the process's memory may also
hang; `read_environment` has a deadline for it.

Formats: proc_pid_status(5), proc_pid_limits(5), proc_pid_mountinfo(5).
"""

from __future__ import annotations

import errno

from ..errors import ATTACH_REFUSED, HookError, printable
from ..fast_stdlib import closing, fsdecode, os, read_file
from ..linux import syscalls, user_namespaces
from ..linux.files import is_same
from ..linux.memory import read_memory
from ..linux.mounts import SOURCE, mount_id, unescape
from ..linux.process import Process
from ..oci.container_paths import BASE, PROGRAMS

_SETS = {"bounding": "CapBnd", "permitted": "CapPrm", "inheritable": "CapInh", "ambient": "CapAmb"}
_FILTER_MODE = "2"  # SECCOMP_MODE_FILTER
_NAME_WIDTH = 26  # width of a name in /proc/PID/limits
_MAX_ENVIRONMENT = 4 << 20  # bytes
_TIMEOUT = 10.0  # seconds to read the environment
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
_HOOKS_TMPFS = b" - tmpfs " + SOURCE + b" "


class Rights:
    """The privileges of a process, with ids of the caller's user namespace.

    Attributes:
        uid, gid, groups: its ids.
        umask: its umask.
        no_new_privileges: whether no_new_privs is set.
        has_filter: whether it has a seccomp filter.
        filters: the number of its seccomp filters; 0 if the kernel does not report it (before Linux 5.9).
        capabilities: bit masks of its sets, by the names of config.json.
        limits: (soft, hard) of each rlimit, by its number.
    """

    def __init__(self, process: Process) -> None:
        """Read them. Raises OSError, and HookError if the process has several uids or gids."""
        lines = fsdecode(process.read("status")).split("\n")
        fields = {name: value.strip() for name, _colon, value in (line.partition(":") for line in lines)}
        if "Umask" not in fields:  # the first field that a process loses when it exits
            raise ProcessLookupError
        self.uid = _only_id(fields["Uid"])
        self.gid = _only_id(fields["Gid"])
        self.groups = sorted(int(group) for group in fields["Groups"].split())
        self.umask = int(fields["Umask"], 8)
        self.no_new_privileges = fields["NoNewPrivs"] != "0"
        self.has_filter = fields.get("Seccomp") == _FILTER_MODE  # absent without CONFIG_SECCOMP
        self.filters = int(fields.get("Seccomp_filters", "0"))
        self.capabilities = {name: int(fields[field], 16) for name, field in _SETS.items()}
        self.limits = [
            (_limit(values[0]), _limit(values[1]))
            for values in (line[_NAME_WIDTH:].split() for line in fsdecode(process.read("limits")).split("\n"))
            if len(values) >= 2
        ][1:]  # the first line is a heading

    def excess_over(self, other: Rights) -> str:
        """Return the name of a right that `other` lacks; empty if there is none."""
        if (self.uid, self.gid) != (other.uid, other.gid):
            return "uid or gid"
        if set(self.groups) - {*other.groups, other.gid}:
            return "groups"
        if other.no_new_privileges and not self.no_new_privileges:
            return "no_new_privs"
        beyond = [name for name, mask in self.capabilities.items() if mask & ~other.capabilities[name]]
        return f"{beyond[0]} capabilities" if beyond else ""


def _only_id(text: str) -> int:
    ids = set(text.split())
    if len(ids) != 1:
        raise HookError(ATTACH_REFUSED, "it runs with several uids or gids, as a set-user-ID program does")
    return int(ids.pop())


def _limit(text: str) -> int:
    return int(text) if text.isdigit() else syscalls.RLIM_INFINITY


class MountInfo:
    """The mounts of a process, from its /proc/PID/mountinfo.

    Attributes:
        data: the content of the file.
        ids: the ids of all mounts.
        root: device of its root directory, and the path on that device.
        is_read_only: whether its root directory is read-only.
        mount_points: of the mounts directly on the root directory's mount, escaped as in the file.
    """

    def __init__(self, directory: int) -> None:
        """Read them; `directory` is the process's open directory in /proc.

        Raises OSError; ProcessLookupError if the process is about to exit.
        """
        try:
            self.data = read_file("mountinfo", directory)
        except OSError as error:
            if error.errno == errno.EINVAL:  # it has no mount namespace any more
                raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None
            raise
        lines = [line.split(b" ") for line in self.data.split(b"\n")[:-1]]
        self.ids = {fields[0] for fields in lines}
        self.root = (b"", b"")
        self.is_read_only = False
        root_id = b""
        for fields in lines:
            if fields[4] == b"/":
                root_id, self.root = fields[0], (fields[2], fields[3])
                self.is_read_only = b"ro" in (fields[5].split(b",") + fields[-1].split(b","))
        self.mount_points = [fields[4] for fields in lines if fields[1] == root_id and fields[4] != b"/"]

    def has_daemon(self) -> bool:
        """Return whether a hook's tmpfs is mounted."""
        needle = b" " + BASE.encode() + b" "
        return any(needle in line and _HOOKS_TMPFS in line for line in self.data.split(b"\n"))

    def has_home_overlay(self) -> bool:
        """Return whether a hook's overlay is mounted on ~/.ssh, as by attach and by all engines' hooks but enroot's."""
        return b" - overlay " + SOURCE + b" " in self.data

    def of_hook(self, before: set[bytes]) -> list[str]:
        """Return the mount points of a hook's mounts whose ids are not in `before`."""
        lines = [line.split(b" ") for line in self.data.split(b"\n")[:-1] if b" " + SOURCE + b" " in line]
        return [unescape(fsdecode(fields[4])) for fields in lines if fields[0] not in before]

    def of_programs(self) -> set[bytes]:
        """Return the ids of the mounts of Dropbear's programs: a daemon in the container runs from one."""
        lines = [line.split(b" ", 5) for line in self.data.split(b"\n")[:-1]]
        return {fields[0] for fields in lines if fields[4] == PROGRAMS.encode()}

    def left_by_hook(self) -> list[tuple[bytes, str]]:
        """Return id and mount point of all of the hook's mounts, in order, also those over the container's programs."""
        lines = [line.split(b" ") for line in self.data.split(b"\n")[:-1]]
        programs = [(fields[2], fields[3] + b"/") for fields in lines if fields[4] == PROGRAMS.encode()]
        found = []
        for fields in lines:
            is_program = any(fields[2] == device and fields[3].startswith(top) for device, top in programs)
            if is_program or fields[fields.index(b"-") + 2] == SOURCE:
                found.append((fields[0], unescape(fsdecode(fields[4]))))
        return found


class RunningProcess:
    """A process in one of the caller's containers.

    Attributes:
        process: the process; it may execute another program, or exit.
        pidfd: a pidfd of it.
        name: the name that it has given itself.
        rights: its privileges.
        mounts: its mounts.
        root: its root directory, open as O_PATH.
        user_namespaces: descriptors of its user namespace and its ancestors, up to a child of the caller's.
    """

    def __init__(self, pid: int, may_be_served: bool = False) -> None:
        """Read everything. Raises HookError if it has exited or is not in one of the caller's containers.

        `may_be_served`: accept a container that has an SSH daemon.
        """
        self._may_be_served = may_be_served
        self.pidfd = _open_pidfd(pid)
        self._opened = [self.pidfd]
        try:
            self._read_all(pid)
        except HookError as error:
            raise HookError(error.kind, f"cannot attach to process {pid}: {error}") from None
        except (FileNotFoundError, ProcessLookupError):
            raise HookError(ATTACH_REFUSED, f"process {pid} has exited") from None
        except PermissionError:
            raise HookError(
                ATTACH_REFUSED,
                f"cannot attach to process {pid}: you may not inspect it, so it belongs to another user or has more "
                "rights than you",
            ) from None

    def _read_all(self, pid: int) -> None:
        """Read all but its environment. Raises HookError and OSError, with all descriptors closed."""
        try:
            self._read(pid)
        except BaseException:
            for descriptor in self._opened:
                os.close(descriptor)
            raise

    def _read(self, pid: int) -> None:
        self.process = Process(pid)
        self._opened += self.process.descriptors()
        if syscalls.poll([self.pidfd], 0):
            raise ProcessLookupError  # otherwise both refer to the same process, since its pid was never free
        directory = self.process.directory
        self.name = printable(fsdecode(read_file("comm", directory)).rstrip("\n"))
        self.user_namespaces = self._find_user_namespaces()
        self.rights = Rights(self.process)
        self.mounts = MountInfo(directory)
        self.root = os.open("root", os.O_PATH | os.O_DIRECTORY, dir_fd=directory)
        self._opened.append(self.root)
        self._identity = self._read_identity()
        self._require_container()

    def namespace(self, name: str) -> tuple[int, int]:
        """Return device and inode of its namespace `name`, as in /proc/PID/ns. Raises HookError if it has exited."""
        try:
            status = os.stat(f"ns/{name}", dir_fd=self.process.directory)
        except OSError:
            raise HookError(ATTACH_REFUSED, f"process {self.process.pid} has exited") from None
        return status.st_dev, status.st_ino

    def read(self, name: str) -> str:
        """Return the content of the file `name` in its directory in /proc. Raises OSError."""
        return fsdecode(read_file(name, self.process.directory))

    def read_environment(self) -> list[str]:
        """Return the environment that its program was started with, as "NAME=value". Raises HookError.

        If its uid is not the caller's, the file environ belongs to the user namespace.
        """
        problem = f"cannot read the environment of process {self.process.pid}"
        directory, namespace = self.process.directory, self.user_namespaces[0]
        data = read_memory(directory, "environ", problem, _MAX_ENVIRONMENT, _TIMEOUT, namespace)
        if len(data) > _MAX_ENVIRONMENT:
            raise HookError(ATTACH_REFUSED, f"{problem}: it is larger than {_MAX_ENVIRONMENT} bytes")
        return [entry for entry in fsdecode(data).split("\0") if entry]

    def require_unchanged(self) -> None:
        """Raise HookError if it has exited, or its privileges have changed."""
        pid = self.process.pid
        changed = f"process {pid} has just changed its program or its rights: try again"
        try:
            if not self.process.is_alive():
                raise HookError(ATTACH_REFUSED, f"process {pid} has exited")
            rights = Rights(self.process)
            is_same_process = self._read_identity() == self._identity
        except (FileNotFoundError, ProcessLookupError):
            raise HookError(ATTACH_REFUSED, f"process {pid} has exited") from None
        except PermissionError:
            raise HookError(ATTACH_REFUSED, changed) from None
        if not is_same_process or vars(rights) != vars(self.rights):
            raise HookError(ATTACH_REFUSED, changed)

    def _read_identity(self) -> tuple[object, ...]:
        """Return what must not change: namespaces, mount of the root directory, program. Raises OSError."""
        directory = self.process.directory
        namespaces = [_status(f"ns/{name}", directory) for name in _NAMESPACES]
        with closing(os.open("root", os.O_PATH | os.O_DIRECTORY, dir_fd=directory)) as root:
            mount = mount_id(root)
        with closing(os.open("exe", os.O_PATH, dir_fd=directory)) as program:
            return (*namespaces, mount, os.readlink("exe", dir_fd=directory), mount_id(program))

    def _find_user_namespaces(self) -> list[int]:
        """Return descriptors of its user namespaces, the innermost first. Raises HookError and OSError."""
        directory = self.process.directory
        if is_same(os.stat("ns/mnt", dir_fd=directory), os.stat("/proc/self/ns/mnt")):
            raise HookError(ATTACH_REFUSED, "it is not in a container: its mount namespace is your own")
        if is_same(os.stat("ns/user", dir_fd=directory), os.stat("/proc/self/ns/user")):
            raise HookError(
                ATTACH_REFUSED,
                "its container is not in one of your user namespaces, so only root can enter it: start it with the "
                "hook (com.hooks.ssh.enabled=true)",
            )
        found = user_namespaces.lineage(os.open("ns/user", os.O_RDONLY, dir_fd=directory))
        self._opened += found
        owner = user_namespaces.owner_uid(found[-1])
        if owner != os.geteuid():
            raise HookError(ATTACH_REFUSED, f"its container belongs to another user (uid {owner})")
        return found

    def _require_container(self) -> None:
        """Raise HookError if it is still being set up, has the node's root directory, or has an SSH daemon."""
        with closing(os.open("/proc/self", os.O_RDONLY | os.O_DIRECTORY)) as own:
            if self.mounts.root == MountInfo(own).root:
                raise HookError(
                    ATTACH_REFUSED, "its root directory is this node's own, so it is not in a container with an image"
                )
        program_mount = self._identity[-1]
        if program_mount not in self.mounts.ids:
            raise HookError(
                ATTACH_REFUSED,
                f"its program ({self.name}) belongs to the engine that creates or watches the container: give a "
                "process that the engine started in the container, or try again",
            )
        if self.process.is_before_exec():
            raise HookError(ATTACH_REFUSED, "it has not started its program yet: try again")
        if self.mounts.has_daemon() and not self._may_be_served:
            raise HookError(
                ATTACH_REFUSED,
                f"its container already has an SSH daemon, or the remains of one ({BASE} is mounted there): "
                "'ssh_hook detach', with the same PID or name, removes what attach created",
            )


def _status(path: str, directory: int) -> tuple[int, int]:
    """Return device and inode of a namespace; (0, 0) if the kernel lacks that kind."""
    try:
        status = os.stat(path, dir_fd=directory)
    except FileNotFoundError:
        if not path.endswith("/time"):  # since Linux 5.6
            raise
        return 0, 0
    return status.st_dev, status.st_ino


def _open_pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid, 0)
    except ProcessLookupError:
        raise HookError(ATTACH_REFUSED, f"there is no process {pid} on this node") from None
    except (AttributeError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else "this Python lacks it"
        raise HookError(
            ATTACH_REFUSED, f"cannot open process {pid} with pidfd_open(2), which Linux supports since 5.3: {reason}"
        ) from None
