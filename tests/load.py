"""Keeps a processor busy, or a disk, until it is killed.

load.py compute
load.py write DIRECTORY    a file without a name in there, of 16 MiB, again and again
"""

from __future__ import annotations

import os
import sys
import tempfile

BLOCK = os.urandom(1 << 20)
BLOCKS = 16  # a process that writes more cannot be killed for seconds on a busy disk

if sys.argv[1] == "compute":
    while True:
        pass
with tempfile.TemporaryFile(dir=sys.argv[2], buffering=0) as file:
    while True:
        file.seek(0)
        for _number in range(BLOCKS):
            file.write(BLOCK)
        os.fsync(file.fileno())
