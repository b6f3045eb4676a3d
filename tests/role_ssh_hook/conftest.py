"""What tests of several files need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def as_on_systemd() -> Iterator[tuple[str, ...]]:
    """A command that runs another where the first process is called systemd. Nothing hears what systemctl has to say to
    it, but systemctl itself does its part: it enables and disables.
    """
    first = Path("/run/role-test/systemd")
    first.parent.mkdir()
    first.symlink_to("/bin/sh")
    yield (
        "env",
        "SYSTEMD_OFFLINE=1",
        "unshare",
        "--pid",
        "--fork",
        "--mount-proc",
        str(first),
        "-c",
        '"$@"; exit $?',
        "-",
    )
    first.unlink()
    first.parent.rmdir()
