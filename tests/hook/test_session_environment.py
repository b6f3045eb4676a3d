"""The variables of a session: those of the container's first process when the session begins, and of the job."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import openssh
import pytest
import suite
from containers import ALICE, WORK, Container, Engine, Result, as_user, keys, listening, podman_start, run, wait_for
from enroot import Enroot
from held import NO_MEMORY, held
from hook_log import Syslog
from patience import within
from starter import Start

# An entrypoint exports variables, and executes the container's program.
ENTRY = """#!/bin/sh
export EXPORTED="it's \\$new" PATH="/added dir:$PATH"
unset REMOVED
exec "$@"
"""
EXPORTED = {"EXPORTED": "it's $new", "KEPT": "1"}
GIVEN = {"KEPT": "1", "REMOVED": "1"}
OWN = {
    "HOME",
    "LOGNAME",
    "PWD",
    "OLDPWD",
    "SHELL",
    "SHLVL",
    "USER",
    "_",
    "SSH_CLIENT",
    "SSH_CONNECTION",
    "SSH_PUBKEYINFO",
}
WARNING = "cannot be read"
PROGRAM = "/opt/oci-hooks/dropbear/bin/dropbear"
DIRECT_PORT = 15999


def parse(output: bytes) -> dict[str, str]:
    entries = (entry.decode("utf-8", "surrogateescape") for entry in output.split(b"\0"))
    return {name: value for name, _equals, value in (entry.partition("=") for entry in entries if entry)}


def of_process(pid: int) -> dict[str, str]:
    return {name: value for name, value in parse(Path(f"/proc/{pid}/environ").read_bytes()).items() if name not in OWN}


def of_session(container: Container, *, is_login: bool = False) -> dict[str, str]:
    session = container.ssh(stdin=b"env -0\n") if is_login else container.ssh("env -0")
    return {name: value for name, value in parse(session.checked().out).items() if name not in OWN}


def runs(pid: int, name: str) -> Callable[[], bool]:
    """Tell whether a process has executed the program `name`: during execve(2) its environment is empty."""
    process = Path(f"/proc/{pid}")
    return lambda: (
        (process / "comm").read_text(encoding="utf-8") == f"{name}\n" and (process / "environ").read_bytes() != b""
    )


@pytest.fixture(name="entry", scope="module")
def fixture_entry() -> Iterator[Callable[[str], list[str]]]:
    """Options of podman for a container with this entrypoint."""
    directory = WORK / "entries"
    directory.mkdir(parents=True, exist_ok=True)

    def options(script: str) -> list[str]:
        path = directory / "entry"
        path.unlink(missing_ok=True)
        path.write_text(script, encoding="utf-8")
        path.chmod(0o755)
        return ["--volume", f"{path}:/entry:ro", "--entrypoint", "/entry"]

    yield options
    (directory / "entry").unlink()
    directory.rmdir()


@pytest.mark.parametrize("engine", ["podman-crun", "podman-runc", "rootless"])
def test_what_an_entrypoint_exports(start: Start, entry: Callable[[str], list[str]], engine: str) -> None:
    container = start(engine, options=entry(ENTRY), env=GIVEN)
    wait_for(runs(container.init(), "sleep"), "the container's program")
    expected = of_process(container.init())
    assert EXPORTED.items() <= expected.items()
    assert "REMOVED" not in expected
    assert of_session(container) == expected
    assert of_session(container, is_login=True) == expected


def test_an_entrypoint_that_does_not_exec_exports_nothing(start: Start, entry: Callable[[str], list[str]]) -> None:
    container = start("podman-crun", options=entry(ENTRY.replace("exec ", "")), env=GIVEN)
    session = of_session(container)
    assert session == of_process(container.init())
    assert GIVEN.items() <= session.items()
    assert "EXPORTED" not in session


def test_a_session_that_begins_before_the_entrypoint_is_done(start: Start, entry: Callable[[str], list[str]]) -> None:
    script = ENTRY.replace("exec", "until [ -e /tmp/done ]; do sleep 0.1; done; exec")
    container = start("podman-crun", options=[*entry(script), "--tmpfs", "/tmp"], env=GIVEN)
    assert "REMOVED" in of_session(container)
    assert "REMOVED" in of_session(container, is_login=True)
    container.exec("touch", "/tmp/done").checked()
    wait_for(runs(container.init(), "sleep"), "the container's program")
    assert of_session(container, is_login=True) == of_session(container) == of_process(container.init())


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_a_program_with_more_rights_keeps_its_variables(start: Start, runtime: str) -> None:
    """Set-uid root: a session of alice's may not read them, and has those of config.json."""

    def prepare(root: Path) -> None:
        (root / "usr/bin/privileged").write_bytes((root / "usr/bin/sleep").read_bytes())
        (root / "usr/bin/privileged").chmod(0o4755)
        (root / "entry").write_text(ENTRY.replace('exec "$@"', "exec privileged 1000"), encoding="utf-8")
        (root / "entry").chmod(0o755)

    def change(config: dict[str, dict[str, list[str]]]) -> None:
        config["process"]["args"] = ["/entry"]

    container = start(runtime, prepare=prepare, change=change, env=GIVEN)
    wait_for(runs(container.init(), "privileged"), "the container's program")
    for is_login in (False, True):
        session = of_session(container, is_login=is_login)
        assert GIVEN.items() <= session.items()
        assert "EXPORTED" not in session


