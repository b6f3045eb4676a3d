"""The container's environment, exact in kinds of sessions that test_quoting.py does not have."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openssh
import pytest
from containers import PATH, Container, keys, wait_for
from shells import SHELLS, Shell, with_shell
from starter import Start

RAN = "/tmp/ran"  # what a value leaves there that a shell has run
RUN = [
    f"$(touch {RAN})",
    f"`touch {RAN}`",
    f"; touch {RAN};",
    f"\ntouch {RAN}\n",
    f"'; touch {RAN}; '",
    f'"; touch {RAN}; "',
]
VALUES = {
    "QUOTES": "it's \"quoted\" \\ and \\' so",
    "DOLLAR": "$HOME ${HOME} $(id) $$",
    "BACKTICK": "`id`",
    "NEWLINE": "one\ntwo\n\nfour\n",
    "BLANKS": "  a   b\t",
    "GLOB": "* ? [a-z] ~ ! #",
    "UMLAUT": "Grüße €",
    "EMPTY": "",
    "EQUALS": "a=b=c",
    "SEMICOLON": "; exit 9; &",
    **{f"RUN{number}": text for number, text in enumerate(RUN)},
    "LANG": "C.UTF-8",
    "_UNDERSCORE1": "x",
}
ODD_NAMES = {"dash-ed": "1", "dot.ted": "2", "1digit": "3", "sp ace": "4", "semi;colon": "$(id)", "quo'te": "5"}
OWN_PATH = f"/opt/my tools/bin:{PATH}:."


@pytest.fixture(scope="module", params=SHELLS)
def shell(request: pytest.FixtureRequest) -> Shell:
    return SHELLS[request.param]


@pytest.fixture(scope="module")
def container(shell: Shell, start_shared: Start) -> Container:
    env = {**VALUES, **ODD_NAMES, "PATH": OWN_PATH}

    def change(config: dict[str, dict[str, list[str]]]) -> None:
        config["process"]["env"] = ["HOME=/home/alice", *(f"{name}={value}" for name, value in env.items())]

    return start_shared("crun", shell.image, network="private", prepare=with_shell(shell), change=change)


def parse(output: bytes) -> dict[str, str]:
    return dict(entry.decode().split("=", 1) for entry in output.split(b"\0") if b"=" in entry)


def assert_exact(got: dict[str, str], names: dict[str, str]) -> None:
    assert {name: got.get(name) for name in names} == names


def test_sessions_run_that_shell(shell: Shell, container: Container) -> None:
    name = Path(shell.path).name
    assert container.ssh("echo $0").checked().text == name
    assert container.ssh(stdin=b"echo $0\n").checked().text == f"-{name}"


def test_sh_as_login_shell(container: Container) -> None:
    assert_exact(parse(container.ssh("exec sh -lc 'env -0'").checked().out), {**VALUES, "PATH": OWN_PATH})


def test_nothing_of_the_environment_was_run(container: Container) -> None:
    marked = container.ssh(f"touch {RAN}-not && ls -d {RAN}*")  # where one that is run would be seen
    assert marked.checked().text == f"{RAN}-not"
    login = container.ssh(stdin=f"ls -d {RAN}*\n".encode())
    assert login.checked().text == f"{RAN}-not"


def test_sessions_have_what_a_login_sets(container: Container) -> None:
    got = parse(container.ssh("env -0").checked().out)
    assert (got["USER"], got["LOGNAME"], got["HOME"]) == ("alice", "alice", "/home/alice")
    assert got["SHELL"].startswith("/bin/")
    assert got["SSH_CONNECTION"]


def test_names_that_a_shell_cannot_write(container: Container) -> None:
    """The shell has them; bash hands them on, other shells do not."""
    assert_exact(parse(container.ssh("cat /proc/$$/environ; true").checked().out), ODD_NAMES)
    if container.ssh("echo $0").checked().text == "bash":
        assert_exact(parse(container.ssh("env -0").checked().out), ODD_NAMES)


@pytest.mark.parametrize("engine", ["podman-crun", "podman-runc"])
def test_variables_of_podman(start: Start, engine: str) -> None:
    container = start(engine, env={**VALUES, "PATH": OWN_PATH})
    container.ssh("true").checked()  # runc tells of a start before the container's program runs, and has the variables
    expected = parse(Path(f"/proc/{container.init()}/environ").read_bytes())
    assert {**VALUES, "PATH": OWN_PATH, "HOME": "/home/alice"}.items() <= expected.items()
    assert_exact(parse(container.ssh("env -0").checked().out), expected)
    assert_exact(parse(container.ssh(stdin=b"env -0\n").checked().out), expected)


def servers() -> list[Path]:
    """The directories in /proc of the sftp servers in the bed."""
    return [path for path in Path("/proc").glob("[0-9]*") if "sftp-server" in program(path)]


def program(process: Path) -> str:
    """The program of a process; empty where the process is gone."""
    try:
        return os.readlink(process / "exe")
    except OSError:
        return ""


@contextmanager
def transfer(container: Container, *command: str) -> Iterator[dict[str, str]]:
    """The variables of the server at the other end of a transfer, which lasts for the context."""
    enter = ["nsenter", "--net", "--target", str(container.init())]
    with subprocess.Popen([*enter, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            wait_for(servers, "an sftp server")
            [server] = servers()
            # Its variables are there a moment later than its program: the kernel shows none in the midst of an exec.
            wait_for((server / "environ").read_bytes, "the variables of the sftp server")
            yield parse((server / "environ").read_bytes())
        finally:
            process.kill()
            wait_for(lambda: not servers(), "the end of the sftp server")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return openssh.convert(keys() / "id_dropbear", tmp_path / "id")


def test_sftp(container: Container, key: Path) -> None:
    with transfer(container, *openssh.copier("sftp", key), "-b", "-", "alice@127.0.0.1") as variables:
        assert_exact(variables, {**VALUES, "PATH": OWN_PATH})


def test_scp(container: Container, key: Path, tmp_path: Path) -> None:
    """At a kilobyte a second, which lasts."""
    large = tmp_path / "large"
    large.touch()
    os.truncate(large, 1 << 20)
    slow = [*openssh.copier("scp", key), "-l", "8", str(large), "alice@127.0.0.1:/dev/null"]
    with transfer(container, *slow) as variables:
        assert_exact(variables, {**VALUES, "PATH": OWN_PATH})
