"""A session is what the container's own first process is, reached by network."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import pytest
from containers import PORT, Container, Podman, listening, run
from equality import (
    LIST_DESCRIPTORS,
    LOGIN,
    SCRIPT,
    environment,
    facts,
    listed_descriptors,
    namespaces,
    seen_from_outside,
    strange_descriptors,
)
from starter import Start

# What podman's own exec leaves out.
NOT_OF_EXEC = {"Groups", "oom_score_adj"}
# keyctl(2), add_key(2) on x86_64
ADD_KEY, KEYCTL = 248, 250
JOIN_SESSION_KEYRING, SESSION_KEYRING = 1, -3
NEWER = ("time_namespace", "scheduler", "batch", "io_idle", "personality")  # runc knows none before its version 1.2
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


def of_init(container: Container) -> dict[str, object]:
    """The facts of the container's first process, as the container sees them."""
    init = container.init()
    theirs, ours = namespaces(init), namespaces(os.getpid())
    enter = [f"--{name}" for name in ("user", "cgroup") if theirs[name] != ours[name]]
    look = ["nsenter", "--target", str(init), "--preserve-credentials", *enter] if enter else []
    return facts(run([*look, "/bin/sh", "-c", SCRIPT.replace("$P", str(init))]).checked().text + "\n")


def assert_equal(container: Container) -> None:
    """A session is the container's first process in every field; what the engine's own exec gives is that too."""
    session = facts(container.ssh(SCRIPT.replace("$P", "self")).checked().text + "\n")
    init = of_init(container)  # which runs its program now: the engine may have ended a moment before
    executed = facts(container.exec("/bin/sh", "-c", SCRIPT.replace("$P", "self")).checked().text + "\n")
    assert len(session) > 35
    if isinstance(container, Podman):
        assert {name for name in executed if executed[name] != init[name]} <= NOT_OF_EXEC
    assert session == init
    assert namespaces(container.daemon()) == namespaces(container.init())
    assert seen_from_outside(container.daemon()) == seen_from_outside(container.init())
    theirs = environment(Path(f"/proc/{container.init()}/environ").read_bytes())
    ours = environment(container.ssh("cat /proc/self/environ").checked().out)
    assert {name: value for name, value in ours.items() if name.decode() not in LOGIN} == {
        name: value for name, value in theirs.items() if name.decode() not in LOGIN
    }


@pytest.mark.parametrize("name", PODMAN_OPTIONS)
def test_under_podman(start: Start, name: str) -> None:
    options = list(PODMAN_OPTIONS[name])
    network = options.pop(1) if options[:1] == ["--network"] else "host"
    assert_equal(start("podman-crun", network=network, options=[option for option in options if option != "--network"]))


@pytest.mark.parametrize("name", ["groups", "memory"])
def test_under_podman_with_runc(start: Start, name: str) -> None:
    assert_equal(start("podman-runc", options=PODMAN_OPTIONS[name]))


@pytest.mark.parametrize(
    "options", [[], ["--cap-drop", "all"], ["--group-add", "1234"], ["--security-opt", "no-new-privileges"]], ids=str
)
def test_root_in_a_container_of_root(start: Start, options: list[str]) -> None:
    assert_equal(start("podman-crun", user="0:0", home="/home/root", options=options))


