# SPDX-License-Identifier: GPL-3.0-or-later
"""The container's seccomp profile as a filter for its SSH sessions.

libseccomp, present on every node with crun or runc, compiles the profile in config.json. That takes some 20 ms, so
compiled programs are cached in a directory of the engine's user (engine.py).

Formats: https://github.com/opencontainers/runtime-spec (config-linux.md, Seccomp); seccomp(2); libseccomp's seccomp.h.
"""

from __future__ import annotations

from ..errors import SECCOMP_UNKNOWN, HookError, printable
from ..fast_stdlib import TYPE_CHECKING, closing, fsencode, os, sha256, stat
from ..linux.files import is_own, read_own, replace_files
from ..node.locks import make_place

if TYPE_CHECKING:
    from ..oci.json_reader import Node

sha256(b"")  # loads the library now, before the hook forks

_MAX_PROGRAM = 4096 * 8  # bytes: the kernel accepts 4,096 instructions
_MAX_CACHED = 64  # programs; sites have a handful of profiles
_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1 << 0,
    "SECCOMP_FILTER_FLAG_LOG": 1 << 1,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 1 << 2,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 1 << 5,
}


class Filter:
    """A seccomp filter. Attributes: program, its BPF instructions; flags, as in seccomp(2)."""

    def __init__(self, program: bytes, flags: int) -> None:
        self.program = program
        self.flags = flags


def make_filter(profile: Node, state_directory: str) -> Filter:
    """Return the filter for `profile`, the object `linux.seccomp` of config.json; cache it in `state_directory`.

    Raises HookError if the profile cannot be compiled.
    """
    flags = 0
    for name in profile.texts("flags"):
        if name not in _FLAGS:
            raise HookError(
                SECCOMP_UNKNOWN, f"{profile.where}: this hook does not support the flag '{printable(name)}'"
            )
        flags |= _FLAGS[name]
    cached = _CachedProgram(state_directory, profile)
    program = cached.read()
    if program is None:
        from .libseccomp import compile_profile

        program = compile_profile(profile)
        cached.write(program)
    return Filter(program, flags)


class _CachedProgram:
    """The cache entry for a profile's program. Any error counts as a miss."""

    def __init__(self, state_directory: str, profile: Node) -> None:
        self._outer = state_directory
        self._name = sha256(fsencode(f"{os.uname().machine} {profile.value!r}")).hex()

    def read(self) -> bytes | None:
        """Return the program; None if it is not cached, or someone else could have written it."""
        try:
            with closing(self._open()) as directory:
                program = read_own(self._name, _MAX_PROGRAM, directory) or b""
        except OSError:
            return None
        return program if 0 < len(program) <= _MAX_PROGRAM and len(program) % 8 == 0 else None

    def write(self, program: bytes) -> None:
        """Cache `program`, if possible; clear a full cache first."""
        try:
            make_place(self._outer)
            try:
                os.mkdir(f"{self._outer}/seccomp", 0o700)
            except FileExistsError:
                pass
            with closing(self._open()) as directory:
                names = os.listdir(directory)
                for name in names if len(names) >= _MAX_CACHED else []:
                    os.unlink(name, dir_fd=directory)
                replace_files(directory, {self._name: program})
        except OSError:
            pass  # the disk is full, or another hook has cleared the cache

    def _open(self) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        with closing(os.open(self._outer, flags)) as outer:
            directory = os.open("seccomp", flags, dir_fd=outer)
            if is_own(os.fstat(outer), stat.S_IFDIR) and is_own(os.fstat(directory), stat.S_IFDIR):
                return directory
        os.close(directory)
        raise PermissionError
