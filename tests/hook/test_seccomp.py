"""The container's seccomp profile holds in sessions, as the runtime itself would have it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bpf
import pytest
from containers import ALICE, Container, Podman, wait_for
from hook_log import Syslog
from refusals import assert_refused
from starter import Start

KEPT = Path("/run/ocihooks-ssh/seccomp")
ROOTLESS_KEPT = Path(f"/run/user/{ALICE}/ocihooks-ssh/seccomp")
FORBIDDEN = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EXDEV}
PROFILE = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [FORBIDDEN]}


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    for directory in (KEPT.parent, ROOTLESS_KEPT.parent):
        shutil.rmtree(directory, ignore_errors=True)
    yield
    for directory in (KEPT.parent, ROOTLESS_KEPT.parent):
        shutil.rmtree(directory, ignore_errors=True)


def with_profile(profile: dict[str, Any], **process: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["seccomp"] = profile
        config["process"].update(process)

    return change


def kept() -> list[Path]:
    return sorted(KEPT.iterdir())


def of_crun(container: Container) -> bytes:
    """The program that crun made of the profile for the container's own process."""
    return Path(f"/run/crun/{container.name}/seccomp.bpf").read_bytes()


@pytest.mark.parametrize("no_new_privileges", [False, True])
@pytest.mark.parametrize("engine", ["crun", "runc"])
def test_what_the_profile_forbids_is_forbidden(start: Start, engine: str, no_new_privileges: bool) -> None:
    container = start(engine, change=with_profile(PROFILE, noNewPrivileges=no_new_privileges))
    for result in (container.ssh("mkdir /tmp/new"), container.exec("mkdir", "/tmp/new")):
        assert result.status == 1
        assert os.strerror(errno.EXDEV).encode() in result.err
    assert container.ssh("touch /tmp/new && echo made").checked().text == "made"


def test_as_root(start: Start) -> None:
    container = start(
        "podman-crun", user="0:0", home="/home/root", options=[f"--security-opt=seccomp={profile_file()}"]
    )
    assert os.strerror(errno.EXDEV).encode() in container.ssh("mkdir /tmp/new").err


@pytest.mark.parametrize("user", [None, "2001:2001"])
def test_under_rootless_podman(start: Start, user: str | None) -> None:
    options = [f"--security-opt=seccomp={profile_file()}", *(["--userns=keep-id"] if user else [])]
    container = start("rootless", user=user, options=options)
    assert os.strerror(errno.EXDEV).encode() in container.ssh("mkdir /tmp/new").err
    assert [path.stat().st_uid for path in ROOTLESS_KEPT.iterdir()] == [ALICE]


def profile_file() -> Path:
    path = Path("/run/hook-test/profile.json")
    path.write_text(json.dumps(PROFILE), encoding="utf-8")
    path.chmod(0o644)
    return path


PROFILES: dict[str, dict[str, Any]] = {
    "allow-list": {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {
                "names": """
                    accept accept4 access arch_prctl bind brk capget capset chdir chroot clone clone3 close
                    close_range connect dup dup2 dup3 epoll_create1 epoll_ctl epoll_wait execve exit exit_group
                    faccessat faccessat2 fchdir fchmod fchown fcntl fork fstat fstatfs futex getcwd getdents
                    getdents64 getegid geteuid getgid getgroups getpeername getpgrp getpid getppid getrandom getresgid
                    getresuid getrlimit getsockname getsockopt gettid getuid ioctl kill listen lseek lstat madvise
                    mmap mprotect mremap munmap nanosleep clock_nanosleep newfstatat open openat openat2 pipe pipe2
                    poll ppoll prctl pread64 prlimit64 pselect6 pwrite64 read readlink readlinkat readv recvfrom
                    recvmsg restart_syscall rseq rt_sigaction rt_sigprocmask rt_sigreturn rt_sigsuspend
                    rt_sigtimedwait select sendmsg sendto set_robust_list set_tid_address setgid setgroups setitimer
                    setpgid setresgid setresuid setsid setsockopt setuid shutdown sigaltstack socket socketpair stat
                    statx sysinfo time umask uname unlink vfork wait4 waitid write writev setpriority getpriority
                    mkdir no_such_call
                """.split(),
                "action": "SCMP_ACT_ALLOW",
            }
        ],
    },
    "arguments": {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {
                "names": ["personality"],
                "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_NE"}],
            },
            {
                "names": ["socket"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": 1,
                "args": [
                    {"index": 0, "value": 40, "op": "SCMP_CMP_EQ"},
                    {"index": 1, "value": 5, "op": "SCMP_CMP_GE"},
                ],
            },
            {
                "names": ["kill"],
                "action": "SCMP_ACT_ERRNO",
                "args": [
                    {"index": 1, "value": 100, "op": "SCMP_CMP_GT"},
                    {"index": 1, "value": 70, "op": "SCMP_CMP_EQ"},
                ],
            },
            {
                "names": ["clone"],
                "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 0, "value": 2114060288, "valueTwo": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}],
            },
            {
                "names": ["lseek"],
                "action": "SCMP_ACT_LOG",
                "args": [
                    {"index": 1, "value": 2**64 - 1, "op": "SCMP_CMP_EQ"},
                    {"index": 2, "value": 3, "op": "SCMP_CMP_LT"},
                ],
            },
            {
                "names": ["flock"],
                "action": "SCMP_ACT_ERRNO",
                "args": [
                    {"index": 0, "value": 70000, "op": "SCMP_CMP_LE"},
                    {"index": 0, "value": 65536, "op": "SCMP_CMP_GE"},
                ],
            },
        ],
    },
    "actions": {
        "defaultAction": "SCMP_ACT_ALLOW",
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
        "syscalls": [
            {"names": ["swapon"], "action": "SCMP_ACT_KILL"},
            {"names": ["swapoff"], "action": "SCMP_ACT_KILL_THREAD"},
            {"names": ["reboot"], "action": "SCMP_ACT_KILL_PROCESS"},
            {"names": ["acct"], "action": "SCMP_ACT_TRAP"},
            {"names": ["quotactl"], "action": "SCMP_ACT_TRACE", "errnoRet": 7},
            {"names": ["syslog"], "action": "SCMP_ACT_LOG"},
            {"names": ["getpid"], "action": "SCMP_ACT_ALLOW"},
        ],
    },
    "tsync": {**PROFILE, "flags": ["SECCOMP_FILTER_FLAG_TSYNC"]},
}


