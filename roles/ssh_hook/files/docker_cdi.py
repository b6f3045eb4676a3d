"""Switch on CDI in Docker's daemon.json. Prints "changed" or "unchanged".

Usage: python3 -I -S docker_cdi.py [--check] FILE

Adds "features": {"cdi": true}, and keeps all other settings, their order, and the file's owner and mode. The file is
replaced atomically. With --check nothing is written.
Exit 1, with one line on stderr, when the file had to be left as it is.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any

INDENT = 4  # as in Docker's documentation


class NotChanged(Exception):
    """The file was not changed; str() is the line for the admin."""


def read(path: str) -> dict[str, Any]:
    """Return the settings in the file, with features; none others if it does not exist or is empty, as Docker has it.

    Raises:
        NotChanged: it is no JSON object, or its features are not.
    """
    try:
        with open(path, encoding="utf-8") as file:
            settings = json.loads(file.read().strip() or "{}")
    except FileNotFoundError:
        return {"features": {}}
    except ValueError as error:
        raise NotChanged(f"{path} is not JSON ({error}): Docker does not start with it; correct it") from error
    if isinstance(settings, dict) and settings.get("features") is None:
        settings["features"] = {}
    if not isinstance(settings, dict) or not isinstance(settings["features"], dict):
        raise NotChanged(
            f"{path} is not an object with 'features' as another object: Docker does not start with it; correct it"
        )
    return settings


def write(path: str, settings: dict[str, Any]) -> None:
    """Replace the file, or the one that a link leads to, by an atomic rename; make its directory if that is missing."""
    path = os.path.realpath(path)
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        os.mkdir(directory)
        os.chmod(directory, 0o755)  # whatever the umask
    mode, uid, gid = 0o644, 0, 0
    if os.path.exists(path):
        status = os.stat(path)
        mode, uid, gid = status.st_mode & 0o777, status.st_uid, status.st_gid
    descriptor, temporary = tempfile.mkstemp(prefix=".daemon-", dir=directory)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(settings, indent=INDENT, ensure_ascii=False) + "\n")
            os.fchmod(descriptor, mode)
            os.fchown(descriptor, uid, gid)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def switch_on(path: str, check: bool) -> bool:
    """Switch on CDI in the file. Return whether it had to be changed."""
    settings = read(path)
    if settings["features"].get("cdi") is True:
        return False
    settings["features"]["cdi"] = True
    if not check:
        write(path, settings)
    return True


def main(arguments: list[str]) -> int:
    """Switch on CDI in the file named by the last argument. Return 0 if it is on then."""
    path = arguments[-1]
    try:
        print("changed" if switch_on(path, "--check" in arguments[:-1]) else "unchanged")
    except NotChanged as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{path} cannot be changed: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
