"""A flood: connections that never log in, renewed as the server drops them. Run as a program, it makes one.

python3 flood.py KIND COUNT TARGET PORT SOURCE...
python3 flood.py KIND COUNT PATH

KIND is "silent" (nothing is sent), "banner" (the client's version), "partial" (that and half of a packet), "exchanged"
(all up to the end of the key exchange) or "hasty" (the version, and then the client closes the connection for the next
one). COUNT connections come from each SOURCE, an address of this machine, or all by the Unix socket PATH. It prints a
line when all have got so far once, or no more of them do, and at the end of stdin the number of connections that were
renewed.
"""

from __future__ import annotations

import contextlib
import errno
import resource
import select
import socket
import struct
import sys
import time

MSG_KEXINIT, MSG_NEWKEYS, MSG_KEX_ECDH_INIT = 20, 21, 30
BASE_POINT = (9).to_bytes(32, "little")  # a public key that costs the client nothing
VERSION = b"SSH-2.0-flood\r\n"
QUIET = 1.0  # seconds without anything new after which a flood is complete


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def packet(payload: bytes) -> bytes:
    """Return an unencrypted packet (RFC 4253, section 6)."""
    padding = 8 - (5 + len(payload)) % 8 + 8
    return struct.pack(">IB", 1 + len(payload) + padding, padding) + payload + bytes(padding)


def exchange() -> bytes:
    """Return the client's packets of a key exchange (RFC 4253, section 7; RFC 8731)."""
    cipher, mac, none = b"aes128-ctr", b"hmac-sha2-256", b"none"
    names = [b"curve25519-sha256", b"ssh-ed25519,ecdsa-sha2-nistp256", cipher, cipher, mac, mac, none, none, b"", b""]
    return (
        packet(bytes([MSG_KEXINIT]) + bytes(16) + b"".join(map(string, names)) + bytes(5))
        + packet(bytes([MSG_KEX_ECDH_INIT]) + string(BASE_POINT))
        + packet(bytes([MSG_NEWKEYS]))
    )


SENT = {
    "silent": b"",
    "banner": VERSION,
    "partial": VERSION + exchange()[:100],
    "exchanged": VERSION + exchange(),
    "hasty": VERSION,
}


class Flood:
    """All connections of a flood. Attributes: renewed."""

    def __init__(self, kind: str, count: int, target: tuple[str, int] | str, sources: list[str]) -> None:
        self.renewed = 0
        self._sent = SENT[kind]
        self._hasty = kind == "hasty"
        self._target = target
        self._poll = select.epoll()
        self._connections: dict[int, tuple[socket.socket, str]] = {}
        self._missing = [source for source in sources for _number in range(count)]

    def run(self) -> None:
        """Flood until the end of stdin."""
        self._poll.register(sys.stdin, select.EPOLLIN)
        last_new, complete = time.monotonic(), False
        while True:
            if self._missing:
                self._connect()
                last_new = time.monotonic()
            for descriptor, events in self._poll.poll(0 if self._missing else 0.1, 256):
                if descriptor == sys.stdin.fileno():
                    return
                self._handle(descriptor, events)
            if not complete and (time.monotonic() > last_new + QUIET or self.renewed):
                complete = True
                print("complete", flush=True)

    def _connect(self) -> None:
        for source in self._missing[:64]:
            is_unix = isinstance(self._target, str)
            connection = socket.socket(socket.AF_UNIX if is_unix else socket.AF_INET)
            connection.setblocking(False)
            if not is_unix:
                # Addresses and ports of connections that the server has dropped are free at once
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.bind((source, 0))
            error = connection.connect_ex(self._target)
            if error == errno.EAGAIN:  # the socket's queue is full
                connection.close()
                self._missing.append(source)
                continue
            assert error in (0, errno.EINPROGRESS), error
            self._connections[connection.fileno()] = (connection, source)
            self._poll.register(connection, select.EPOLLOUT)
        del self._missing[:64]

    def _handle(self, descriptor: int, events: int) -> None:
        connection, source = self._connections[descriptor]
        try:
            if events & select.EPOLLOUT:
                connection.sendall(self._sent)
                if self._hasty:
                    raise ConnectionResetError
                self._poll.modify(connection, select.EPOLLIN)
            elif not connection.recv(1 << 16):
                raise ConnectionResetError
        except BlockingIOError:
            pass
        except OSError:
            self._poll.unregister(descriptor)
            connection.close()
            del self._connections[descriptor]
            self._missing.append(source)
            self.renewed += 1


def main() -> None:
    kind, count, target, *rest = sys.argv[1:]
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    flood = Flood(kind, int(count), (target, int(rest[0])), rest[1:]) if rest else Flood(kind, int(count), target, [""])
    with contextlib.suppress(KeyboardInterrupt):
        flood.run()
    print(flood.renewed, flush=True)


if __name__ == "__main__":
    main()
