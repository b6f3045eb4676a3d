"""The numbers that a sweep writes: OpenMetrics, which node_exporter's parser reads too, and counters that go on."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from ssh_hook.commands import sweep
from ssh_hook.errors import (
    DISK_FULL,
    HOME_HANGS,
    INTERNAL,
    KINDS,
    NO_KEYS,
    NOT_TRUSTED,
    PORT_TAKEN,
    HookError,
    LateError,
)
from ssh_hook.health import metrics
from ssh_hook.node import last_messages, locks, places, public_file, user_child


def samples(text: str) -> dict[tuple[str, str], float]:
    """The samples as a strict parser of OpenMetrics reads them, by name and kind."""
    families = list(openmetrics.text_string_to_metric_families(text))
    found = {(s.name, s.labels.get("kind", "")): s.value for family in families for s in family.samples}
    old = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert {(s.name, s.labels.get("kind", "")): s.value for s in old} == found
    return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node without daemons, whose kept messages are here too."""
    monkeypatch.setattr(metrics, "find_all_daemons", list)
    tmp_path.chmod(0o755)
    return tmp_path


def fail(place: Path, uid: int, message: str, age: int, kind: str = NO_KEYS) -> None:
    """A user's start failed so many seconds ago."""
    lines = [f"time={int(time.time()) - age}", "container=x", "bundle=/b", "warning=w", "kind=no-shell"]
    text = "\n".join(["ssh_hook 1", *lines, f"error={message}", *([f"kind={kind}"] if kind else []), ""])
    places.write(uid, last_messages.ROOTS_NAMES[0], text.encode())


def test_counters_go_on_and_a_failure_is_counted_once(place: Path) -> None:
    file = place / "ssh_hook.prom"
    fail(place, 1001, "alice has no SSH keys in /home/alice", 100)
    fail(place, 1002, "port 15263 is in use by process 7", 50, kind=PORT_TAKEN)
    metrics.update(str(file), 2, 1)
    first = samples(file.read_text(encoding="ascii"))
    assert first["ssh_hook_failures_total", NO_KEYS] == first["ssh_hook_failures_total", PORT_TAKEN] == 1
    assert first["ssh_hook_failures_total", INTERNAL] == 0
    assert first["ssh_hook_collected_total", ""] == 2
    assert first["ssh_hook_sweep_errors_total", ""] == 1
    assert abs(first["ssh_hook_sweep_timestamp_seconds", ""] - time.time()) < 60
    assert first["ssh_hook_daemons", ""] == first["ssh_hook_sessions", ""] == 0
    metrics.update(str(file), 1, 0)
    again = samples(file.read_text(encoding="ascii"))
    assert again["ssh_hook_failures_total", NO_KEYS] == 1
    assert again["ssh_hook_collected_total", ""] == 3
    assert (file.stat().st_mode & 0o7777, [path.name for path in place.iterdir() if path.is_file()]) == (
        0o644,
        ["ssh_hook.prom"],
    )


def test_a_failure_of_this_second_is_counted_by_the_next_sweep() -> None:
    counted = metrics.Metrics()
    counted.count_failures(1000)
    assert counted.until == 999


def test_a_clock_that_was_set_back_stops_no_counter(place: Path) -> None:
    file = place / "ssh_hook.prom"
    file.write_text(f"ssh_hook_sweep_timestamp_seconds {int(time.time()) + 10**6}\n", encoding="ascii")
    file.chmod(0o644)
    metrics.update(str(file), 0, 0)
    assert samples(file.read_text(encoding="ascii"))["ssh_hook_sweep_timestamp_seconds", ""] < time.time()


@pytest.mark.parametrize(
    "text", ["", "\0" * 100, 'ssh_hook_failures_total{kind="nothing"} 5\n', "ssh_hook_collected_total 1e9\n", "# EOF"]
)
def test_an_earlier_file_that_is_damaged_begins_at_nought(place: Path, text: str) -> None:
    file = place / "ssh_hook.prom"
    file.write_text(text, encoding="ascii")
    metrics.update(str(file), 0, 0)
    found = samples(file.read_text(encoding="ascii"))
    assert {value for (name, _kind), value in found.items() if name.endswith("_total")} == {0}


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_could_have_written_is_not_read_and_is_replaced(place: Path, mode: int) -> None:
    file = place / "ssh_hook.prom"
    file.write_text("ssh_hook_collected_total 7\n", encoding="ascii")
    file.chmod(mode)
    metrics.update(str(file), 0, 0)
    assert file.stat().st_mode & 0o777 == 0o644
    assert samples(file.read_text(encoding="ascii"))["ssh_hook_collected_total", ""] == 0


