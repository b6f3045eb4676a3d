from __future__ import annotations

from pathlib import Path

import pytest
from sites import ROOT, Site


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Ansible finds this checkout as the collection."""
    directory = tmp_path_factory.mktemp("settings")
    namespace = directory / "collections" / "ansible_collections" / "ocihooks"
    namespace.mkdir(parents=True)
    (namespace / "ssh").symlink_to(ROOT)
    (directory / "ansible.cfg").write_text("[defaults]\n")  # none of the machine's
    return directory


@pytest.fixture
def site(tmp_path: Path, settings: Path) -> Site:
    """A site where nothing was done yet."""
    directory = tmp_path / "site"
    directory.mkdir()
    return Site(directory, settings)
