"""The record of a daemon, as the second hook of a start reads it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ssh_hook.linux.identity import Identity
from ssh_hook.linux.process import Process, pid_namespace
from ssh_hook.node import record


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def init() -> Iterator[Process]:
    process = Process(os.getpid())
    yield process
    process.close()


def written(bundle: int, init: Process, tmp_path: Path) -> Path:
    """The record of a daemon that was started for `init`."""
    known = record.record_of((init.pid, 1, 2, 3), pid_namespace(), init, Identity(0, 0), "", str(tmp_path), "", {})
    record.write(known, bundle)
    return tmp_path / record.NAME


def test_a_record_of_this_start_counts(bundle: int, init: Process, tmp_path: Path) -> None:
    assert not record.is_started(bundle, init)
    written(bundle, init, tmp_path)
    assert record.is_started(bundle, init)


@pytest.mark.parametrize("name", ["init_pid", "init_start_time", "boot_id"])
def test_no_other_record_does(bundle: int, init: Process, tmp_path: Path, name: str) -> None:
    path = written(bundle, init, tmp_path)
    lines = path.read_text(encoding="utf-8").splitlines()
    changed = [f"{name}=7" if line.startswith(f"{name}=") else line for line in lines]
    path.write_text("\n".join([*changed, ""]), encoding="utf-8")
    assert not record.is_started(bundle, init)


def test_a_record_that_another_could_have_written_does_not(bundle: int, init: Process, tmp_path: Path) -> None:
    written(bundle, init, tmp_path).chmod(0o666)
    assert not record.is_started(bundle, init)


LINE = re.compile(rb"^pid_namespace=([0-9]+)\n", re.MULTILINE)


def test_a_container_of_another_pid_namespace_is_not_judged(bundle: int, init: Process, tmp_path: Path) -> None:
    """Here a process of its pid may be another, or none. A record of before, which does not name it, is judged."""
    known = record.record_of((init.pid, 1, 2, 3), pid_namespace(), init, Identity(0, 0), "", "/bundle", "", {})
    found = LINE.search(known.data())
    assert found is not None
    assert int(found[1]) == os.stat("/proc/self/ns/pid").st_ino
    known.numbers["init_start_time"] = 1
    other, old = (LINE.sub(line, known.data()) for line in (b"pid_namespace=7\n", b""))
    path = tmp_path / record.NAME
    for data, is_gone in ((known.data(), True), (old, True), (other, False)):
        path.write_bytes(data)
        path.chmod(0o600)
        read = record.read(bundle)
        assert read is not None
        assert read.data() == data
        assert read.container_is_gone() == is_gone
    read.texts["boot_id"] = "00000000-0000-0000-0000-000000000000"
    assert read.container_is_gone()


@pytest.mark.parametrize(
    ("field", "is_right"),
    [
        ("pid=2", True),
        ("pid=1", False),
        ("init_pid=1", False),
        (f"pid={2**31 - 1}", True),
        (f"pid={2**31}", False),
        (f"uid={2**32 - 2}", True),
        (f"uid={2**32 - 1}", False),
        (f"gid={2**32 - 1}", False),
        ("start_time=-1", False),
        ("start_time=", False),
        (f"start_time={'1' * 21}", False),
        ("pid_namespace=x", False),
        ("boot_id=../x", False),
        ("owner=\0", False),
        ("of_a_later_version=1", True),
    ],
)
def test_values_that_no_start_writes(init: Process, field: str, is_right: bool) -> None:
    known = record.record_of((4711, 1, 2, 3), 7, init, Identity(1000, 100), "", "/b", "", {"owner": "1000"})
    text = known.data().decode()
    changed = re.sub(rf"^{field.partition('=')[0]}=.*\n", "", text, flags=re.MULTILINE) + f"{field}\n"
    assert record.parse(text) is not None
    assert (record.parse(changed) is not None) == is_right


@pytest.mark.parametrize("change", [("ssh_hook 1", "ssh_hook 2"), ("pid=4711\n", ""), ("boot_id", "boot")])
def test_a_record_of_another_form(init: Process, change: tuple[str, str]) -> None:
    known = record.record_of((4711, 1, 2, 3), 7, init, Identity(1000, 100), "", "/b", "", {})
    assert record.parse(known.data().decode().replace(*change)) is None
