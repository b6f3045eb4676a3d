"""Opens a page that a program in a container serves, as a browser on a laptop does: `page.py HOST TARGET PATH`.

Forwards a free port to TARGET, the path of a Unix socket or HOST:PORT as seen in the container, and prints the page.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request

PATIENCE = 60  # seconds


def wait_until_forwarded(port: int, forward: subprocess.Popen[bytes]) -> None:
    """Wait until ssh accepts connections at the port."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            if forward.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("ssh does not forward the port") from None
        time.sleep(0.2)


def main() -> None:
    """Forward the port, and print the page."""
    host, target, path = sys.argv[1:]
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    with subprocess.Popen(["ssh", "-N", "-L", f"{port}:{target}", host]) as forward:
        try:
            wait_until_forwarded(port, forward)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
                print(answer.read().decode())
        except OSError as error:  # refused, or an HTTP status
            raise SystemExit(str(error)) from None
        finally:
            forward.terminate()


if __name__ == "__main__":
    main()
