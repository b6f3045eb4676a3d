"""`ssh_hook attach` for the real Apptainer: `make real-apptainer TREE=DIR`, where DIR has it as installed.

The image is busybox as a SIF file, without anything of OpenSSH, and the same image as a sandbox.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import openssh
import pytest
import tested
from attached import hook, is_gone, make_image, tree
from containers import ALICE, LAUNCHER, Container, Result, as_user, keys, processes, run, running, wait_for
from patience import within
from refusals import assert_one_line
from test_attach import STEP, fixture_steps
from test_engines import CONTRACT, WAIT, contract

__all__ = ["fixture_steps"]
WHERE = Path("/home/alice/images")
SIF, SANDBOX = WHERE / "busybox.sif", WHERE / "sandbox"
PORT = 15300
NAME = "solver"
CLIENT = [
    *("-o", f"ProxyCommand={LAUNCHER} connect localhost --name {NAME}", "-o", "StrictHostKeyChecking=no"),
    *("-o", "UserKnownHostsFile=/dev/null", "-i", "/home/alice/.oci-hooks/ssh/keys/id_openssh"),
]
HAS_SSH = "ssh -V 2>/dev/null && test -e /opt/oci-hooks/ssh"


class Mode(NamedTuple):
    """Options of `apptainer instance start`, the image, and whether its own processes have `ssh` after an attach."""

    options: Sequence[str]
    image: Path
    has_ssh: bool


MODES = {
    "SIF": Mode([], SIF, False),
    "sandbox": Mode([], SANDBOX, False),
    "--writable-tmpfs": Mode(["--writable-tmpfs"], SIF, True),
    "--writable": Mode(["--writable"], SANDBOX, True),
    "--fakeroot": Mode(["--fakeroot"], SIF, False),
    "--fakeroot --writable-tmpfs": Mode(["--fakeroot", "--writable-tmpfs"], SIF, True),
    "--fakeroot --writable": Mode(["--fakeroot", "--writable"], SANDBOX, True),
    "--containall": Mode(["--containall"], SIF, False),
    "--containall --writable-tmpfs": Mode(["--containall", "--writable-tmpfs"], SIF, True),
    "--cleanenv --no-home": Mode(["--cleanenv", "--no-home"], SIF, False),
}


def apptainer(*arguments: str | Path) -> Result:
    """Run Apptainer as alice."""
    return run(as_user(ALICE, "apptainer", "--quiet", *map(str, arguments)), cwd="/home/alice")


@pytest.fixture(scope="module", autouse=True)
def images(request: pytest.FixtureRequest) -> Iterator[None]:
    shutil.rmtree(WHERE, ignore_errors=True)
    WHERE.mkdir()
    make_image("tree")
    shutil.chown(WHERE, "alice", "alice")
    apptainer("build", SIF, WHERE / "tree").checked()
    apptainer("build", "--sandbox", SANDBOX, SIF).checked()
    yield
    shutil.rmtree(WHERE)
    if not request.session.testsfailed:
        tested.note("real-apptainer", {"Apptainer": tested.version(apptainer("--version").checked().text)})


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return openssh.convert(keys() / "id_dropbear", tmp_path / "key")


@pytest.fixture
def ended() -> Iterator[None]:
    """Whatever a test leaves of instances ends with it."""
    yield
    apptainer("instance", "stop", "--all")
    wait_for(lambda: not run(["pgrep", "-u", "alice", "appinit"]).out, "end of the instances")


class Instance(Container):
    """An instance to which alice has attached. `exec` is a session from the node."""

    def __init__(self, mode: Mode, key: Path) -> None:
        self.name = NAME
        self._key = key
        apptainer("instance", "start", *mode.options, mode.image, NAME).checked()
        self._shell = attach(variables=[f"OCIHOOKS_SSH_WAIT={WAIT}"])

    def exec(self, *command: str | bytes, stdin: bytes = b"") -> Result:
        return openssh.login(self._key, shlex.join(map(os.fsdecode, command)), port=PORT, stdin=stdin)

    def init(self) -> int:
        return self._shell


def attach(*arguments: str, variables: Sequence[str] = ()) -> int:
    """Attach to the instance, and expect no complaint; return the pid of the shell in it."""
    done = hook("attach", "--instance", NAME, "--port", str(PORT), *arguments, variables=variables)
    assert (done.status, done.err) == (0, b"")
    found = re.fullmatch(rf"attached to process (\d+) \(sh\): its SSH daemon listens on port {PORT}", done.text)
    assert found is not None, done.text
    return int(found[1])


def in_instance(command: str) -> Result:
    return apptainer("exec", f"instance://{NAME}", "sh", "-c", command)


@pytest.mark.usefixtures("ended")
@pytest.mark.parametrize("name", MODES)
def test_instance(key: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    mode = MODES[name]
    before = tree(SANDBOX)
    instance = Instance(mode, key)
    held = contract(instance, PORT)
    with capsys.disabled():
        print(f"\n{name:<30}", *(f"{what} {value} " for what, value in zip(CONTRACT, held)))
    assert set(held) == {"ok"}
    look = "id -u; echo $APPTAINER_NAME"
    assert in_instance(look).text == instance.exec("sh", "-c", look).text
    assert (in_instance(HAS_SSH).status == 0) is mode.has_ssh
    assert re.search(rf"\b{PORT} +{NAME} .* apptainer ", hook("status").checked().text)
    again = hook("attach", "--instance", NAME, "--port", str(PORT + 1))
    assert_one_line(again.err.decode(), f"'ssh_hook detach --instance {NAME}' stops it", kind="attach-refused")
    hook("detach", "--instance", NAME).checked()
    assert is_gone(instance.init())
    assert tree(SANDBOX) == before
    shell = attach()
    assert instance.exec("echo", "served").checked().text == "served"
    apptainer("instance", "stop", NAME).checked()
    wait_for(lambda: not processes(), "end of the daemon with the instance")
    assert is_gone(shell)


@pytest.mark.usefixtures("ended")
def test_instance_with_a_network_of_its_own() -> None:
    """Its port is nobody's outside, but `ssh_hook connect` finds its door."""
    apptainer("instance", "start", "--net", "--network", "none", SIF, NAME).checked()
    attach()
    done = run(as_user(ALICE, "ssh", "-F", "none", *CLIENT, "alice@any", "echo served"), cwd="/")
    assert done.text == "served", done.err


