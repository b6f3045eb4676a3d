"""Runs a task of Ray on each node of the cluster when those of all hosts are there, and prints their hosts.

Fails if they are not there after two minutes.
"""

import socket
import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


@ray.remote(num_cpus=1)
def host() -> str:
    """Return the host that this runs on."""
    return socket.gethostname()


def nodes(count: int) -> list[Any]:
    """Return the nodes that are alive, when these are `count`."""
    deadline = time.monotonic() + 120
    while True:
        alive = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        if len(alive) >= count:
            return alive
        if time.monotonic() > deadline:
            sys.exit(f"{len(alive)} of {count} nodes are there")
        time.sleep(1)


ray.init(address="auto", log_to_driver=False)
wanted = len(Path("/opt/oci-hooks/ssh/hosts").read_text(encoding="ascii").split())
strategies = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes(wanted)]
hosts = ray.get([host.options(scheduling_strategy=strategy).remote() for strategy in strategies])
print(*sorted(hosts), sep="\n", flush=True)
