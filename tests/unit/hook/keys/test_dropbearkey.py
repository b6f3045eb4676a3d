from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from ssh_hook.keys import dropbearkey
from ssh_hook.keys.errors import KeyStoreError

MAKE = 'printf "%s %s" "$*" "$(stat -c %a "${4%/*}")" >"$4"; echo public'


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory in place of /dev/shm, and a host that is not in FIPS mode."""
    path = tmp_path / "scratch"
    path.mkdir()
    monkeypatch.setattr(dropbearkey, "SCRATCH", str(path))
    monkeypatch.setattr(dropbearkey, "FIPS", "/nowhere")
    return path


def installed(directory: Path, text: str) -> dropbearkey.Dropbearkey:
    """A program for /bin/sh that is installed as dropbearkey."""
    program = directory / "bin" / "dropbearkey"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    program.chmod(0o755)
    return dropbearkey.Dropbearkey(str(directory))


def test_key_is_what_the_program_writes_into_a_directory_of_the_callers(tmp_path: Path, scratch: Path) -> None:
    words = installed(tmp_path, MAKE).new_keys(["ecdsa"])[0].decode().split()
    assert words[:3] == ["-t", "ecdsa", "-f"]
    assert Path(words[3]).parents[1] == scratch
    assert words[4] == "700"
    assert os.listdir(scratch) == []


def test_keys_are_made_side_by_side(tmp_path: Path, scratch: Path) -> None:
    """Each program waits for the files of all three."""
    met = 'd=${4%/*}; echo "$2" >"$4"; until [ "$(ls "$d" | wc -l)" = 3 ]; do sleep 0.01; done'
    made = installed(tmp_path, met).new_keys(["ed25519", "ed25519", "ecdsa"])
    assert made == [b"ed25519\n", b"ed25519\n", b"ecdsa\n"]
    assert os.listdir(scratch) == []


def test_no_program_is_left_where_one_fails(tmp_path: Path, scratch: Path) -> None:
    """The one that fails first is told, when the slow one has ended too."""
    text = f'[ "$2" = ecdsa ] || exit 3; sleep 0.2; echo key >"$4"; echo ended >{tmp_path}/ended'
    with pytest.raises(KeyStoreError, match="failed with status 3: no message"):
        installed(tmp_path, text).new_keys(["ed25519", "ecdsa"])
    assert (tmp_path / "ended").read_text() == "ended\n"
    assert os.listdir(scratch) == []


def test_program_has_no_environment(tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD_OF_THE_CALLER", "x")
    made = installed(tmp_path, '/usr/bin/env >"$4"').new_keys(["ed25519"])[0]
    assert b"PWD=" in made
    assert b"LD_PRELOAD_OF_THE_CALLER" not in made


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo Generating; echo no entropy >&2; exit 1", "dropbearkey failed with status 1: no entropy"),
        ('echo half >"$4"; kill -9 $$', "dropbearkey failed with signal 9: no message"),
        ('echo half >"$4.tmp1"', "cannot create an SSH key in .*: No such file or directory"),
        ('head -c 5000 /dev/zero >"$4"', "/key0 contains more than a key: it has been replaced"),
        ('echo key >"$4.tmp1"; ln -s "$4.tmp1" "$4"', "an SSH key in .*: Too many levels of symbolic links"),
    ],
)
def test_failure_is_told_and_leaves_nothing(tmp_path: Path, scratch: Path, text: str, words: str) -> None:
    with pytest.raises(KeyStoreError, match=words):
        installed(tmp_path, text).new_keys(["ed25519"])
    assert os.listdir(scratch) == []


def test_missing_program(tmp_path: Path, scratch: Path) -> None:
    words = f"{tmp_path}/bin/dropbearkey failed with status 127: No such file or directory"
    with pytest.raises(KeyStoreError, match=words):
        dropbearkey.Dropbearkey(str(tmp_path)).new_keys(["ed25519"])


def test_missing_scratch_directory(tmp_path: Path, scratch: Path) -> None:
    scratch.rmdir()
    with pytest.raises(KeyStoreError, match=f"cannot create an SSH key in {scratch}/.*: No such file or directory"):
        installed(tmp_path, MAKE).new_keys(["ed25519"])


def test_program_that_hangs_is_ended(tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the caller ignores the signal, or has it blocked."""
    monkeypatch.setattr(dropbearkey, "_SECONDS", 1)
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    try:
        with pytest.raises(KeyStoreError, match="failed with signal 14"):
            installed(tmp_path, "exec sleep 5").new_keys(["ed25519"])
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
        signal.signal(signal.SIGALRM, before)
    assert os.listdir(scratch) == []


def test_fips_mode(tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where cryptography makes keys: no Ed25519, which the set may hold beside ECDSA."""
    (tmp_path / "fips").write_text("1\n", encoding="ascii")
    monkeypatch.setattr(dropbearkey, "FIPS", str(tmp_path / "fips"))
    program = installed(tmp_path, MAKE)
    with pytest.raises(KeyStoreError, match="FIPS mode, which does not allow keys of type ed25519: choose ecdsa"):
        program.new_keys(["ed25519"])
    assert program.new_keys(["ecdsa"])[0].startswith(b"-t ecdsa ")
