"""Who holds a port, where the library that tells is missing or broken. What it tells is shown with real containers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ssh_hook.linux.identity import Identity
from ssh_hook.start import port

LIBRARY = """
class DiagSocket:
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def get_sock_stats(self, states, family): return [{"idiag_sport": 1, "idiag_inode": 0, "idiag_uid": 4294967294}]
"""


@pytest.mark.parametrize(
    ("library", "described"),
    [
        (LIBRARY, " by a process of "),
        (None, ""),
        ("raise ImportError", ""),
        ("raise RuntimeError('broken')", ""),
        (LIBRARY.replace("return self", "raise OSError(93, 'Protocol not supported')"), ""),
    ],
)
def test_without_the_library_the_holder_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, library: str | None, described: str
) -> None:
    if library is not None:
        (tmp_path / "pyroute2.py").write_text(library, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "pyroute2", raising=False)
    said = port.describe_holder(1, Identity(1000, 1000), [str(tmp_path)])
    assert said.startswith(described) and bool(said) is bool(described)
