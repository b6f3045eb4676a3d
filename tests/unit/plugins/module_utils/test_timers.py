"""systemd timers are written, started where they are not, and removed, by a systemctl that only writes down its
calls."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils import _timers as timers
from ansible_collections.ocihooks.ssh.plugins.module_utils._keys import name_service

MARK = f"{name_service.MARK.decode()}\n"
INSTALL = f"{MARK}[Timer]\n[Install]\nWantedBy=timers.target\n"
SERVICE = f"{MARK}[Service]\n"
UNITS = {"a.service": SERVICE, "a.timer": INSTALL, "b.service": SERVICE, "b.timer": INSTALL}


class Systemd:
    """Stands for systemd: the calls of systemctl that change something, and the timers that run."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.running: set[str] = set()

    def __call__(self, *arguments: str, check: bool = True) -> bool:
        verb, *names = arguments
        if verb in ("is-enabled", "is-active"):
            return names[0] in self.running
        self.calls.append(" ".join(arguments))
        self.running = self.running | set(names) if verb in ("start", "restart") else self.running - set(names)
        return True


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    fake = Systemd()
    monkeypatch.setattr(timers, "systemctl", fake)
    monkeypatch.setattr(timers, "runs_systemd", lambda: True)
    monkeypatch.setattr(timers, "UNITS", str(tmp_path))
    monkeypatch.setattr(timers._files, "ROOT", (os.geteuid(), os.getegid()))
    return fake


def test_timers_are_installed_and_started_once(tmp_path: Path, systemd: Systemd) -> None:
    assert timers.install(UNITS, check=True) == (list(UNITS), ["a.timer", "b.timer"])
    assert (list(tmp_path.iterdir()), systemd.calls) == ([], [])
    assert timers.install(UNITS, check=False) == (list(UNITS), ["a.timer", "b.timer"])
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == UNITS
    assert systemd.calls == ["daemon-reload", "enable a.timer", "restart a.timer", "enable b.timer", "restart b.timer"]
    systemd.calls.clear()
    assert timers.install(UNITS, check=False) == ([], [])
    assert systemd.calls == []


def test_a_changed_unit_restarts_its_timer_alone(systemd: Systemd) -> None:
    timers.install(UNITS, check=False)
    systemd.calls.clear()
    changed = {**UNITS, "b.service": f"{SERVICE}Type=oneshot\n"}
    assert timers.install(changed, check=False) == (["b.service"], ["b.timer"])
    assert systemd.calls == ["daemon-reload", "enable b.timer", "restart b.timer"]


def test_drop_ins_of_our_units_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a unit, a template, an instance, and all units that begin alike; not of others (systemd.unit(5))."""
    monkeypatch.setattr(timers, "SEARCHED", (str(tmp_path), str(tmp_path / "none")))
    ours = ["ssh-hook-sweep.service.d", "ssh-hook-sweep.timer.d", "ssh-hook-sweep@.service.d", "ssh-hook-.timer.d"]
    ours += ["ssh-hook-sweep@1000.service.d", "ssh-.service.d"]
    for name in [*ours, "ssh-agent.service.d", "ssh.service.d", "ssh-hook-sweeper.service.d"]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.conf").touch()
    (tmp_path / "ssh-.service.d/README").touch()
    found = timers.drop_ins(["ssh-hook-sweep", "ssh-hook-passwd"])
    assert found == sorted(f"{tmp_path}/{name}/own.conf" for name in ours)


def test_a_timer_that_was_stopped_is_started(systemd: Systemd) -> None:
    timers.install(UNITS, check=False)
    systemd.calls.clear()
    systemd.running.discard("a.timer")
    assert timers.install(UNITS, check=False) == ([], ["a.timer"])
    assert systemd.calls == ["enable a.timer", "start a.timer"]


def test_only_units_of_a_timer_that_runs_count_as_installed(tmp_path: Path, systemd: Systemd) -> None:
    timers.install(UNITS, check=False)
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in UNITS.items()}
    assert timers.installed_units(["a", "b", "none"]) == digests
    systemd.running.discard("a.timer")
    (tmp_path / "b.service").write_text(f"{SERVICE}Type=oneshot\n", encoding="utf-8")
    found = timers.installed_units(["a", "b"])
    assert (list(found), found["b.timer"]) == (["b.service", "b.timer"], digests["b.timer"])
    assert found["b.service"] != digests["b.service"]
    (tmp_path / "b.service").chmod(0o666)
    assert timers.installed_units(["a", "b"]) == {}


def test_a_timer_is_removed_with_its_service(tmp_path: Path, systemd: Systemd) -> None:
    timers.install(UNITS, check=False)
    systemd.calls.clear()
    assert timers.remove(["a", "none"], check=True) == ["a"]
    assert (systemd.calls, len(list(tmp_path.iterdir()))) == ([], 4)
    assert timers.remove(["a", "none"], check=False) == ["a"]
    assert systemd.calls == ["stop a.timer", "disable a.timer", "daemon-reload"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.service", "b.timer"]


def test_a_template_of_the_service_belongs_to_the_timer(tmp_path: Path, systemd: Systemd) -> None:
    template = {"a@.service": SERVICE}
    timers.install({**UNITS, **template}, check=False)
    digests = timers.installed_units(["a", "b"])
    assert (len(digests), digests["a@.service"]) == (5, digests["a.service"])
    systemd.calls.clear()
    template["a@.service"] += "Nice=1\n"
    assert timers.install({**UNITS, **template}, check=False) == (["a@.service"], ["a.timer"])
    (tmp_path / "a.service").unlink()
    (tmp_path / "a.timer").unlink()
    assert timers.unwanted(["a", "none"]) == ["a"]
    assert timers.remove(["a"], check=False) == ["a"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.service", "b.timer"]


def test_where_systemd_does_not_run_only_files_are_removed(
    tmp_path: Path, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers.install(UNITS, check=False)
    systemd.calls.clear()
    monkeypatch.setattr(timers, "runs_systemd", lambda: False)
    assert timers.remove(["a", "b"], check=False) == ["a", "b"]
    assert (systemd.calls, list(tmp_path.iterdir())) == ([], [])


def test_a_systemctl_that_fails_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "systemctl"
    program.write_text("#!/bin/sh\necho first >&2\necho 'no such unit' >&2\nexit 5\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(timers.shutil, "which", lambda _name, path: str(program))
    with pytest.raises(timers.SystemdError, match=r"^systemctl start x.timer failed: no such unit$"):
        timers.systemctl("start", "x.timer")
    assert timers.systemctl("is-active", "x.timer", check=False) is False


@pytest.fixture
def image(tmp_path: Path, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of units in an image, where systemctl is not to be called."""
    monkeypatch.setattr(timers, "runs_systemd", lambda: False)
    yield tmp_path
    assert systemd.calls == []


