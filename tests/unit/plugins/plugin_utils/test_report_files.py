"""An audit's report replaces only an earlier one."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.ocihooks.ssh.plugins.plugin_utils import _audit as audit
from ansible_collections.ocihooks.ssh.plugins.plugin_utils import _report_files as report_files


def test_a_report_replaces_only_an_earlier_one(tmp_path: Path) -> None:
    text = audit.report([audit.failed_row("n1", "gone")], None, None, "1.0.0")
    other = tmp_path / "audit.html"
    other.write_text("<title>The site's</title>", encoding="utf-8")
    with pytest.raises(OSError, match=f"no audit wrote this file, so it stays: '{other}'"):
        report_files.write(str(tmp_path), text, check=True)
    assert other.read_text(encoding="utf-8") == "<title>The site's</title>"
    other.unlink()
    paths = [str(tmp_path / name) for name in ("audit.json", "audit.html")]
    assert report_files.write(str(tmp_path), text, check=False) == paths
    assert report_files.write(str(tmp_path), text, check=False) == []
    changed = audit.report([audit.failed_row("n2", "gone")], None, None, "1.0.1")
    assert report_files.write(str(tmp_path), changed, check=False) == paths
