"""What /proc tells of a running process: its rights, its mounts, and whether attach may serve it."""

from __future__ import annotations

import contextlib
import copy
import os
import posix
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ssh_hook.errors import HookError, LateError
from ssh_hook.linux.process import Process
from ssh_hook.node import running_process
from ssh_hook.node.running_process import MountInfo, Rights, RunningProcess

STATUS = """Name:\ta\\nUid:\\t0
Umask:\t0027
Uid:\t1000\t1000\t1000\t1000
Gid:\t100\t100\t100\t100
Groups:\t4 24
CapInh:\t0000000000000000
CapPrm:\t0000000000000003
CapEff:\t0000000000000001
CapBnd:\t00000000000000ff
CapAmb:\t0000000000000000
NoNewPrivs:\t1
Seccomp:\t2
Seccomp_filters:\t3
"""
LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max cpu time              unlimited            unlimited            seconds
Max file size             5                    unlimited            bytes
Max realtime timeout      unlimited            7                    us
"""
MOUNTS = """22 1 0:21 / / rw,relatime master:1 - ext4 /dev/vda rw
40 22 0:40 /img / ro,relatime master:1 - ext4 /dev/vda rw
41 40 0:41 / /proc rw - proc proc rw
42 41 0:42 / /proc/sys rw - proc proc rw
43 40 0:43 / /with\\040blank rw - tmpfs tmpfs rw
"""


@pytest.fixture
def directory(tmp_path: Path) -> int:
    (tmp_path / "status").write_text(STATUS, encoding="utf-8")
    (tmp_path / "limits").write_text(LIMITS, encoding="utf-8")
    (tmp_path / "mountinfo").write_text(MOUNTS, encoding="utf-8")
    return os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)


def process_of(directory: int) -> Process:
    process = Process.of_files(1, directory, {"stat": directory, "status": directory})
    process._files = {}  # all are read from the directory
    return process


def test_rights(directory: int) -> None:
    rights = Rights(process_of(directory))
    assert (rights.uid, rights.gid, rights.groups, rights.umask) == (1000, 100, [4, 24], 0o027)
    assert (rights.no_new_privileges, rights.has_filter, rights.filters) == (True, True, 3)
    assert rights.capabilities == {"bounding": 0xFF, "permitted": 3, "inheritable": 0, "ambient": 0}
    assert rights.limits == [(2**64 - 1, 2**64 - 1), (5, 2**64 - 1), (2**64 - 1, 7)]


def test_rights_of_a_set_user_id_program(directory: int, tmp_path: Path) -> None:
    (tmp_path / "status").write_text(STATUS.replace("1000\t1000\t1000\t1000", "1000\t0\t0\t0"), encoding="utf-8")
    with pytest.raises(HookError, match="several uids"):
        Rights(process_of(directory))


def test_a_process_that_ends_has_no_rights(directory: int, tmp_path: Path) -> None:
    """A zombie's status has no umask."""
    (tmp_path / "status").write_text(STATUS.replace("Umask:\t0027\n", ""), encoding="utf-8")
    with pytest.raises(ProcessLookupError):
        Rights(process_of(directory))


