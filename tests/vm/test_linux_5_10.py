"""Linux 5.10, the kernel of Debian 11, which lies between those of EL 8 and EL 9: what it lacks, and what works."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
from pathlib import Path

import pytest
from containers import ALICE, LAUNCHER, PORT, WORK, as_user, listening, processes, run, wait_for
from hook_log import Syslog
from old_kernel import KERNELS
from refusals import assert_refused
from starter import Start, Starter

OPENAT2, MOUNT_SETATTR, FUTEX_WAITV = 437, 442, 449  # system calls since Linux 5.6, 5.12 and 5.16
MEMFD_CREATE, PIDFD_SEND_SIGNAL, MOVE_MOUNT, PIDFD_OPEN = 319, 424, 429, 434
AT_FDCWD = -100
WITHOUT_OVERLAY = "OVERLAY_MOUNT_HOME_SSH=false"


def answer(number: int, *arguments: int | bytes | None) -> int:
    """The error number of a system call; 0 where it succeeds."""
    libc = ctypes.CDLL(None, use_errno=True)
    values = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result: int = libc.syscall(ctypes.c_long(number), *values)
    if result > 2:
        os.close(result)
    return 0 if result >= 0 else ctypes.get_errno()


def test_the_kernel_lacks_newer_calls() -> None:
    assert platform.release().startswith("5.10.")
    assert answer(OPENAT2, AT_FDCWD, b"/", bytes(24), 24) == 0
    assert answer(MOUNT_SETATTR, -1, b"", 0, None, 0) == errno.ENOSYS
    assert answer(FUTEX_WAITV, -1, 0, 0, 0, 0) == errno.ENOSYS


def test_the_filter_for_5_14_refuses_flags_as_the_kernel_does() -> None:
    """The filter stands in for a kernel in tests/hook/test_old_kernel.py: what 5.14 does not know, 5.10 does not."""
    own = os.pidfd_open(os.getpid())
    calls: dict[int, list[int | bytes | None]] = {
        MEMFD_CREATE: [b"test", 0],
        PIDFD_SEND_SIGNAL: [own, 0, None, 0],
        MOVE_MOUNT: [-1, b"", -1, b"", 0],
        PIDFD_OPEN: [os.getpid(), 0],
    }
    assert {number for number, _argument, _flags in KERNELS["5.14"].flags} == set(calls)
    for number, argument, flags in KERNELS["5.14"].flags:
        arguments = calls[number]
        assert answer(number, *arguments) != errno.EINVAL
        for flag in (1 << bit for bit in range(32) if flags >> bit & 1):
            changed = [flag if place == argument else value for place, value in enumerate(arguments)]
            assert answer(number, *changed) == errno.EINVAL, (number, flag)
    os.close(own)


def test_rootless_podman_needs_a_setting(start: Starter, syslog: Syslog) -> None:
    assert_refused(start, syslog, "rootless", "cannot mount an overlay", WITHOUT_OVERLAY, image="busybox")
    told = run(as_user(ALICE, LAUNCHER, "doctor")).text
    assert (
        "is older than 5.13, so rootless containers with SSH do not start here: ask the administrator to set "
        "ssh_hook_overlay_mount_home_ssh: false" in told
    )


@pytest.fixture
def site() -> str:
    """A directory for podman with the hook's JSON file of a site that has the setting."""
    installed = json.loads(Path("/usr/share/containers/oci/hooks.d/07-ssh-hook.json").read_text(encoding="utf-8"))
    installed["hook"]["env"].append(WITHOUT_OVERLAY)
    directory = WORK / "hooks.d"
    directory.mkdir(exist_ok=True)
    (directory / "hook.json").write_text(json.dumps(installed), encoding="utf-8")
    return str(directory)


def test_rootless_podman(start: Start, site: str) -> None:
    container = start("rootless", "busybox", hooks_dir=site)
    assert container.ssh("exit 7").status == 7
    assert container.ssh("id -u").checked().text == "0"
    theirs, sessions = (Path(f"/proc/{pid}/ns/user").stat().st_ino for pid in (container.init(), container.daemon()))
    assert theirs == sessions
    container.stop().checked()
    wait_for(lambda: not processes(), "end of the daemon")
    assert PORT not in listening()


def test_rootless_podman_with_the_own_uid(start: Start, site: str) -> None:
    container = start("rootless", "busybox", hooks_dir=site, user="2001:2001", options=["--userns=keep-id"])
    assert container.ssh("id -u").checked().text == "2001"
    limits = container.ssh("grep -e ^Seccomp: -e ^CapEff: /proc/self/status").checked().text
    assert limits == container.exec("grep", "-e", "^Seccomp:", "-e", "^CapEff:", "/proc/self/status").checked().text
