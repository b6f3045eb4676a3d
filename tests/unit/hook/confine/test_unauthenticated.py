"""How many processes Dropbear may have for clients that have not logged in."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ssh_hook.confine.unauthenticated import unauthenticated_processes
from ssh_hook.linux import syscalls
from ssh_hook.linux.cgroups import NO_LIMIT

OPTIONS = Path(__file__).resolve().parents[4] / "roles/dropbear/files/localoptions.h"
MEBIBYTE = 1 << 20


@pytest.mark.parametrize(
    ("pids", "memory", "rlimits", "expected"),
    [
        (NO_LIMIT, NO_LIMIT, [], 768),
        (2048, 3840 * MEBIBYTE, [], 768),
        (2047, NO_LIMIT, [], 767),
        (NO_LIMIT, 3839 * MEBIBYTE, [], 767),
        (300, 512 * MEBIBYTE, [], 102),
        (NO_LIMIT, 48 * MEBIBYTE, [("RLIMIT_NOFILE", 1, 1), ("RLIMIT_NPROC", 1 << 63, 1 << 63)], 9),
        (NO_LIMIT, NO_LIMIT, [("RLIMIT_NPROC", 160, 1000)], 60),
        (1, 64, [], 1),
    ],
)
def test_number(pids: int, memory: int, rlimits: list[tuple[str, int, int]], expected: int) -> None:
    cgroups: Any = SimpleNamespace(limit={"pids": pids, "memory": memory}.get)
    container: Any = SimpleNamespace(rlimits=rlimits)
    assert unauthenticated_processes(cgroups, container) == expected


def test_limit_that_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under enroot, and with a config.json that names none: the limit of the login, or of the job."""
    monkeypatch.setattr(syscalls, "getrlimit", {6: (160, 1000)}.get)  # setrlimit(2): RLIMIT_NPROC
    cgroups: Any = SimpleNamespace(limit=lambda _controller: NO_LIMIT)
    silent: Any = SimpleNamespace(rlimits=[])
    assert unauthenticated_processes(cgroups, silent) == 60
    own: Any = SimpleNamespace(rlimits=[("RLIMIT_NPROC", 1600, 1600)])
    assert unauthenticated_processes(cgroups, own) == 600


def test_most_is_what_dropbear_is_built_for() -> None:
    most = re.search(r"^#define MAX_UNAUTH_PROCESSES ([0-9]+)$", OPTIONS.read_text(encoding="utf-8"), re.MULTILINE)
    assert most is not None
    cgroups: Any = SimpleNamespace(limit=lambda _controller: NO_LIMIT)
    container: Any = SimpleNamespace(rlimits=[])
    assert unauthenticated_processes(cgroups, container) == int(most.group(1))