@pytest.mark.parametrize("name", sorted(PROFILES.keys() - {"allow-list"}))
def test_program_is_cruns_own_to_the_byte(start: Start, name: str) -> None:
    container = start("crun", change=with_profile(PROFILES[name]))
    assert [path.read_bytes() for path in kept()] == [of_crun(container)]
    assert container.ssh("grep Seccomp: /proc/self/status").checked().text.split() == ["Seccomp:", "2"]


def assert_tree_of(list_of_calls: bytes) -> None:
    """The program that was kept answers every call as crun's does, but in a few steps."""
    (path,) = kept()
    ours, theirs = (bpf.instructions(program) for program in (path.read_bytes(), list_of_calls))
    longest = [0, 0]
    for call in bpf.calls(theirs):
        answers = [bpf.answer(program, call) for program in (ours, theirs)]
        assert answers[0][0] == answers[1][0], f"{call}: {answers}"
        longest = [max(before, steps) for before, (_answer, steps) in zip(longest, answers, strict=True)]
    assert longest[0] * 2 < longest[1]


def test_program_of_many_calls_is_a_tree(start: Start) -> None:
    container = start("crun", change=with_profile(PROFILES["allow-list"]))
    assert_tree_of(of_crun(container))
    assert container.ssh("grep Seccomp: /proc/self/status").checked().text.split() == ["Seccomp:", "2"]


def test_podmans_own_profile(start: Start) -> None:
    container = start("podman-crun")
    assert isinstance(container, Podman)
    assert_tree_of(Path(f"/run/crun/{container.inspect('{{.Id}}')}/seccomp.bpf").read_bytes())
    assert container.ssh("grep Seccomp: /proc/self/status").checked().text.split() == ["Seccomp:", "2"]


def test_privileged_container_has_no_filter(start: Start) -> None:
    container = start("podman-crun", options=["--security-opt", "seccomp=unconfined"])
    assert container.ssh("grep Seccomp: /proc/self/status").checked().text.split() == ["Seccomp:", "0"]


def test_program_is_made_once(start: Start) -> None:
    start("crun", change=with_profile(PROFILE)).stop().checked()
    (program,) = kept()
    made = program.stat().st_mtime_ns
    container = start("crun", change=with_profile(PROFILE))
    assert [(path, path.stat().st_mtime_ns) for path in kept()] == [(program, made)]
    assert container.ssh("mkdir /tmp/new").status == 1


def replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


ALLOW_ALL = bytes.fromhex("060000000000ff7f")
SPOILED: dict[str, Callable[[Path], object]] = {
    "anothers": lambda path: os.chown(path, ALICE, ALICE),
    "writable": lambda path: path.chmod(0o666),
    "directory-writable": lambda path: path.parent.chmod(0o777),
    "directory-anothers": lambda path: os.chown(path.parent.parent, ALICE, ALICE),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(ALLOW_ALL[:-1]),
    "huge": lambda path: path.write_bytes(ALLOW_ALL * 5000),
    "link": lambda path: replace(path, lambda place: place.symlink_to("/dev/zero")),
    "fifo": lambda path: replace(path, os.mkfifo),
    "directory": lambda path: replace(path, lambda place: place.mkdir()),
}


