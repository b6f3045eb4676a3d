"""Record a session in the demo's cluster: after ``make demo``, run this by ``tests/testbed/system python``.

A shell of alice's on the node login gets the lines of STEPS, each when its prompt has appeared. What she sees is
written to recording.cast (asciicast v2, for asciinema) and, as text, to recording.svg, which the README shows.
``--check`` writes nothing, and fails if she sees something else than in recording.cast; tests/demo runs it.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.sax.saxutils import escape

SITE = Path(__file__).resolve().parent
COMMON = SITE.parents[1] / "demo" / "common.sh"
COLUMNS, ROWS = 100, 24
TIMEOUT = 30.0  # seconds for each step
KEYSTROKE = 0.04  # seconds
# What precedes a line, as a pattern, and the line. At the end, the shell exits.
STEPS = (
    (r"alice@login\$ ", "# Alice, on a node of her job. On compute1, the same container is running already."),
    (r"alice@login\$ ", "podman run -it --rm --network host --annotation com.hooks.ssh.enabled=true busybox sh"),
    (r"/ # ", "ssh compute1 hostname"),
    (r"/ # ", "ssh compute1"),
    (r"~ \$ ", "hostname; exit"),
    (r"/ # ", "exit"),
    (r"alice@login\$ ", "exit"),
)
# The image is there, and no other container of alice's uses the port on login.
PREPARE = """
. "$0"
on_node login 'podman rm --force --ignore --time 0 alice; runuser -l alice -c "podman rm --all --force --time 0
podman image exists busybox || podman import --quiet /images/busybox.tar busybox"'
"""
SHELL = """
. "$0"
exec "$testbed/bed" exec "$testbed/cluster" ssh -tt login \
    'exec runuser -l alice --session-command "PS1=\\"alice@login\\\\$ \\" exec dash"'
"""
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")

Event = tuple[float, str]  # seconds since the start, text of the terminal


class Terminal:
    """The terminal of a command.

    Attributes:
        events: what it has shown.
    """

    def __init__(self, command: list[str]) -> None:
        self.events: list[Event] = []
        self._start = time.monotonic()
        self._entered = 0  # events before the last line was entered
        self._pid, self._descriptor = pty.fork()
        if self._pid == 0:
            os.execvp(command[0], command)

    def close(self) -> None:
        """End the command."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._descriptor)

    def type(self, line: str) -> None:
        """Type a line as a person does."""
        for key in line:
            os.write(self._descriptor, key.encode())
            self._read(KEYSTROKE)
        self._entered = len(self.events)
        os.write(self._descriptor, b"\r")

    def wait_for(self, prompt: str | None) -> None:
        """Wait until the prompt follows the last line or, for None, for the end. Raises RuntimeError."""
        deadline = time.monotonic() + TIMEOUT
        while prompt is None or not re.search(f"{prompt}$", text(self.events[self._entered :])):
            if not self._read(max(0.0, deadline - time.monotonic())):
                if prompt is None and time.monotonic() < deadline:
                    return
                raise RuntimeError(f"no {prompt or 'end'!r} after {text(self.events)!r}")

    def _read(self, timeout: float) -> bool:
        """Read once; return whether there was something within `timeout` seconds."""
        if not select.select([self._descriptor], [], [], timeout)[0]:
            return False
        try:
            data = os.read(self._descriptor, 1 << 16).decode()
        except OSError:  # all that have the terminal have ended
            return False
        self.events.append((round(time.monotonic() - self._start, 3), data))
        return data != ""


def record() -> list[Event]:
    """Return what the terminal shows. Raises RuntimeError if a prompt does not appear."""
    subprocess.run(["bash", "-c", PREPARE, COMMON], check=True, stdout=subprocess.DEVNULL)
    terminal = Terminal(["bash", "-c", SHELL, str(COMMON)])
    try:
        for prompt, line in STEPS:
            terminal.wait_for(prompt)
            terminal.type(line)
        terminal.wait_for(None)
    finally:
        terminal.close()
    return terminal.events


def text(events: list[Event]) -> str:
    """Return the events' text without control characters."""
    return CONTROL.sub("", "".join(data for _seconds, data in events))


def cast(events: list[Event]) -> str:
    """Return an asciicast v2 (https://docs.asciinema.org/manual/asciicast/v2/)."""
    header = {"version": 2, "width": COLUMNS, "height": ROWS, "title": "ssh from container to container"}
    return "".join(f"{json.dumps(line)}\n" for line in (header, *([seconds, "o", data] for seconds, data in events)))


def svg(shown: str) -> str:
    """Return a picture of the text: a terminal."""
    lines = shown.rstrip("\n").split("\n")
    width, height = 8 * max(map(len, lines)) + 32, 19 * len(lines) + 32
    rows = "\n".join(
        f'<text x="16" y="{29 + 19 * row}">{escape(line)}</text>' for row, line in enumerate(lines) if line.strip()
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">\n'
        "<title>ssh from container to container</title>\n"
        "<style>text { font: 13px ui-monospace, Consolas, monospace; fill: #d7dae0; white-space: pre; }</style>\n"
        f'<rect width="{width}" height="{height}" rx="8" fill="#15181d"/>\n{rows}\n</svg>\n'
    )


def recorded() -> str:
    """Return the text of recording.cast."""
    lines = (SITE / "recording.cast").read_text(encoding="utf-8").splitlines()[1:]
    return text([(seconds, data) for seconds, _kind, data in map(json.loads, lines)])


def main() -> int:
    """Record, or check the recording."""
    parser = argparse.ArgumentParser(description="Record a session in the demo's cluster.")
    parser.add_argument("--check", action="store_true", help="compare a new session with the recording")
    arguments = parser.parse_args()
    events = record()
    if not arguments.check:
        (SITE / "recording.cast").write_text(cast(events), encoding="utf-8")
        (SITE / "recording.svg").write_text(svg(text(events)), encoding="utf-8")
    elif text(events) != recorded():
        print(f"recording.cast shows another session: record it again. It was now:\n{text(events)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
