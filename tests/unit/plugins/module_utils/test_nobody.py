"""Programs that others may have changed run with nobody's rights."""

from __future__ import annotations

import os
import subprocess

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils import _nobody as nobody


def test_a_program_runs_as_nobody_in_no_group() -> None:
    if os.geteuid():
        assert nobody.rights() == {}
    uid = str(os.geteuid() or nobody.NOBODY)
    answer = nobody.run(["/bin/sh", "-c", "id -u; pwd; cat"], b"said", seconds=60)
    assert answer.stdout.decode() == f"{uid}\n/\nsaid"
    if os.geteuid() == 0:
        groups = nobody.run(["/usr/bin/id", "-G"], seconds=60)
        assert groups.stdout.split() == [str(nobody.NOBODY).encode()]


def test_a_program_that_takes_too_long_is_ended() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        nobody.run(["/bin/sleep", "60"], seconds=0.2)