@pytest.mark.parametrize("how", SPOILED)
def test_program_that_somebody_else_could_have_written_is_not_used(start: Start, how: str) -> None:
    start("crun", change=with_profile(PROFILE)).stop().checked()
    (program,) = kept()
    program.write_bytes(ALLOW_ALL)
    SPOILED[how](program)
    container = start("crun", change=with_profile(PROFILE))
    assert os.strerror(errno.EXDEV).encode() in container.ssh("mkdir /tmp/new").err


def test_few_programs_are_kept(start: Start) -> None:
    KEPT.mkdir(parents=True, mode=0o700)
    KEPT.parent.chmod(0o700)
    for number in range(64):
        (KEPT / str(number)).write_bytes(ALLOW_ALL)
    start("crun", change=with_profile(PROFILE))
    assert len(kept()) == 1


def test_nowhere_to_keep_programs(start: Start) -> None:
    KEPT.parent.write_text("in the way", encoding="ascii")
    try:
        container = start("crun", change=with_profile(PROFILE))
        assert container.ssh("mkdir /tmp/new").status == 1
    finally:
        KEPT.parent.unlink()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A change of config.json to a profile that leaves a call to another process, which listens."""
    path = tmp_path / "listener"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        rules = [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]
        yield with_profile({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": str(path), "syscalls": rules})


def test_profile_that_cannot_be_applied(
    start: Start, syslog: Syslog, listener: Callable[[dict[str, Any]], None]
) -> None:
    words = ("seccomp profile cannot be applied", "SCMP_ACT_NOTIFY")
    assert_refused(start, syslog, "crun", *words, kind="seccomp-unknown", change=listener)


def test_profile_that_cannot_be_applied_where_the_site_does_without(
    start: Start, syslog: Syslog, listener: Callable[[dict[str, Any]], None]
) -> None:
    syslog.clear()
    container = start("crun", change=listener, settings={"REQUIRE_SECCOMP": "false"})
    wait_for(syslog.of_hook, "a warning in syslog")
    assert "start without it" in syslog.of_hook()[0]
    assert container.ssh("grep Seccomp: /proc/self/status").checked().text.split() == ["Seccomp:", "0"]


def test_what_can_be_applied_is_applied_where_the_site_could_do_without(start: Start) -> None:
    container = start("crun", change=with_profile(PROFILE), settings={"REQUIRE_SECCOMP": "false"})
    assert container.ssh("mkdir /tmp/new").status == 1


def test_profile_that_leaves_no_server(start: Start, syslog: Syslog) -> None:
    profile = {**PROFILE, "syscalls": [{"names": ["listen"], "action": "SCMP_ACT_ERRNO"}]}
    assert_refused(
        start, syslog, "crun", "SELinux profile allows a server", kind="daemon-failed", change=with_profile(profile)
    )


def test_profile_that_kills_the_server(start: Start, syslog: Syslog) -> None:
    """What is told of its end is what /proc has of it; its pidfile, which stays on a volume, names no process."""
    profile = {**PROFILE, "syscalls": [{"names": ["listen"], "action": "SCMP_ACT_KILL_PROCESS"}]}
    pidfile = Path("/home/alice/daemon.pid")
    annotations = {"com.hooks.ssh.pidfile_container": str(pidfile)}
    words = f"it was killed by signal {signal.SIGSYS:d} at startup"
    try:
        assert_refused(
            start, syslog, "crun", words, kind="daemon-failed", change=with_profile(profile), annotations=annotations
        )
        assert pidfile.read_bytes() == b""
    finally:
        pidfile.unlink(missing_ok=True)


def test_profile_that_kills_the_process_that_serves(start: Start, syslog: Syslog) -> None:
    """It is a child of the daemon's, which ends as it does."""
    profile = {**PROFILE, "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_KILL_PROCESS"}]}
    words = f"it was killed by signal {signal.SIGSYS:d} at startup"
    assert_refused(start, syslog, "crun", words, kind="daemon-failed", change=with_profile(profile))


def test_profile_that_lets_no_lines_about_logins_be_sent(start: Start, syslog: Syslog) -> None:
    """The admin learns that, and the user; sessions work."""
    syslog.clear()
    profile = {**PROFILE, "syscalls": [{"names": ["memfd_create"], "action": "SCMP_ACT_ERRNO"}]}
    container = start("crun", change=with_profile(profile))
    wait_for(syslog.of_hook, "a warning in syslog")
    (warning,) = syslog.of_hook()
    assert "logins to the container are not recorded in the node's system log" in warning
    assert container.ssh("echo works").checked().text == "works"
    assert syslog.logins() == []
