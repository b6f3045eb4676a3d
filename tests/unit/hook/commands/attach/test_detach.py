"""Who may call detach."""

from __future__ import annotations

from argparse import Namespace

import pytest
from ssh_hook.commands.attach import detach
from ssh_hook.errors import HookError
from ssh_hook.fast_stdlib import os


def test_root_joins_no_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with attach: root would enter namespaces in which hostile code runs."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(HookError, match="detach is only for the users of containers: run it as the container's user"):
        detach.run(Namespace(pid="1", name=None), {})
