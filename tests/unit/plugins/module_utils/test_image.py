"""An image of a node is told from a node that runs by the root directory of the first process."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils import _image as image


def test_a_chroot_is_an_image_and_so_is_a_tree_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "FIRST_ROOT", "/proc/self/root")
    assert not image.is_image()
    monkeypatch.setattr(image, "ROOT", str(tmp_path))
    assert image.is_image()
    monkeypatch.setattr(image, "FIRST_ROOT", str(tmp_path / "proc/1/root"))
    assert image.is_image()


def test_a_user_who_may_not_ask_is_on_a_node_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> os.stat_result:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(image, "os", SimpleNamespace(stat=refuse, path=os.path))
    assert not image.is_image()


def test_systemd_is_there_before_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "SYSTEMD", (str(tmp_path / "none"), str(tmp_path / "systemd")))
    assert not image.has_systemd()
    (tmp_path / "systemd").touch()
    assert image.has_systemd()


def test_the_null_device_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert image.has_null()
    monkeypatch.setattr(image, "NULL", str(tmp_path / "null"))
    assert not image.has_null()
    (tmp_path / "null").touch()
    assert not image.has_null()
