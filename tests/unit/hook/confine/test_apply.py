from __future__ import annotations

import errno
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from ssh_hook.confine import apply
from ssh_hook.confine.apply import Confinement
from ssh_hook.linux import syscalls

CHOWN, DAC_OVERRIDE, LAST = 0, 1, 2  # of a kernel that knows three capabilities


def drop(monkeypatch: pytest.MonkeyPatch, present: set[int], kept: int, may_drop: bool) -> set[int]:
    """What of a process's bounding set is left where `kept` is the container's, a bit mask."""

    def prctl(option: int, number: int) -> int:
        if option == syscalls.PR_CAPBSET_DROP and not may_drop:  # the kernel looks at this first
            raise PermissionError(errno.EPERM, "CAP_SETPCAP is missing")
        if number > LAST:
            raise OSError(errno.EINVAL, "no such capability")
        if option == syscalls.PR_CAPBSET_READ:
            return number in present
        present.discard(number)
        return 0

    monkeypatch.setattr(syscalls, "prctl", prctl)
    confinement = Confinement.__new__(Confinement)
    confinement._bounding = kept
    confinement._drop_bounding()
    return present


def test_what_the_container_lacks_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drop(monkeypatch, {CHOWN, DAC_OVERRIDE}, 1 << CHOWN, may_drop=True) == {CHOWN}


def test_a_process_without_the_right_to_drop_need_not_drop_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drop(monkeypatch, {CHOWN}, 1 << CHOWN, may_drop=False) == {CHOWN}
    with pytest.raises(PermissionError):
        drop(monkeypatch, {CHOWN, LAST}, 1 << CHOWN, may_drop=False)


@pytest.mark.parametrize(("number", "is_ignored"), [(errno.ENOSYS, True), (errno.EDQUOT, False)])
def test_a_keyring_may_be_missing_only_where_the_kernel_has_none(
    monkeypatch: pytest.MonkeyPatch, number: int, is_ignored: bool
) -> None:
    def refuse() -> None:
        raise OSError(number, "no keyring")

    monkeypatch.setattr(syscalls, "join_new_session_keyring", refuse)
    with nullcontext() if is_ignored else pytest.raises(OSError, match="no keyring"):
        apply._leave_session_keyring()


def test_no_signal_is_blocked_or_ignored_whatever_the_runtime_does() -> None:
    """crun starts hooks with every signal blocked, and Python ignores some by itself."""
    program = """
import signal, sys
sys.path.insert(0, sys.argv[1])
from ssh_hook.confine import apply
signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
apply._reset_signals()
with open("/proc/self/status", encoding="ascii") as status:
    print(*(line.split()[1] for line in status if line.startswith(("SigBlk:", "SigIgn:"))))
"""
    package = str(Path(apply.__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", program, package], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0" * 16, "0" * 16], "blocked, ignored"
