"""Runs a task of Ray on each node of the cluster that is running, and prints their hosts."""

import socket

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


@ray.remote(num_cpus=1)
def host() -> str:
    """Return the host that this runs on."""
    return socket.gethostname()


ray.init(address="auto", log_to_driver=False)
strategies = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes() if node["Alive"]]
hosts = ray.get([host.options(scheduling_strategy=strategy).remote() for strategy in strategies])
print(*sorted(hosts), sep="\n", flush=True)
