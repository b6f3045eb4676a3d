"""What every error of the hook has to be: one line, on stderr and in syslog, and no container."""

from __future__ import annotations

from typing import Any

import pytest
from containers import StartFailed, wait_for
from hook_log import Syslog
from kinds import separate
from starter import Start


def assert_one_line(text: str, *words: str, kind: str = "") -> None:
    """`text` is one line of the hook's that names `words`, and ends with its kind: with `kind`, if that is given."""
    assert text.startswith("ssh_hook: error: ")
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert "Traceback" not in text
    said, its_kind = separate(text)
    assert [word for word in words if word not in said] == [], text
    assert kind in ("", its_kind), text


def assert_refused(start: Start, syslog: Syslog, engine: str, *words: str, kind: str = "", **options: Any) -> str:
    """A start with these options fails with a message that names `words`, and of this kind; returns it."""
    syslog.clear()
    with pytest.raises(StartFailed) as failure:
        start(engine, **options)
    message = failure.value.hook if failure.value.hook.endswith("\n") else failure.value.hook + "\n"
    assert_one_line(message, *words, kind=kind)
    assert failure.value.status == (126 if engine in ("podman-crun", "podman-runc", "rootless") else 1)
    wait_for(syslog.of_hook, "a message in syslog")
    said = message.removeprefix("ssh_hook: error: ").rstrip("\n").encode("ascii", "backslashreplace").decode()
    fields = f': [ssh_hook kind="{separate(message)[1]}"'
    assert [entry for entry in syslog.of_hook() if fields in entry and entry.endswith(f"] {said}")], syslog.of_hook()
    return message