def test_a_title_is_not_taken_for_variables(start: Start) -> None:
    """perl writes what $0 is set to over its variables, as daemons write their titles."""
    title = ["perl", "-e", '$0 = "title=" . "x" x 3000; sleep 1000']
    container = start("podman-crun", command=title, env=GIVEN)
    pid = container.init()
    wait_for(lambda: Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"title="), "the title")
    assert not GIVEN.items() <= of_process(pid).items()
    session = of_session(container)
    assert GIVEN.items() <= session.items()
    assert not any("xxx" in value for value in session.values())


def test_a_string_that_is_no_variable_behind_others(start: Start) -> None:
    """As where a program has wiped a secret. The session has config.json's variables, all of them."""
    execve = 59  # of x86-64; a shell passes variables alone on
    program = f"""
        my @arguments = ("/bin/sleep", "1000");
        my @strings = ("ONE=1", "TWO=2", "", "none", "THREE=3");
        syscall({execve}, $arguments[0], pack("p*", @arguments, undef), pack("p*", @strings, undef));
    """
    container = start("podman-crun", command=["perl", "-e", program], env=GIVEN)
    wait_for(runs(container.init(), "sleep"), "the container's program")
    assert Path(f"/proc/{container.init()}/environ").read_bytes() == b"ONE=1\0TWO=2\0\0none\0THREE=3\0"
    session = of_session(container)
    assert GIVEN.items() <= session.items()
    assert "ONE" not in session


def test_enroot(nothing_left: None) -> None:
    def prepare(root: Path) -> None:
        (root / "entry").write_text(ENTRY, encoding="utf-8")
        (root / "entry").chmod(0o755)

    container = Enroot(prepare=prepare, env=GIVEN, command=["/entry", "/bin/sleep", "1000"])
    try:
        wait_for(runs(container.init(), "sleep"), "the container's program")
        session = of_session(container)
        assert EXPORTED.items() <= session.items()
        assert "REMOVED" not in session
    finally:
        container.remove()