ROOTLESS: dict[str, tuple[str | None, str, list[str]]] = {
    "root": (None, "host", []),
    "pasta": (None, "pasta", []),
    "none": (None, "none", []),
    "keep-id": ("2001:2001", "host", ["--userns=keep-id"]),
    "keep-id-pasta": ("2001:2001", "pasta", ["--userns=keep-id"]),
    "keep-id-read-only": ("2001:2001", "host", ["--userns=keep-id", "--read-only"]),
    "another-uid": ("1000:1000", "host", []),
    "pid-host": (None, "host", ["--pid=host"]),
    "cap-drop": (None, "host", ["--cap-drop=all"]),
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

    def cpuset(config: dict[str, Any]) -> None:
        config["linux"]["cgroupsPath"] = "/hook-test/cpuset"
        config["linux"]["resources"] = {"cpu": {"cpus": str(min(os.sched_getaffinity(0)))}}

    def cgroup_namespace(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "cgroup"})

    def time_namespace(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "time"})
        config["linux"]["timeOffsets"] = {"monotonic": {"secs": 1000000}, "boottime": {"secs": 2000000}}

    def ambient(config: dict[str, Any]) -> None:
        capabilities = config["process"]["capabilities"]
        for kind in ("effective", "permitted", "inheritable", "ambient"):
            capabilities[kind] = ["CAP_CHOWN", "CAP_KILL"]

    def fewer_capabilities(config: dict[str, Any]) -> None:
        config["process"]["user"]["uid"] = 0
        config["process"]["noNewPrivileges"] = True
        for kind in ("effective", "permitted"):
            config["process"]["capabilities"][kind] = ["CAP_CHOWN"]

    def scheduler(config: dict[str, Any]) -> None:
        config["process"]["scheduler"] = {"policy": "SCHED_IDLE"}

    def batch(config: dict[str, Any]) -> None:
        config["process"]["scheduler"] = {"policy": "SCHED_BATCH", "nice": 15}

    def io_idle(config: dict[str, Any]) -> None:
        config["process"]["ioPriority"] = {"class": "IOPRIO_CLASS_IDLE", "priority": 3}

    def personality(config: dict[str, Any]) -> None:
        config["linux"]["personality"] = {"domain": "LINUX32"}
        config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}

    def masks(config: dict[str, Any]) -> None:
        config["linux"].update(maskedPaths=["/proc/kcore", "/proc/acpi"], readonlyPaths=["/proc/sys", "/proc/none"])

    def user_namespace(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "user"})
        config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = [
            {"containerID": 0, "hostID": 0, "size": 65536}
        ]

    return {
        change.__name__: change
        for change in (
            groups,
            another_group,
            umask,
            limits,
            privileges,
            ambient,
            fewer_capabilities,
            scheduler,
            batch,
            io_idle,
            personality,
            masks,
            cgroup,
            cpuset,
            cgroup_namespace,
            time_namespace,
            user_namespace,
        )
    }


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        (engine, name)
        for engine in ("crun", "runc")
        for name in plain_changes()
        if engine == "crun" or name not in NEWER
    ],
)
def test_under_plain_runtimes(start: Start, engine: str, name: str) -> None:
    assert_equal(start(engine, network="private", change=plain_changes()[name]))


def test_daemon_listens_in_the_containers_network_only(start: Start) -> None:
    container = start("crun", network="private")
    assert container.ssh("echo here").checked().text == "here"
    assert PORT not in listening()


def test_nothing_of_the_hook_is_open_in_a_session(start: Start) -> None:
    container = start("crun", network="private")
    listing = container.ssh(LIST_DESCRIPTORS).checked().text
    assert listed_descriptors(listing) == ["0", "1", "2", "3"]
    assert strange_descriptors(container.daemon()) == []


@pytest.mark.parametrize("engine", ["crun", "runc"])  # crun's hooks have the container's keyring, runc's the engine's
def test_keys_of_the_engines_session_are_out_of_reach(start: Start, engine: str) -> None:
    call = ctypes.CDLL(None, use_errno=True).syscall
    assert call(KEYCTL, JOIN_SESSION_KEYRING, None) > 0
    assert call(ADD_KEY, b"user", b"engines-key", b"secret", 6, SESSION_KEYRING) > 0
    assert "engines-key" in Path("/proc/keys").read_text(encoding="utf-8")
    container = start(engine, network="private")
    listed = container.ssh("cat /proc/keys").checked().text
    assert "engines-key" not in listed
    assert "_ses" in listed


def test_signals_are_neither_blocked_nor_ignored(start: Start) -> None:
    container = start("crun", network="private")
    status = dict(line.split(":\t", 1) for line in container.ssh("cat /proc/self/status").checked().text.splitlines())
    assert int(status["SigBlk"], 16) == 0
    assert int(status["SigIgn"], 16) == 0


def test_memory_policy(start: Start) -> None:
    """No runtime here knows the field, so the first process has nothing to compare with: a session has what it says."""

    def bound(config: dict[str, Any]) -> None:
        config["linux"]["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0"}

    maps = start("crun", network="private", change=bound).ssh("cat /proc/self/numa_maps").checked().text
    assert {line.split()[1] for line in maps.splitlines()} == {"bind:0"}
