# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that the port is free in the container's network namespace; if not, find the process that listens on it."""

from __future__ import annotations

import errno
import sys
import time

from ..errors import PORT_TAKEN, PORT_UNUSABLE, HookError
from ..linux import syscalls
from ..linux.cgroups import job_and_step
from ..linux.fast_stdlib import closing, fsdecode, os, read_file
from ..linux.identity import ActingAs, Identity
from ..node.engine import read_map
from ..oci.annotations import PORT
from ..oci.container_paths import SERVER_NAME
from ..oci.settings import LAST_PORT

_TCP_LISTEN = 10
_WILDCARDS = ["0.0.0.0", "::"]
_MAX_TRIED = 64  # ports after one that is in use
_SEARCH_TIMEOUT = 2.0  # seconds to find the process that listens
_HIDEPID_OFF = ("hidepid=0", "hidepid=off")
NO_SUCH_ADDRESS = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)  # errors of bind(2) for an unsupported address family


def require_free(
    port: int,
    addresses: list[str],
    user: Identity,
    packages: list[str],
    option: str = f"the annotation {PORT}",
    owner: str = "",
) -> None:
    """Bind `port` as `user` on each of `addresses`, or if empty on the wildcards of both families, and close it.

    All must be free: Dropbear starts if it can bind one of them, and would then be unreachable for some clients.
    `packages` are directories with pyroute2, which finds the listening process. `option` names how users choose the
    port. `owner` follows the port in messages: the job that it belongs to, if any.

    Raises HookError, which names the port and, if visible, the process.
    """
    refused = _first_refused(port, addresses, user)
    if refused is None:
        return
    address, error = refused
    if error.errno in NO_SUCH_ADDRESS:
        raise HookError(
            PORT_UNUSABLE,
            f"{address} is not an address of this node: correct LISTEN_ADDRESSES in the OCI hook's JSON file",
        )
    if error.errno == errno.EACCES:
        raise HookError(
            PORT_UNUSABLE,
            f"the container's user may not listen on port {port}: choose 1024 or higher, with {option} or "
            "SERVER_PORT_DEFAULT",
        )
    if error.errno == errno.EADDRINUSE:
        following = _next_free(port, addresses, user)
        example = f", such as {following}, which is free here" if following else ""
        holder = describe_holder(port, user, packages)
        raise HookError(
            PORT_TAKEN,
            f"port {port}{owner} is in use{holder}: choose another with {option}{example}, or stop the process that "
            "uses it",
        )
    raise HookError(PORT_UNUSABLE, f"cannot listen on port {port}: {error.strerror}")


def _next_free(port: int, addresses: list[str], user: Identity) -> int | None:
    """Return the next port on which `user` could listen; None if none is near."""
    candidates = range(port + 1, min(port + _MAX_TRIED, LAST_PORT) + 1)
    return next((candidate for candidate in candidates if is_free(candidate, addresses, user)), None)


def is_free(port: int, addresses: list[str], user: Identity) -> bool:
    """Return whether `user` could listen on `port` of these addresses, or of all if `addresses` is empty.

    Checks the network namespace of the calling process.
    """
    return _first_refused(port, addresses, user) is None


def _first_refused(port: int, addresses: list[str], user: Identity) -> tuple[str, OSError] | None:
    """Return the first of the addresses on which `user` cannot listen, with the error; None if all are free.

    Without addresses, a wildcard of an address family that the node lacks does not count.
    """
    for address in addresses or _WILDCARDS:
        try:
            with ActingAs(user):
                _bind(address, port)
        except OSError as error:
            if error.errno not in NO_SUCH_ADDRESS or addresses:
                return address, error
    return None


def _bind(address: str, port: int) -> None:
    family = syscalls.address_family(address)
    with closing(syscalls.socket(family, syscalls.SOCK_STREAM | syscalls.SOCK_CLOEXEC)) as probe:
        # Like Dropbear: connections in TIME_WAIT must not block the port.
        syscalls.setsockopt(probe, syscalls.SOL_SOCKET, syscalls.SO_REUSEADDR, 1)
        if family == syscalls.AF_INET6:
            syscalls.setsockopt(probe, syscalls.IPPROTO_IPV6, syscalls.IPV6_V6ONLY, 1)
        syscalls.bind(probe, syscalls.socket_address(family, address, port))


def describe_holder(port: int, user: Identity, packages: list[str]) -> str:
    """Return text for a message to `user` about the process that listens on `port`; empty if unknown."""
    sys.path.extend(packages)
    try:
        from pyroute2 import DiagSocket

        with DiagSocket() as diagnosis:
            for family in (syscalls.AF_INET, syscalls.AF_INET6):
                for sock in diagnosis.get_sock_stats(states=1 << _TCP_LISTEN, family=family):
                    if sock["idiag_sport"] == port:
                        return _describe_process(port, sock["idiag_inode"], sock["idiag_uid"], user)
    except Exception:
        pass  # pyroute2 or the kernel's sock_diag is missing: leave it out of the message
    return ""


def _describe_process(port: int, inode: int, uid: int, user: Identity) -> str:
    from ..node.inventory import find_daemon_of  # here: few starts fail

    owner = _describe_uid(uid)
    holder = None
    if uid == user.uid and (daemon := find_daemon_of(uid, port)) is not None:
        holder = daemon.pid, SERVER_NAME
    elif uid == user.uid or not _hides_processes():
        holder = _find_holder(f"socket:[{inode}]")
    if holder is None:
        return f" by a process of {owner}"
    pid, name = holder
    return f" by process {pid} ({name}) of {owner}{_describe_job(str(pid))}"


def _find_holder(file: str) -> tuple[int, str] | None:
    """Return pid and name of a process that has `file` open, such as socket:[123], if the caller may trace it.

    Raises LateError.
    """
    from ..linux.process_search import own_processes  # here: few starts fail

    for process in own_processes(time.monotonic() + _SEARCH_TIMEOUT):
        pid = process.pid
        try:
            if any(os.readlink(f"/proc/{pid}/fd/{name}") == file for name in os.listdir(f"/proc/{pid}/fd")):
                return pid, process.read("comm").decode("utf-8", "backslashreplace").strip()
        except OSError:
            continue  # it has exited
    return None


def _describe_job(pid: str) -> str:
    """Return text about the job of the process `pid`; empty outside jobs, or if the process has exited."""
    try:
        job, _step = job_and_step(fsdecode(read_file(f"/proc/{pid}/cgroup")).split("\n"))
    except OSError:
        return ""
    return f" in job {job}" if job else ""


def _hides_processes() -> bool:
    """Return whether the node's /proc is mounted with hidepid: then messages must not reveal other users' processes."""
    mounts = [line.split() for line in read_file("/proc/self/mountinfo").decode("utf-8", "replace").splitlines()]
    options = [line[-1].split(",") for line in mounts if line[4] == "/proc"]
    return any(option.startswith("hidepid=") and option not in _HIDEPID_OFF for option in (options or [[]])[-1])


def _describe_uid(uid: int) -> str:
    """Describe the user `uid` of this user namespace by the uid in the initial one."""
    ours = read_map("/proc/self/uid_map")
    if ours.is_initial():
        return f"uid {uid}"
    with open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:
        unknown = int(file.read())  # replaces every unmapped uid
    outside = None if uid == unknown else ours.outside(uid)
    return "another user" if outside is None else f"uid {outside}"
