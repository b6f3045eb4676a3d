"""A session is what the container's own first process is, reached by network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from conftest import Start
from containers import PORT, Container, listening, run

# Of /proc/PID/status; what tells who one is and what one may do.
STATUS = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Umask")
CAP_SYS_CHROOT = 1 << 18
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")

PODMAN_OPTIONS: dict[str, list[str]] = {
    "default": [],
    "bridge": ["--network", "bridge"],
    "none": ["--network", "none"],
    "pid-host": ["--pid", "host"],
    "ipc-host": ["--ipc", "host"],
    "read-only": ["--read-only"],
    "groups": ["--group-add", "1234", "--group-add", "100"],
    "limits": ["--ulimit", "nofile=500:600", "--ulimit", "core=0:0", "--ulimit", "stack=4194304:8388608"],
    "cap-drop": ["--cap-drop", "all"],
    "cap-drop-some": ["--cap-drop", "NET_BIND_SERVICE,CHOWN"],
    "no-new-privileges": ["--security-opt", "no-new-privileges"],
    "memory": ["--memory", "100m", "--pids-limit", "50"],
    "umask": ["--umask", "0027"],
    "init": ["--init"],
    "oom": ["--oom-score-adj", "500"],
    "workdir": ["--workdir", "/tmp"],
}


# What tells, one after the other, all of it; $P is the process.
SCRIPT = "; echo ---; ".join(f"cat /proc/$P/{name}" for name in ("status", "cgroup", "limits", "oom_score_adj"))


def facts(output: str) -> dict[str, object]:
    """What the output of SCRIPT says of a process."""
    text, cgroup, limits, oom = output.split("---\n")
    status = dict(line.split(":", 1) for line in text.splitlines())
    found: dict[str, object] = {name: status[name].split() for name in STATUS}
    for name in STATUS:
        if name.startswith("Cap"):  # the hook withholds CAP_SYS_CHROOT from sessions
            found[name] = int(status[name], 16) & ~CAP_SYS_CHROOT
    # Whether a process's own group is among the others makes no difference to what it may do.
    found["Groups"] = sorted({*status["Groups"].split(), status["Gid"].split()[1]})
    return {**found, "cgroup": sorted(cgroup.splitlines()), "limits": limits, "oom": oom.strip()}


def namespaces(pid: int) -> dict[str, tuple[int, int]]:
    found = {}
    for name in NAMESPACES:
        status = Path(f"/proc/{pid}/ns/{name}").stat()
        found[name] = (status.st_dev, status.st_ino)
    return found


def assert_equal(container: Container) -> None:
    session = facts(container.ssh(SCRIPT.replace("$P", "self")).checked().text)
    init = container.init()
    theirs, ours = namespaces(init), namespaces(os.getpid())
    enter = [f"--{name}" for name in ("user", "cgroup") if theirs[name] != ours[name]]  # as the container sees it
    look = ["nsenter", "--target", str(init), "--preserve-credentials", *enter] if enter else []
    assert session == facts(run([*look, "/bin/sh", "-c", SCRIPT.replace("$P", str(init))]).checked().text)
    assert namespaces(container.daemon()) == theirs


@pytest.mark.parametrize("name", PODMAN_OPTIONS)
def test_under_podman(start: Start, name: str) -> None:
    options = list(PODMAN_OPTIONS[name])
    network = options.pop(1) if options[:1] == ["--network"] else "host"
    assert_equal(start("podman-crun", network=network, options=[option for option in options if option != "--network"]))


@pytest.mark.parametrize("name", ["groups", "memory"])
def test_under_podman_with_runc(start: Start, name: str) -> None:
    assert_equal(start("podman-runc", options=PODMAN_OPTIONS[name]))


def test_root_in_a_container_of_root(start: Start) -> None:
    assert_equal(start("podman-crun", user="0:0", home="/home/root", options=["--cap-drop", "SYS_CHROOT"]))


ROOTLESS: dict[str, tuple[str | None, str, list[str]]] = {
    "root": (None, "host", []),
    "pasta": (None, "pasta", []),
    "none": (None, "none", []),
    "keep-id": ("2001:2001", "host", ["--userns=keep-id"]),
    "keep-id-pasta": ("2001:2001", "pasta", ["--userns=keep-id"]),
    "keep-id-read-only": ("2001:2001", "host", ["--userns=keep-id", "--read-only"]),
    "another-uid": ("1000:1000", "host", []),
    "pid-host": (None, "host", ["--pid=host"]),
    "cap-drop": (None, "host", ["--cap-drop=all", "--cap-add=SETGID"]),
    "limits": (None, "host", ["--ulimit=nofile=300:400"]),
    "keep-groups": ("2001:2001", "host", ["--userns=keep-id", "--group-add=1234"]),
}


@pytest.mark.parametrize("name", ROOTLESS)
def test_under_rootless_podman(start: Start, name: str) -> None:
    user, network, options = ROOTLESS[name]
    assert_equal(start("rootless", user=user, network=network, options=options))


def plain_changes() -> dict[str, Any]:
    def groups(config: dict[str, Any]) -> None:
        config["process"]["user"]["additionalGids"] = [1234, 4321]

    def another_group(config: dict[str, Any]) -> None:
        config["process"]["user"]["gid"] = 4242

    def umask(config: dict[str, Any]) -> None:
        config["process"]["user"]["umask"] = 0o077

    def limits(config: dict[str, Any]) -> None:
        config["process"]["rlimits"] = [
            {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 2**64 - 1},
        ]

    def privileges(config: dict[str, Any]) -> None:
        config["process"]["noNewPrivileges"] = True
        config["process"]["oomScoreAdj"] = 300

    def cgroup(config: dict[str, Any]) -> None:
        config["linux"]["cgroupsPath"] = "/hook-test/memory"
        config["linux"]["resources"] = {"memory": {"limit": 200 << 20}}

    def cgroup_namespace(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "cgroup"})

    def user_namespace(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "user"})
        config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = [
            {"containerID": 0, "hostID": 0, "size": 65536}
        ]

    return {
        change.__name__: change
        for change in (groups, another_group, umask, limits, privileges, cgroup, cgroup_namespace, user_namespace)
    }


@pytest.mark.parametrize("change", plain_changes().values(), ids=plain_changes())
@pytest.mark.parametrize("engine", ["crun", "runc"])
def test_under_plain_runtimes(start: Start, engine: str, change: Any) -> None:
    assert_equal(start(engine, network="private", change=change))


def test_daemon_listens_in_the_containers_network_only(start: Start) -> None:
    container = start("crun", network="private")
    assert container.ssh("echo here").checked().text == "here"
    assert PORT not in listening()


def test_nothing_of_the_hook_is_open_in_a_session(start: Start) -> None:
    container = start("crun", network="private")
    listing = container.ssh("ls -l /proc/self/fd").checked().text
    descriptors = [line.split()[8:] for line in listing.splitlines()[1:]]
    assert [fields[0] for fields in descriptors] == ["0", "1", "2", "3"]  # the last is the listing's own
    daemon = [path.readlink() for path in Path(f"/proc/{container.daemon()}/fd").iterdir()]
    allowed = ("/dev/null", "socket:", "pipe:", "/dev/urandom")
    assert [str(target) for target in daemon if not str(target).startswith(allowed)] == []


def test_signals_are_neither_blocked_nor_ignored(start: Start) -> None:
    container = start("crun", network="private")
    status = dict(line.split(":\t", 1) for line in container.ssh("cat /proc/self/status").checked().text.splitlines())
    assert int(status["SigBlk"], 16) == 0
    assert int(status["SigIgn"], 16) == 0
