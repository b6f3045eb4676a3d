"""A collection that was built without files/ is refused in a sentence."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.ocihooks.ssh.plugins.plugin_utils import _sources as sources


def test_whole_collection() -> None:
    assert sources.missing_sources() == []


def test_collection_without_files(tmp_path: Path) -> None:
    (sentence,) = sources.missing_sources(tmp_path / "ssh_hook")
    assert f"no hook in {tmp_path}/ssh_hook, so it was built without all of its files" in sentence
