# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of a start in the bundle, for the other users of the record: poststop, a sweep, a later hook."""

from __future__ import annotations

from ..errors import ContainerEndedError, HookError, kind_of_os
from ..linux.fast_stdlib import TYPE_CHECKING
from ..linux.process import Process, pid_namespace
from ..log import INFO, log
from ..node import record

if TYPE_CHECKING:
    from ..linux.identity import Identity
    from ..oci.oci_config import Container
    from .channel import Forked
    from .server import Programs


class Bundle:
    """The bundle of a container under construction."""

    def __init__(self, descriptor: int, path: str, init: Process) -> None:
        """`descriptor` is the open directory, `path` is for messages, `init` is the container's first process."""
        self.descriptor = descriptor
        self.path = path
        self.init = init

    def has_daemon(self) -> bool:
        """Return whether an earlier hook has started the daemon: hooks.d and a CDI device may both call one.

        Raises HookError.
        """
        try:
            is_started = record.is_started(self.descriptor, self.init)
        except (FileNotFoundError, ProcessLookupError):
            raise ContainerEndedError() from None
        if is_started:
            log(INFO, f"{self.path}: an earlier hook of this start has started the SSH daemon: nothing to do")
        return is_started


class BundleRecord:
    """The registration (plan.py) of a daemon that outlives its hook."""

    def __init__(
        self, bundle: Bundle, container: Container, file_owner: Identity, programs: Programs, copies: str
    ) -> None:
        """Record a daemon that runs `programs`; `file_owner` and `copies` are as in `record_of`. Raises OSError."""
        self._bundle = bundle
        self._pidfile = container.annotations.pidfile_host
        self._file_owner = file_owner
        self._program = programs.file.st_dev, programs.file.st_ino
        self._copies = copies
        self._namespace = pid_namespace()  # asked for before the fork, as in door.py
        self._record: record.Record | None = None

    def introduce(self, process: Process) -> None:
        """Do nothing: the hook has the privileges to find the process in /proc."""

    def find(self, daemon: Forked) -> Process | None:
        """Return the daemon's process; None where it has ended. Raises HookError."""
        try:
            process = Process(daemon.pid)
            return process if process.start_time() == daemon.start_time else None
        except (FileNotFoundError, ProcessLookupError):
            return None
        except OSError as error:
            raise self._explain(error) from None

    def record(self, daemon: Forked, door: str) -> None:
        """Write the record. Raises HookError."""
        bundle, identity = self._bundle, (daemon.pid, daemon.start_time, *self._program)
        try:
            self._record = record.record_of(
                identity,
                self._namespace,
                bundle.init,
                self._file_owner,
                self._pidfile,
                bundle.descriptor,
                self._copies,
                door,
            )
            record.write(self._record, bundle.descriptor)
        except OSError as error:
            raise self._explain(error) from None

    def remove(self) -> None:
        """Remove the record, even if incomplete. Raises OSError."""
        if self._record is not None:
            record.remove(self._bundle.descriptor, self._record)

    def _explain(self, error: OSError) -> HookError:
        if not self._bundle.init.is_alive():
            return ContainerEndedError()
        return HookError(kind_of_os(error), f"cannot record the SSH daemon in {self._bundle.path}: {error.strerror}")
