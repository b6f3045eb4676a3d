# SPDX-License-Identifier: GPL-3.0-or-later
"""The files for a container in a multi-host job: host files for launchers, and the program ``first``."""

from __future__ import annotations

from ..errors import INSTALL_DAMAGED, HookError
from ..fast_stdlib import TYPE_CHECKING, basename, create_file, dirname, os, read_file
from ..linux.identity import ActingAs
from ..oci import container_paths as paths
from .home import make_directory

if TYPE_CHECKING:
    from ..linux.identity import Identity

_ID = "id"  # in FIRST_STATE, next to the FIFOs that first.sh uses
_FIFOS = ("followers", "end", "answers", "open")
_NAMES = 64  # of hosts on a line of known_hosts: OpenSSH before 7.9 does not read lines longer than 16 KiB
_AROUND_NAME = 16  # bytes of known_hosts per name: "[]:65535,", and its share of the key
_HOST_KEYS = 2
_FIRST = f"{dirname(__file__)}/first.sh"  # a file of the package on the node


class Launch:
    """The files of one container.

    Attributes:
        files: the content of each host file by its path.
    """

    def __init__(self, hosts: list[tuple[str, int]]) -> None:
        """Read ``first`` from the node, before the container is entered. Raises HookError.

        `hosts` are those of the job in order, each with its slots.
        """
        try:
            self._first = read_file(_FIRST)
        except OSError as error:
            raise HookError(
                INSTALL_DAMAGED, f"cannot read {_FIRST}: {error.strerror}: run the playbook deploy"
            ) from None
        self._names = [name for name, _slots in hosts]
        self.files = {
            paths.HOSTFILE: "".join(f"{name} slots={slots}\n" for name, slots in hosts).encode(),
            paths.HOSTFILE_MPICH: "".join(f"{name}:{slots}\n" for name, slots in hosts).encode(),
            paths.HOSTS: "".join(f"{name}\n" for name in self._names).encode(),
        }

    def known_names(self, port: int) -> list[str]:
        """Return the hosts as in known_hosts, several on each line, for clients that do not support patterns there."""
        names = [f"[{name}]:{port}" for name in self._names]
        return [",".join(names[start : start + _NAMES]) for start in range(0, len(names), _NAMES)]

    def size(self) -> int:
        """Return the size of the files in bytes, including the names in known_hosts."""
        return sum(map(len, self.files.values())) + sum(len(name) + _AROUND_NAME for name in self._names) * _HOST_KEYS

    def provide(self, base: int, binaries: int, user: Identity) -> None:
        """Write the files into the directory `base`, and ``first`` into `binaries`, for `user`. Raises OSError."""
        for path, data in self.files.items():
            os.close(create_file(basename(path), data, 0o644, base))
        os.close(create_file(basename(paths.FIRST), self._first, 0o755, binaries))
        state = make_directory(base, basename(paths.FIRST_STATE), 0o700, user)
        with ActingAs(user):
            os.close(create_file(_ID, f"{os.urandom(8).hex()}\n".encode(), 0o600, state))
            for name in _FIFOS:
                os.mkfifo(name, 0o600, dir_fd=state)
