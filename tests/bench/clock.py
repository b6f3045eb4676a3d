"""Runs in a container: times commands there, so that no engine's own time is in the figure.

Reads lines of JSON, each a list of commands that are started at once, and answers each line with the seconds until the
last of them has ended. Ends with an error when one fails.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time


def main() -> int:
    """Answer until there is nothing more to do."""
    for line in sys.stdin:
        commands = json.loads(line)
        with tempfile.TemporaryFile() as errors:
            start = time.monotonic()
            processes = [
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
                for command in commands
            ]
            statuses = [process.wait() for process in processes]
            seconds = time.monotonic() - start
            if any(statuses):
                errors.seek(0)
                said = errors.read().decode(errors="replace")
                print(f"{commands[0]}: exit statuses {sorted(set(statuses))}: {said}", file=sys.stderr)
                return 1
        print(seconds, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
