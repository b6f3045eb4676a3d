"""The program ``first`` names the files that the hook makes for it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ssh_hook.errors import HookError
from ssh_hook.oci import container_paths as paths
from ssh_hook.provision import hostfiles

TEXT = Path(hostfiles.__file__).with_name("first.sh").read_text(encoding="ascii")


def test_paths() -> None:
    (base,) = re.findall(r"^_base=(.*)$", TEXT, re.MULTILINE)
    assert base == paths.BASE
    named = {name.replace("$_base", base) for name in re.findall(r"\$_base(?:/[a-z]+)+", TEXT)}
    assert named == {paths.FIRST, paths.FIRST_STATE, paths.HOSTS, f"{paths.BASE}/bin/ssh"}
    assert TEXT.count(base) == 1


def test_state() -> None:
    own = {"status", "answer"}  # which the program makes
    named = {name or other for name, other in re.findall(r"\$_state/(?:(\w+)|\{(\w+)\})", TEXT)}
    assert named == {hostfiles._ID, *hostfiles._FIFOS, *own}


def test_program_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostfiles, "_FIRST", "/no/such/first.sh")
    with pytest.raises(HookError, match=r"cannot read /no/such/first\.sh: No such file or directory: run"):
        hostfiles.Launch([("a", 1)])
