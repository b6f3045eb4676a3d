"""Whose container a message is about, by what a start that failed at once still has."""

from __future__ import annotations

import json
import posix
import subprocess
import sys
from pathlib import Path

import pytest
from ssh_hook.log import log
from ssh_hook.node import last_messages, subject

HOOK = Path(subject.__file__).parents[2]
CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from ssh_hook.log import log
from ssh_hook.node import subject
log.subject = ("abc123", "/no/such/bundle")
log.user = "alice"
import json
print(json.dumps(subject.fields()))
"""
# As podman's monitor: the hook is a grandchild of it, by way of the OCI runtime.
MONITOR = """
import subprocess, sys
from pathlib import Path
Path("/proc/self/comm").write_text("conmon")
subprocess.run(["/bin/sh", "-c", '"$@"; :', "sh", *sys.argv[sys.argv.index("--") + 1:]], check=True)
"""


def fields_below(monitor: list[str], environment: dict[str, str]) -> dict[str, str]:
    child = [sys.executable, "-ISB", "-c", CHILD, str(HOOK)]
    command = [sys.executable, "-ISB", "-c", MONITOR, *monitor, "--", "env", "-i", *child]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_podmans_monitor_has_name_and_job(monkeypatch: pytest.MonkeyPatch) -> None:
    found = fields_below(["-c", "abc123", "-n", "solver"], {"SLURM_JOB_ID": "1234"})
    assert (found["container"], found["container_id"], found["user"]) == ("solver", "abc123", "alice")
    assert found["job"] == (subject._job_of_cgroup() or "1234")
    assert found["uid"].isdigit()


def test_without_a_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "subject", ("x\n" + "y" * 1000, ""))
    monkeypatch.setattr(log, "user", "")
    monkeypatch.setattr(last_messages, "concerned_uid", lambda bundle: 7)
    found = subject.fields()
    assert (found["container"], found["user"], found["uid"]) == ("", "", "7")
    assert found["container_id"].startswith("x\\ny") and len(found["container_id"]) == 200


def test_the_cgroups_job_comes_before_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "read_file", lambda _path: b"4:memory:/slurm/uid_1000/job_77/step_batch\n0::/\n")
    monkeypatch.setattr(posix, "environ", {b"PBS_JOBID": b"5.server"})
    assert subject.job({}) == "77"


def test_the_hooks_own_variables_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_job_of_cgroup", str)
    monkeypatch.setattr(posix, "environ", {b"PBS_JOBID": b"5.server"})
    assert subject.job({"SLURM_JOB_ID": "6"}) == "5.server"
    monkeypatch.setattr(posix, "environ", {})
    assert subject.job({"SLURM_JOB_ID": "6"}) == "6"


def test_a_uid_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(bundle: str) -> int:
        raise PermissionError(bundle)

    monkeypatch.setattr(last_messages, "concerned_uid", fail)
    assert subject.fields()["uid"] == ""
