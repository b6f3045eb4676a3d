"""A connection that plays back what a node has answered to a run, for as many hosts as an inventory names.

PLAYBACK_ANSWERS has a directory for each recorded node, with an answer for each command, in their order (record_ssh). A
host's variable `playback` names its node. PLAYBACK_STATE is an empty directory: how many commands each host got.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: playback
short_description: Play back recorded answers
description: [Plays back what another host has answered to the same commands.]
author: The ocihooks.ssh contributors
options:
  node:
    description: The recorded node.
    type: str
    required: true
    vars: [{name: playback}]
  host:
    description: The host.
    type: str
    vars: [{name: inventory_hostname}]
"""


class Connection(ConnectionBase):
    """Of one host."""

    transport = "playback"
    has_pipelining = True
    always_pipeline_modules = True

    def _option(self, name: str) -> str:
        return str(ConnectionBase.get_option(self, name))

    def _connect(self) -> Connection:
        return self

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Return the recorded answer to the next command."""
        host, node = map(self._option, ("host", "node"))
        state = Path(os.environ["PLAYBACK_STATE"], host)
        with state.open("ab") as count:
            number = count.tell()
            count.write(b".")
        path = Path(os.environ["PLAYBACK_ANSWERS"], node, f"{number}.json")
        if not path.is_file():
            raise AnsibleError(f"{path} was not recorded, and the host is asked: {cmd[:200]}")
        answer: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return answer["status"], answer["out"].encode(), answer["err"].encode()

    def put_file(self, in_path: str, out_path: str) -> None:
        """Refuse it: no second run of the playbooks copies a file."""
        raise AnsibleError(f"{in_path} was not recorded")

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Refuse it, as put_file()."""
        raise AnsibleError(f"{in_path} was not recorded")

    def close(self) -> None:
        """Do nothing."""
