from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cryptography
import pytest
from ssh_hook.cli import main
from ssh_hook.commands import keygen
from ssh_hook.commands.check_user_has_sshkeys import check
from ssh_hook.keys import store, writer
from ssh_hook.keys.errors import KeyStoreError
from ssh_hook.log import log


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """Return the settings of a site where the caller is called alice, and has a home."""
    (tmp_path / "home" / "alice").mkdir(parents=True, mode=0o755)
    passwd = tmp_path / "passwd"
    passwd.write_text(f"other:x:{os.getuid() + 1}:100::/:/bin/sh\nalice:x:{os.getuid()}:100::/elsewhere:/bin/sh\n")
    return {"HOOK_BASE_DIR": str(tmp_path / "home"), "PASSWD_FILE": str(passwd)}


def test_keygen_makes_the_set_of_the_caller(settings: dict[str, str]) -> None:
    told = keygen.keygen(settings)
    directory = store.key_directory(settings["HOOK_BASE_DIR"], "alice")
    keys = store.load(directory, "alice")
    assert told == f"created SSH keys for alice in {directory}: ssh-ed25519 {store.fingerprint(keys)}"
    assert list(keys.host_keys) == ["dropbear_ed25519_host_key", "dropbear_ecdsa_host_key"]


@pytest.mark.parametrize(
    ("value", "kind"), [("ecdsa", "ecdsa-sha2-nistp256"), ("ed25519", "ssh-ed25519"), ("", "ssh-ed25519")]
)
def test_the_site_sets_the_type(settings: dict[str, str], value: str, kind: str) -> None:
    assert f": {kind} SHA256:" in keygen.keygen({**settings, "SSH_KEY_TYPE": value})


@pytest.mark.parametrize("value", ["rsa", "ECDSA", "ed25519 ", "a\nb"])
def test_an_unknown_type_is_told(settings: dict[str, str], value: str) -> None:
    with pytest.raises(KeyStoreError, match=r"^SSH_KEY_TYPE is '.*': give one of ed25519, ecdsa$") as caught:
        keygen.keygen({**settings, "SSH_KEY_TYPE": value})
    assert "\n" not in str(caught.value)
    assert os.listdir(Path(settings["HOOK_BASE_DIR"], "alice")) == []


def test_keygen_with_the_other_type_keeps_a_set(settings: dict[str, str]) -> None:
    keygen.keygen({**settings, "SSH_KEY_TYPE": "ecdsa"})
    directory = Path(store.key_directory(settings["HOOK_BASE_DIR"], "alice"))
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert "(ecdsa-sha2-nistp256 SHA256:" in keygen.keygen(settings)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_keygen_keeps_a_set_and_says_how_to_replace_it(settings: dict[str, str]) -> None:
    keygen.keygen(settings)
    before = store.load(store.key_directory(settings["HOOK_BASE_DIR"], "alice"), "alice")
    told = keygen.keygen(settings, overwrite=False)
    assert told.startswith("alice already has SSH keys in ")
    assert store.fingerprint(before) in told
    assert told.endswith("use --overwrite to replace them")
    assert store.fingerprint(before) not in keygen.keygen(settings, overwrite=True)


def test_check(settings: dict[str, str]) -> None:
    with pytest.raises(KeyStoreError, match=r"^alice has no SSH keys in .*: run 'ssh_hook keygen'$"):
        check(settings)
    keygen.keygen(settings)
    assert "alice has SSH keys in " in check(settings)
    Path(store.key_directory(settings["HOOK_BASE_DIR"], "alice"), "authorized_keys").unlink()
    with pytest.raises(KeyStoreError, match="incomplete, authorized_keys is missing"):
        check(settings)


