"""What names of jobs are, and the number that their port follows from."""

from __future__ import annotations

import pytest
from ssh_hook.linux.job_names import is_name, is_number, is_pbs, number_of
from ssh_hook.schedulers.jobs import find_callers_job


@pytest.mark.parametrize(
    ("name", "is_slurms", "is_of_pbs"),
    [
        ("1234", True, False),
        ("1234.server", False, True),
        ("1234[5].server", False, True),
        ("", False, False),
        (".", False, False),
        ("..", False, False),
        ("../7.a", False, False),
        ("7.a/b", False, False),
        ("7.a\n", False, False),
        ("7.\u00e4", False, False),
        (".7.a", False, False),
    ],
)
def test_names(name: str, is_slurms: bool, is_of_pbs: bool) -> None:
    assert (is_number(name), is_pbs(name), is_name(name)) == (is_slurms, is_of_pbs, is_slurms or is_of_pbs)


@pytest.mark.parametrize(("name", "number"), [("77", 77), ("77.server", 77), ("77[5].a.b", 82), ("0[0].a", 0)])
def test_the_number_is_that_of_ssh_hook_options(name: str, number: int) -> None:
    assert number_of(name) == number
    if is_pbs(name):
        job = find_callers_job({"PBS_JOBID": name})
        assert job is not None
        assert job.number == number
