# SPDX-License-Identifier: GPL-3.0-or-later
"""Test whether the caller can log in to a container: through its port, with the caller's keys.

If an SSH server answers, OpenSSH's client checks its host key and logs in with the user's name and key.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping

from ..errors import INSTALL_DAMAGED, HookError
from ..keys import formats, store
from ..keys.store import KeySet
from ..schedulers.bounded_output import MIN_TIMEOUT, TooLongError, read

_CLIENTS = 16
_ATTEMPT = 5.0  # seconds for one address
_MAX_GREETING = 8192  # bytes; a server may send other lines before it identifies itself (RFC 4253, section 4.2)
NO_ANSWER = "no answer"
_FOREIGN = "not your container, or one that started before your keys changed"
_CHECK = 10.0  # seconds for one login
_MAX_ERROR = 1 << 18  # bytes of it
_SSH_FAILED = 255  # the exit status of ssh if it has run no command


def find_client(settings: Mapping[str, str]) -> str:
    """Return the path of ssh: the role dropbear's, or else the node's own, as on a login node.

    Raises HookError if there is none.
    """
    client = f"{settings.get('DROPBEAR_DIR', '')}/bin/ssh"
    found = client if os.access(client, os.X_OK) else shutil.which("ssh")
    if found is None:
        raise HookError(
            INSTALL_DAMAGED,
            f"this node has no SSH client, neither {client} nor ssh in PATH: ask the administrator to install one",
        )
    return found


class Login:
    """Tests a login as from outside containers: does a server have one of the host keys, and let the user in?"""

    def __init__(self, client: str, keys: KeySet, user: str, port: int) -> None:
        """`client` is the path of ssh, `user` is the user's name on the cluster."""
        self._user = user
        options = [
            f"Port={port}",
            f"HostKeyAlias={formats.HOST_KEY_ALIAS}",
            f"UserKnownHostsFile={_in_memory(formats.known_hosts(store.host_public_keys(keys)))}",
            "GlobalKnownHostsFile=none",
            "StrictHostKeyChecking=yes",
            "CheckHostIP=no",  # otherwise OpenSSH before 8.5 adds the address to the file
            f"User={user}",
            "PreferredAuthentications=publickey",
            f"IdentityFile={_in_memory(formats.openssh_private_key(keys.id_dropbear, formats.key_comment(user)))}",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "BatchMode=yes",
            "LogLevel=ERROR",
        ]
        self._command = [client, "-F", "none", *(f"-o{option}" for option in options), "--"]
        self._clients = threading.BoundedSemaphore(_CLIENTS)
        self._running: set[subprocess.Popen[bytes]] = set()

    def __call__(self, address: str, deadline: float) -> str:
        """Log in at an IP address; return an empty string, or why it is not the user's container.

        `deadline` is a time of time.monotonic(). Raises OSError if the client cannot be started.
        """
        with self._clients:
            client = subprocess.Popen(
                [*self._command, address, "true"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            self._running.add(client)
            deadline = min(deadline, time.monotonic() + _CHECK)
            try:
                error = _read_error(client, deadline)
            except TimeoutError:
                return "connected, but the server is not ready"
            except TooLongError:
                return ""  # only a session prints so much
            finally:
                client.kill()
                client.wait()
                self._running.discard(client)
        if client.returncode not in (_SSH_FAILED, -signal.SIGKILL):
            return ""
        # The line begins like this once the host key has been checked; ssh puts a prefix before earlier text of a
        # server.
        if error.startswith(f"{self._user}@{address}: Permission denied ("):
            return f"it does not let {self._user} log in"
        if "Host key verification failed." in error.splitlines():
            return _FOREIGN
        return "connected, but the connection ended before ssh could check the host key"

    def end(self) -> None:
        """Kill the clients that are still running."""
        for client in list(self._running):
            client.kill()


def _read_error(client: subprocess.Popen[bytes], deadline: float) -> str:
    """Return what `client` prints on standard error until it exits. Raises OSError, TimeoutError and TooLongError."""
    assert client.stderr is not None
    with client.stderr as pipe:
        (error,) = read([pipe.fileno()], deadline, _MAX_ERROR)
    try:
        client.wait(max(MIN_TIMEOUT, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    return error.decode("utf-8", "replace")


def _in_memory(data: bytes) -> str:
    """Return the path of a file with `data` for child processes; it disappears when this process exits."""
    descriptor = os.memfd_create("ssh_hook")
    os.fchmod(descriptor, 0o600)  # ssh refuses a private key that others may read
    os.write(descriptor, data)
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def attempt(host: str, port: int, deadline: float, check: Callable[[str, float], str]) -> str:
    """Probe each address of `host` once; return an error, or an empty string if a container answers.

    `deadline` is a time of time.monotonic(). `check` returns why the server at an address is not the container, or an
    empty string. Raises BlockingIOError if the user may not start more processes.
    """
    try:
        # As bytes: getaddrinfo() would encode a string as IDNA, which may raise UnicodeError.
        found = socket.getaddrinfo(host.encode(), port, type=socket.SOCK_STREAM)
    except OSError as error:
        return f"not resolved: {error.strerror}"
    reason = NO_ANSWER
    for family, kind, protocol, _name, address in found:
        try:
            with socket.socket(family, kind, protocol) as peer:
                reason = _read_greeting(peer, address, min(deadline, time.monotonic() + _ATTEMPT))
        except socket.timeout:
            reason = NO_ANSWER
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
        if not reason:
            reason = check(socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0], deadline)
        if not reason:
            return ""
    return reason


def _read_greeting(peer: socket.socket, address: tuple[object, ...], deadline: float) -> str:
    _set_timeout(peer, deadline)
    peer.connect(address)
    greeting = b""
    while len(greeting) < _MAX_GREETING:
        if any(line.startswith(b"SSH-") for line in greeting.splitlines()):
            return ""
        try:
            _set_timeout(peer, deadline)
            more = peer.recv(_MAX_GREETING)
        except socket.timeout:
            return "connected, but it is not an SSH server"
        if not more:
            return "connected, but the server closed the connection"
        greeting += more
    return "connected, but it is not an SSH server"


def _set_timeout(peer: socket.socket, deadline: float) -> None:
    peer.settimeout(max(0.001, deadline - time.monotonic()))
