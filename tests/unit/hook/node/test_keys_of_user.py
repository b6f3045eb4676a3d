"""The keys that a session may be opened with: those of the set and those that the annotation names, one per line."""

from __future__ import annotations

import pytest
from ssh_hook.keys import store, writer
from ssh_hook.node.user_keys import Credentials
from ssh_hook.node.userfiles import parse_public_keys


@pytest.mark.parametrize("ending", [b"", b"\n", b"\n\n"])
def test_a_last_line_without_its_newline(ending: bytes) -> None:
    keys = writer._new_set("ed25519", "alice")
    line = keys.authorized_keys.rstrip(b"\n")
    kept = store.KeySet(keys.id_dropbear, line + ending, keys.host_keys)
    more = parse_public_keys(line + ending, "laptop.pub")
    assert Credentials("alice", kept, more).authorized_keys == line + b"\n" + line + b"\n"
