# SPDX-License-Identifier: GPL-3.0-or-later
"""The entry of a daemon, for those who look for it later: poststop, a sweep, the inventory, a second hook."""

from __future__ import annotations

from ..errors import ContainerEndedError, HookError, kind_of_os
from ..fast_stdlib import TYPE_CHECKING, os
from ..linux.process import Process, pid_namespace
from ..log import INFO, log
from ..node import entries, record

if TYPE_CHECKING:
    from ..linux.identity import Identity
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


class DaemonEntry:
    """The entry of the daemon that a start makes, which sweeps and the inventory find."""

    def __init__(
        self,
        init: Process,
        programs: Programs,
        engine_uid: int,
        in_job: bool,
        description: dict[str, str],
        pidfile: tuple[str, Identity],
    ) -> None:
        """Take what is known before the daemon is: `engine_uid` and `in_job` are as in `entries.keep`.

        The daemon runs `programs` for the container's first process `init`; `description` is as in `record.record_of`.
        `pidfile` is the path of one on the host, or empty, and its owner. Raises OSError.
        """
        self._init = init
        self._program = programs.file.st_dev, programs.file.st_ino
        self._engine_uid = engine_uid
        self._in_job = in_job
        self._description = description
        self._pidfile, self._file_owner = pidfile
        self._namespace = pid_namespace()  # asked for before the fork, as in door.py

    def keep(self, daemon: Forked, bundle: str, door: str) -> record.Record:
        """Keep the entry; return it. `bundle` and `door` are paths, or empty. Raises OSError.

        Without a bundle nobody calls poststop, and the first process may end long before the container.
        """
        identity = (daemon.pid, daemon.start_time, *self._program)
        known = record.record_of(
            identity,
            self._namespace,
            self._init,
            self._file_owner,
            self._pidfile,
            bundle,
            door,
            self._description,
        )
        entries.keep(known if bundle else known.without_container(), self._engine_uid, self._in_job)
        return known


class BundleRecord:
    """The registration (plan.py) of a daemon that outlives its hook. Poststop finds it in the bundle."""

    def __init__(self, bundle: Bundle, entry: DaemonEntry, has_poststop: bool = True) -> None:
        """`has_poststop`: whether the engine calls the hook when the container ends."""
        self._bundle = bundle
        self._entry = entry
        self._has_poststop = has_poststop
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
        descriptor = self._bundle.descriptor
        try:
            path = os.readlink(f"/proc/self/fd/{descriptor}") if self._has_poststop else ""
            self._record = self._entry.keep(daemon, path, door)
            record.write(self._record, descriptor)
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
