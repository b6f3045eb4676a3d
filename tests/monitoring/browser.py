"""A browser without a window, driven by the Chrome DevTools Protocol over pipes."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from patience import within

PROGRAM = "chromium-headless-shell"
PATIENCE = 30.0  # seconds for one answer
_FIRST_FREE = 10  # descriptor; the browser reads from 3 and writes to 4


class BrowserError(Exception):
    """The browser refused a command, did not answer in time, or ended."""


class Page:
    """A tab.

    Attributes:
        complaints: exceptions of scripts, messages of the console and dialogs, in their order.
    """

    def __init__(self, process: subprocess.Popen[bytes], to_browser: int, from_browser: int) -> None:
        self._process = process
        self._to, self._from = to_browser, from_browser
        self._number = 0
        self._buffer = b""
        self._session = ""
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command; return its result. Raises BrowserError."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def _receive(self) -> dict[str, Any]:
        """Return the next message, having noted what it complains of. Raises BrowserError."""
        deadline = time.monotonic() + within(PATIENCE)
        while b"\0" not in self._buffer:
            readable, _writable, _failed = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._from, 1 << 20) if readable else b""
            if not data:
                raise BrowserError(f"{PROGRAM} does not answer: exit status {self._process.poll()}")
            self._buffer += data
        raw, _end, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        if message.get("method") in (
            "Runtime.exceptionThrown",
            "Runtime.consoleAPICalled",
            "Log.entryAdded",
            "Page.javascriptDialogOpening",
        ):
            self.complaints.append(json.dumps(message["params"]))
        return message

    def open(self, path: Path, *, scripts: bool = True) -> None:
        """Load a file, and wait until it is there. Raises BrowserError."""
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        loaded = self.call("Page.navigate", url=path.as_uri())
        if "errorText" in loaded:
            raise BrowserError(f"{path}: {loaded['errorText']}")
        deadline = time.monotonic() + within(PATIENCE)
        while self.ask("document.readyState + document.URL") != f"complete{path.as_uri()}":
            if time.monotonic() > deadline:
                raise BrowserError(f"{path} is not loaded")
            time.sleep(0.05)

    def ask(self, expression: str) -> Any:
        """Return the value of an expression. Raises BrowserError where it throws."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def size(self, width: int, height: int) -> None:
        """Give the window a size, in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def media(self, kind: str = "", scheme: str = "light") -> None:
        """Choose print or screen, and light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=kind, features=features)

    def picture(self, path: Path) -> None:
        """Write a picture of the window, as PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """Start a browser with its files in the directory `profile`, and end it."""
    pipes = [os.pipe(), os.pipe()]
    its_end = [fcntl.fcntl(end, fcntl.F_DUPFD, _FIRST_FREE) for end in (pipes[0][0], pipes[1][1])]
    script = f'exec "$@" 3<&{its_end[0]} 4>&{its_end[1]}'
    options = ["--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--lang=en"]
    process = subprocess.Popen(
        ["bash", "-c", script, "-", PROGRAM, *options, f"--user-data-dir={profile}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=its_end,
        start_new_session=True,
    )
    for descriptor in (pipes[0][0], pipes[1][1], *its_end):
        os.close(descriptor)
    try:
        yield Page(process, pipes[0][1], pipes[1][0])
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(pipes[0][1])
        os.close(pipes[1][0])
