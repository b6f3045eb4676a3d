# SPDX-License-Identifier: GPL-3.0-or-later
"""The container's seccomp profile as a filter for its SSH sessions.

libseccomp, which every node with crun or runc has, makes the kernel's program out of the profile in config.json. That
takes some 20 ms, so programs are kept: root's below /run, a rootless engine's in the directory that is its user's own.

Formats: https://github.com/opencontainers/runtime-spec (config-linux.md, Seccomp); seccomp(2); libseccomp's seccomp.h.
"""

from __future__ import annotations

import _stat as stat
import posix

from .errors import HookError
from .paths import is_own
from .settings import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import sha256

    from .strictjson import Node
else:  # hashlib takes a millisecond to import
    try:
        from _sha2 import sha256  # from Python 3.12 on
    except ImportError:
        try:
            from _sha256 import sha256
        except ImportError:
            from hashlib import sha256

_MAX_PROGRAM = 4096 * 8  # bytes: the kernel takes 4,096 instructions
_MAX_KEPT = 64  # programs; a site has a handful of profiles
_DIRECTORY = "ocihooks-ssh"
_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1 << 0,
    "SECCOMP_FILTER_FLAG_LOG": 1 << 1,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 1 << 2,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 1 << 5,
}


class Filter:
    """Attributes: program, BPF instructions as the kernel takes them; flags, of seccomp(2)."""

    def __init__(self, program: bytes, flags: int) -> None:
        self.program = program
        self.flags = flags


def make_filter(profile: Node, state_directory: str) -> Filter:
    """The filter of `profile`, the object `linux.seccomp` of config.json; programs are kept below `state_directory`.

    Raises HookError that says why there can be none.
    """
    flags = 0
    for name in profile.texts("flags"):
        if name not in _FLAGS:
            raise HookError(f"{profile.where}: this hook does not know the flag '{printable(name)}'")
        flags |= _FLAGS[name]
    kept = _Kept(state_directory, profile)
    program = kept.read()
    if program is None:
        from .libseccomp import compile_profile

        program = compile_profile(profile)
        kept.write(program)
    return Filter(program, flags)


class _Kept:
    """The place of a profile's program. Whatever is wrong with it, the program is made anew."""

    def __init__(self, state_directory: str, profile: Node) -> None:
        self._parent = state_directory
        text = f"{posix.uname().machine} {profile.value!r}"
        self._name = sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def read(self) -> bytes | None:
        """The program; None where it is not there, or anybody else could have written it."""
        try:
            directory = self._open()
        except OSError:
            return None
        try:
            descriptor = posix.open(
                self._name, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC, dir_fd=directory
            )
            try:
                program = posix.read(descriptor, _MAX_PROGRAM + 1) if is_own(posix.fstat(descriptor)) else b""
            finally:
                posix.close(descriptor)
        except OSError:
            return None
        finally:
            posix.close(directory)
        return program if 0 < len(program) <= _MAX_PROGRAM and len(program) % 8 == 0 else None

    def write(self, program: bytes) -> None:
        """Keep `program`, if that can be done."""
        try:
            for path in (f"{self._parent}/{_DIRECTORY}", f"{self._parent}/{_DIRECTORY}/seccomp"):
                try:
                    posix.mkdir(path, 0o700)
                except FileExistsError:
                    pass
            directory = self._open()
        except OSError:
            return
        try:
            names = posix.listdir(directory)
            for name in names if len(names) >= _MAX_KEPT else []:
                posix.unlink(name, dir_fd=directory)
            temporary = f".{posix.urandom(8).hex()}"
            descriptor = posix.open(
                temporary, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o600, dir_fd=directory
            )
            try:
                is_whole = posix.write(descriptor, program) == len(program)  # a full disk takes a part, or none
            except OSError:
                is_whole = False
            finally:
                posix.close(descriptor)
            if is_whole:
                posix.rename(temporary, self._name, src_dir_fd=directory, dst_dir_fd=directory)
            else:
                posix.unlink(temporary, dir_fd=directory)
        except OSError:
            pass  # a full disk, or another hook that tidied up meanwhile
        finally:
            posix.close(directory)

    def _open(self) -> int:
        flags = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
        outer = posix.open(f"{self._parent}/{_DIRECTORY}", flags)
        try:
            directory = posix.open("seccomp", flags, dir_fd=outer)
            if is_own(posix.fstat(outer), stat.S_IFDIR) and is_own(posix.fstat(directory), stat.S_IFDIR):
                return directory
            posix.close(directory)
        finally:
            posix.close(outer)
        raise PermissionError