# As schedulers and sites set them for GPUs and the network: with commas, blanks and quotes in them.
GPUS = {
    "CUDA_VISIBLE_DEVICES": "0,2",
    "ROCR_VISIBLE_DEVICES": "GPU-17a2b96a48ed,1",
    "ZE_AFFINITY_MASK": "0.0,1.1",
    "NVIDIA_VISIBLE_DEVICES": "GPU-fef8089b-4820-abfc-e83e-94318197576e,none",
    "SLURM_JOB_GPUS": "0,2",
    "SLURM_STEP_GPUS": "0,2",
    "SLURM_JOB_ID": "77",
    "NCCL_NET": "AWS Libfabric",
    "NCCL_DEBUG_FILE": '"quoted" $HOME `id` \\ %h',
}


@contextmanager
def of_gpus(engine: str) -> Iterator[Container]:
    with suite.installed():
        container: Container
        if engine == "enroot":
            container = Enroot(env=GPUS).wait_until_it_runs()
        elif engine == "suite":
            container = suite.start(env=GPUS)
        else:
            container = podman_start(Engine(engine), "busybox", env=GPUS)
        try:
            yield container
        finally:
            container.remove()


@pytest.mark.parametrize("engine", ["podman-crun", "rootless", "suite", "enroot"])
def test_a_session_has_the_gpus_of_its_container(nothing_left: None, engine: str) -> None:
    with of_gpus(engine) as container:
        wait_for(runs(container.init(), "sleep"), "the container's program")
        first = of_process(container.init())
        for is_login in (False, True):
            session = of_session(container, is_login=is_login)
            assert {name: session.get(name) for name in GPUS} == GPUS
            assert {name: first[name] for name in GPUS} == GPUS


SRUN = {
    "SLURM_JOB_ID": "77",
    "SLURM_PROCID": "3",
    "PMI_RANK": "3",
    "PMIX_RANK": "3",
    "PMIX_MCA_gds": "hash",
    "HYDRA_BOOTSTRAP": "slurm",
    "HYDRA_LAUNCHER_EXTRA_ARGS": "--external-launcher",
    "I_MPI_HYDRA_BOOTSTRAP": "slurm",
    "I_MPI_HYDRA_BOOTSTRAP_EXEC_EXTRA_ARGS": "--external-launcher",
    "OMPI_MCA_plm_slurm_args": "--external-launcher",
    "PRTE_MCA_plm_slurm_args": "--external-launcher",
}
IN_JOB = {
    "SLURM_JOB_ID": "77",
    "PMIX_MCA_gds": "hash",
    "HYDRA_BOOTSTRAP": "ssh",
    "I_MPI_HYDRA_BOOTSTRAP": "ssh",
    "OMPI_MCA_plm": "^slurm",
    "PRTE_MCA_plm": "^slurm",
}


@pytest.mark.parametrize("is_login", [False, True])
def test_a_session_is_none_of_slurms_tasks(start: Start, is_login: bool) -> None:
    container = start("crun", "busybox", env=SRUN)
    session = of_session(container, is_login=is_login)
    assert session == {"PATH": session["PATH"], **IN_JOB}


# Dropbear by itself, with another process in place of a container's first one


@contextmanager
def dropbear(pid: int, started: str, directory: Path, variables: Mapping[str, str]) -> Iterator[Callable[[], Result]]:
    """Run the server as alice for the variables of this process; yield what asks for those of a session."""
    key = openssh.convert(keys() / "id_dropbear", directory / "id")
    files = WORK / "direct"
    files.mkdir(parents=True)
    os.chown(files, ALICE, ALICE)
    words = [PROGRAM, "-F", "-e", "-r", str(keys() / "dropbear_ed25519_host_key"), "-D", str(keys())]
    words += ["-J", f"{pid},{started},{files}/environment", "-p", f"127.0.0.1:{DIRECT_PORT}", "-P", f"{files}/pid"]
    given = [f"{name}={value}" for name, value in variables.items()]
    try:
        with subprocess.Popen(as_user(ALICE, *given, *words), stdin=subprocess.DEVNULL) as server:
            try:
                wait_for(lambda: DIRECT_PORT in listening(), "the server")
                yield lambda: openssh.login(key, "env -0", port=DIRECT_PORT)
            finally:
                server.terminate()
    finally:
        run(["rm", "-rf", files]).checked()


