"""Limits of a container that crun sets for the hook too, which needs more."""

from __future__ import annotations

import resource
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ssh_hook.confine.rlimits import limit, limit_names, raise_own_limits
from ssh_hook.errors import HookError


@pytest.mark.parametrize(
    ("name", "soft", "hard", "problem"),
    [
        ("NOFILE", 10, 64, ""),
        (
            "NOFILE",
            10,
            63,
            "RLIMIT_NOFILE is too low for the hook, to which crun also applies it: raise it from 63",
        ),
        ("FSIZE", 1, 1 << 16, ""),
        ("FSIZE", 1, 1, "RLIMIT_FSIZE is too low for the hook"),
        ("FSIZE", 1, resource.RLIM_INFINITY, ""),
        ("CORE", 0, 5, ""),
    ],
)
def test_soft_limits_are_raised_and_hard_ones_that_are_too_low_told(
    name: str, soft: int, hard: int, problem: str, in_namespaces: Callable[[Callable[[], object]], Any]
) -> None:
    number = getattr(resource, f"RLIMIT_{name}")
    container: Any = SimpleNamespace(rlimits=[(f"RLIMIT_{name}", soft, hard)])

    def work() -> object:
        resource.setrlimit(number, (soft, hard))
        try:
            raise_own_limits(container)
        except HookError as error:
            return str(error)
        return resource.getrlimit(number)

    found = in_namespaces(work)
    if problem:
        assert problem in found
    else:
        assert found == ((soft if name == "CORE" else hard), hard)


def test_names_are_the_kernels() -> None:
    for name in limit_names():
        assert limit(name) == getattr(resource, name, limit(name))
    for wrong in ("RLIMIT_NICER", "NOFILE", "RLIMIT_", "rlimit_nofile"):
        with pytest.raises(HookError, match=f"does not support '{wrong}'"):
            limit(wrong)
