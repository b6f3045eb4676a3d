"""Who holds a port, where the library that tells is missing or broken. What it tells is shown with real containers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ssh_hook.kernel.identity import Identity
from ssh_hook.stages import port


@pytest.mark.parametrize(
    "library",
    [
        None,
        "raise ImportError",
        "raise RuntimeError('broken')",
        "class DiagSocket:\n    def __enter__(self): raise OSError(93, 'Protocol not supported')\n",
    ],
)
def test_without_the_library_the_holder_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, library: str | None
) -> None:
    if library is not None:
        (tmp_path / "pyroute2.py").write_text(library, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "pyroute2", raising=False)
    assert port.describe_holder(1, Identity(1000, 1000), [str(tmp_path)]) == ""
