"""Which daemons detach takes for those of a container whose supervisor was killed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ssh_hook.commands.attach import leftovers
from ssh_hook.node.inventory import Daemon


@pytest.mark.parametrize(("mounts", "is_in"), [("71", True), ("7", False), ("", False)])
def test_the_entry_tells_which_container_a_daemon_serves(mounts: str, is_in: bool) -> None:
    """Whatever mount namespace the daemon itself has, and whoever else has the container's pids, as in a pod."""
    daemon = Daemon(7, 1000, [("", 15263)], 0)
    daemon.mounts = mounts
    target: Any = SimpleNamespace(namespace={"mnt": (4, 71)}.__getitem__)
    assert leftovers._is_in(daemon, target) is is_in
