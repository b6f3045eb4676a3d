"""Starts a Dask cluster by ssh, and asks each worker for its host."""

from pathlib import Path
from socket import gethostname

from distributed import Client, SSHCluster


def main() -> None:
    """Start a scheduler on the first of the job's hosts, and a worker on each."""
    hosts = Path("/opt/oci-hooks/ssh/hosts").read_text(encoding="ascii").split()
    config = Path("/opt/oci-hooks/ssh/ssh_config").read_text(encoding="ascii").split()
    options = {
        "port": int(config[config.index("Port") + 1]),
        "client_keys": "/opt/oci-hooks/ssh/id_openssh",
        "known_hosts": "/opt/oci-hooks/ssh/known_hosts",
    }
    with SSHCluster([hosts[0], *hosts], connect_options=options, worker_options={"nthreads": 1}) as cluster:
        with Client(cluster) as client:
            client.wait_for_workers(len(hosts), timeout=100)
            print(*sorted(client.run(gethostname).values()), sep="\n", flush=True)


if __name__ == "__main__":
    main()
