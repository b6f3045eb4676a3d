"""What the hook takes of enroot: the file with the container's variables, and what a process may do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ssh_hook.confine.apply import capability_names
from ssh_hook.errors import HookError
from ssh_hook.start import enroot_watcher, from_enroot


def test_variables_are_those_that_enroot_takes(tmp_path: Path) -> None:
    path = tmp_path / "environment"
    path.write_bytes(b"A=1\nB=two  words=\n9=no\nnone\n=no\nC D=no\n\xc3\xa4=no\nE=\xff\nF=a\0b\n_G=")
    read = from_enroot._read_environment(str(path))
    assert [os.fsencode(line) for line in read] == [b"A=1", b"B=two  words=", b"E=\xff", b"_G="]


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "device", "large"])
def test_what_is_no_such_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "environment"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(5 << 20)
    with pytest.raises(HookError, match="ENROOT_ENVIRON"):
        from_enroot._read_environment(str(path))


def test_capabilities_have_names() -> None:
    assert capability_names(0) == []
    assert capability_names(1 << 21 | 1) == ["CAP_CHOWN", "CAP_SYS_ADMIN"]
    assert len(capability_names(2**41 - 1)) == 41


def test_capability_sets_are_compared_bit_by_bit() -> None:
    few, many = {"CapPrm": "0000000000000003"}, {"CapPrm": "000001ffffffffff"}
    assert enroot_watcher._is_subset("CapPrm", few, many)
    assert not enroot_watcher._is_subset("CapPrm", many, few)
    assert not enroot_watcher._is_subset("CapPrm", few, {})


def test_a_status_is_read_by_its_fields() -> None:
    fields = enroot_watcher._status_fields(b"Name:\ta:b\nNoNewPrivs:\t1\nSeccomp:\t2\n")
    assert (fields["Name"], fields["NoNewPrivs"], fields["Seccomp"]) == ("a:b", "1", "2")
