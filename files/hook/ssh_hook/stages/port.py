# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the port is free in the container's network namespace, and who holds it if not."""

from __future__ import annotations

import errno
import sys

from ..errors import HookError
from ..host.engine import read_map
from ..kernel import syscalls
from ..kernel.identity import ActingAs, Identity
from ..kernel.lean import closing, os, read_file

_TCP_LISTEN = 10
_ALL = ["0.0.0.0", "::"]
_SHOWING = ("hidepid=0", "hidepid=off")
_ABSENT = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)  # no such address family here


def require_free(port: int, addresses: list[str], user: Identity, packages: list[str]) -> None:
    """Bind `port` as `user` on each of `addresses`, or on all of both families where there is none, and let it go.

    All have to be free: Dropbear is content with one, and would serve some of its clients. `packages` are the directories
    that hold pyroute2, for the name of the holder.

    Raises HookError that names the port, and its holder as far as it can be seen.
    """
    for address in addresses or _ALL:
        try:
            with ActingAs(user):
                _bind(address, port)
        except OSError as error:
            if error.errno in _ABSENT and not addresses:
                continue
            if error.errno in _ABSENT:
                raise HookError(
                    f"{address} is not an address of this node: mend LISTEN_ADDRESSES in the OCI hook's JSON file"
                ) from None
            if error.errno == errno.EACCES:
                raise HookError(
                    f"the container's user may not listen on port {port}: choose one from 1024 on, by the annotation "
                    "com.hooks.ssh.port or SERVER_PORT_DEFAULT"
                ) from None
            if error.errno == errno.EADDRINUSE:
                raise HookError(
                    f"port {port} is in use{_holder(port, user, packages)}: choose another by the annotation "
                    "com.hooks.ssh.port, or stop what holds it"
                ) from None
            raise HookError(f"cannot listen on port {port}: {error.strerror}") from None


def _bind(address: str, port: int) -> None:
    family = syscalls.address_family(address)
    with closing(syscalls.socket(family, syscalls.SOCK_STREAM | syscalls.SOCK_CLOEXEC)) as probe:
        # As the server does: an old connection is no obstacle.
        syscalls.setsockopt(probe, syscalls.SOL_SOCKET, syscalls.SO_REUSEADDR, 1)
        if family == syscalls.AF_INET6:
            syscalls.setsockopt(probe, syscalls.IPPROTO_IPV6, syscalls.IPV6_V6ONLY, 1)
        syscalls.bind(probe, syscalls.socket_address(family, address, port))


def _holder(port: int, user: Identity, packages: list[str]) -> str:
    """Who listens on `port`, as words for a message to `user`; empty where that cannot be found out, for whatever reason."""
    sys.path.extend(packages)
    try:
        from pyroute2 import DiagSocket

        with DiagSocket() as diagnosis:
            for family in (syscalls.AF_INET, syscalls.AF_INET6):
                for sock in diagnosis.get_sock_stats(states=1 << _TCP_LISTEN, family=family):
                    if sock["idiag_sport"] == port:
                        return _describe(sock["idiag_inode"], sock["idiag_uid"], user)
    except Exception:
        pass  # the library, or the kernel's sock_diag, is missing: that the port is in use is known without
    return ""


def _describe(inode: int, uid: int, user: Identity) -> str:
    wanted, owner = f"socket:[{inode}]", _owner(uid)
    if uid != user.uid and _hides_processes():
        return f" by a process of {owner}"
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{descriptor}") == wanted:
                    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="backslashreplace") as file:
                        return f" by process {pid} ({file.read().strip()}) of {owner}"
        except OSError:
            continue  # it ended, or is not ours to see
    return f" by a process of {owner}"


def _hides_processes() -> bool:
    """Whether the node's /proc shows users no processes of others: then a message to one of them must not either."""
    mounts = [line.split() for line in read_file("/proc/self/mountinfo").decode("utf-8", "replace").splitlines()]
    options = [line[-1].split(",") for line in mounts if line[4] == "/proc"]
    return any(option.startswith("hidepid=") and option not in _SHOWING for option in (options or [[]])[-1])


def _owner(uid: int) -> str:
    """The user whom the kernel tells this user namespace as `uid`, as the node numbers users."""
    ours = read_map("/proc/self/uid_map")
    if ours.is_initial():
        return f"uid {uid}"
    with open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:
        unknown = int(file.read())  # whom a user namespace does not know is this one to it
    outside = None if uid == unknown else ours.outside(uid)
    return "another user" if outside is None else f"uid {outside}"
