"""Whether a port is free, and who holds it; what the library tells of that is shown with real containers."""

from __future__ import annotations

import errno
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


def test_a_holder_that_closes_other_files_meanwhile_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: ["99999", *listed(path), "99998"])
    with (tmp_path / "held").open("w") as held:
        assert port_holder._has_open(os.getpid(), held.name)
    assert not port_holder._has_open(os.getpid(), held.name)


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


def user() -> Identity:
    return Identity(os.geteuid(), os.getegid())


def test_an_address_of_the_site_that_the_node_lacks() -> None:
    with pytest.raises(HookError, match=r"^192\.0\.2\.1 is not an address of this node: correct LISTEN_ADDRESSES"):
        port_check.require_free(0, ["127.0.0.1", "192.0.2.1"], user(), "it", "")


def test_a_node_without_one_of_the_families(monkeypatch: pytest.MonkeyPatch) -> None:
    def bind(address: str, _port: int) -> None:
        if address == "::":
            raise OSError(errno.EAFNOSUPPORT, "no IPv6")

    monkeypatch.setattr(port_check, "_bind", bind)
    port_check.require_free(2222, [], user(), "it", "")
    assert port_check.is_free(2222, user())


def test_each_family_has_its_own_ports() -> None:
    """So IPv6's wildcard alone is free, though Linux lets a socket of IPv6 serve IPv4 too."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        number = holder.getsockname()[1]
        assert port_check.first_refused(number, ["::1", "::"]) is None
        address, error = port_check.first_refused(number, []) or ("", OSError())
        assert (address, error.errno) == ("0.0.0.0", errno.EADDRINUSE)
        assert not port_check.is_free(number, user())


@pytest.mark.parametrize(
    ("number", "problem"),
    [
        (errno.EACCES, "the container's user may not listen on port 22: choose 1024 or higher, with it or SERVER_PORT"),
        (errno.ENOBUFS, "cannot listen on port 22: No buffer space available"),
    ],
)
def test_a_port_that_its_user_cannot_have(monkeypatch: pytest.MonkeyPatch, number: int, problem: str) -> None:
    def bind(_address: str, _port: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(port_check, "_bind", bind)
    with pytest.raises(HookError, match=f"^{problem}"):
        port_check.require_free(22, [], user(), "it", "")
