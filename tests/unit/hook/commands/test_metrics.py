"""The numbers that a sweep writes: OpenMetrics, which node_exporter's parser reads too, and counters that go on."""

from __future__ import annotations

import ast
import os
import time
from pathlib import Path

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from ssh_hook import commands
from ssh_hook.commands import metrics
from ssh_hook.errors import HookError
from ssh_hook.node import last_messages

SOURCES = Path(commands.__file__).parents[1]


def samples(text: str) -> dict[tuple[str, str], float]:
    """The samples as a strict parser of OpenMetrics reads them, by name and reason."""
    families = list(openmetrics.text_string_to_metric_families(text))
    found = {(s.name, s.labels.get("reason", "")): s.value for family in families for s in family.samples}
    old = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert {(s.name, s.labels.get("reason", "")): s.value for s in old} == found
    return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node without daemons, whose kept messages are here too."""
    monkeypatch.setattr(metrics, "find_daemons", list)
    monkeypatch.setattr(last_messages, "ROOT_PLACE", str(tmp_path))
    (tmp_path / last_messages.DIRECTORY).mkdir()
    tmp_path.chmod(0o755)
    return tmp_path


def fail(place: Path, uid: int, message: str, age: int) -> None:
    """A user's start failed so many seconds ago."""
    text = f"ssh_hook 1\ntime={int(time.time()) - age}\ncontainer=x\nbundle=/b\nwarning=seccomp\nerror={message}\n"
    (place / last_messages.DIRECTORY / f"{uid}").write_text(text, encoding="utf-8")


def test_counters_go_on_and_a_failure_is_counted_once(place: Path) -> None:
    file = place / "ssh_hook.prom"
    fail(place, 1001, "alice has no SSH keys in /home/alice", 100)
    fail(place, 1002, "port 15263 is in use by process 7", 50)
    metrics.update(str(file), 2, 1)
    first = samples(file.read_text(encoding="ascii"))
    assert first["ssh_hook_failures_total", "keys"] == first["ssh_hook_failures_total", "port"] == 1
    assert first["ssh_hook_failures_total", "other"] == 0
    assert first["ssh_hook_collected_total", ""] == 2
    assert first["ssh_hook_sweep_errors_total", ""] == 1
    assert abs(first["ssh_hook_sweep_timestamp_seconds", ""] - time.time()) < 60
    assert first["ssh_hook_daemons", ""] == first["ssh_hook_sessions", ""] == 0
    metrics.update(str(file), 1, 0)
    again = samples(file.read_text(encoding="ascii"))
    assert again["ssh_hook_failures_total", "keys"] == 1
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
    "text", ["", "\0" * 100, 'ssh_hook_failures_total{reason="nothing"} 5\n', "ssh_hook_collected_total 1e9\n", "# EOF"]
)
def test_an_earlier_file_that_is_damaged_begins_at_nought(place: Path, text: str) -> None:
    file = place / "ssh_hook.prom"
    file.write_text(text, encoding="ascii")
    metrics.update(str(file), 0, 0)
    found = samples(file.read_text(encoding="ascii"))
    assert {value for (name, _reason), value in found.items() if name.endswith("_total")} == {0}


def test_a_file_of_another_or_a_link_is_not_read_and_is_replaced(place: Path) -> None:
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
    with pytest.raises(HookError, match="others can write to"):
        metrics.update(str(place / "ssh_hook.prom"), 0, 0)
    with pytest.raises(HookError, match="cannot write /no/such/file: No such file"):
        metrics.update("/no/such/file", 0, 0)
    assert not (place / "ssh_hook.prom").exists()


def test_nothing_of_a_message_is_in_the_file(place: Path) -> None:
    fail(place, 1001, 'alice"} 1\nssh_hook_daemons 9', 100)
    metrics.update(str(place / "ssh_hook.prom"), 0, 0)
    text = (place / "ssh_hook.prom").read_text(encoding="ascii")
    assert "alice" not in text and "1001" not in text
    assert samples(text)["ssh_hook_failures_total", "other"] == 1


def texts_of(path: Path) -> list[str]:
    """The texts of a module's messages: comments and docstrings, which name the same things, are none."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        text_of(node)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Constant, ast.JoinedStr)) and id(node) not in parts | docstrings
    ]


def text_of(node: ast.expr) -> str:
    """The text of a literal, in which a constant stands for the name of an annotation."""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text_of, node.values))
    if isinstance(node, ast.FormattedValue):
        return "com.hooks." if isinstance(node.value, ast.Name) and node.value.id.isupper() else "\0"
    return str(node.value) if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def test_each_reason_has_words_that_the_hook_says() -> None:
    modules = [path for path in SOURCES.rglob("*.py") if path.parent.name != "commands"]  # what a start may say
    said = "\n".join(text for path in modules for text in texts_of(path))
    system = {os.strerror(number) for number in (28, 122, 30)}
    unsaid = [(reason, word) for reason, words in metrics.REASONS for word in words if word not in said]
    assert [word for _reason, word in unsaid if word not in system] == []


def test_comments_and_docstrings_are_not_what_the_hook_says(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        '''"""one"""\ndef f(x):\n    """two"""\n    return f"three {x}" " four", f"{NAME}five"  # six\n''',
        encoding="ascii",
    )
    assert sorted(texts_of(module)) == ["com.hooks.five", "three \0 four"]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("port 15263 is in use by nginx: choose another by the annotation com.hooks.ssh.port", "port"),
        ("the annotation com.hooks.ssh.port is '80000': give a port number", "annotation"),
        (
            "cannot mount an overlay on /root/.ssh in the container: x; A=false in the OCI hook's JSON file",
            "mount",
        ),
        ("no user has the uid 7 in PASSWD_FILE /etc/passwd: add one, or refresh the file", "user"),
        ("PASSWD_FILE /etc/passwd has a line of more than 9 bytes: refresh the file", "node"),
        ("/home/alice/x: No space left on device", "disk"),
        ("something new", "other"),
    ],
)
def test_reasons(message: str, reason: str) -> None:
    assert metrics.reason_of(message) == reason