def start_time(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]


@contextmanager
def process_of_alice(**variables: str) -> Iterator[int]:
    given = [f"{name}={value}" for name, value in variables.items()]
    with subprocess.Popen(as_user(ALICE, *given, "sleep", "1000")) as process:
        try:
            wait_for(runs(process.pid, "sleep"), "the process")
            yield process.pid
        finally:
            process.kill()


def test_the_variables_of_the_process(tmp_path: Path) -> None:
    with process_of_alice(MINE="1") as pid:
        with dropbear(pid, start_time(pid), tmp_path, {"OURS": "1"}) as ask:
            session = parse(ask().checked().out)
    assert session["MINE"] == "1"
    assert "OURS" not in session


def test_a_process_that_has_the_pid_now(tmp_path: Path, syslog: Syslog) -> None:
    with process_of_alice(MINE="1") as pid:
        with dropbear(pid, str(int(start_time(pid)) - 1), tmp_path, {"OURS": "1"}) as ask:
            session = parse(ask().checked().out)
    assert session["OURS"] == "1"
    assert "MINE" not in session
    wait_for(lambda: syslog.with_text(WARNING), "the warning")
    assert f"The variables of process {pid} cannot be read (No such process)" in syslog.with_text(WARNING)[0]


@pytest.mark.parametrize(("length", "is_read"), [(131071 - 5, True), (0, False)])
def test_too_many_variables(tmp_path: Path, syslog: Syslog, length: int, is_read: bool) -> None:
    """The longest that a program can have; and more than a session takes."""
    variables = {"LONG": "x" * length} if is_read else {f"LONG{number}": "x" * 120000 for number in range(9)}
    with process_of_alice(**variables) as pid:
        with dropbear(pid, start_time(pid), tmp_path, {"OURS": "1"}) as ask:
            session = parse(ask().checked().out)
    assert len(session.get("LONG", "")) == length
    assert ("OURS" in session) is not is_read
    wait_for(lambda: is_read or syslog.with_text(WARNING), "the warning")
    assert [f"process {pid} cannot be read (Argument list too long)" in text for text in syslog.with_text(WARNING)] == (
        [] if is_read else [True]
    )


def blocked() -> int:
    """The pid of a process the lock of whose memory is held; 0 where there is none yet."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            name, _bracket, fields = path.read_text(encoding="utf-8").rpartition(")")
            if name.endswith("(dropbear") and fields.split()[0] == "D":
                return int(path.parent.name)
    return 0


def test_a_read_that_hangs(tmp_path: Path, syslog: Syslog) -> None:
    with held(Path("/"), NO_MEMORY):
        pid = blocked()
        assert pid
        with dropbear(pid, start_time(pid), tmp_path, {"OURS": "1"}) as ask:
            begin = time.monotonic()
            session = parse(ask().checked().out)
            assert time.monotonic() - begin < within(15)  # the lock is held for 60 s
    assert session["OURS"] == "1"
    wait_for(lambda: syslog.with_text(WARNING), "the warning")
    assert f"process {pid} cannot be read (Operation timed out)" in syslog.with_text(WARNING)[0]


def test_what_a_session_lacks_is_set_by_default(tmp_path: Path) -> None:
    defaults = {"OCIHOOKS_SSH_DEFAULT_SLURM_JOB_ID": "9", "OCIHOOKS_SSH_DEFAULT_MINE": "2"}
    with process_of_alice(MINE="1") as pid:
        with dropbear(pid, start_time(pid), tmp_path, defaults) as ask:
            session = parse(ask().checked().out)
    assert (session["MINE"], session["SLURM_JOB_ID"], session["HYDRA_BOOTSTRAP"]) == ("1", "9", "ssh")
    assert not any(name.startswith("OCIHOOKS") for name in session)
