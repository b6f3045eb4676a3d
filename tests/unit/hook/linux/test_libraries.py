"""What the hook loads from libraries, compared with the oldest that it runs with: glibc 2.28 and libseccomp 2.5."""

from __future__ import annotations

import ast
import ctypes
from collections.abc import Iterator
from pathlib import Path

import ssh_hook

PACKAGE = Path(ssh_hook.__file__).parent
# That of EL 8; a function has had the version of the release it came with, and may have got a newer one besides.
GLIBC = 28
VERSIONS = ["GLIBC_2.2.5", "GLIBC_2.3.2", "GLIBC_2.3.4", *(f"GLIBC_2.{minor}" for minor in range(2, GLIBC + 1))]
# Of libseccomp 2.5. 2.6 has added seccomp_export_bpf_mem, seccomp_precompute, seccomp_transaction_*.
LIBSECCOMP = {
    *("seccomp_init", "seccomp_release", "seccomp_attr_set", "seccomp_arch_resolve_name", "seccomp_arch_add"),
    *("seccomp_syscall_resolve_name", "seccomp_rule_add_array", "seccomp_export_bpf"),
}


def functions() -> Iterator[str]:
    """Yield the names of the C functions that the hook's modules call."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
                called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                first = node.args[0] if node.args else None
                if called in ("_call", "call", "pointer") and isinstance(first, ast.Constant):
                    yield str(first.value)
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "ctypes.CDLL(None)":
                yield node.attr


def is_in_glibc(name: str) -> bool:
    """Return whether this machine's glibc has a function with a version of 2.28 or before."""
    dlvsym = ctypes.CDLL(None).dlvsym
    dlvsym.restype, dlvsym.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]
    return any(dlvsym(None, name.encode(), version.encode()) for version in VERSIONS)


def test_the_functions_are_in_the_oldest_libraries() -> None:
    names = set(functions())
    assert {"setns", "prlimit", "renameat2", "seccomp_init"} <= names
    assert is_in_glibc("renameat2")  # of 2.28 itself
    assert not is_in_glibc("close_range")  # of 2.34
    assert {name for name in names if not is_in_glibc(name)} == LIBSECCOMP
