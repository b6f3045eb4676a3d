# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out which files an interpreter loads for the SSH hook, and where the dynamic loader searches for them.

The interpreter runs with the launcher's options, but as the user nobody and without the caller's environment.
"""

from __future__ import annotations

import glob
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from . import _nobody

if TYPE_CHECKING:
    from ._secure_path import Violation

FLAGS = "-BISXutf8"  # of the launcher
SECONDS = 120
PRELOAD = "/etc/ld.so.preload"
CACHE = "/etc/ld.so.cache"
CONFIGURATION = "/etc/ld.so.conf"

# Modules that the hook and "ssh_hook keygen" import from the packages. libseccomp is optional, see
# ssh_hook_require_seccomp.
LOAD = """
import sys
from ctypes import CDLL

sys.path += sys.argv[1:]
import cryptography.hazmat.primitives.asymmetric.ec
import cryptography.hazmat.primitives.asymmetric.ed25519
import cryptography.hazmat.primitives.serialization

try:
    import pyroute2
except ModuleNotFoundError as error:  # a node may be without it
    if error.name != "pyroute2":
        raise
try:
    CDLL("libseccomp.so.2")
except OSError:
    pass
try:
    print(open("/proc/self/maps", errors="surrogateescape").read())
except FileNotFoundError:  # an image of a node without /proc
    pass
"""


class LoadError(Exception):
    """The interpreter cannot load what the hook needs."""


def load(python: str, packages: list[str]) -> tuple[set[str], set[str]]:
    """Return the files that the interpreter has mapped, and the paths where the dynamic loader searched for libraries.

    Without /proc the former are only the libraries.

    Raises LoadError.
    """
    try:
        answer = _nobody.run([python, FLAGS, "-c", LOAD, *packages], env={"LD_DEBUG": "libs"}, seconds=SECONDS)
    except OSError as error:
        raise LoadError(f"{python} cannot be run by an ordinary user: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise LoadError(f"{python} did not import cryptography and pyroute2 within {SECONDS} seconds") from None
    maps, debug = (os.fsdecode(output) for output in (answer.stdout, answer.stderr))
    if answer.returncode != 0:
        said = [line for line in debug.splitlines() if not re.match(r" +\d+:\t", line)]
        reason = said[-1] if said else f"exit status {answer.returncode}"
        raise LoadError(f"{python} cannot import cryptography and pyroute2 as an ordinary user: {reason}")
    return set(mapped(maps)) or set(initialized(debug)), set(tried(debug))


def mapped(maps: str) -> Iterator[str]:
    """Yield the regular files in a text of /proc/PID/maps."""
    for line in maps.splitlines():
        _numbers, slash, path = line.partition("/")
        if slash and os.path.isfile(slash + path):  # not devices and deleted files, such as libffi's closures
            yield slash + path


def initialized(debug: str) -> Iterator[str]:
    """Yield the libraries that glibc's dynamic loader loaded, from its output with LD_DEBUG=libs."""
    for found in re.finditer(r"^ +\d+:\tcalling init: (/.*)$", debug, re.MULTILINE):
        yield found[1]


def tried(debug: str) -> Iterator[str]:
    """Yield the paths where glibc's dynamic loader searched for libraries, from its output with LD_DEBUG=libs."""
    for found in re.finditer(r"^ +\d+:\t +trying file=(.*)$", debug, re.MULTILINE):
        directory, name = os.path.split(found[1])
        if ".." in directory.split("/"):  # as in a RUNPATH $ORIGIN/../lib
            directory = os.path.realpath(directory)
        yield os.path.join(directory, name)


def lines(path: str) -> list[str]:
    """Return the lines of a configuration file without comments; none if it cannot be read."""
    try:
        text = Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return []
    return [line.partition("#")[0].strip() for line in text.splitlines()]


def preloaded(path: str) -> list[str]:
    """Return the libraries that a file such as /etc/ld.so.preload names by path."""
    return [name for line in lines(path) for name in re.split(r"[\s:]+", line) if name.startswith("/")]


class Configuration:
    """The configuration that ldconfig reads.

    Attributes:
        files: its files
        directories: library directory -> the file that names it
        searched: directories in which ldconfig would look for further files
    """

    def __init__(self, path: str) -> None:
        self.files: list[str] = []
        self.directories: dict[str, str] = {}
        self.searched: set[str] = set()
        self._read(path)

    def _read(self, path: str) -> None:
        if path in self.files or not os.path.isfile(path):
            return
        self.files.append(path)
        for line in lines(path):
            first, _blank, rest = line.partition(" ")
            if first == "include":
                for pattern in rest.split():
                    self._include(os.path.join(os.path.dirname(path), pattern))
            elif line.startswith("/"):
                self.directories.setdefault(line.partition("=")[0].rstrip("/ ") or "/", path)

    def _include(self, pattern: str) -> None:
        directory = os.path.dirname(pattern)
        while glob.has_magic(directory):
            directory = os.path.dirname(directory)
        self.searched.add(directory)
        for path in sorted(glob.glob(pattern)):
            self._read(path)


class Loaded(NamedTuple):
    """The files that an interpreter loads for the hook.

    Attributes:
        files: files that the interpreter has mapped after loading libseccomp and the packages, the names by which the
            dynamic loader opened them, and the files that configure the dynamic loader
        directories: directories that the dynamic loader searched, or will search after the next ldconfig
        configured: those of the directories that the loader's configuration names -> the file that names it
    """

    files: list[str]
    directories: list[str]
    configured: dict[str, str]

    def naming(self, violations: Iterable[Violation]) -> list[str]:
        """Return the configuration files that name a directory with a violation."""
        via = {violation.via for violation in violations}
        return sorted({self.configured[path] for path in via & self.configured.keys()})


def loaded(python: str, packages: list[str]) -> Loaded:
    """Return the files that the interpreter loads. Raises LoadError."""
    files, places = load(python, packages)
    configuration = Configuration(CONFIGURATION)
    places.update(preloaded(PRELOAD))
    files.update(path for path in [PRELOAD, CACHE, *configuration.files, *places] if os.path.exists(path))
    # Also directories that do not exist: a user who can create them, or a file in them, decides what is loaded next
    # time.
    directories = {os.path.dirname(path) for path in [PRELOAD, *places]}
    directories.update(configuration.searched, configuration.directories)
    return Loaded(sorted(files), sorted(directories), configuration.directories)
