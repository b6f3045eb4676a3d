# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that the port is free in the container's network namespace."""

from __future__ import annotations

import errno

from ..errors import PORT_TAKEN, PORT_UNUSABLE, HookError
from ..fast_stdlib import closing
from ..linux import syscalls
from ..linux.identity import ActingAs, Identity
from ..oci.settings import LAST_PORT

_WILDCARDS = ["0.0.0.0", "::"]
_MAX_TRIED = 64  # ports after one that is in use
_NO_SUCH_ADDRESS = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)  # errors of bind(2) for an unsupported address family


def require_free(port: int, addresses: list[str], user: Identity, option: str, owner: str) -> None:
    """Bind `port` as `user` on each of `addresses`, or if empty on the wildcards of both families, and close it.

    All must be free: Dropbear starts if it can bind one of them, and would then be unreachable for some clients.
    `option` names how users choose the port. `owner` follows the port in messages: the job that it belongs to, or
    nothing.

    Raises HookError, which names the port and, if visible, the process.
    """
    with ActingAs(user):
        refused = first_refused(port, addresses)
    if refused is None:
        return
    address, error = refused
    if error.errno in _NO_SUCH_ADDRESS:
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
        from .port_holder import describe_holder  # here: few starts fail

        with ActingAs(user):
            following = _next_free(port, addresses)
        example = f", such as {following}, which is free here" if following else ""
        holder = describe_holder(port, user)
        raise HookError(
            PORT_TAKEN,
            f"port {port}{owner} is in use{holder}: choose another with {option}{example}, or stop the process that "
            "uses it",
        )
    raise HookError(PORT_UNUSABLE, f"cannot listen on port {port}: {error.strerror}")


def _next_free(port: int, addresses: list[str]) -> int | None:
    """Return the next port on which the caller could listen; None if none is near."""
    candidates = range(port + 1, min(port + _MAX_TRIED, LAST_PORT) + 1)
    return next((candidate for candidate in candidates if first_refused(candidate, addresses) is None), None)


def is_free(port: int, user: Identity) -> bool:
    """Return whether `user` could listen on `port` of all addresses in the caller's network namespace."""
    with ActingAs(user):
        return first_refused(port, []) is None


def first_refused(port: int, addresses: list[str]) -> tuple[str, OSError] | None:
    """Return the first of the addresses on which the caller cannot listen, with the error; None if all are free.

    Without addresses, a wildcard of an address family that the node lacks does not count.
    """
    for address in addresses or _WILDCARDS:
        try:
            _bind(address, port)
        except OSError as error:
            if error.errno not in _NO_SUCH_ADDRESS or addresses:
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
