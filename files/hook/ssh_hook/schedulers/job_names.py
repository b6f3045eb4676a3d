# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs as users name them: 1234 or PBS's 1234.server; in Slurm also an array's task 1234_5, and a step of it, 1234_5.1.

The host names of containers, for ssh, have them after "job", as job1234, and may begin with a node: node002.job1234.
"""

from __future__ import annotations

import re

_JOB = re.compile(r"(?:([A-Za-z0-9_][A-Za-z0-9_-]*)\.(?=job))?(?:job)?([0-9][A-Za-z0-9_.\[\]-]{0,63})")
_OF_SLURM = re.compile(r"([0-9]{1,18}(_[0-9]{1,9})?)(?:\.([0-9]{1,9}))?")


def split_node(text: str) -> tuple[str | None, str] | None:
    """Return the node that `text` names, or None, and the job, with its step; None if it names no job."""
    found = _JOB.fullmatch(text)
    return (found.group(1), found.group(2)) if found else None


def split_step(text: str) -> tuple[str, str] | None:
    """Return a Slurm job or task and its step, which may be empty; None if `text` is no such name."""
    found = _OF_SLURM.fullmatch(text.removeprefix("job"))
    return (found.group(1), found.group(3) or "") if found else None


def is_task(name: str) -> bool:
    """Return whether `name` is that of a task of a Slurm array."""
    found = _OF_SLURM.fullmatch(name)
    return found is not None and found.group(2) is not None
