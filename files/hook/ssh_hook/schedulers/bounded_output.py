# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command whose output may have no end, as that of another node: within a limit of bytes and of time."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Mapping
from typing import IO

from ..errors import printable

MIN_TIMEOUT = 0.2  # seconds that a command is given at least
_REAP_TIMEOUT = 1.0  # seconds; a process that hangs in the kernel, e.g. on a file system, is left behind
_CHUNK = 1 << 16  # bytes

Output = tuple[str, str, int]  # standard output, standard error, status


class TooLongError(Exception):
    """A command's output exceeds the limit."""


def last_line(stderr: str, otherwise: str) -> str:
    """Return the last line of a command's standard error for a message; `otherwise` if it is empty."""
    return printable((stderr.strip().splitlines() or [otherwise])[-1])


def output(
    command: list[str],
    deadline: float,
    limit: int,
    environment: Mapping[str, str] | None = None,
    directory: str | None = None,
    given: IO[bytes] | None = None,
) -> Output:
    """Return what `command` prints, in bytes up to `limit`, until `deadline` (monotonic).

    It runs in `directory` and with `environment` (None: those of the caller), and reads the file `given`. Raises
    OSError, TimeoutError, and TooLongError.
    """
    process = subprocess.Popen(
        command,
        stdin=given or subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        cwd=directory,
        env=environment,
    )
    pipes = [pipe for pipe in (process.stdout, process.stderr) if pipe is not None]
    try:
        stdout, stderr = read([pipe.fileno() for pipe in pipes], deadline, limit)
        status = process.wait(max(MIN_TIMEOUT, deadline - time.monotonic()))
        return stdout.decode("utf-8", "replace"), stderr.decode("utf-8", "replace"), status
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    finally:
        for pipe in pipes:
            pipe.close()
        process.kill()
        try:
            process.wait(_REAP_TIMEOUT)
        except subprocess.TimeoutExpired:
            pass


def read(descriptors: list[int], deadline: float, limit: int) -> list[bytearray]:
    """Return the content of each of the pipes, in bytes up to `limit` in total, until `deadline` (monotonic).

    Raises OSError, TimeoutError, and TooLongError.
    """
    found = [bytearray() for _descriptor in descriptors]
    with selectors.DefaultSelector() as selector:
        for data, descriptor in zip(found, descriptors):
            selector.register(descriptor, selectors.EVENT_READ, data)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            for key, _events in ready:
                more = os.read(key.fd, _CHUNK)
                key.data.extend(more)
                if not more:
                    selector.unregister(key.fd)
            if sum(map(len, found)) > limit:
                raise TooLongError
    return found
