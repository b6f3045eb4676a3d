# SPDX-License-Identifier: GPL-3.0-or-later
"""Compile a seccomp profile with libseccomp, as crun and runc do.

libseccomp's own Python module exists only for the distribution's Python, and in no package index. So this module calls
the library's functions directly.

Formats: https://github.com/opencontainers/runtime-spec (config-syscalls.md, Seccomp); libseccomp's seccomp.h.
"""

from __future__ import annotations

import errno

from ..errors import INSTALL_DAMAGED, SECCOMP_UNKNOWN, HookError, printable
from ..fast_stdlib import TYPE_CHECKING, closing, fsencode, os
from ..linux import syscalls

if TYPE_CHECKING:
    from ..oci.json_reader import Node

_LIBRARY = "libseccomp.so.2"
_MAX_PROGRAM = 1 << 20  # bytes; the kernel's limit is far lower
_MAX_ARGUMENTS = 6  # of a system call
# SCMP_FLTATR_CTL_OPTIMIZE: 2 is a binary tree. Otherwise the kernel needs 0.6 ms more to check podman's program, and
# each system call is compared with a linear list. libseccomp 2.5.0 to 2.5.3 cannot build an empty tree.
_OPTIMIZE, _TREE = 8, 2
_MIN_CALLS_FOR_TREE = 32  # calls
_UNKNOWN_CALL = -1
_ERRNO = 0x00050000
_TRACE = 0x7FF00000
_ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": _ERRNO,
    "SCMP_ACT_TRACE": _TRACE,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_COMPARISONS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}


def compile_profile(profile: Node) -> bytes:
    """Compile `profile`, the object `linux.seccomp` of config.json, to a BPF program. Raises HookError."""
    library = load()
    default = _action(profile, "defaultAction", "defaultErrnoRet")
    context = library.pointer("seccomp_init", default)
    if context == 0:
        raise HookError(SECCOMP_UNKNOWN, f"{profile.where}: libseccomp does not accept the default action")
    try:
        _add_architectures(library, context, profile)
        calls = sum(_add_rule(library, context, rule, default) for rule in profile.nodes("syscalls"))
        if calls >= _MIN_CALLS_FOR_TREE:
            library.call("seccomp_attr_set", context, _OPTIMIZE, _TREE)  # fails before 2.5, harmlessly
        return _export(library, context)
    finally:
        library.call("seccomp_release", context)


def load() -> syscalls.Library:
    """Load the library. Raises HookError."""
    try:
        return syscalls.Library(_LIBRARY)
    except OSError as error:
        raise HookError(INSTALL_DAMAGED, f"{_LIBRARY} cannot be loaded ({error}): install libseccomp") from None


def _action(node: Node, name: str, errno_name: str) -> int:
    action = node.text(name)
    if action == "SCMP_ACT_NOTIFY":
        raise HookError(SECCOMP_UNKNOWN, f"{node.where}: it passes system calls to another process (SCMP_ACT_NOTIFY)")
    if action not in _ACTIONS:
        raise HookError(SECCOMP_UNKNOWN, f"{node.where}: this hook does not support the action '{printable(action)}'")
    value = _ACTIONS[action]
    if value not in (_ERRNO, _TRACE):
        return value
    return value | (node.integer(errno_name, 0, 0xFFFF) if node.has(errno_name) else errno.EPERM)


def _add_architectures(library: syscalls.Library, context: int, profile: Node) -> None:
    for name in profile.texts("architectures"):
        token = library.call("seccomp_arch_resolve_name", fsencode(name.replace("SCMP_ARCH_", "", 1).lower()))
        if token == 0:
            raise HookError(
                SECCOMP_UNKNOWN, f"{profile.where}: libseccomp does not support the architecture '{printable(name)}'"
            )
        _check(library.call("seccomp_arch_add", context, token), profile, (errno.EEXIST,))


def _add_rule(library: syscalls.Library, context: int, rule: Node, default: int) -> int:
    """Add `rule` to the filter `context`; return the number of system calls in it. Raises HookError."""
    action = _action(rule, "action", "errnoRet")
    if action == default:
        return 0  # libseccomp rejects rules with the default action
    comparisons = [_comparison(argument) for argument in rule.nodes("args")]
    indices = [index for index, _packed in comparisons]
    # Several conditions on one argument are alternatives: libseccomp needs a separate rule for each.
    alternatives = [[packed] for _index, packed in comparisons]
    together = [[packed for _index, packed in comparisons]]
    added = 0
    for name in rule.texts("names"):
        number = library.call("seccomp_syscall_resolve_name", fsencode(name))
        if number == _UNKNOWN_CALL:
            continue  # newer than the library, or for another architecture: runtimes skip it too
        for conditions in together if len(set(indices)) == len(indices) else alternatives:
            packed = b"".join(conditions)
            _check(library.call("seccomp_rule_add_array", context, action, number, len(conditions), packed), rule, ())
        added += 1
    return added


def _comparison(argument: Node) -> tuple[int, bytes]:
    """Return the index of the system call's argument, and a struct scmp_arg_cmp. Raises HookError."""
    operator = argument.text("op")
    if operator not in _COMPARISONS:
        raise HookError(
            SECCOMP_UNKNOWN, f"{argument.where}: this hook does not support the operator '{printable(operator)}'"
        )
    index = argument.integer("index", 0, _MAX_ARGUMENTS - 1)
    first = argument.integer("value", 0, 2**64 - 1)
    second = argument.integer("valueTwo", 0, 2**64 - 1) if argument.has("valueTwo") else 0
    return index, syscalls.integers((index, 4), (_COMPARISONS[operator], 4), (first, 8), (second, 8))


def _check(result: int, node: Node, allowed: tuple[int, ...]) -> None:
    if result < 0 and -result not in allowed:
        raise HookError(SECCOMP_UNKNOWN, f"{node.where}: libseccomp does not accept it: {os.strerror(-result)}")


def _export(library: syscalls.Library, context: int) -> bytes:
    with closing(os.memfd_create("seccomp")) as descriptor:
        result = library.call("seccomp_export_bpf", context, descriptor)
        if result < 0:
            raise HookError(SECCOMP_UNKNOWN, f"libseccomp cannot generate the filter: {os.strerror(-result)}")
        return os.pread(descriptor, _MAX_PROGRAM, 0)
