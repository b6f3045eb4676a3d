"""What a process of alice's may take of another one of hers: its descriptors, of which it needs a pidfd alone.

A pidfd is what a Unix socket gives of whoever is at its other end (SO_PEERPIDFD, from Linux 6.5 on).
"""

from __future__ import annotations

from containers import ALICE, as_user, run

# Tells whether it can take a descriptor of a process of its own, and one of the process that is named.
_TAKE = """
import ctypes, os, sys, time
child = os.fork() or time.sleep(1000)
for pid in (child, int(sys.argv[1])):
    print(ctypes.CDLL(None).syscall(438, os.pidfd_open(pid), 0, 0) >= 0, end=" ")  # pidfd_getfd, from Linux 5.6 on
os.kill(child, 9)
"""


def assert_nobody_takes(pid: int | str) -> None:
    """Whoever has a pidfd of the process takes nothing, where it could take of another process of alice's."""
    found = run(as_user(ALICE, "python3", "-c", _TAKE, str(pid))).checked().text.split()
    assert found == ["True", "False"], found