def test_a_link_is_not_read_and_is_replaced(place: Path) -> None:
    elsewhere = place / "elsewhere"
    elsewhere.write_text("ssh_hook_collected_total 7\n", encoding="ascii")
    file = place / "ssh_hook.prom"
    file.symlink_to(elsewhere)
    metrics.update(str(file), 0, 0)
    assert not file.is_symlink()
    assert samples(file.read_text(encoding="ascii"))["ssh_hook_collected_total", ""] == 0
    assert elsewhere.read_text(encoding="ascii") == "ssh_hook_collected_total 7\n"


def test_a_directory_that_others_can_write_to_gets_nothing(place: Path) -> None:
    place.chmod(0o775)
    with pytest.raises(HookError, match="other users can write to") as refused:
        metrics.update(str(place / "ssh_hook.prom"), 0, 0)
    assert refused.value.kind == NOT_TRUSTED
    with pytest.raises(HookError, match="cannot write /no/such/file: No such file"):
        metrics.update("/no/such/file", 0, 0)
    assert not (place / "ssh_hook.prom").exists()


def test_nothing_of_a_message_is_in_the_file(place: Path) -> None:
    fail(place, 1001, 'alice"} 1\nssh_hook_daemons 9', 100)
    metrics.update(str(place / "ssh_hook.prom"), 0, 0)
    text = (place / "ssh_hook.prom").read_text(encoding="ascii")
    assert "alice" not in text and "1001" not in text
    assert samples(text)["ssh_hook_failures_total", NO_KEYS] == 1


def test_each_kind_is_a_label(place: Path) -> None:
    metrics.update(str(place / "ssh_hook.prom"), 0, 0)
    found = samples((place / "ssh_hook.prom").read_text(encoding="ascii"))
    assert {kind for name, kind in found if name == "ssh_hook_failures_total"} == set(KINDS)


def test_a_failure_that_an_earlier_version_kept_is_counted(place: Path) -> None:
    fail(place, 1001, "port 15263 is in use", 100, kind="")
    fail(place, 1002, "port 15263 is in use", 100, kind="of-a-later-version")
    metrics.update(str(place / "ssh_hook.prom"), 0, 0)
    assert samples((place / "ssh_hook.prom").read_text(encoding="ascii"))["ssh_hook_failures_total", INTERNAL] == 2


def test_they_are_written_last(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []
    monkeypatch.setattr(sweep, "Engine", Root)
    monkeypatch.setattr(sweep, "sweep", lambda _path: (2, 1))
    monkeypatch.setattr(sweep.janitor, "clean_up", lambda: done.append("janitor") or 3)
    monkeypatch.setattr(sweep, "collect_own", lambda _uid, _level: done.append("own") or 0)
    monkeypatch.setattr(metrics, "update", lambda *numbers: done.append(numbers))
    assert sweep.run(Namespace(metrics="/metrics"), {}) == sweep.INCOMPLETE
    assert done == ["janitor", ("/metrics", 2, 4)]


@pytest.mark.usefixtures("held_up")
def test_what_a_user_holds_up_does_not_hold_up_the_sweep(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """By a file system of hers that she has mounted on the file, so that its replacement waits."""
    file = place / "ssh_hook.prom"
    metrics.update(str(file), 2, 0)
    assert samples(file.read_text(encoding="ascii"))["ssh_hook_collected_total", ""] == 2
    assert f"{file} has been replaced, but the process that replaced it is blocked" in capfd.readouterr().err


def test_a_disk_that_is_full_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(public_file, "replace_files", fail)
    with pytest.raises(HookError, match=rf"^cannot write {place}/a: No space left on device$") as failed:
        metrics.update(f"{place}/a", 0, 0)
    assert failed.value.kind == DISK_FULL


def test_metrics_that_cannot_be_written_in_time_do_not_end_the_sweep(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def update(*_numbers: object) -> None:
        raise LateError(HOME_HANGS, "cannot write /metrics: no answer within 10 s")

    monkeypatch.setattr(sweep, "Engine", Root)
    monkeypatch.setattr(sweep, "sweep", lambda _path: (0, 0))
    monkeypatch.setattr(sweep.janitor, "clean_up", lambda: 0)
    monkeypatch.setattr(metrics, "update", update)
    assert sweep.run(Namespace(metrics="/metrics"), {}) == sweep.INCOMPLETE
    assert "cannot write /metrics: no answer within 10 s" in capfd.readouterr().err


def test_a_process_that_is_left_behind_is_the_only_one_of_metrics(
    place: Path, locked: Callable[[int, int], AbstractContextManager[None]]
) -> None:
    """Whatever else sweeps do goes on."""
    with locked(user_child.METRICS, locks.CHILD), pytest.raises(LateError, match="an earlier process is still blocked"):
        metrics.update(str(place / "ssh_hook.prom"), 2, 0)
    assert not (place / "ssh_hook.prom").exists()


class Root:
    host_uid = 0
