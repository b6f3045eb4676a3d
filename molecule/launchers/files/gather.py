"""An MPI program: rank 0 gathers the host and one variable of every rank, and prints a line for each.

gather.py VARIABLE

Runs under Open MPI and MPICH, whichever starts it, and needs nothing but their libraries.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys

LINE = 200  # bytes of each rank


def open_mpi() -> tuple[ctypes.CDLL, ctypes.c_void_p, ctypes.c_void_p]:
    """The library, its world and its type of bytes, which are objects in the library."""
    library = ctypes.CDLL("libmpi.so.40", ctypes.RTLD_GLOBAL)
    world, byte = (ctypes.c_char.in_dll(library, f"ompi_mpi_{name}") for name in ("comm_world", "byte"))
    return library, ctypes.c_void_p(ctypes.addressof(world)), ctypes.c_void_p(ctypes.addressof(byte))


def mpich() -> tuple[ctypes.CDLL, ctypes.c_int, ctypes.c_int]:
    """The library, its world and its type of bytes, which are numbers."""
    return ctypes.CDLL("libmpich.so.12"), ctypes.c_int(0x44000000), ctypes.c_int(0x4C00010D)


def main(variable: str) -> int:
    """The exit status."""
    library, world, byte = open_mpi() if "OMPI_COMM_WORLD_RANK" in os.environ else mpich()
    rank, size = ctypes.c_int(), ctypes.c_int()
    library.MPI_Init(None, None)
    library.MPI_Comm_rank(world, ctypes.byref(rank))
    library.MPI_Comm_size(world, ctypes.byref(size))
    line = f"{rank.value} {socket.gethostname()} {os.environ.get(variable, 'unset')}".encode()
    lines = ctypes.create_string_buffer(LINE * size.value)
    library.MPI_Gather(line.ljust(LINE), LINE, byte, lines, LINE, byte, 0, world)
    library.MPI_Finalize()
    if rank.value == 0:
        for start in range(0, len(lines), LINE):
            print(lines.raw[start : start + LINE].decode().rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
