"""Runs the unit tests on the oldest Python from 3.9 on and on the newest one that this machine has.

With arguments, which are pytest's, it runs those that they name on the Python that runs this, for a quick answer.
RUN_ELSEWHERE in the environment is a version, as 3.13, on which something else runs all of them: not here then.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = (
    "busybox",  # one of the shells that read what the hook generates
    "gpg",  # verifies releases
    "patch",  # applies the role's patches
    "puttygen",  # reads the keys, as libssh does
    "ssh-keygen",  # reads the keys
)
OLDEST = (3, 9)

# Says what an interpreter is, and nothing when it cannot make virtual environments or is no final release.
PROBE = """
import ensurepip, sys, venv
if sys.version_info.releaselevel == "final" and sys.implementation.name == "cpython":
    print(*sys.version_info[:3], sys.executable)
"""


def candidates() -> list[str]:
    """Return the paths that look like a Python, those of the system first."""
    home = os.path.expanduser("~")
    places = ["/usr/bin", f"{home}/.pyenv/versions/*/bin", "/opt/*/bin", *os.environ.get("PATH", "").split(os.pathsep)]
    return [path for place in places for path in sorted(glob.glob(f"{place}/python3.[0-9]*")) if path[-1].isdigit()]


def pythons() -> dict[tuple[int, int], str]:
    """Return the path of one usable interpreter for each minor version from the oldest supported one on."""
    found: dict[tuple[int, int], str] = {}
    for path in candidates():
        probe = subprocess.run([path, "-I", "-c", PROBE], capture_output=True, text=True, check=False)
        if probe.returncode != 0 or not probe.stdout:
            continue
        major, minor, _micro, executable = probe.stdout.rstrip("\n").split(" ", 3)
        version = (int(major), int(minor))
        if version >= OLDEST:
            found.setdefault(version, executable)
    return found


def chosen() -> dict[tuple[int, int], str]:
    """Return the oldest and the newest of the usable interpreters, without the one on which the tests run elsewhere."""
    found = pythons()
    if not found:
        raise SystemExit("unit: no Python from 3.9 on that can make virtual environments: install python3-venv")
    ends = {version: found[version] for version in (min(found), max(found))}
    for version in list(ends):
        name = ".".join(map(str, version))
        if name == os.environ.get("RUN_ELSEWHERE"):
            print(f"unit tests on Python {name}: elsewhere", flush=True)
            del ends[version]
    return ends


def main(arguments: list[str]) -> int:
    """Run pytest with the given arguments on each chosen Python; the exit status is 0 when all passed."""
    if not arguments and os.geteuid() != 0:
        raise SystemExit(
            "unit: tests of the modules install files as root does: run this as root, or name tests, as in "
            "make unit ARGS=tests/unit/hook/linux"
        )
    this = {sys.version_info[:2]: os.path.realpath(sys.executable)}
    if not all(map(shutil.which, PROGRAMS)) or find_library("ssh") is None:
        subprocess.run([ROOT / "tests" / "testbed" / "packages", "unit"], check=True)
    failed = False
    for version, python in sorted((this if arguments else chosen()).items()):
        name = ".".join(map(str, version))
        directory = ROOT / ".cache" / "unit" / name
        print(f"unit tests on Python {name} ({python})", flush=True)
        subprocess.run([ROOT / "tests" / "venv", directory, ROOT / "requirements/unit.txt", python], check=True)
        command: list[str | Path] = [
            directory / "bin" / "python",
            "-B",
            "-m",
            "pytest",
            "--quiet",
            "--override-ini",
            "testpaths=tests/unit",
            *arguments,
        ]
        failed |= subprocess.run(command, cwd=ROOT, check=False).returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
