"""A plain copy over TCP, to compare with.

tcp.py serve PORT                       takes or gives what each client says
tcp.py up|down ADDRESS PORT BYTES       sends so many zeros there, or takes them
"""

from __future__ import annotations

import os
import socket
import sys

CHUNK = 1 << 20
DIGITS = 16


def send(connection: socket.socket, count: int) -> None:
    """Send so many zeros."""
    zeros = bytes(CHUNK)
    while count > 0:
        connection.sendall(zeros[: min(count, CHUNK)])
        count -= CHUNK


def receive(connection: socket.socket, count: int) -> None:
    """Take exactly so many bytes."""
    buffer = bytearray(CHUNK)
    while count > 0:
        size = connection.recv_into(buffer, min(count, CHUNK))
        if size == 0:
            raise EOFError(f"{count} bytes are missing")
        count -= size


def serve(port: int) -> None:
    """Serve one client after the other; each first says "up" or "down", and how much."""
    with socket.create_server(("", port)) as server:
        while True:
            connection, _address = server.accept()
            with connection:
                direction, count = connection.recv(DIGITS, socket.MSG_WAITALL).decode().split()
                (receive if direction == "up" else send)(connection, int(count))
                if direction == "up":
                    connection.sendall(b"\n")  # all of it has come


def copy(direction: str, address: str, port: int, count: int) -> None:
    """Be a client."""
    with socket.create_connection((address, port)) as connection:
        connection.sendall(f"{direction} {count}".ljust(DIGITS).encode())
        if direction == "down":
            receive(connection, count)
            return
        send(connection, count)
        receive(connection, 1)


def main(arguments: list[str]) -> None:
    """Do what the arguments say."""
    if arguments[0] == "serve":
        serve(int(arguments[1]))
    direction, address, port, count = arguments
    copy(direction, address, int(port), int(count))
    os._exit(0)  # without the interpreter's tidying up


if __name__ == "__main__":
    main(sys.argv[1:])
