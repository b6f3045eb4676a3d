"""Runs a task of Ray on each node of the cluster that is running, and prints their hosts."""

from socket import gethostname

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ray.init(address="auto", log_to_driver=False)
task = ray.remote(num_cpus=1)(gethostname)
strategies = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes() if node["Alive"]]
hosts = ray.get([task.options(scheduling_strategy=strategy).remote() for strategy in strategies])
print(*sorted(hosts), sep="\n", flush=True)
