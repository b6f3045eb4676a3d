"""What the hook does for a daemon that logs logins, and what a daemon of the system log does.

python3 logins.py start PROGRAM ARGUMENTS...    execute Dropbear, with descriptors, behind a gate that opens when
                                                somebody opens /mnt/gate for writing
python3 logins.py collect FILE                  bind /mnt/log, and append each line that comes to FILE
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

LOG = "/mnt/log"
GATE = "/mnt/gate"
TEXT = b'syslog log 0 1\n, user alice\n user="alice"'


def start(command: list[str]) -> NoReturn:
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.connect(LOG)
    reader, text = os.pipe()
    os.write(text, TEXT)
    listener, ready = os.pipe()
    first = os.fork()
    if first == 0:  # as the container's first process: the gate is open when it has executed a program
        os.open(GATE, os.O_RDONLY)
        os.execvp("sleep", ["sleep", "1000"])
    gate = os.open(f"/proc/{first}/stat", os.O_RDONLY)
    directory = os.open(Path(LOG).parent, os.O_PATH | os.O_DIRECTORY)
    for descriptor in (log.fileno(), reader, listener, ready, gate, directory):
        os.set_inheritable(descriptor, True)
    os.execvp(command[0], [*command, "-S", f"{gate},{ready}", "-L", f"{log.fileno()},{reader},{directory}"])


def collect(file: str) -> None:
    Path(LOG).unlink(missing_ok=True)
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind(LOG)
    Path(LOG).chmod(0o666)
    while True:
        line = log.recv(1 << 16)
        with Path(file).open("ab") as lines:
            lines.write(line + b"\n")


if sys.argv[1] == "start":
    start(sys.argv[2:])
collect(sys.argv[2])
