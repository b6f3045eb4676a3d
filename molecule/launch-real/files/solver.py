"""An MPI program: rank 0 gathers number and host of all ranks by mpi4py, and prints them and whose MPI it is."""

import socket

from mpi4py import MPI

ranks = MPI.COMM_WORLD.gather(f"{MPI.COMM_WORLD.rank} {socket.gethostname()}")
if MPI.COMM_WORLD.rank == 0:
    print(MPI.get_vendor()[0], *ranks, sep="\n", flush=True)
