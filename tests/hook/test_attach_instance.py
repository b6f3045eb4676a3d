"""`ssh_hook attach --instance`, with an imitation of Apptainer: `make real-apptainer` runs the real one.

As Apptainer's instances, a container of bubblewrap has a first process that executes no program of the image. The
imitated program joins it, and stays as the parent of what it starts there.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import attached
import openssh
import pytest
from attached import PORT, Running, hook, is_gone, make_image, start, stop
from containers import keys, processes, running, wait_for
from refusals import assert_one_line

SHELL = ("/bin/sh", "-c", "read -r end")
# "$@" is --quiet exec instance://NAME COMMAND...
PROGRAM = """#!/bin/sh
if [ "$3" != instance://solver ]; then
    echo "FATAL:   no instance found with name ${3#instance://}" >&2
    exit 255
fi
shift 3
exec nsenter --target PID --user --preserve-credentials --mount --pid --root --wd "$@"
"""


@pytest.fixture
def container() -> Iterator[Running]:
    shutil.rmtree(attached.WHERE, ignore_errors=True)
    attached.WHERE.mkdir()
    running_one = start("bwrap", make_image("image"), 390001)
    yield running_one
    stop(running_one)
    shutil.rmtree(attached.WHERE)


@pytest.fixture
def variables(container: Running) -> Sequence[str]:
    program = attached.WHERE / "bin/apptainer"
    program.parent.mkdir()
    program.write_text(PROGRAM.replace("PID", str(container.pid)), encoding="utf-8")
    program.chmod(0o755)
    return [f"PATH={program.parent}:/usr/bin:/bin"]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return openssh.convert(keys() / "id_dropbear", tmp_path / "key")


def attach(variables: Sequence[str]) -> int:
    done = hook("attach", "--instance", "solver", "--port", str(PORT), variables=variables).checked()
    found = re.match(r"attached to process (\d+) \(sh\)", done.text)
    assert found is not None, done.text
    return int(found[1])


def parent(pid: int) -> int:
    """The parent of a container's `sleep`: bubblewrap's own first process in the pid namespace."""
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])


def test_instance(container: Running, variables: Sequence[str], key: Path) -> None:
    shell = attach(variables)
    assert str(shell) in running(*SHELL)
    assert openssh.login(key, "echo served", port=PORT).checked().text == "served"
    assert re.search(rf"\b{PORT} +solver .* apptainer ", hook("status").checked().text)
    again = hook("attach", "--instance", "solver", variables=variables).err.decode()
    assert_one_line(again, "'ssh_hook detach --instance solver' stops it", kind="attach-refused")
    assert running(*SHELL) == {str(shell)}
    hook("detach", "--instance", "solver", variables=variables).checked()
    wait_for(lambda: is_gone(shell), "end of the shell")
    attach(variables)
    os.kill(parent(container.pid), signal.SIGKILL)
    wait_for(lambda: not processes(), "end of the daemon with the instance")


def test_supervisor_that_is_killed(container: Running, variables: Sequence[str]) -> None:
    """The shell ends with it, and the daemon goes with `detach`."""
    shell = attach(variables)
    (supervisor,) = [pid for pid, name in processes().items() if name == "ssh_hook"]
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: is_gone(shell), "end of the shell")
    hook("detach", "--instance", "solver", variables=variables).checked()
    wait_for(lambda: not processes(), "end of the supervisor")
    assert not running(*SHELL)
    assert not is_gone(container.pid)


def test_refusals(variables: Sequence[str]) -> None:
    for command in ("attach", "detach"):
        missing = hook(command, "--instance", "nobody", variables=variables).err.decode()
        assert_one_line(missing, "no instance found with name nobody", kind="no-container")
    without = hook("attach", "--instance", "solver", variables=["PATH=/nowhere"]).err.decode()
    assert_one_line(without, "cannot run apptainer to enter the instance", kind="system")
    wait_for(lambda: not processes(), "end of the supervisor")
    assert not running(*SHELL)
