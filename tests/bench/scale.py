"""What a deployment costs by the number of hosts, and what the settings of Ansible change in that.

scale.py [HOSTS...]    clusters of these sizes; 1, 10 and 100 without

Run in a bed. The nodes are containers on this machine, so that its processors do their work too: what the controller
and what the nodes took is told apart.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

CLUSTER = Path(__file__).resolve().parents[1] / "testbed" / "cluster"
PLACE = Path("/run/scale")
HOSTS = (1, 10, 100)
OF_SETTINGS = 10  # hosts on which settings are compared, each as the second run
FORKS = "100"  # one for each host: Ansible polls while it waits for a free one
SAMPLE = 2.0  # seconds
TICKS = os.sysconf("SC_CLK_TCK")
BASE = {"ANSIBLE_FORKS": FORKS, "ANSIBLE_PIPELINING": "true"}
SETTINGS = {
    "forks for all, pipelining": {},
    "forks 5, Ansible's default": {"ANSIBLE_FORKS": "5"},
    "no pipelining, Ansible's default": {"ANSIBLE_PIPELINING": "false"},
}
# What facts alone cost, of OF_SETTINGS hosts: those that the playbook gathers, and Ansible's default.
FACTS = {
    "only facts, as the playbook's": "!all !min distribution fips network pkg_mgr platform selinux".split(),
    "only facts, Ansible's default": ["all"],
}
TITLES = (
    *("Run", "Hosts", "Seconds", "Controller, s of CPU", "for each host", "Each node, s of CPU"),
    *("Controller, MiB", "Additions, s"),
)


class Cost(NamedTuple):
    """Of one run: seconds until its end; seconds of processor time that the controller, and the nodes, took; MiB of
    memory of the controller at its most; the machine's speed before it.
    """

    wall: float
    controller: float
    nodes: float
    memory: float
    additions: float


def busy() -> float:
    """The seconds that this machine's processors have worked since it started."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _wait, irq, softirq = map(int, fields[:7])
    return (user + nice + system + irq + softirq) / TICKS


def descendants(ancestor: int) -> Iterator[int]:
    """`ancestor` and all processes that descend from it."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
        except OSError:
            continue  # it ended meanwhile
        children.setdefault(parent, []).append(int(stat.parent.name))
    pending = [ancestor]
    while pending:
        pid = pending.pop()
        pending += children.get(pid, [])
        yield pid


def memory(pid: int) -> float:
    """MiB of memory of a process, with its part of what it shares with others."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def end_connections() -> float:
    """End the connections that Ansible keeps open, and return the seconds of processor time that they took."""
    seconds = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _bracket, rest = stat.read_text(encoding="utf-8", errors="replace").partition(")")
            if name.endswith("(ssh"):
                seconds += sum(map(int, rest.split()[11:13])) / TICKS
                os.kill(int(stat.parent.name), 15)
        except OSError:
            continue  # it ended meanwhile
    return seconds


def deploy(inventory: Path, settings: dict[str, str], playbook: str | Path = "ocihooks.ssh.deploy") -> Cost:
    """Run the playbook once; RuntimeError with the end of what it says where it fails."""
    log = PLACE / "log"
    additions = speed()
    before, start, most = busy() - time.process_time(), time.monotonic(), 0.0  # without this process's own
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["ansible-playbook", "--inventory", inventory, playbook],
            env={**os.environ, **BASE, **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            most = max(most, sum(map(memory, descendants(process.pid))))
            time.sleep(SAMPLE)
    wall = time.monotonic() - start
    if status:
        raise RuntimeError(log.read_text(encoding="utf-8", errors="replace")[-4000:])
    controller = usage.ru_utime + usage.ru_stime + end_connections()
    return Cost(wall, controller, busy() - time.process_time() - before - controller, most, additions)


def gathering(subset: list[str]) -> Path:
    """A playbook that gathers this subset of facts, and does nothing else."""
    playbook = PLACE / "facts.yml"
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": True, "gather_subset": subset}]), encoding="utf-8")
    return playbook


def cluster(hosts: int) -> Path:
    """Bring up so many nodes, new ones; returns their inventory."""
    subprocess.run([CLUSTER, "down"], check=True)
    subprocess.run([CLUSTER, "up", str(hosts - 1)], check=True)
    inventory = PLACE / "inventory.json"
    variables = {
        "ansible_user": "root",
        "ansible_ssh_common_args": "-F /run/cluster/ssh_config",
        "ansible_control_path_dir": "/run/cluster/cp",
        "ansible_python_interpreter": "/usr/bin/python3",
        "dropbear_build_dir": os.environ["DROPBEAR_BUILD_DIR"],
        "ssh_hook_users": ["alice", "bob"],
    }
    names = ["login", *(f"compute{number}" for number in range(1, hosts))]
    groups = {"login_nodes": names[:1], "compute_nodes": names[1:]}
    children: dict[str, Any] = {group: {"hosts": {name: {} for name in members}} for group, members in groups.items()}
    inventory.write_text(json.dumps({"all": {"vars": variables, "children": children}}), encoding="utf-8")
    return inventory


def speed() -> float:
    """The seconds of processor time that ten million additions in Python take, by which machines can be compared."""
    start, total = time.process_time(), 0
    for number in range(10_000_000):
        total += number
    return time.process_time() - start


def report(what: str, hosts: int, cost: Cost) -> None:
    """Print one line of a table."""
    cells = (
        f"{what:<34}",
        f"{hosts:5}",
        f"{cost.wall:8.1f}",
        f"{cost.controller:8.1f}",
        f"{cost.controller / hosts:8.2f}",
        f"{cost.nodes / hosts:8.2f}",
        f"{cost.memory:6.0f}",
        f"{cost.additions:5.2f}",
    )
    print("| " + " | ".join(cells) + " |", flush=True)


def main(arguments: list[str]) -> int:
    """Print the tables; returns the exit status."""
    PLACE.mkdir(exist_ok=True)
    print("| " + " | ".join(TITLES) + " |", "|---" * len(TITLES) + "|", sep="\n", flush=True)
    sizes = [int(argument) for argument in arguments] or HOSTS
    try:
        for hosts in sizes:
            inventory = cluster(hosts)
            for run in ("first", "second"):
                report(f"{run} run", hosts, deploy(inventory, {}))
        inventory = cluster(OF_SETTINGS)
        deploy(inventory, {})
        for name, settings in SETTINGS.items():
            report(f"second run, {name}", OF_SETTINGS, deploy(inventory, settings))
        for name, subset in FACTS.items():
            report(name, OF_SETTINGS, deploy(inventory, {}, gathering(subset)))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
