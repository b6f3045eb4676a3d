"""What the controller needs for a thousand nodes, whose answers are played back: a deployment and an audit.

playback.py [HOSTS...]    so many hosts; 1000 without

Run in a bed. Three real nodes get a deployment. A second deployment and an audit of them are recorded, and played back
for inventories of many hosts: all that Ansible and this collection do on the controller is real, and the connections
and the nodes are not.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import scale

HERE = Path(__file__).resolve().parent
ANSWERS = scale.PLACE / "answers"
STATE = scale.PLACE / "state"
REPORT = scale.PLACE / "report"
HOSTS = 1000
FORKS = ("100", "25")
PLAYBOOKS = {"second deployment": "ocihooks.ssh.deploy", "audit": "ocihooks.ssh.audit"}
TITLES = (
    "Run",
    "Hosts",
    "Forks",
    "Seconds",
    "Controller, s of CPU",
    "for each host",
    "Controller, MiB",
    "Additions, s",
)


def recorded(playbook: str, inventory: Path) -> Path:
    """Run a playbook on the real nodes; returns a directory with what they answered."""
    answers = ANSWERS / playbook
    settings = {
        "ANSIBLE_SSH_ARGS": "-o ControlMaster=no -o ControlPath=none",
        "ANSIBLE_SSH_EXECUTABLE": str(HERE / "record_ssh"),
        "PLAYBACK_ANSWERS": str(answers),
    }
    scale.deploy(inventory, settings, playbook)
    return answers


def inventory_of(hosts: int, real: Path) -> Path:
    """An inventory of so many hosts, with the variables of the real nodes."""
    content: dict[str, Any] = json.loads(real.read_text(encoding="utf-8"))["all"]
    variables = {**content["vars"], "ansible_connection": "playback", "ssh_hook_report_dir": str(REPORT)}
    computes = {
        f"node{number:04}": {"playback": "compute1" if number == 1 else "compute2"} for number in range(1, hosts)
    }
    groups = {"login_nodes": {"login": {"playback": "login"}}, "compute_nodes": computes}
    children = {group: {"hosts": members, "vars": variables} for group, members in groups.items()}
    inventory = scale.PLACE / "playback.json"
    inventory.write_text(json.dumps({"all": {"children": children}}), encoding="utf-8")
    return inventory


def play(playbook: str, hosts: int, forks: str, inventory: Path, answers: Path) -> scale.Cost:
    """Play a run back for so many hosts, each of which has to be asked and to be fine in the recap."""
    shutil.rmtree(STATE, ignore_errors=True)
    STATE.mkdir()
    settings = {
        "ANSIBLE_CONNECTION_PLUGINS": str(HERE / "connections"),
        "ANSIBLE_FORKS": forks,
        "PLAYBACK_ANSWERS": str(answers),
        "PLAYBACK_STATE": str(STATE),
    }
    cost = scale.deploy(inventory, settings, playbook)
    log = (scale.PLACE / "log").read_text(encoding="utf-8")
    recap = log.rpartition("PLAY RECAP")[2].splitlines()[1:]
    fine = sum("changed=0" in line and "unreachable=0" in line and "failed=0" in line for line in recap)
    asked = len(list(STATE.iterdir()))
    if not fine >= asked == hosts:
        raise RuntimeError(f"{fine} lines of the recap are fine, and {asked} hosts were asked, of {hosts}")
    return cost


def report(what: str, hosts: int, forks: str, cost: scale.Cost) -> None:
    """Print one line of the table."""
    numbers = f"{cost.wall:.1f} | {cost.controller:.1f} | {cost.controller / hosts:.3f} | {cost.memory:.0f}"
    print(f"| {what} | {hosts} | {forks} | {numbers} | {cost.additions:.2f} |", flush=True)


def main(arguments: list[str]) -> int:
    """Print the table; returns the exit status."""
    scale.PLACE.mkdir(exist_ok=True)
    REPORT.mkdir(exist_ok=True)
    os.chmod(scale.PLACE, 0o755)
    sizes = [int(argument) for argument in arguments] or [HOSTS]
    try:
        real = scale.cluster(3)
        scale.deploy(real, {})
        answers = {playbook: recorded(playbook, real) for playbook in PLAYBOOKS.values()}
        print("| " + " | ".join(TITLES) + " |", "|---" * len(TITLES) + "|", sep="\n", flush=True)
        for hosts in sizes:
            inventory = inventory_of(hosts, real)
            for forks in FORKS:
                for what, playbook in PLAYBOOKS.items():
                    report(what, hosts, forks, play(playbook, hosts, forks, inventory, answers[playbook]))
            sizes_of = {path.name: path.stat().st_size for path in REPORT.iterdir()}
            print(f"the report: {sizes_of} bytes", flush=True)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
