# SPDX-License-Identifier: GPL-3.0-or-later
"""The caller's profiles for `ssh dev-NAME`: job scripts, ``~/.oci-hooks/dev/NAME.sh``, and the output of their jobs.

A script that anybody else could change is not read. What a new one contains is in templates.py.
"""

from __future__ import annotations

import os
import re
import stat

from ...errors import ARGUMENTS_WRONG, NOT_TRUSTED, SYSTEM, HookError, kind_of_os, printable
from ...fast_stdlib import closing, create_file
from ...keys import store
from ...linux.files import READ, is_own, read_own
from ...node.caller import caller

PREFIX = "dev-"  # of host names
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")  # ssh makes host names lower case
_SUFFIX = ".sh"
_LOG = re.compile(r"(.+)-[0-9]+\.log")
MAX_SIZE = 1 << 20  # bytes
_SHOWN = 1 << 14  # bytes of a job's output


class Profiles:
    """The caller's profiles.

    Attributes:
        home: the directory above them that is the user's home.
        path: their directory, which may be missing.
    """

    def __init__(self, settings: dict[str, str]) -> None:
        """Raise KeyStoreError if the caller has no home according to `settings`."""
        self.home = store.home_of(caller(settings)[0])
        self.path = f"{self.home}/.oci-hooks/dev"

    def names(self) -> list[str]:
        """Return the names of all profiles. Raises HookError."""
        try:
            found = os.listdir(self.path)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise HookError(kind_of_os(error), f"cannot read {self.path}: {error.strerror}") from None
        names = [name[: -len(_SUFFIX)] for name in found if name.endswith(_SUFFIX)]
        return sorted(filter(_NAME.fullmatch, names))

    def path_of(self, name: str) -> str:
        """Return the path of the profile `name`. Raises HookError if it cannot be a name."""
        if not _NAME.fullmatch(name):
            raise HookError(
                ARGUMENTS_WRONG,
                f"'{printable(name)}' cannot be the name of a profile: give up to 32 of a-z, 0-9, _ and -",
            )
        return f"{self.path}/{name}{_SUFFIX}"

    def read(self, name: str) -> bytes:
        """Return the job script of the profile `name`. Raises HookError, also if others can change it."""
        path = self.path_of(name)
        try:
            with closing(os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)) as directory:
                is_own_directory = is_own(os.fstat(directory), stat.S_IFDIR)
                data = read_own(f"{name}{_SUFFIX}", MAX_SIZE, directory) if is_own_directory else None
        except FileNotFoundError:
            there = ", ".join(self.names()) or "none"
            raise HookError(
                ARGUMENTS_WRONG,
                f"you have no profile {name} (you have: {there}): 'ssh_hook dev --new {name}' writes it",
            ) from None
        except OSError as error:
            raise HookError(kind_of_os(error), f"cannot read {path}: {error.strerror}") from None
        if data is None:
            raise HookError(
                NOT_TRUSTED,
                f"{path} and its directory must be a file and a directory of yours that nobody else can write",
            )
        if not data or len(data) > MAX_SIZE:
            raise HookError(SYSTEM, f"{path} is not a job script: it must have 1 to {MAX_SIZE} bytes")
        return data

    def create(self, name: str, script: bytes) -> str:
        """Write a new profile; return its path. Raises HookError."""
        path = self.path_of(name)
        try:
            with closing(os.open(self.home, os.O_RDONLY | os.O_DIRECTORY)) as home:
                store.make_directory(home, ".oci-hooks")
                store.make_directory(home, ".oci-hooks/dev")
            with closing(create_file(path, script, 0o600)):
                return path
        except OSError as error:
            raise HookError(kind_of_os(error), f"cannot create {path}: {error.strerror}") from None

    def log_of(self, name: str, job: str) -> str:
        """Return the path of the output of a `job` of the profile `name`."""
        return f"{self.path}/{name}-{job}.log"

    def logs(self, name: str) -> list[str]:
        """Return the paths of the output of the profile's jobs, the newest last. Raises OSError."""
        found = [entry for entry in os.scandir(self.path) if (made := _LOG.fullmatch(entry.name)) and made[1] == name]
        return [entry.path for entry in sorted(found, key=lambda entry: entry.stat(follow_symlinks=False).st_mtime)]

    def remove_old_logs(self, name: str, job: str) -> None:
        """Remove the output of the profile's jobs, except that of `job`."""
        for path in self.logs(name):
            try:
                if path != self.log_of(name, job):
                    os.unlink(path)
            except OSError:
                pass  # on a shared file system, another login node does the same

    def mark_of(self, name: str) -> str:
        """Return the path of the mark of the profile `name`, which shows that a job of it was submitted."""
        return f"{self.path}/{name}.submitted"

    def mark(self, name: str, must_be_first: bool) -> int:
        """Create the mark; return its descriptor, for `end_submission`.

        Raises HookError, and FileExistsError if the profile has a mark and `must_be_first`.
        """
        path = self.mark_of(name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            return os.open(path, flags | (os.O_EXCL if must_be_first else 0), 0o600)
        except FileExistsError:
            raise
        except OSError as error:
            raise HookError(
                kind_of_os(error), f"no job was submitted: cannot create {path}: {error.strerror}"
            ) from None

    def is_submitting(self, name: str) -> bool:
        """Return whether the profile has an empty mark: sbatch has not answered, or its caller was killed."""
        try:
            with closing(os.open(self.mark_of(name), READ)) as mark:
                return not os.read(mark, 1)
        except OSError:
            return False


def end_submission(mark: int) -> None:
    """Note in the open mark that sbatch has answered, and close it."""
    try:
        with closing(mark):
            os.write(mark, b"submitted\n")
    except OSError:
        pass  # a full disk: the empty mark makes others wait, and forbids as much


def last_lines(path: str) -> list[str]:
    """Return the end of a job's output, as lines that are safe for a terminal; none if it is missing."""
    try:
        with open(os.open(path, READ), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _SHOWN))
            data = file.read(_SHOWN)
    except OSError:
        return []
    lines = (line.expandtabs() for line in data.decode("utf-8", "replace").split("\n"))
    return [line if line.isprintable() else ascii(line)[1:-1] for line in lines if line.strip()]
