"""Remove the empty ones of the given directories, in their order. Prints each removed directory on a line.

Usage: python3 -I -S remove_empty.py DIRECTORY...
"""

from __future__ import annotations

import errno
import os
import sys


def remove_empty(path: str) -> bool:
    """Remove a directory if it is empty. Return whether it was removed."""
    try:
        os.rmdir(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTEMPTY, errno.ENOTDIR, errno.EBUSY):
            return False
        raise
    return True


if __name__ == "__main__":
    for directory in sys.argv[1:]:
        if remove_empty(directory):
            print(directory)
