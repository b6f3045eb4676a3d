"""Who holds a port, where the library that tells is missing or broken. What it tells is shown with real containers."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from ssh_hook.errors import HookError
from ssh_hook.linux.identity import Identity
from ssh_hook.start import port_check, port_holder

LIBRARY = """
class DiagSocket:
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def get_sock_stats(self, states, family): return [{"idiag_sport": 1, "idiag_inode": 0, "idiag_uid": 4294967294}]
"""


@pytest.mark.parametrize(
    ("library", "described"),
    [
        (LIBRARY, " by a process of "),
        (None, ""),
        ("raise ImportError", ""),
        ("raise RuntimeError('broken')", ""),
        (LIBRARY.replace("return self", "raise OSError(93, 'Protocol not supported')"), ""),
    ],
)
def test_without_the_library_the_holder_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, library: str | None, described: str
) -> None:
    if library is not None:
        (tmp_path / "pyroute2.py").write_text(library, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "pyroute2", raising=False)
    said = port_holder.describe_holder(1, Identity(1000, 1000))
    assert said.startswith(described) and bool(said) is bool(described)


def test_a_port_that_is_taken_names_both_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs whose numbers are 10,000 apart have the same port, and a step may have that of another job."""
    cgroup = b"0::/system.slice/slurmstepd.scope/job_11234/step_0/user/task_0\n"
    read = port_holder.read_file
    monkeypatch.setattr(port_holder, "read_file", lambda path: cgroup if path.endswith("/cgroup") else read(path))
    monkeypatch.setattr(
        port_holder, "describe_holder", lambda *_: f" by process 7 (dropbear) of uid 5{port_holder._describe_job('7')}"
    )
    user = Identity(os.geteuid(), os.getegid())
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        number = holder.getsockname()[1]
        with pytest.raises(HookError) as caught:
            port_check.require_free(number, ["127.0.0.1"], user, "it", " of job 1234")
    assert str(caught.value).startswith(
        f"port {number} of job 1234 is in use by process 7 (dropbear) of uid 5 in job 11234: choose another with it"
    )


def test_a_daemon_whose_server_nobody_may_inspect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its entry tells which container it is."""
    uid = os.geteuid()
    daemon = SimpleNamespace(pid=os.getpid())
    monkeypatch.setattr(
        port_holder, "find_daemon_of", lambda owner, port: daemon if (owner, port) == (uid, 2222) else None
    )
    name = port_holder._describe_uid(uid)
    user, other = Identity(uid, uid), Identity(uid + 1, uid + 1)
    found = f" by process {os.getpid()} (dropbear) of {name}"
    assert port_holder._describe_process(2222, 0, uid, user).startswith(found)
    assert port_holder._describe_process(2222, 0, uid, other) == f" by a process of {name}"
    assert port_holder._describe_process(222, 0, uid, user) == f" by a process of {name}"


@pytest.mark.parametrize("pid", ["self", "0"])
def test_a_holder_outside_of_jobs(pid: str) -> None:
    assert port_holder._describe_job(pid) == ""