def links(image: Path) -> dict[str, str]:
    return {str(path.relative_to(image)): os.readlink(path) for path in image.glob("*.wants/*")}


def test_in_an_image_timers_are_enabled_by_links(image: Path) -> None:
    assert timers.install(UNITS, check=True) == (list(UNITS), ["a.timer", "b.timer"])
    assert list(image.iterdir()) == []
    assert timers.install(UNITS, check=False) == (list(UNITS), ["a.timer", "b.timer"])
    wanted = {f"timers.target.wants/{name}.timer": f"{image}/{name}.timer" for name in "ab"}
    assert links(image) == wanted
    assert timers.install(UNITS, check=False) == ([], [])
    link = image / "timers.target.wants/b.timer"
    for target in (None, "/dev/null", "/usr/lib/systemd/system/b.timer"):
        link.unlink()
        if target:
            link.symlink_to(target)
        assert timers.install(UNITS, check=True) == ([], ["b.timer"])
        assert timers.install(UNITS, check=False) == ([], ["b.timer"])
        assert links(image) == wanted


def test_what_removal_leaves_in_an_image_are_other_units(image: Path) -> None:
    timers.install(UNITS, check=False)
    other = image / "timers.target.wants/other.timer"
    other.symlink_to("/usr/lib/systemd/system/other.timer")
    assert timers.remove(["a"], check=True) == ["a"]
    assert timers.remove(["a"], check=False) == ["a"]
    assert set(links(image)) == {"timers.target.wants/b.timer", "timers.target.wants/other.timer"}
    other.unlink()
    assert timers.remove(["a", "b"], check=False) == ["b"]
    assert list(image.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (INSTALL, ["timers.target"]),
        ("[Install]\nWantedBy=a.target b.target\nWantedBy=c.target\n", ["a.target", "b.target", "c.target"]),
        ("[Timer]\nOnBootSec=1\n", []),
    ],
)
def test_what_wants_a_unit(text: str, expected: list[str]) -> None:
    assert timers.targets(text) == expected


@pytest.mark.parametrize(
    ("image_root", "first", "installed", "expected"),
    [
        (False, b"systemd\n", False, True),
        (False, b"catatonit\n", True, False),
        (True, b"systemd\n", False, False),  # the machine's, by its /proc
        (True, b"", True, True),
    ],
)
def test_where_timers_are_of_use(
    monkeypatch: pytest.MonkeyPatch, image_root: bool, first: bytes, installed: bool, expected: bool
) -> None:
    monkeypatch.setattr(timers._image, "is_image", lambda: image_root)
    monkeypatch.setattr(timers._image, "has_systemd", lambda: installed)
    monkeypatch.setattr(timers._files, "read", lambda _path: first)
    assert timers.uses_systemd() is expected
    assert timers.runs_systemd() is (expected and not image_root)


def test_a_unit_of_the_site_is_neither_replaced_nor_removed(tmp_path: Path, systemd: Systemd) -> None:
    masked = tmp_path / "a.timer"
    masked.symlink_to("/dev/null")  # as systemctl mask does
    for check in (True, False):
        with pytest.raises(OSError, match="this collection did not write it"):
            timers.install({"a.timer": INSTALL}, check=check)
    with pytest.raises(OSError, match="this collection did not write it"):
        timers.remove(["a"], check=False)
    assert (os.readlink(masked), systemd.calls) == ("/dev/null", [])
    assert timers.installed_units(["a"]) == {}
