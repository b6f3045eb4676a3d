"""Start a Dask worker on each host of the job, and print their hosts."""

import socket

from distributed import Client, SSHCluster


def read(name: str) -> list[str]:
    """Return the words of one of the hook's files."""
    with open(f"/opt/oci-hooks/ssh/{name}", encoding="ascii") as file:
        return file.read().split()


if __name__ == "__main__":
    hosts, config = read("hosts"), read("ssh_config")
    options = {  # Dask's client, asyncssh, does not read OpenSSH's configuration
        "port": int(config[config.index("Port") + 1]),
        "client_keys": "/opt/oci-hooks/ssh/id_openssh",
        "known_hosts": "/opt/oci-hooks/ssh/known_hosts",
    }
    with SSHCluster([hosts[0], *hosts], connect_options=options) as cluster, Client(cluster) as client:
        client.wait_for_workers(len(hosts))
        print(*client.run(socket.gethostname).values(), sep="\n")
