"""What the hook sends to syslog."""

from __future__ import annotations

import socket
import threading
from pathlib import Path


class Syslog:
    """What the bed's processes send to /dev/log."""

    def __init__(self) -> None:
        self._messages: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._path = Path("/dev/log")
        self._path.unlink(missing_ok=True)
        self._socket.bind(str(self._path))
        self._path.chmod(0o666)
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        while True:
            self._messages.append(self._socket.recv(65536).decode(errors="replace"))

    def clear(self) -> None:
        """Forget what came so far."""
        self._messages.clear()

    def of_hook(self) -> list[str]:
        """The hook's messages, in order."""
        return self.with_text("ssh_hook[")

    def with_text(self, text: str) -> list[str]:
        """The messages that contain a text, in order."""
        return [message for message in self._messages if text in message]
