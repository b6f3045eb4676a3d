"""What the hook, and Dropbear, send to the system log."""

from __future__ import annotations

import re
import socket
import threading
from pathlib import Path

JOURNAL = Path("/run/systemd/journal/socket")
_PARAMETER = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Syslog:
    """A daemon of the system log: what the bed's processes send to its socket, which is /dev/log."""

    def __init__(self, path: Path = Path("/dev/log")) -> None:
        self._messages: list[str] = []
        self._path = path
        self.start()

    def start(self) -> None:
        """Open a socket at its path."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._path.unlink(missing_ok=True)
        self._socket.bind(str(self._path))
        self._path.chmod(0o666)
        self._thread = threading.Thread(target=self._collect, args=(self._socket,), daemon=True)
        self._thread.start()

    def _collect(self, listener: socket.socket) -> None:
        while message := listener.recv(65536):
            self._messages.append(message.decode(errors="replace"))

    def stop(self) -> None:
        """Close its socket, and leave the name."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def clear(self) -> None:
        """Forget what came so far."""
        self._messages.clear()

    def of_hook(self) -> list[str]:
        """The hook's messages, in order."""
        return self.with_text("ssh_hook[")

    def with_text(self, text: str) -> list[str]:
        """The messages that contain a text, in order."""
        return [message for message in self._messages if text in message]

    def logins(self) -> list[dict[str, str]]:
        """The fields of Dropbear's lines about logins, in order."""
        return [self._fields(message) for message in self._messages if _is_of_login(message)]

    def _fields(self, message: str) -> dict[str, str]:
        return dict(_PARAMETER.findall(message))


class Journal(Syslog):
    """A daemon of the system log that is journald, as long as the test runs."""

    def __init__(self) -> None:
        JOURNAL.parent.mkdir(parents=True)
        super().__init__(JOURNAL)

    def _fields(self, message: str) -> dict[str, str]:
        lines = [line.partition("=") for line in message.splitlines()]
        return {
            name.removeprefix("SSH_HOOK_").lower(): value for name, _equals, value in lines if name.startswith("SSH_")
        }

    def remove(self) -> None:
        """End it, and leave no name."""
        self.stop()
        JOURNAL.unlink()
        JOURNAL.parent.rmdir()
        JOURNAL.parent.parent.rmdir()


def _is_of_login(message: str) -> bool:
    """Tell whether it is one; Dropbear's other messages come where a container has the node's /dev/log."""
    is_line = message.startswith("<86>") and " ssh_hook: " in message
    return is_line or "\nSYSLOG_FACILITY=10\n" in message
