"""Playbooks that tests run, and lists of what these leave on a node."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Play(NamedTuple):
    """What a play did: its exit status, how many tasks changed something, and all that it said."""

    status: int
    changed: int
    said: str

    @property
    def words(self) -> str:
        """What it said as one line: Ansible breaks the lines of warnings."""
        return " ".join(self.said.split())

    def asked(self, host: str) -> int:
        """How many modules ran on a host, of a play with -vvv and pipelining, by which each is one command there."""
        return len(re.findall(rf"^<{re.escape(host)}> EXEC ", self.said, re.MULTILINE))


def run_playbook(
    playbook: str | Path,
    *arguments: str,
    inventory: str,
    variables: Mapping[str, object],
    program: tuple[str, ...] = ("ansible-playbook",),
    environment: Mapping[str, str] | None = None,
) -> Play:
    """Run a playbook, with variables of the command line.

    Args:
        playbook: its path, or its name in a collection
        program: ansible-playbook, perhaps by another command before it
        environment: additional variables
    """
    answer = subprocess.run(
        [*program, f"--inventory={inventory}", f"--extra-vars={json.dumps(variables)}", *arguments, playbook],
        env={**os.environ, **(environment or {}), "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return outcome(answer.returncode, answer.stdout)


def outcome(status: int, said: str) -> Play:
    """Return what ansible-playbook did that ended with this status. A play that succeeds has to have a recap."""
    recaps = re.findall(r"^\S+ +: ok=\d+ +changed=(\d+)", said, re.MULTILINE)
    assert recaps or status != 0, said
    return Play(status, sum(map(int, recaps)), said)


def listing(*trees: str) -> dict[str, str]:
    """Return kind, mode, owner and content of all that is in these directories, by path."""
    found = {}
    for tree in trees:
        for place, directories, files in os.walk(tree):
            for path in [place, *(os.path.join(place, name) for name in [*directories, *files])]:
                status = os.lstat(path)
                content = ""
                if stat.S_ISLNK(status.st_mode):
                    content = os.readlink(path)
                elif stat.S_ISREG(status.st_mode):
                    content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
                found[path] = f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid} {content}"
    return found
