"""What is said of a daemon that ended at its start."""

from __future__ import annotations

import pytest
from ssh_hook.start.supervisor import explain_wait_status


@pytest.mark.parametrize("status", [None, 1 << 8])
def test_a_daemon_without_a_port_needs_no_other_one(status: int | None) -> None:
    assert "try another port by --port, and see whether bin/dropbear" in explain_wait_status(status, "--port")
    without = explain_wait_status(status, "")
    assert "port" not in without.replace("DROPBEAR", "")
    assert without.count("see whether bin/dropbear") == 1
