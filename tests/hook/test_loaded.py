"""What a plain start loads: code that it does not call costs time in each start."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from containers import LAUNCHER, WORK, Container, plain_start

# Put at the beginning of the launcher. It notes each function that `marshal` gives the launcher, and which of them any
# process of the start calls, in memory that all share. When the first process ends, it writes a line for each function:
# whether it was called, the bytes of its code, its module, and its name.
NOTES = """
import marshal, mmap, posix, sys
_FIRST, _RESULT, _MAX = posix.getpid(), {result!r}, 1 << 14
_called, _codes, _numbers, _loads = mmap.mmap(-1, _MAX), [], {{}}, marshal.loads

def _add(code, module, name):
    _numbers[id(code)] = len(_codes)
    _codes.append((code, f"{{module}} {{name}}"))
    for inner in code.co_consts:
        if isinstance(inner, type(code)):
            _add(inner, module, f"{{name}}.{{inner.co_name}}".lstrip("."))

def _load(data):
    entries = _loads(data)
    if isinstance(entries, list):
        for module, _parent, _name, _attributes, code in entries:
            _add(code, module, "")
    else:  # a .pyc file's code
        _add(entries, entries.co_filename, "")
    return entries

def _note(frame, event, _argument):
    number = _numbers.get(id(frame.f_code)) if event == "call" else None
    if number is not None:
        _called[number] = 1

def _size(code):
    own = tuple(const for const in code.co_consts if not isinstance(const, type(code)))
    return len(marshal.dumps(code.replace(co_consts=own)))

def _end(status, end=posix._exit):
    sys.setprofile(None)
    if posix.getpid() == _FIRST:
        lines = (f"{{_called[n]}} {{_size(code)}} {{where}}\\n" for n, (code, where) in enumerate(_codes))
        posix.write(posix.open(_RESULT, posix.O_WRONLY | posix.O_CREAT, 0o600), "".join(lines).encode())
    end(status)

marshal.loads, posix._exit = _load, _end
sys.setprofile(_note)
"""
MOST = 115_000  # bytes of code that is loaded and not called; a start with podman calls some of it


class Function:
    """A function, or a module's or a class's body, that a start has loaded."""

    def __init__(self, line: str) -> None:
        called, size, self.module, self.name = line.split(" ")
        self.is_called = called == "1"
        self.size = int(size)


def start(launcher: str) -> Container:
    """Start a plain container with this launcher of the hook."""

    def change(config: dict[str, Any]) -> None:
        config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}

    return plain_start("crun", "debian", launcher=launcher, change=change)


@pytest.fixture(name="loaded")
def fixture_loaded() -> list[Function]:
    """What a start of a plain container loads, after another of the same user with the same seccomp profile."""
    start(LAUNCHER).remove()
    result, launcher = WORK / "loaded", WORK / "noting"
    first, rest = Path(LAUNCHER).read_text(encoding="utf-8").split("\n", 1)
    launcher.write_text(f"{first}\n{NOTES.format(result=str(result))}{rest}", encoding="utf-8")
    launcher.chmod(stat.S_IRWXU)
    try:
        container = start(str(launcher))
        lines = result.read_text(encoding="utf-8").splitlines()
        container.remove()  # the end writes its own functions
    finally:
        launcher.unlink()
        result.unlink(missing_ok=True)
    return [Function(line) for line in lines]


def test_a_plain_start_loads_little_that_it_does_not_call(loaded: list[Function]) -> None:
    uncalled = sorted((each for each in loaded if not each.is_called), key=lambda each: -each.size)
    longest = "".join(f"{each.size:6} {each.module}.{each.name}\n" for each in uncalled[:40])
    found = sum(each.size for each in uncalled)
    assert found <= MOST, f"{found} bytes in {len(uncalled)} functions, of which the longest are\n{longest}"


def test_the_calls_of_all_its_processes_count(loaded: list[Function]) -> None:
    called = {f"{each.module}.{each.name}" for each in loaded if each.is_called}
    assert {
        "ssh_hook.start.supervisor.Supervisor.supervise",  # the hook's
        "ssh_hook.provision.setup.Setup.provide",  # the provisioner's
        "ssh_hook.confine.apply.Confinement.apply",  # the daemon's process's
    } <= called
