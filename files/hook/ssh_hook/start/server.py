# SPDX-License-Identifier: GPL-3.0-or-later
"""The SSH server of a container: where it listens, its program, its command line, and its clients' configuration."""

from __future__ import annotations

import errno

from ..errors import INSTALL_DAMAGED, HookError
from ..fast_stdlib import TYPE_CHECKING, closing, os, read_file, stat
from ..keys import formats
from ..oci.annotations import WAIT_IN_JOB
from ..oci.container_paths import ENVIRONMENT, KEYS, PIDFILE, SERVER, SERVER_NAME, from_programs
from ..oci.settings import NO_PORT
from ..provision import texts
from .port import choose_port
from .port_check import is_free

if TYPE_CHECKING:
    from ..linux.identity import Identity
    from ..oci.annotations import Annotations
    from ..oci.settings import Settings
    from ..provision.account import Account
    from .job_hosts import Job


class Server:
    """The server of one container.

    Attributes:
        port: the port to listen on; NO_PORT for none.
        port_owner: the port's job for messages, as in `choose_port`.
        port_option: how the user chooses the port, for messages.
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

        `job` is the container's. `has_own_network`: whether the container's network namespace differs from the node's.
        `is_behind_engine`: whether the engine has already set that up, and publishes ports of it on the node.
        """
        require_undumpable()
        self.programs = Programs(f"{settings.dropbear_dir}/bin")
        self.port, self.port_owner = choose_port(annotations, settings, job)
        self.port_option = port_option
        self.addresses = [] if has_own_network else settings.listen
        self._wait = annotations.wait if annotations.wait is not None else WAIT_IN_JOB if job.hosts else 0
        # Only the user's containers may answer at these.
        self._clients_port = self.port or settings.port  # of other containers
        self._container_ports = sorted({self._clients_port, settings.port, *settings.container_ports})
        self._is_behind_engine = is_behind_engine

    @property
    def place(self) -> str:
        """Return its addresses and port, for messages."""
        return "its door (a socket on the node)" if self.port == NO_PORT else f"port {self.port}"

    def arguments(
        self, unauthenticated: int, first: str, gate: list[int], mounts: str, host_keys: tuple[str, ...]
    ) -> list[str]:
        """Return Dropbear's command line.

        `first` contains pid and start time of the container's first process, from which Dropbear reads variables.
        `unauthenticated` is the limit of connections without a login. `gate` are the descriptors that it reads and
        writes before it accepts connections, and `mounts` what it looks for in them. `host_keys` are the paths of the
        host keys in the container. Its working directory must be that of its programs.
        """
        # argv[0] is the full path, by which a site's monitoring finds it; Dropbear uses its last component as the
        # program's name.
        arguments = [SERVER, "-F", "-e", "-U", str(unauthenticated), "-S", ",".join(map(str, gate)) + mounts]
        arguments += ["-J", f"{first},{from_programs(ENVIRONMENT)}"]
        for path in host_keys:
            arguments += ["-r", from_programs(path)]
        # -D, since an image may give the user's uid a second account, with a home and keys from the image's author.
        # Dropbear checks owner and mode of each directory in the path: in this one all are the hook's.
        arguments += ["-D", from_programs(KEYS)]
        if self.port != NO_PORT:
            for place in [f"[{address}]:{self.port}" for address in self.addresses] or [str(self.port)]:
                arguments += ["-p", place]
        return [*arguments, "-P", from_programs(PIDFILE)]

    def ssh_config(self, account: Account) -> bytes:
        """Return the configuration of the container's ssh: user and port of the user's containers."""
        return texts.ssh_config(account.login_name, account.names, self._clients_port, self._wait)

    def known_hosts(self, public_keys: list[str], names: list[str]) -> bytes:
        """Return the known_hosts of the container's ssh, with `names` for clients without the alias.

        `public_keys` are the host keys, each ``<type> <base64>``.
        """
        return formats.known_hosts(public_keys, [f"[*]:{port}" for port in self._container_ports] + names)

    def is_unpublished(self, user: Identity) -> bool:
        """Return whether the engine could have published the port, but nothing listens on it on the node."""
        return self._is_behind_engine and self.port != NO_PORT and is_free(self.port, user)


class Programs:
    """The directory of Dropbear's programs on the node.

    Attributes:
        path: its path, without links: an upgrade replaces the link to the installed release.
        directory: the status of the directory.
        name: the file name of Dropbear's program in it, the target of the link `dropbear` if that is one.
        file: the status of that file.
    """

    def __init__(self, path: str) -> None:
        """Find Dropbear in the directory `path`.

        Raises HookError, also for a readable file: its users could trace the daemon before the container runs.
        """
        try:
            with closing(os.open(path, os.O_PATH | os.O_DIRECTORY)) as directory:
                self.path = os.readlink(f"/proc/self/fd/{directory}")
                self.directory = os.fstat(directory)
            self.name = _read_link(f"{self.path}/{SERVER_NAME}") or SERVER_NAME
            if "/" in self.name:
                raise HookError(
                    INSTALL_DAMAGED,
                    f"{path}/{SERVER_NAME} is a link out of its directory: install it by the role dropbear",
                )
            self.file = os.stat(f"{self.path}/{self.name}", follow_symlinks=False)
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
                f"users can read {path}/{self.name}, and so could attach a debugger to it before their container runs: "
                "run chmod 0111 on the file, or run the role dropbear again",
            )


def _read_link(path: str) -> str:
    """Return the target of the link `path`; empty if it is not a link. Raises OSError."""
    try:
        return os.readlink(path)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return ""


def require_undumpable() -> None:
    """Raise HookError if fs.suid_dumpable lets users trace a program that they may not read, such as Dropbear."""
    if read_file("/proc/sys/fs/suid_dumpable").strip() == b"1":
        raise HookError(
            INSTALL_DAMAGED,
            "the node's fs.suid_dumpable is 1, so that users could trace Dropbear before their container has started: "
            "set it to 0 or 2 by sysctl",
        )
