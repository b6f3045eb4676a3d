# SPDX-License-Identifier: GPL-3.0-or-later
"""The SSH server of a container: where it listens, its program, its command line, and what clients need to reach it."""

from __future__ import annotations

import errno

from ..errors import INSTALL_DAMAGED, HookError
from ..keys import formats
from ..linux.fast_stdlib import TYPE_CHECKING, os, read_file, stat
from ..oci.annotations import PORT, WAIT_IN_JOB
from ..oci.container_paths import ENVIRONMENT, PIDFILE, SERVER, SERVER_NAME
from ..oci.settings import NO_PORT
from ..provision import texts
from .port import is_free

if TYPE_CHECKING:
    from ..linux.identity import Identity
    from ..oci.annotations import Annotations
    from ..oci.settings import Settings
    from ..provision.account import Account
    from .channel import ServerFiles
    from .job import Job

_FIRST_PORT = 20000
PORTS_OF_JOBS = range(_FIRST_PORT, 30000)  # below those that kernels assign by themselves, from 32768 on
_STEP = 1103  # a prime: steps of one job, and jobs that follow each other, have ports of their own
PORT_OPTION = f"the annotation {PORT} or --port of 'ssh_hook options'"  # by which users choose the port


class Server:
    """The server of one container.

    Attributes:
        port: the port to listen on; NO_PORT for none.
        port_owner: whose port it is, as " of job 1234", for messages; empty where it does not follow from a job.
        port_option: by what the user chooses the port, for messages.
        addresses: the addresses to listen on; empty for all.
        programs: Dropbear's programs on the node.
    """

    def __init__(
        self,
        annotations: Annotations,
        settings: Settings,
        port_option: str,
        job: Job,
        has_own_network: bool,
        is_behind_engine: bool = False,
    ) -> None:
        """Find Dropbear on the node, and decide where it listens. Raises HookError.

        `job` is the container's. `has_own_network` tells whether the container has a network namespace other than the
        node's, and `is_behind_engine` whether the engine has set that up already, and publishes ports of it on the
        node.
        """
        self.programs = Programs(f"{settings.dropbear_dir}/bin")
        self.port = settings.port if annotations.port is None else annotations.port
        self.port_owner = ""
        chooses_none = annotations.port is None and settings.has_automatic_port
        if job.name and (annotations.has_automatic_port or chooses_none):
            self.port = job_port(job.leader, job.step + 1)
            self.port_owner = f" of job {job.name}"
        self.port_option = port_option
        self.addresses = [] if has_own_network else settings.listen
        self._wait = annotations.wait if annotations.wait is not None else WAIT_IN_JOB if job.hosts else 0
        # At these only the user's containers may answer.
        self._clients_port = self.port or settings.port  # of other containers
        self._container_ports = sorted({self._clients_port, settings.port, *settings.container_ports})
        self._is_behind_engine = is_behind_engine

    @property
    def place(self) -> str:
        """Return where it listens, for messages."""
        return "its door" if self.port == NO_PORT else f"port {self.port}"

    def arguments(
        self, unauthenticated: int, first: str, gate: list[int], mounts: str, files: ServerFiles
    ) -> list[str]:
        """Return Dropbear's command line.

        `first` says by which pid and start time Dropbear finds the container's first process, for its variables.
        `unauthenticated` is how many connections may be without a login at a time. `gate` are the descriptors that it
        reads and writes before it accepts connections, and `mounts` what it looks for in them.
        """
        # Its name is its path, by which a site's monitoring finds it; Dropbear takes the end of it for the program's
        # name.
        arguments = [SERVER, "-F", "-e", "-U", str(unauthenticated), "-S", ",".join(map(str, gate)) + mounts]
        arguments += ["-J", f"{first},{ENVIRONMENT}"]
        for path in files.host_keys:
            arguments += ["-r", path]
        # -D, since an image may give the user's uid a second account, with a home and keys of the image's author.
        arguments += ["-D", files.authorized_keys]
        if self.port != NO_PORT:
            for place in [f"[{address}]:{self.port}" for address in self.addresses] or [str(self.port)]:
                arguments += ["-p", place]
        return [*arguments, "-P", PIDFILE]

    def ssh_config(self, account: Account) -> bytes:
        """Return the configuration of the container's ssh: user and port of the user's containers."""
        return texts.ssh_config(account.login_name, account.names, self._clients_port, self._wait)

    def known_hosts(self, public_keys: list[str], names: list[str]) -> bytes:
        """Return the known hosts of the container's ssh, and of clients that know `names` alone.

        `public_keys` are the host keys, each ``<type> <base64>``.
        """
        return formats.known_hosts(public_keys, [f"[*]:{port}" for port in self._container_ports] + names)

    def is_unpublished(self, user: Identity) -> bool:
        """Tell whether the engine could have published the port, and nobody listens on it on the node."""
        return self._is_behind_engine and self.port != NO_PORT and is_free(self.port, [], user)


def job_port(job: int, number: int) -> int:
    """Return a port of the job with the number `job`: the first is that of its containers, and of its step 0.

    The port of step N is number N + 1, and that of set N of `ssh_hook options` is number N. Nodes need not talk to
    agree on it, and nobody looks whether it is free.
    """
    return _FIRST_PORT + (job + _STEP * (number - 1)) % len(PORTS_OF_JOBS)


class Programs:
    """The directory of Dropbear's programs on the node.

    Attributes:
        path: its path.
        directory: the status of the directory.
        name: the name of Dropbear's program file in it, to which the link `dropbear` may lead.
        file: the status of that file.
    """

    def __init__(self, path: str) -> None:
        """Find Dropbear in the directory `path`.

        Raises HookError, also for a readable file: its users could trace it before the container runs.
        """
        self.path = path
        try:
            self.directory = os.stat(path)
            self.name = _read_link(f"{path}/{SERVER_NAME}") or SERVER_NAME
            if "/" in self.name:
                raise HookError(
                    INSTALL_DAMAGED,
                    f"{path}/{SERVER_NAME} is a link out of its directory: install it by the role dropbear",
                )
            self.file = os.stat(f"{path}/{self.name}", follow_symlinks=False)
        except OSError as error:
            raise HookError(
                INSTALL_DAMAGED,
                f"cannot find {path}/{SERVER_NAME} (DROPBEAR_DIR in the OCI hook's JSON file): {error.strerror}",
            ) from None
        if not stat.S_ISREG(self.file.st_mode):
            raise HookError(
                INSTALL_DAMAGED, f"{path}/{self.name} is not a regular file: install it by the role dropbear"
            )
        if self.file.st_mode & 0o444:
            raise HookError(
                INSTALL_DAMAGED,
                f"{path}/{self.name} can be read, so that its users could trace it before their container runs: run "
                "chmod 0111 on it, or the role dropbear again",
            )


def _read_link(path: str) -> str:
    """Return the target of the link `path`; empty where it is not a link. Raises OSError."""
    try:
        return os.readlink(path)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return ""


def require_undumpable() -> None:
    """Raise HookError where fs.suid_dumpable lets users trace a program that they may not read, as Dropbear is."""
    if read_file("/proc/sys/fs/suid_dumpable").strip() == b"1":
        raise HookError(
            INSTALL_DAMAGED,
            "the node's fs.suid_dumpable is 1, so that users could trace Dropbear before their container has started: "
            "set it to 0 or 2 by sysctl",
        )
