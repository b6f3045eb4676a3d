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

import paramiko
from patience import within

PATIENCE = within(20)  # seconds, for what happens within one on an idle machine
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
    connection = socket.create_connection(("127.0.0.1", 2222), timeout=PATIENCE)
    connection.sendall(b"SSH-2.0-test\r\n")
    return connection


def sessions(daemon: str) -> set[int]:
    return set(map(int, Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split()))


def new_session(daemon: str, before: set[int]) -> int:
    """Return the pid of the session that was not there before."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for pid in sessions(daemon) - before:
            return pid
        time.sleep(0.05)
    raise TimeoutError("the daemon has no new session")


def private(pid: int) -> str:
    """Return the memory of a process in kB that no other process shares, when it no longer changes."""
    readings = [""]
    for _reading in range(20):
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        readings.append(next(line.split()[1] for line in rollup.splitlines() if line.startswith("Private_Dirty:")))
        if readings[-1] == readings[-2]:
            break
        time.sleep(0.5)
    return readings[-1]


def held(daemon: str, length: int, sent: int) -> str:
    """Send the first bytes of a packet of this length; return the private memory of its session in kB."""
    before = sessions(daemon)
    with connect() as connection:
        pid = new_session(daemon, before)
        stream = connection.makefile("rb")
        stream.readline()  # the server's version; it has begun when its KEXINIT has come, too
        stream.read(*struct.unpack(">I", stream.read(4)))
        connection.sendall(struct.pack(">IB", length - 4, 4) + bytes(sent - 5))
        time.sleep(0.5)
        return private(pid)


def answer(length: int, sent: int) -> str:
    """Send the first bytes of a packet of this length; return "closed" where the server then ends the connection."""
    with connect() as connection:
        connection.sendall(struct.pack(">IB", length - 4, 4) + bytes(sent - 5))
        try:
            while connection.recv(4096):
                pass  # the server's version and its KEXINIT
        except TimeoutError:
            return "waits for more"
        except ConnectionResetError:
            pass
        return "closed"


def held_after_exchange(daemon: str) -> list[str]:
    """Return the private memory of a session after the key exchange, after 100 packets, and in the midst of one."""
    before = sessions(daemon)
    with socket.create_connection(("127.0.0.1", 2222), timeout=PATIENCE) as connection:
        transport = paramiko.Transport(connection)
        transport.start_client(timeout=PATIENCE)
        pid = new_session(daemon, before)
        found = [private(pid)]
        for _packet in range(100):
            transport.send_ignore(32_000)
        time.sleep(0.5)
        found.append(private(pid))
        write_all = transport.packetizer.write_all
        transport.packetizer.write_all = lambda data: write_all(data[:33_000])
        transport.send_ignore(33_900)
        time.sleep(0.5)
        found.append(private(pid))
        transport.close()
    return found


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
print("a longer packet:", answer(35008, 34000))
for what, memory in zip(("exchanged", "100 packets", "then the longest packet"), held_after_exchange(daemon)):
    print(f"{what}: {memory}")
print("x25519:", exchange(b"curve25519-sha256", base))
for order, point in ((4, 0), (1, 1), (2, 2**255 - 20)):
    public = point.to_bytes(32, "little")
    print(f"x25519 of order {order}:", exchange(b"curve25519-sha256", public))
    print(f"mlkem768x25519 of order {order}:", exchange(b"mlkem768x25519-sha256", MLKEM768 + public))
print("mlkem768x25519:", exchange(b"mlkem768x25519-sha256", MLKEM768 + base))
print("sntrup761x25519:", exchange(b"sntrup761x25519-sha512", SNTRUP761 + base))
