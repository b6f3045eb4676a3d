"""What the hook reaps of a start that fails, and what it says of a daemon that ended at its start."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ssh_hook.errors import DAEMON_FAILED, NO_MEMORY, ContainerEndedError, HookError
from ssh_hook.linux import syscalls
from ssh_hook.linux.process import Process
from ssh_hook.start.channel import Forked, HookEnd, Message, Provisioned, Receiver, Sender
from ssh_hook.start.supervisor import Supervisor, explain_wait_status, fork


@pytest.mark.parametrize("status", [None, 1 << 8])
def test_a_daemon_without_a_port_needs_no_other_one(status: int | None) -> None:
    assert "try another port with --port, and see whether bin/dropbear" in explain_wait_status(status, "--port")
    without = explain_wait_status(status, "")
    assert "port" not in without.replace("DROPBEAR", "")
    assert without.count("see whether bin/dropbear") == 1


def nothing(*_arguments: object) -> None:
    pass


class Plan:
    """The plan of a start that fails while the provisioner waits for the daemon's forker, which outlives it."""

    def __init__(self, kills: bool) -> None:
        """`kills` tells whether the forker kills the provisioner, as the kernel may, or the hook does."""
        self._kills = kills
        self._reader, self._writer = os.pipe()
        self.root = self.namespaces = self.registration = self.door = self.ending = SimpleNamespace(
            open=nothing, join=nothing, remove=nothing, roll_back=nothing
        )
        self.container = SimpleNamespace(annotations=SimpleNamespace(pidfile_host=""))
        self.owner = SimpleNamespace(name="alice")
        self.confinement = SimpleNamespace(warnings=[])
        self.cgroups = self.logins = self

    def fork(self) -> int:
        """Fork the daemon, in the forker."""
        provisioner = os.getppid()
        os.write(self._writer, b"\n")
        if self._kills:
            os.kill(provisioner, signal.SIGKILL)
        while os.getppid() == provisioner:
            time.sleep(0.001)
        time.sleep(0.05)
        raise OSError(0, "no daemon")

    def close(self) -> None:
        """Close the descriptors for the log, in the hook."""
        os.read(self._reader, 1)
        if not self._kills:
            raise HookError(NO_MEMORY, "the hook fails")


def run_hook(plan: Any) -> None:
    try:
        fork(plan).supervise()
    except HookError:
        os._exit(0)
    finally:
        os._exit(1)


def run_runtime(plan: Any) -> None:
    """Be a runtime that calls the hook; exit with 0 where the hook has left it no child."""
    try:
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        hook = os.fork()
        if hook == 0:
            run_hook(plan)
        children = {}
        while True:
            pid, status = os.wait()
            children[pid] = status
    except ChildProcessError:
        os._exit(0 if children == {hook: 0} else 1)
    finally:
        os._exit(2)


@pytest.mark.parametrize("kills", [False, True], ids=["by_the_hook", "by_the_kernel"])
def test_the_forker_of_a_provisioner_that_is_killed_is_no_child_of_the_runtime(kills: bool) -> None:
    runtime = os.fork()
    if runtime == 0:
        run_runtime(Plan(kills))
    assert os.waitpid(runtime, 0)[1] == 0


def ended() -> Receiver:
    """A pipe whose writer has ended."""
    reader, writer = os.pipe()
    os.close(writer)
    return Receiver(reader)


def kill_oneself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("end", "words", "kind"),
    [
        (kill_oneself, "cannot start the SSH daemon: it was killed by signal 9 at startup; .*--memory", NO_MEMORY),
        (lambda: os._exit(0), "cannot start the SSH daemon: it exited at startup; ", DAEMON_FAILED),
        (lambda: os._exit(1), "a process of the hook was killed", NO_MEMORY),  # the provisioner
    ],
    ids=["killed", "ended", "left_alone"],
)
def test_a_daemon_ends_a_moment_after_its_pipes(end: Callable[[], None], words: str, kind: str) -> None:
    reader, writer = os.pipe()
    daemon = os.fork()
    if daemon == 0:
        try:
            os.close(writer)
            os.read(reader, 1)
            time.sleep(0.1)
            end()
        finally:
            os._exit(2)

    def is_alive() -> bool:
        os.close(writer)  # from now on the daemon may end
        return True

    unused = os.dup(reader)
    plan: Any = SimpleNamespace(
        init=SimpleNamespace(is_alive=is_alive), server=SimpleNamespace(port=22, port_option="--port")
    )
    supervisor = Supervisor(plan, HookEnd(ended(), ended(), unused, Sender(unused), Sender(unused)), 0)
    supervisor.daemon = Process(daemon)
    try:
        error = supervisor._explain_end()
    finally:
        os.waitpid(daemon, 0)
    assert re.search(words, str(error))
    assert error.kind == kind


def supervisor_of_server(daemon: int, ready: int, has_container: bool = True) -> Supervisor:
    """What waits until Dropbear listens."""
    unused = os.dup(ready)
    plan: Any = SimpleNamespace(
        init=SimpleNamespace(is_alive=lambda: has_container),
        server=SimpleNamespace(port=22, port_option="--port", place="port 22"),
    )
    supervisor = Supervisor(plan, HookEnd(ended(), ended(), ready, Sender(unused), Sender(unused)), 0)
    supervisor.daemon = Process(daemon)
    return supervisor


def test_why_a_daemon_has_ended_is_known_when_it_has() -> None:
    """The child of it that was to listen has ended a moment before."""
    ready, writer = os.pipe()
    daemon = os.fork()
    if daemon == 0:
        try:
            os.close(writer)
            time.sleep(0.1)
            kill_oneself()
        finally:
            os._exit(2)
    os.close(writer)
    supervisor = supervisor_of_server(daemon, ready)
    try:
        with pytest.raises(HookError, match=r"does not listen on port 22: it was killed by signal 9 at") as raised:
            supervisor._await_listening()
    finally:
        os.waitpid(daemon, 0)
    assert raised.value.kind == NO_MEMORY


def test_a_server_that_ends_with_its_container() -> None:
    """It cannot read its gate then."""
    ready, writer = os.pipe()
    os.close(writer)
    with pytest.raises(ContainerEndedError):
        supervisor_of_server(os.getpid(), ready, has_container=False)._await_listening()


@pytest.mark.parametrize(("said", "warnings"), [(b"\n", 0), (b"!", 1)])
def test_a_server_that_logs_no_logins(said: bytes, warnings: int, capfd: pytest.CaptureFixture[str]) -> None:
    ready, writer = os.pipe()
    os.write(writer, said)
    supervisor_of_server(os.getpid(), ready)._await_listening()
    os.close(writer)
    assert capfd.readouterr().err.count("not recorded in the node's system log") == warnings


def test_a_daemon_is_recorded_also_if_its_message_comes_last() -> None:
    messages = iter([Provisioned("key"), Forked(7, 8)])
    recorded: list[Message] = []
    supervisor = Supervisor.__new__(Supervisor)
    channel = SimpleNamespace(receive=lambda _seconds: next(messages))
    vars(supervisor).update(_channel=channel, _pid=0, _register=recorded.append)
    assert supervisor._await_setup().host_keys == ("key",)
    assert len(recorded) == 1