def test_the_status_of_a_real_zombie_is_that_of_no_process() -> None:
    with subprocess.Popen(["/bin/true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ProcessLookupError):
            Rights(Process(ended.pid))


@pytest.mark.parametrize(
    ("change", "excess"),
    [
        (lambda rights: None, ""),
        (lambda rights: setattr(rights, "groups", [4, 100]), ""),  # its own group is no further right
        (lambda rights: setattr(rights, "uid", 0), "uid or gid"),
        (lambda rights: setattr(rights, "groups", [4, 27]), "groups"),
        (lambda rights: setattr(rights, "no_new_privileges", False), "no_new_privs"),
        (lambda rights: rights.capabilities.update(permitted=4), "permitted capabilities"),
        (lambda rights: rights.capabilities.update(bounding=1), ""),
    ],
)
def test_rights_beyond_others(directory: int, change: Callable[[Rights], None], excess: str) -> None:
    process = Rights(process_of(directory))
    session = copy.deepcopy(process)
    change(session)
    assert session.excess_over(process) == excess


def test_mounts(directory: int) -> None:
    mounts = MountInfo(directory)
    assert mounts.root == (b"0:40", b"/img")  # the upper one of two
    assert mounts.is_read_only
    assert mounts.mount_points == [b"/proc", b"/with\\040blank"]
    assert not mounts.has_daemon()


def test_mounts_of_a_process_that_exits() -> None:
    """A zombie has no mount namespace either, and it stays for as long as nobody asks for its status."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        directory = os.open(f"/proc/{pid}", os.O_RDONLY)
        try:
            with pytest.raises(ProcessLookupError):
                MountInfo(directory)
        finally:
            os.close(directory)
    finally:
        os.waitpid(pid, 0)


@pytest.mark.parametrize(
    ("line", "has_daemon"),
    [
        ("50 40 0:50 / /opt/oci-hooks/ssh rw - tmpfs ocihooks-ssh rw", True),
        ("50 40 0:50 / /opt/oci-hooks/ssh rw - tmpfs tmpfs rw", False),
        ("50 40 0:50 / /opt/oci-hooks/ssh/more rw - tmpfs ocihooks-ssh rw", False),
    ],
)
def test_mounts_with_a_daemon(directory: int, tmp_path: Path, line: str, has_daemon: bool) -> None:
    (tmp_path / "mountinfo").write_text(f"{MOUNTS}{line}\n", encoding="utf-8")
    assert MountInfo(directory).has_daemon() == has_daemon


def test_read_only_file_system_on_a_writable_mount(directory: int, tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text("22 1 0:21 / / rw - squashfs /image ro\n", encoding="utf-8")
    assert MountInfo(directory).is_read_only


def test_mounts_of_the_hook_that_are_left(directory: int, tmp_path: Path) -> None:
    lines = "50 40 0:50 / /o\\040pt rw - tmpfs ocihooks-ssh rw\n51 40 0:51 / /ssh rw - overlay ocihooks-ssh rw\n"
    (tmp_path / "mountinfo").write_text(MOUNTS + lines, encoding="utf-8")
    assert MountInfo(directory).of_hook({b"51"}) == ["/o pt"]


@pytest.fixture
def process(tmp_path: Path) -> RunningProcess:
    """A process, as far as its environment is asked for."""
    found = object.__new__(RunningProcess)
    found.process = Process(os.getpid())
    found.process.directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    found.user_namespaces = [os.open("/proc/self/ns/user", os.O_RDONLY)]
    return found


def test_environment(process: RunningProcess, tmp_path: Path) -> None:
    (tmp_path / "environ").write_bytes(b"A=1\0B=" + b"x" * ((4 << 20) - 8) + b"\0")
    assert [entry[:2] for entry in process.read_environment()] == ["A=", "B="]


def test_environment_without_end(process: RunningProcess, tmp_path: Path) -> None:
    (tmp_path / "environ").write_bytes(b"x" * ((4 << 20) + 1))
    with pytest.raises(HookError, match=r"cannot read the environment of process \d+: it is larger than 4194304 bytes"):
        process.read_environment()


def test_environment_that_never_comes(process: RunningProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A FIFO stands for memory that a file system backs which never answers."""
    os.mkfifo(tmp_path / "environ")
    monkeypatch.setattr(running_process, "_TIMEOUT", 0.2)
    with pytest.raises(LateError, match="no answer within 0 s: its memory is a file's, and the file system hangs"):
        process.read_environment()
    with contextlib.suppress(ChildProcessError):  # it may have been reaped already
        os.waitpid(-1, 0)  # returns, for the child was killed


def test_process_in_no_container() -> None:
    with pytest.raises(HookError, match="it is not in a container"):
        RunningProcess(os.getpid())


def test_container_of_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel lets only root look so far into another user's container, and root is refused before that."""
    with subprocess.Popen(["/usr/bin/unshare", "--user", "--mount", "/bin/cat"], stdin=subprocess.PIPE) as other:
        while Path(f"/proc/{other.pid}/comm").read_bytes() != b"cat\n":
            assert other.poll() is None, "unshare has failed"
            time.sleep(0.01)
        owner = os.geteuid()
        monkeypatch.setattr(posix, "geteuid", lambda: owner + 1)
        with pytest.raises(HookError, match=rf"its container belongs to another user \(uid {owner}\)$"):
            RunningProcess(other.pid)
        other.communicate()


def test_who_is_refused_leaves_nothing_open() -> None:
    """Among the candidates may be more processes than a process may have files."""
    before = os.listdir("/proc/self/fd")
    for pid in (os.getpid(), os.getppid(), 4194303):
        with pytest.raises(HookError):
            RunningProcess(pid)
    assert os.listdir("/proc/self/fd") == before


def test_no_process() -> None:
    with pytest.raises(HookError, match="there is no process 4194303"):
        RunningProcess(4194303)


def test_a_pid_that_was_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pidfd is of a process that has ended, what is in /proc of another one."""
    with subprocess.Popen(["/bin/true"]) as ended:
        pidfd = os.pidfd_open(ended.pid)
    monkeypatch.setattr(running_process, "_open_pidfd", lambda pid: pidfd)
    with pytest.raises(HookError, match=rf"^process {os.getpid()} has exited$"):
        RunningProcess(os.getpid())


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A shell that waits for a line, and then executes another program."""
    command = ["/bin/sh", "-c", "echo; read line && exec /bin/sleep 100"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def read_of(child: subprocess.Popen[bytes]) -> RunningProcess:
    """A process, as far as its changes are asked for."""
    found = object.__new__(RunningProcess)
    found.process = Process(child.pid)
    found.rights = Rights(found.process)
    found._identity = found._read_identity()
    found.require_unchanged()
    return found


def test_a_process_that_executes_another_program(child: subprocess.Popen[bytes]) -> None:
    found = read_of(child)
    assert child.stdin is not None
    child.stdin.write(b"\n")
    child.stdin.flush()
    while Path(f"/proc/{child.pid}/comm").read_bytes() != b"sleep\n":
        time.sleep(0.01)
    with pytest.raises(HookError, match=f"process {child.pid} has just changed its program or its rights"):
        found.require_unchanged()


def test_a_process_whose_rights_change(child: subprocess.Popen[bytes]) -> None:
    found = read_of(child)
    resource.prlimit(child.pid, resource.RLIMIT_CORE, (0, 0))
    with pytest.raises(HookError, match=f"process {child.pid} has just changed its program or its rights"):
        found.require_unchanged()


def test_a_program_that_is_none_of_the_container(child: subprocess.Popen[bytes]) -> None:
    found = read_of(child)
    found.name = "engine"
    mounts: Any = SimpleNamespace(root=(b"0:0", b"/image"), ids={b"1"}, has_daemon=lambda: False)
    found.mounts = mounts
    with pytest.raises(HookError, match=r"its program \(engine\) belongs to the engine"):
        found._require_container()
    mounts.ids.add(found._identity[-1])
    found._require_container()


def test_what_a_hook_has_mounted(directory: int, tmp_path: Path) -> None:
    """Its file systems and their parts, and programs of the node's directory, but not another mount of that."""
    ours = """50 40 0:50 / /opt/oci-hooks/ssh rw - tmpfs ocihooks-ssh rw
51 50 0:21 /opt/d/bin /opt/oci-hooks/ssh/dropbear/bin ro - ext4 /dev/vda rw
52 40 0:21 /opt/d/bin/ssh /usr/bin/ssh ro - ext4 /dev/vda rw
53 40 0:50 /etc/passwd /etc/passwd rw - tmpfs ocihooks-ssh rw
54 40 0:51 / /root/.ssh rw shared:1 - overlay ocihooks-ssh rw
55 40 0:21 /opt/d/bin /mnt ro - ext4 /dev/vda rw
56 40 0:22 /opt/d/bin/ssh /srv/ssh ro - ext4 ocihooks rw
"""
    (tmp_path / "mountinfo").write_text(MOUNTS + ours, encoding="utf-8")
    assert MountInfo(directory).left_by_hook() == [
        (b"50", "/opt/oci-hooks/ssh"),
        (b"52", "/usr/bin/ssh"),
        (b"53", "/etc/passwd"),
        (b"54", "/root/.ssh"),
    ]
