"""Connect to the daemon of `daemon.bash` as clients that never log in. Prints one line for each.

python3 unauthenticated.py DAEMON_PID
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import time
from pathlib import Path

MSG_KEXINIT, MSG_KEX_ECDH_INIT, MSG_KEX_ECDH_REPLY = 20, 30, 31
MLKEM768, SNTRUP761 = bytes(1184), bytes(1158)  # public keys


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def packet(payload: bytes) -> bytes:
    """Return an unencrypted packet (RFC 4253, section 6)."""
    padding = 8 - (5 + len(payload)) % 8 + 8
    return struct.pack(">IB", 1 + len(payload) + padding, padding) + payload + bytes(padding)


def kexinit(exchange: bytes) -> bytes:
    """Return a KEXINIT that offers one key exchange (RFC 4253, section 7.1)."""
    cipher, mac, none = b"chacha20-poly1305@openssh.com", b"hmac-sha2-256", b"none"
    names = [exchange, b"ecdsa-sha2-nistp256", cipher, cipher, mac, mac, none, none, b"", b""]
    return packet(bytes([MSG_KEXINIT]) + bytes(16) + b"".join(map(string, names)) + bytes(5))


def connect() -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", 2222), timeout=10)
    connection.sendall(b"SSH-2.0-test\r\n")
    return connection


def sessions(daemon: str) -> set[int]:
    return set(map(int, Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split()))


def held(daemon: str, length: int, sent: int) -> str:
    """Send the first bytes of a packet of this length; return the private memory of its session in kB, or "closed"."""
    before = sessions(daemon)
    with connect() as connection:
        connection.sendall(struct.pack(">IB", length - 4, 4) + bytes(sent - 5))
        time.sleep(0.5)
        new = sessions(daemon) - before
        if not new:
            return "closed"
        rollup = Path(f"/proc/{new.pop()}/smaps_rollup").read_text()
    return next(line.split()[1] for line in rollup.splitlines() if line.startswith("Private_Dirty:"))


def exchange(name: bytes, public: bytes) -> str:
    """Begin a key exchange with this public key; return whether the server answers or closes the connection."""
    with connect() as connection:
        connection.sendall(kexinit(name) + packet(bytes([MSG_KEX_ECDH_INIT]) + string(public)))
        stream = connection.makefile("rb")
        stream.readline()  # the server's version
        with contextlib.suppress(ConnectionResetError):
            while header := stream.read(4):
                if stream.read(*struct.unpack(">I", header))[1] == MSG_KEX_ECDH_REPLY:
                    return "answered"
    return "closed"


daemon = sys.argv[1]
base = (9).to_bytes(32, "little")
print("idle:", held(daemon, 1000, 5))
print("the longest packet:", held(daemon, 35000 - 35000 % 8, 34000))
print("a longer packet:", held(daemon, 35008, 34000))
print("x25519:", exchange(b"curve25519-sha256", base))
for order, point in ((4, 0), (1, 1), (2, 2**255 - 20)):
    public = point.to_bytes(32, "little")
    print(f"x25519 of order {order}:", exchange(b"curve25519-sha256", public))
    print(f"mlkem768x25519 of order {order}:", exchange(b"mlkem768x25519-sha256", MLKEM768 + public))
print("mlkem768x25519:", exchange(b"mlkem768x25519-sha256", MLKEM768 + base))
print("sntrup761x25519:", exchange(b"sntrup761x25519-sha512", SNTRUP761 + base))
