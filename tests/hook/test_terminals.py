"""Terminals of sessions: of the container, of their user, with window size, keys, job control and hang-ups."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator

import pytest
from containers import Container, is_client, processes, running, wait_for
from starter import Start
from terminal import Terminal, terminal

PROMPT = b"<> "
KINDS = ["podman-crun", "podman-runc", "rootless", "keep-id", "crun", "runc"]


@pytest.fixture(params=KINDS)
def container(request: pytest.FixtureRequest, start: Start) -> Container:
    if request.param == "keep-id":
        return start("rootless", options=["--userns=keep-id"])
    return start(request.param)


@pytest.fixture
def shell(container: Container) -> Iterator[Terminal]:
    """A login shell in the container, by its ssh."""
    with terminal(container.at_terminal("ssh", "127.0.0.1")) as opened:
        opened.expect(b"# " if container.exec("id", "-u").text == "0" else b"$ ")
        # Typed in two parts, so that what the terminal echoes is not the prompt. Bash is to write the prompt alone.
        opened.type(b"bind 'set enable-bracketed-paste off' 2>/dev/null; PS1='<''> '\r")
        opened.expect(PROMPT)
        yield opened


def ask(shell: Terminal, line: str) -> str:
    """What a line of the shell says."""
    shell.type(line.encode() + b"\r")
    shell.expect(b"\r\n")  # the end of the line as it is echoed
    said = shell.expect(PROMPT).removesuffix(PROMPT)
    return said.decode().replace("\r\n", "\n").removesuffix("\n")


def comes_to_run(container: Container, command: str, count: int = 1) -> None:
    wait_for(lambda: len(runs(container, command)) == count, f"{count} processes {command}")


def runs(container: Container, command: str) -> set[str]:
    return running(*command.split(), proc=container.path("/proc"))


def states(container: Container, command: str) -> set[str]:
    """The states of the processes with this command line: "S" for one that sleeps, "T" for one that is stopped."""
    stats = [container.path("/proc") / pid / "stat" for pid in runs(container, command)]
    return {stat.read_text(encoding="ascii").rpartition(")")[2].split()[0] for stat in stats}


def test_a_terminal_is_the_containers_and_the_users(container: Container, shell: Terminal) -> None:
    name = ask(shell, "tty")
    assert re.fullmatch(r"/dev/pts/[0-9]+", name)
    assert ask(shell, f"ls -ln {name} | cut -c 1-10,11- | tr -s ' ' | cut -d ' ' -f 3") == ask(shell, "id -u")
    assert ask(shell, f"test -w {name} && test -r {name} && ls -l /dev/pts >/dev/null && echo usable") == "usable"
    assert ask(shell, "echo by its name >/dev/tty") == "by its name"
    assert container.path(name).is_char_device()
    shell.type(b"exit 5\r")
    assert shell.end()[0] == 5


def test_window(container: Container, shell: Terminal) -> None:
    assert ask(shell, "stty size") == "50 132"
    shell.type(b"sh -c 'trap \"stty size; exit\" WINCH; echo rea''dy; while :; do sleep 0.1; done'\r")
    shell.expect(b"ready\r\n")
    shell.resize(24, 80)
    assert shell.expect(PROMPT).endswith(b"24 80\r\n" + PROMPT)
    assert ask(shell, "stty size") == "24 80"


def test_keys(container: Container, shell: Terminal) -> None:
    shell.type(b"sleep 4321\r")
    comes_to_run(container, "sleep 4321")
    shell.type(b"\x03")
    shell.expect(PROMPT)
    assert ask(shell, "echo $?") == "130"
    comes_to_run(container, "sleep 4321", 0)

    shell.type(b"sleep 4322\r")
    comes_to_run(container, "sleep 4322")
    shell.type(b"\x1a")
    shell.expect(PROMPT)
    assert re.search("(?i)stopped.*sleep 4322", ask(shell, "jobs"))
    shell.type(b"fg\r")
    wait_for(lambda: states(container, "sleep 4322") == {"S"}, "a process that goes on")
    shell.type(b"\x03")
    shell.expect(PROMPT)
    assert ask(shell, "echo $?") == "130"
    comes_to_run(container, "sleep 4322", 0)

    shell.type(b"cat\r")
    shell.expect(b"cat\r\n")
    shell.type(b"a line\r")
    shell.expect(b"a line\r\na line\r\n")
    shell.type(b"\x04")
    shell.expect(PROMPT)


def test_end_of_the_connection_ends_what_has_the_terminal(container: Container, shell: Terminal) -> None:
    ask(shell, "nohup sleep 4323 >/dev/null 2>&1 &")
    shell.type(b"sleep 4324\r")
    comes_to_run(container, "sleep 4324")
    assert kill_clients(container) > 0
    comes_to_run(container, "sleep 4324", 0)
    assert len(runs(container, "sleep 4323")) == 1, "what was told to stay has ended too"


@pytest.mark.parametrize("runtime", ["crun", "runc"])  # podman goes on when its terminal has gone
def test_hang_up(start: Start, runtime: str) -> None:
    container = start(runtime)
    for options, command in (("-t", "sleep 4325"), ("-tt", "cat")):
        with terminal(container.at_terminal("ssh", options, "127.0.0.1", command)) as client:
            comes_to_run(container, command)
            client.hang_up()
            comes_to_run(container, command, 0)


def kill_clients(container: Container) -> int:
    """Kill the clients in the container as a node that fails does; how many there were."""
    namespace = os.stat(f"/proc/{container.init()}/ns/pid").st_ino
    clients = [pid for pid in processes() if is_client(pid) and os.stat(f"/proc/{pid}/ns/pid").st_ino == namespace]
    for pid in clients:
        os.kill(pid, signal.SIGKILL)
    return len(clients)