def test_the_command_lines_that_sarus_calls(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(log, "level", log.level)
    level = log.level

    def call(*words: str) -> tuple[int, str, str]:
        log.level = level
        status = main([*words], settings)
        shown = capfd.readouterr()
        return status, shown.out.partition(" in ")[0], shown.err.partition(" in ")[0]

    assert call("check-user-has-sshkeys") == (1, "", "ssh_hook: error: alice has no SSH keys")
    assert call("keygen") == (0, "created SSH keys for alice", "")
    assert call("check-user-has-sshkeys") == (0, "", "")
    for option in ("--verbose", "--debug"):
        assert call("check-user-has-sshkeys", option) == (0, "ssh_hook: info: alice has SSH keys", "")
        assert call("keygen", option) == (0, "alice already has SSH keys", "")
        assert call("keygen", "--overwrite", option) == (0, "created SSH keys for alice", "")


def test_no_private_key_is_told(settings: dict[str, str]) -> None:
    told = keygen.keygen(settings) + keygen.keygen(settings) + check(settings)
    secret = store.load(store.key_directory(settings["HOOK_BASE_DIR"], "alice"), "alice").id_dropbear[-16:]
    assert secret.hex() not in told
    assert told.isprintable()


@pytest.mark.parametrize("setting", ["HOOK_BASE_DIR", "PASSWD_FILE"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_setting_that_is_missing_is_named(settings: dict[str, str], setting: str, value: str | None) -> None:
    del settings[setting]
    if value is not None:
        settings[setting] = value
    for call in (keygen.keygen, check):
        with pytest.raises(KeyStoreError, match=f"^{setting} is not set"):
            call(settings)


def test_a_passwd_file_that_cannot_be_read_is_named(settings: dict[str, str]) -> None:
    settings["PASSWD_FILE"] += ".missing"
    with pytest.raises(KeyStoreError, match=r"cannot read PASSWD_FILE .*passwd.missing: No such file"):
        keygen.keygen(settings)


def test_a_caller_who_is_not_in_the_passwd_file_is_told(settings: dict[str, str]) -> None:
    Path(settings["PASSWD_FILE"]).write_text("")
    with pytest.raises(
        KeyStoreError, match=f"no user with uid {os.getuid()} in PASSWD_FILE /.*: ask the administrator"
    ):
        keygen.keygen(settings)


def test_a_hostile_name_in_the_passwd_file_is_refused(settings: dict[str, str]) -> None:
    Path(settings["PASSWD_FILE"]).write_text(f"../alice:x:{os.getuid()}:100::/:/bin/sh\n")
    with pytest.raises(KeyStoreError, match=r"'../alice' cannot be the name"):
        keygen.keygen(settings)


def isolated_keygen(settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run keygen as the launcher does, with an interpreter that has nothing but the standard library."""
    program = f"""
import sys
sys.path.insert(0, {str(Path(keygen.__file__).parents[2])!r})
from ssh_hook.cli import main
sys.exit(main(["keygen"], {settings!r}))
"""
    own = {"PYTHON_PACKAGES": str(Path(cryptography.__file__).parents[1])}  # the site decides, not the caller
    return subprocess.run([sys.executable, "-ISc", program], env=own, capture_output=True, text=True, check=False)


def test_the_installed_dropbearkey_makes_the_keys(settings: dict[str, str], tmp_path: Path) -> None:
    """It and not cryptography, which this interpreter cannot import."""
    key = writer._new_key("ed25519")
    program = tmp_path / "bin/dropbearkey"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/$2 >$4\n", encoding="ascii")
    program.chmod(0o755)
    (tmp_path / "ed25519").write_bytes(key)
    (tmp_path / "ecdsa").write_bytes(writer._new_key("ecdsa"))
    done = isolated_keygen({**settings, "DROPBEAR_DIR": str(tmp_path)})
    assert done.stderr == ""
    made = store.load(store.key_directory(settings["HOOK_BASE_DIR"], "alice"), "alice")
    assert made.id_dropbear == key
    assert list(made.host_keys) == ["dropbear_ed25519_host_key", "dropbear_ecdsa_host_key"]


def test_cryptography_is_looked_for_in_python_packages(settings: dict[str, str]) -> None:
    packages = str(Path(cryptography.__file__).parents[1])
    done = isolated_keygen({**settings, "PYTHON_PACKAGES": f"/nonexistent:{packages}"})
    assert done.stderr == ""
    assert done.stdout.startswith("created SSH keys for alice in ")


@pytest.mark.parametrize("packages", ["", "relative", "/nonexistent", ":"])
def test_without_cryptography_keygen_says_what_to_install_or_set(settings: dict[str, str], packages: str) -> None:
    done = isolated_keygen({**settings, "PYTHON_PACKAGES": packages})
    assert done.stderr.startswith("ssh_hook: error: cannot create SSH keys without the Python package cryptography: ")
    assert f"install it for {sys.executable}" in done.stderr
    assert "PYTHON_PACKAGES" in done.stderr
    assert done.stderr.count("\n") == 1
    assert os.listdir(Path(settings["HOOK_BASE_DIR"], "alice")) == []
