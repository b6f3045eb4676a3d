"""A worker of a job as DeepSpeed's and PyTorch's launchers start it, told by MASTER_ADDR, MASTER_PORT, RANK and
WORLD_SIZE.

Each gives WEIGHT, a variable of its container; all of them get the sum, by way of rank 0, and print it.
"""

from __future__ import annotations

import os
import socket
import sys
import time

PATIENCE = 120  # seconds in which all have to be there


def serve(address: tuple[str, int], others: int, weight: int) -> int:
    """Rank 0: take the weights of the others and give them the sum of all."""
    with socket.create_server(address) as server:
        server.settimeout(PATIENCE)
        peers = [server.accept()[0] for _other in range(others)]
    total = weight + sum(int(peer.makefile().readline()) for peer in peers)
    for peer in peers:
        peer.sendall(f"{total}\n".encode())
        peer.close()
    return total


def ask(address: tuple[str, int], weight: int) -> int:
    """Any other rank: give the weight to rank 0, which may not be up yet, and take the sum."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with socket.create_connection(address) as peer:
                peer.sendall(f"{weight}\n".encode())
                return int(peer.makefile().readline())
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def main() -> int:
    """The exit status."""
    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    rank, size, weight = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "WEIGHT"))
    total = serve(address, size - 1, weight) if rank == 0 else ask(address, weight)
    # one write, else the workers' lines mix
    sys.stdout.write(f"rank {rank} of {size} on {socket.gethostname()}: {total}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
