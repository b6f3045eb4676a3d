"""CDI is switched on in Docker's configuration, and all else in it stays."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils import _docker as docker


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, {"features": {"cdi": True}}),
        ("", {"features": {"cdi": True}}),
        (
            '{"log-level": "warn", "features": {"buildkit": false}, "proxies": {"no-proxy": "\u00e9"}}',
            {"log-level": "warn", "features": {"buildkit": False, "cdi": True}, "proxies": {"no-proxy": "\u00e9"}},
        ),
        ('{"features": {"cdi": false}}', {"features": {"cdi": True}}),
        ('{"features": null}', {"features": {"cdi": True}}),
    ],
)
def test_dockers_settings_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None, after: dict[str, object]
) -> None:
    owners: list[tuple[int, int]] = []
    monkeypatch.setattr(docker._files.os, "fchown", lambda _file, uid, gid: owners.append((uid, gid)))
    path = tmp_path / "docker" / "daemon.json"
    if before is not None:
        path.parent.mkdir()
        path.write_text(before, encoding="utf-8")
        path.chmod(0o600)
    assert docker.switch_on(str(path), check=True)
    assert not path.exists() if before is None else path.read_text(encoding="utf-8") == before
    assert docker.switch_on(str(path), check=False)
    assert list(json.loads(path.read_text(encoding="utf-8")).items()) == list(after.items())
    assert path.stat().st_mode & 0o777 == (0o644 if before is None else 0o600)
    assert owners[-1] == ((0, 0) if before is None else (os.getuid(), os.getgid()))
    assert not docker.switch_on(str(path), check=False)
    assert list(path.parent.iterdir()) == [path]


def test_a_link_to_dockers_settings_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker._files.os, "fchown", lambda _file, _uid, _gid: None)
    target, link = tmp_path / "site.json", tmp_path / "daemon.json"
    target.write_text("{}", encoding="utf-8")
    link.symlink_to(target)
    assert docker.switch_on(str(link), check=False)
    assert link.is_symlink()
    assert json.loads(target.read_text(encoding="utf-8")) == {"features": {"cdi": True}}


@pytest.mark.parametrize("text", ["{", "[]", '{"features": []}', "\xff"])
def test_settings_that_docker_would_not_take_are_left(tmp_path: Path, text: str) -> None:
    path = tmp_path / "daemon.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(docker.NotChanged) as refused:
        docker.switch_on(str(path), check=False)
    assert path.read_text(encoding="latin-1") == text
    assert str(refused.value).startswith(f"{path} is not ")
    assert "\n" not in str(refused.value)


def test_only_what_changes_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker._files.os, "fchown", lambda _file, _uid, _gid: None)
    path = tmp_path / "daemon.json"
    for features, before in (({"buildkit": True}, {}), ({"cdi": False}, {"cdi": False})):
        proxies = {"http-proxy": "http://user:secret@proxy"}
        path.write_text(json.dumps({"proxies": proxies, "features": features}))
        shown = docker.switch_on(str(path), check=False)
        assert shown is not None
        assert [json.loads(text) for text in shown] == [{"features": before}, {"features": {"cdi": True}}]
        assert json.loads(path.read_text())["proxies"] == proxies
