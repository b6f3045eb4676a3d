"""Does what VS Code's Remote-SSH does with a host: `editor.py HOST`.

Starts one `ssh -T -D PORT HOST`, starts the server there by a shell on standard input, and speaks to it through the
dynamic forward: an HTTP request, and the websocket on which an editor's window and its server exchange messages. The
server is that of the npm package code-server, in the image.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import uuid

SERVER = "/opt/code-server/lib/vscode"
TOKEN = secrets.token_hex(16)
# It waits until the server says on which loopback port it listens, and goes on running while the connection lasts.
BOOTSTRAP = f"""
set -e
mkdir -p ~/.remote-editor
cd ~/.remote-editor
printf %s {TOKEN} >token
nohup node {SERVER}/out/server-main.js --host 127.0.0.1 --port 0 --connection-token-file token \\
    --accept-server-license-terms --telemetry-level off --server-data-dir ~/.remote-editor/data >log 2>&1 </dev/null &
tries=0
until grep -q 'agent listening on' log; do
    tries=$((tries + 1))
    if [ $tries -gt 300 ] || ! kill -0 $!; then cat log >&2; exit 1; fi
    sleep 0.2
done
grep 'agent listening on' log
sed -n 's/.*"commit": "\\(.*\\)".*/commit \\1/p' {SERVER}/product.json
echo ready
"""
CONTROL = 2  # the kind of messages before a connection is made
MANAGEMENT = 1  # the kind of connection that a window opens first


def free_port() -> int:
    """Return a port of loopback that nothing uses."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def exactly(connection: socket.socket, size: int) -> bytes:
    """Read that many bytes."""
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise SystemExit(f"the server hung up after {data!r}")
        data += more
    return data


def forwarded(proxy: int, port: int) -> socket.socket:
    """Connect to a loopback port of the container by way of ssh's SOCKS 5 proxy."""
    connection = socket.create_connection(("127.0.0.1", proxy), timeout=60)
    connection.sendall(b"\5\1\0")
    assert exactly(connection, 2) == b"\5\0"
    name = b"127.0.0.1"
    connection.sendall(b"\5\1\0\3" + bytes([len(name)]) + name + port.to_bytes(2, "big"))
    assert exactly(connection, 10)[1] == 0, "the forward was refused"
    return connection


def request(connection: socket.socket, path: str, version: str, *headers: str) -> bytes:
    """Send a request; return status line and headers of the answer."""
    lines = [f"GET {path} HTTP/{version}", "Host: 127.0.0.1", *headers, "", ""]
    connection.sendall("\r\n".join(lines).encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += exactly(connection, 1)
    return answer


def get(connection: socket.socket, path: str) -> tuple[bytes, bytes]:
    """Return the status line of an answer, and its content."""
    head = request(connection, path, "1.0")
    content = b""
    while more := connection.recv(65536):
        content += more
    return head.partition(b"\r\n")[0], content


def send(connection: socket.socket, message: dict[str, object]) -> None:
    """Send a message of the kind CONTROL in a websocket frame, masked as a client's have to be."""
    data = json.dumps(message).encode()
    payload = bytes([CONTROL]) + bytes(8) + len(data).to_bytes(4, "big") + data  # kind, number, acknowledged, size
    mask = secrets.token_bytes(4)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    connection.sendall(b"\x82" + bytes([0x80 | 126]) + len(payload).to_bytes(2, "big") + mask + masked)


def receive(connection: socket.socket) -> dict[str, object]:
    """Return the next message of the kind CONTROL."""
    while True:
        first, second = exactly(connection, 2)
        assert first == 0x82, "no whole binary frame"
        size = second if second < 126 else int.from_bytes(exactly(connection, 2 if second == 126 else 8), "big")
        payload = exactly(connection, size)
        if payload[0] == CONTROL:
            message: dict[str, object] = json.loads(payload[13:])
            return message


def handshake(connection: socket.socket, token: str) -> list[dict[str, object]]:
    """Open the websocket of a window; return what the server answers to it."""
    key = base64.b64encode(os.urandom(16)).decode()
    path = f"/?reconnectionToken={uuid.uuid4()}&reconnection=false&skipWebSocketFrames=false"
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}")
    head = request(connection, path, "1.1", *upgrade)
    assert head.startswith(b"HTTP/1.1 101 "), head
    send(connection, {"type": "auth", "auth": token, "data": "x"})
    answers = [receive(connection)]
    if answers[0]["type"] == "sign":
        send(connection, {"type": "connectionType", "signedData": "", "desiredConnectionType": MANAGEMENT})
        answers.append(receive(connection))
    return answers


def use(proxy: int, port: int, commit: str) -> None:
    """Speak to the server on that port of the container."""
    status, content = get(forwarded(proxy, port), "/version")
    assert status.endswith(b" 200 OK"), status
    assert content.decode() == commit, content
    print("http: the server's own version")
    status, _content = get(forwarded(proxy, port), "/")
    assert status.endswith(b" 403 Forbidden"), status
    print("http: without the token refused")
    kinds = [answer["type"] for answer in handshake(forwarded(proxy, port), TOKEN)]
    assert kinds == ["sign", "ok"], kinds
    print("websocket: a window is connected")
    kinds = [answer["type"] for answer in handshake(forwarded(proxy, port), "wrong")]
    assert kinds == ["error"], kinds
    print("websocket: a wrong token refused")


def main() -> None:
    """Start the server on the host by the shell, and use it."""
    proxy = free_port()
    command = ["ssh", "-T", "-D", f"127.0.0.1:{proxy}", sys.argv[1], "bash"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shell:
        limit = threading.Timer(120, shell.kill)
        limit.start()
        try:
            assert shell.stdin is not None
            assert shell.stdout is not None
            shell.stdin.write(BOOTSTRAP)
            shell.stdin.flush()
            said = ""
            for line in shell.stdout:
                said += line
                if line == "ready\n":
                    break
            port = re.search(r"listening on ([0-9]+)", said)
            commit = re.search(r"commit ([0-9a-f]+)", said)
            if port is None or commit is None:
                raise SystemExit(f"the server did not start: {said}")
            use(proxy, int(port.group(1)), commit.group(1))
        finally:
            limit.cancel()
            shell.kill()  # as a window that is closed does


if __name__ == "__main__":
    main()