def test_exec(key: Path) -> None:
    """A container without a name: its only process, which `attach` finds by itself and by its pid."""
    command = as_user(ALICE, "apptainer", "--quiet", "exec", "--writable-tmpfs", str(SIF), "/bin/sleep", "4711")
    with subprocess.Popen(command, cwd="/home/alice", stderr=subprocess.DEVNULL) as engine:
        wait_for(lambda: running("/bin/sleep", "4711"), "start", seconds=30)
        (pid,) = running("/bin/sleep", "4711")
        for arguments in ((), (pid,)):
            done = hook("attach", *arguments, "--port", str(PORT)).checked()
            assert done.text.startswith(f"attached to process {pid} ")
            assert openssh.login(key, "echo $APPTAINER_NAME", port=PORT).checked().text == SIF.name
            hook("detach").checked()
        hook("attach", "--port", str(PORT)).checked()
        os.kill(int(pid), signal.SIGKILL)
        engine.wait(within(10))
    wait_for(lambda: not processes(), "end of the daemon with the program")


@pytest.mark.usefixtures("ended")
def test_refusals() -> None:
    missing = hook("attach", "--instance", "nobody").err.decode()
    assert_one_line(missing, "no instance found with name nobody", kind="no-container")
    assert_one_line(hook("detach", "--instance", "nobody").err.decode(), "name nobody", kind="no-container")
    apptainer("instance", "start", SIF, NAME).checked()
    pid = run(["pgrep", "-u", "alice", "appinit"]).checked().text
    assert_one_line(hook("attach", pid).err.decode(), "(appinit)", kind="attach-refused")
    hook("attach", "--instance", NAME, "--port", "1").err.decode()
    wait_for(lambda: not processes(), "end of the supervisor")
    wait_for(lambda: not shells(), "end of the shells")


def shells() -> set[str]:
    return running("/bin/sh", "-c", "read -r end")


@pytest.mark.usefixtures("ended")
@pytest.mark.parametrize("name", ["SIF", "--writable-tmpfs"])
@pytest.mark.parametrize("is_daemon_killed", [False, True])
def test_supervisor_that_is_killed(key: Path, name: str, is_daemon_killed: bool) -> None:
    """The shell ends with it; what is left goes with `detach`."""
    instance = Instance(MODES[name], key)
    for pid, program in sorted(processes().items(), key=lambda each: each[1] != "ssh_hook"):
        if program == "ssh_hook" or is_daemon_killed:
            with suppress(ProcessLookupError):  # the server's child ends with the server
                os.kill(pid, signal.SIGKILL)
    wait_for(lambda: is_gone(instance.init()), "end of the shell")
    if not is_daemon_killed or MODES[name].has_ssh:
        refused = hook("attach", "--instance", NAME, "--port", str(PORT + 1)).err.decode()
        assert_one_line(refused, "ssh_hook detach", kind="attach-refused")
        hook("detach", "--instance", NAME).checked()
    wait_for(lambda: not processes(), "end of the supervisor")
    wait_for(lambda: not shells(), "end of the shells")
    attach()
    assert instance.exec("echo", "served").checked().text == "served"
    hook("detach", "--instance", NAME).checked()
    left = hook("detach", "--instance", NAME).err.decode()
    assert_one_line(left, "you have attached no SSH daemon", kind="attach-refused")


@pytest.mark.usefixtures("ended")
def test_another_step_of_a_slurm_job(steps: list[Path], key: Path) -> None:
    """The command lasts as long as the server: the instance is not in the step, but the shell is."""
    apptainer("instance", "start", SIF, NAME).checked()
    command = as_user(ALICE, LAUNCHER, "attach", "--instance", NAME, "--port", str(PORT))
    with subprocess.Popen(["sh", "-c", STEP, "sh", str(steps[1]), *command], stdout=subprocess.PIPE) as srun:
        assert srun.stdout is not None
        assert srun.stdout.readline().startswith(b"attached to process ")
        assert b"runs until the SSH daemon stops" in srun.stdout.readline()
        time.sleep(1)
        assert openssh.login(key, "echo served", port=PORT).checked().text == "served"
        assert srun.poll() is None
        hook("detach", "--instance", NAME).checked()
        assert srun.wait(within(10)) == 0
