"""The texts that the hook generates, judged by the shells that read them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from ssh_hook.oci.container_paths import ENVIRONMENT
from ssh_hook.provision import texts

SHELLS = {"dash": ["dash"], "bash": ["bash"], "bash as sh": ["bash", "--posix"], "busybox": ["busybox", "sh"]}


@pytest.fixture(scope="module", params=SHELLS, name="shell")
def _shell(request: pytest.FixtureRequest) -> list[str]:
    words = SHELLS[request.param]
    assert shutil.which(words[0]), f"{words[0]} is not installed"
    return words


def printed(shell: list[str], script: bytes, **environment: str) -> bytes:
    result = subprocess.run([*shell, "-s"], input=script, capture_output=True, check=True, env=environment)
    assert result.stderr == b""
    return result.stdout


def test_the_profile_module_acts_in_ssh_sessions_only(shell: list[str], tmp_path: Path) -> None:
    (tmp_path / "environment").write_text("export PATH='/container'\nexport X='it'\\''s'\n")
    module = texts.profile_module().replace(ENVIRONMENT.encode(), os.fsencode(tmp_path / "environment"))
    script = b"PATH=/changed\n" + module + b'echo "$PATH $X"'
    assert printed(shell, script) == b"/changed \n"
    assert printed(shell, script, SSH_CONNECTION="1 2 3 4") == b"/container it's\n"


def test_ssh_config() -> None:
    text = texts.ssh_config("alice", ["img", "alice"], 15263, 60).decode()
    assert text.splitlines()[1:] == [
        "User alice",
        "Match user alice,img",
        "    Port 15263",
        "    IdentityFile /opt/oci-hooks/ssh/id_openssh",
        "    ConnectTimeout 60",
    ]
    assert "ConnectTimeout" not in texts.ssh_config("alice", ["alice"], 22, 0).decode()


def test_ssh_config_escapes_the_backslash_of_a_domain() -> None:
    lines = texts.ssh_config("DOM\\alice", ["DOM\\alice", "alice"], 15263, 0).decode().splitlines()
    assert lines[1:3] == ["User DOM\\\\alice", "Match user DOM\\\\alice,alice"]


@pytest.mark.parametrize(
    "name",
    ["a*", "b,root", "!x", "a b", 'q"', "ends\\", "#", "t\tab", "v\x0b", "new\nPort 22", "%u", "${X}", "n" * 256],
)
def test_ssh_config_leaves_out_names_that_mean_something_there(name: str) -> None:
    text = texts.ssh_config("alice", ["alice", name], 15263, 0).decode()
    assert text == texts.ssh_config("alice", ["alice"], 15263, 0).decode()
    assert "Match" not in texts.ssh_config(name, [name], 15263, 0).decode()
