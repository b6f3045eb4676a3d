"""The container's limits hold for its sessions: they are in its cgroup from their first moment on."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from changes import with_resources
from containers import LAUNCHER, assert_alive, run, wait_for
from hook_log import Syslog
from refusals import assert_refused
from starter import Start

MEBIBYTE = 1 << 20
# What takes more memory than it may; dd has one block of that size.
GREEDY = "dd if=/dev/zero of=/dev/null bs={size}M count=1"


@pytest.mark.parametrize("engine", ["crun", "runc"])
def test_session_that_takes_too_much_memory_is_killed(start: Start, engine: str) -> None:
    """And nothing else is: not the container, not its daemon, and the node has room."""
    container = start(engine, change=with_resources(memory={"limit": 64 * MEBIBYTE, "swap": 64 * MEBIBYTE}))
    daemon = container.daemon()
    assert container.ssh(GREEDY.format(size=32)).status == 0
    assert container.ssh(GREEDY.format(size=256)).status != 0
    assert_alive(container, daemon)


def test_sessions_of_podman_have_its_memory_limit(start: Start) -> None:
    container = start("podman-crun", options=["--memory", "64m", "--memory-swap", "64m"])
    daemon = container.daemon()
    assert container.ssh(GREEDY.format(size=256)).status != 0
    assert_alive(container, daemon)


def test_sessions_that_start_too_many_processes_cannot(start: Start) -> None:
    container = start("crun", change=with_resources(pids={"limit": 20}))
    result = container.ssh("for i in $(seq 50); do sleep 5 & done; wait")
    assert b"fork" in result.err.lower() or b"resource" in result.err.lower()
    assert container.exec("true").status == 0


def test_accounting_has_the_sessions(start: Start) -> None:
    container = start("crun", change=with_resources(pids={"limit": 100}))
    inside = "cat /proc/self/cgroup"
    assert sorted(container.ssh(inside).text.splitlines()) == sorted(
        Path(f"/proc/{container.init()}/cgroup").read_text(encoding="utf-8").splitlines()
    )


def test_cgroup_of_a_hierarchy_that_is_not_mounted(start: Start, syslog: Syslog, tmp_path: Path) -> None:
    """Then its limits could not be had: no session is better than one without."""
    controllers = Path("/sys/fs/cgroup/pids")
    mount = str(controllers if controllers.is_dir() else "/sys/fs/cgroup")
    launcher = tmp_path / "launcher"
    launcher.write_text(
        f"#!/bin/sh\nexec unshare --mount --propagation private "
        f'sh -c \'umount -l {mount} && exec "$@"\' sh {shlex.quote(LAUNCHER)} "$@"\n',
        encoding="ascii",
    )
    launcher.chmod(0o755)
    change = with_resources(pids={"limit": 100})
    assert_refused(start, syslog, "crun", "cgroup", "is not mounted", change=change, launcher=str(launcher))
    assert run(["test", "-d", mount]).status == 0


def test_clocks_of_a_time_namespace(start: Start) -> None:
    """Sessions have the container's clocks; the record has the host's, so that poststop knows the daemon again."""

    def change(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "time"})
        config["linux"]["timeOffsets"] = {"boottime": {"secs": 10_000_000}}

    container = start("crun", change=change)
    own = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    assert float(container.ssh("cat /proc/uptime").checked().text.split()[0]) > own + 9_999_000
    daemon = Path(f"/proc/{container.daemon()}")
    container.stop().checked()
    wait_for(lambda: not daemon.exists(), "end of the daemon")
