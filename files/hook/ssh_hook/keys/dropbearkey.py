# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create private keys with the installed dropbearkey: three of them take a fifth of the time of importing cryptography.

dropbearkey writes each key to a file. Its directory is on a tmpfs and only the caller can enter it: so nothing is
written to a disk or a file server, and a killed process leaves only an unused key.
"""

from __future__ import annotations

from ..fast_stdlib import TYPE_CHECKING, closing, fsdecode, os, read_all, read_file, signal
from .errors import NO_KEYS, KeyStoreError, kind_of_os

if TYPE_CHECKING:
    from typing import NoReturn

SCRATCH = "/dev/shm"
FIPS = "/proc/sys/crypto/fips_enabled"
_SECONDS = 10  # for one key; then SIGALRM ends dropbearkey
_OUTPUT_LIMIT = 4096  # bytes; the rest is not read
_KEY_LIMIT = 4096  # bytes


class Dropbearkey:
    """Creates private keys with `program`, ``<dropbear_dir>/bin/dropbearkey``."""

    def __init__(self, dropbear_dir: str) -> None:
        self.program = f"{dropbear_dir}/bin/dropbearkey"

    def new_keys(self, key_types: list[str]) -> list[bytes]:
        """Return a new private key of each type, in Dropbear's format, generated in parallel. Raises KeyStoreError."""
        if "ed25519" in key_types and _in_fips_mode():
            raise KeyStoreError(
                NO_KEYS,
                "this host is in FIPS mode, which does not allow keys of type ed25519: choose ecdsa (SSH_KEY_TYPE)",
            )
        directory = f"{SCRATCH}/ssh_hook.{os.urandom(8).hex()}"
        paths = [f"{directory}/key{number}" for number in range(len(key_types))]
        try:
            os.mkdir(directory, 0o700)
            try:
                self._run(list(zip(key_types, paths)))
                return [_read_key(path) for path in paths]
            finally:
                for name in os.listdir(directory):
                    os.unlink(f"{directory}/{name}")
                os.rmdir(directory)
        except OSError as error:
            raise KeyStoreError(
                kind_of_os(error, NO_KEYS), f"cannot create an SSH key in {directory}: {error.strerror}"
            ) from error

    def _run(self, keys: list[tuple[str, str]]) -> None:
        """Run dropbearkey for each pair of key type and path. Raises OSError, or KeyStoreError with its output."""
        started: list[tuple[int, int]] = []
        try:
            for key_type, path in keys:
                started.append(self._start(key_type, path))
        finally:  # none is left, whatever happens
            ended = [_await_end(pid, reader) for pid, reader in started]
        for status, output in ended:
            if status != 0:
                last = (output.strip().splitlines() or [""])[-1]
                how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {os.WEXITSTATUS(status)}"
                raise KeyStoreError(
                    NO_KEYS, f"cannot create an SSH key: {self.program} failed with {how}: {last or 'no message'}"
                )

    def _start(self, key_type: str, path: str) -> tuple[int, int]:
        """Start dropbearkey; return its pid, and a descriptor of its output. Raises OSError."""
        reader, writer = os.pipe()
        with closing(writer):
            try:
                pid = os.fork()
            except OSError:
                os.close(reader)
                raise
            if pid == 0:
                self._execute(key_type, path, writer)
        return pid, reader

    def _execute(self, key_type: str, path: str, output: int) -> NoReturn:
        try:
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the caller may ignore or block it
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
            signal.alarm(_SECONDS)
            os.execve(self.program, [self.program, "-t", key_type, "-f", path], {})
        except OSError as error:
            os.write(output, (error.strerror or "").encode())
        finally:
            os._exit(127)


def _await_end(pid: int, reader: int) -> tuple[int, str]:
    """Return the wait status of a child, and its output."""
    with closing(reader):
        output = fsdecode(read_all(reader, _OUTPUT_LIMIT))
    return os.waitpid(pid, 0)[1], output


def _read_key(path: str) -> bytes:
    """Return the content of a new key's file, which its user may have replaced by an endless one.

    The read is bounded, since the caller is outside the memory limit of the user's job. Raises OSError, and
    KeyStoreError.
    """
    with closing(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
        key = read_all(file, _KEY_LIMIT)
    if len(key) > _KEY_LIMIT:
        raise KeyStoreError(NO_KEYS, f"cannot create an SSH key: {path} contains more than a key: it has been replaced")
    return key


def _in_fips_mode() -> bool:
    try:
        return read_file(FIPS).strip() == b"1"
    except OSError:  # a kernel without it
        return False
