"""Tell what happens to files that containers need in their start, other than that a name leads to a new file from one
moment to the next.

watch.py DIRECTORY... [-- DIRECTORY...]

Of the first directories nothing may change; in the others a name may only be replaced, by a rename, and what is new may
not be seen by engines, which read all names that end in .json. Prints a line for each event that breaks this, and what
the hook sends to /dev/log, which the node has none of otherwise, until /run/load/stop is there.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
import sys

STOP = "/run/load/stop"
LOG = "/dev/log"
SEVERITIES = (b"<27>", b"<28>")  # errors and warnings of daemons; logins have others
HEADER = struct.Struct("iIII")
EVENTS = {0x2: "written", 0x4: "changed", 0x40: "moved away", 0x80: "replaced", 0x100: "made", 0x200: "deleted"}


def complaints(data: bytes, still: dict[int, str], renewed: dict[int, str], names: set[str]) -> list[str]:
    """Which events must not happen to the `still` directories and to what was in the `renewed` ones, `names`."""
    found = []
    while data:
        watch, mask, _cookie, length = HEADER.unpack_from(data)
        name = data[HEADER.size : HEADER.size + length].rstrip(b"\0").decode()
        data = data[HEADER.size + length :]
        what = next((word for bit, word in EVENTS.items() if mask & bit), "")
        path = os.path.join({**still, **renewed}[watch], name)
        if what and (watch in still or (what != "replaced" and (path in names or name.endswith(".json")))):
            found.append(f"{path} was {what}")
    return found


def main(arguments: list[str]) -> int:
    """The exit status."""
    libc = ctypes.CDLL(None, use_errno=True)
    inotify = libc.inotify_init1(os.O_CLOEXEC)
    split = arguments.index("--")

    def watches(directories: list[str]) -> dict[int, str]:
        found = {libc.inotify_add_watch(inotify, path.encode(), sum(EVENTS)): path for path in directories}
        if -1 in found:
            raise OSError(ctypes.get_errno(), "inotify_add_watch", found[-1])
        return found

    still, renewed = watches(arguments[:split]), watches(arguments[split + 1 :])
    names = {os.path.join(path, name) for path in renewed.values() for name in os.listdir(path)}
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind(LOG)
    while not os.path.exists(STOP):
        ready = select.select([inotify, log], [], [], 0.2)[0]
        if log in ready and (message := log.recv(65536)).startswith(SEVERITIES):
            print(message.decode(), flush=True)
        if inotify in ready:
            for complaint in complaints(os.read(inotify, 65536), still, renewed, names):
                print(complaint, flush=True)
    os.unlink(LOG)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
