"""Refresh a passwd file from the node's name service, and print "changed" or "unchanged". A timer runs it.

Usage: python3 -I -S refresh_passwd.py FILE

Exits with 1, and one line on standard error, if the file had to be left as it is.
"""

from __future__ import annotations

import importlib
import os
import sys

# The directory above this one's, in which the modules beside this file are a package.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def main(path: str) -> int:
    """Refresh the file; return the exit status."""
    passwd_file = importlib.import_module(
        f"{os.path.basename(os.path.dirname(os.path.abspath(__file__)))}._passwd_file"
    )
    try:
        print("unchanged" if passwd_file.refresh(path, check=False) is None else "changed")
    except passwd_file.NotRefreshed as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{path} cannot be refreshed: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
