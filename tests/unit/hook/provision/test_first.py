"""The program `first` ends with the exit status of its command."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

FIRST = Path(__file__).resolve().parents[4] / "files/hook/ssh_hook/provision/first.sh"
# `wait` answers the first time as given, and then as given; a process that was waited for is gone.
SHELL = """
waits=0
wait() { waits=$((waits + 1)); if [ "$waits" = 1 ]; then return "$1"; else return "$2"; fi; }
kill() { return 1; }
"""
ASSIGNED = re.compile(r"(?<!-o )\b([A-Za-z_]\w*)=|\bread -r (\w+)|\bfor (\w+) in")
FOR_LAUNCHERS = {"HYDRA_BOOTSTRAP", "I_MPI_HYDRA_BOOTSTRAP", "OMPI_MCA_plm", "PRTE_MCA_plm", "IFS"}


def test_variables_of_the_user_keep_their_values() -> None:
    """A shell that sets a variable which it was given exports the new value: `name` of the user's is not ours."""
    lines = [line for line in FIRST.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    assigned = {name for line in lines for names in ASSIGNED.findall(line) for name in names if name}
    assert {"_child", "_host", "_name"} < assigned
    assert {name for name in assigned if not name.startswith("_")} == FOR_LAUNCHERS


@pytest.mark.parametrize(
    ("first", "then", "status"),
    [
        (143, 9, 9),  # interrupted by SIGTERM just as the process ended
        (7, 127, 7),  # the shell has forgotten the process
        (7, 7, 7),  # bash, which remembers it
        (127, 127, 127),  # the command is not there
    ],
)
def test_status_of_the_command(first: int, then: int, status: int) -> None:
    found = re.search(r"^await\(\) \{\n.*?^\}\n", FIRST.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    waiting = SHELL.replace("$1", str(first)).replace("$2", str(then))
    done = subprocess.run(["sh", "-c", f"{waiting}{found[0]}_child=1; await; exit $_status"], check=False)
    assert done.returncode == status
