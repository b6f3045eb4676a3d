"""`ssh dev-NAME`, with an imitation of Slurm's commands: the tests change its jobs."""

from __future__ import annotations

import errno
import json
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import within
from ssh_hook.cli import main
from ssh_hook.commands import ssh_config
from ssh_hook.commands.dev import dev, templates
from ssh_hook.keys import store
from ssh_hook.node import access
from ssh_hook.schedulers import own_jobs

IMITATION = Path(__file__).parent / "slurm_commands.py"
HOOK = Path(__file__).resolve().parents[5] / "files/hook"
NAME = "ocihooks-dev-gpu"
REFUSED = (
    "ssh_hook: error: dev-gpu has no job, and only a person starts another: run 'ssh dev-gpu' in a terminal, or "
    "'ssh_hook dev --start gpu' on a login node [no-container]"
)
SCRIPT = "#!/bin/sh\n#SBATCH --time=1\nsrun podman run x\n"


class Site:
    """A user's home, one profile there, and a Slurm with jobs."""

    def __init__(self, place: Path) -> None:
        self.asked = 0  # how often a test has been asked whether the client hangs up
        self.home = place / "home/alice"
        self.slurm = place / "slurm"
        self.profile = self.home / ".oci-hooks/dev/gpu.sh"
        self.mark = self.profile.with_name("gpu.submitted")
        passwd = place / "passwd"
        self.settings = {"HOOK_BASE_DIR": str(place / "home"), "PASSWD_FILE": str(passwd)}
        self.profile.parent.mkdir(parents=True, mode=0o700)
        self.profile.write_text(SCRIPT)
        self.profile.chmod(0o600)
        passwd.write_text(f"alice:x:{os.getuid()}:100::/elsewhere:/bin/sh\n")
        self.slurm.mkdir()
        for name in ("squeue", "sbatch", "scancel"):
            (self.slurm / name).write_text(f"#!{sys.executable}\n" + IMITATION.read_text(encoding="utf-8"))
            (self.slurm / name).chmod(0o755)

    def run(self, *words: str) -> int:
        return main(["dev", *words], self.settings)

    def add(self, number: int, state: str, **fields: str) -> None:
        """Add a job, or replace it."""
        job = {"number": str(number), "uid": str(os.getuid()), "state": state, "start": "N/A", "left": "1:00"}
        job.update({"node": "node7" if state == "RUNNING" else "", "reason": "None", "name": NAME, **fields})
        (self.slurm / "new").write_text(json.dumps(job))
        (self.slurm / "new").rename(self.slurm / f"job.{number}")

    def live(self) -> list[str]:
        jobs = [json.loads(path.read_text()) for path in self.slurm.glob("job.*")]
        return sorted(job["number"] for job in jobs if job["state"] in ("PENDING", "RUNNING"))

    def submitted(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.slurm.glob("submitted.*"))]


@pytest.fixture(name="site")
def fixture_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Return a site whose commands are first in PATH; nobody is at a terminal."""
    site = Site(tmp_path)
    monkeypatch.setenv("PATH", f"{site.slurm}:{os.environ['PATH']}")
    entry = pwd.struct_passwd(("alice", "x", os.getuid(), os.getgid(), "", str(site.home), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: entry)
    monkeypatch.setattr(dev, "_POLL", 0.05)
    monkeypatch.setattr(own_jobs, "_TIMEOUT", within(20))
    return site


@pytest.fixture(name="entered")
def fixture_entered(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Return what returns the arguments of `ssh_hook connect`; an imitation succeeds unless there is a file "fails"."""
    program = tmp_path / "connect"
    program.write_text(f'#!/bin/sh\necho "$@" >>{site.slurm}/entered\ntest ! -e {site.slurm}/fails\n')
    program.chmod(0o755)
    monkeypatch.setattr(dev, "launcher", lambda: str(program))

    def entered() -> list[str]:
        path = site.slurm / "entered"
        return path.read_text().splitlines() if path.exists() else []

    return entered


def error(capfd: pytest.CaptureFixture[str]) -> str:
    return capfd.readouterr().err.rstrip("\n")


# Profiles


def test_new_profile(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    path = site.home / ".oci-hooks/dev/cpu-2.sh"
    shutil.rmtree(site.home / ".oci-hooks")
    old_mask = os.umask(0)
    try:
        assert site.run("--new", "cpu-2") == 0
    finally:
        os.umask(old_mask)
    assert capfd.readouterr().out.startswith(f"Wrote {path}: ")
    assert [stat.S_IMODE(made.stat().st_mode) for made in (path, path.parent, path.parent.parent)] == [
        *(0o600, 0o700, 0o700)
    ]
    subprocess.run(["sh", "-n", path], check=True)
    written = path.read_text()
    path.write_text(written + "# mine\n")
    assert site.run("--new", "cpu-2") == 1
    assert error(capfd) == f"ssh_hook: error: cannot create {path}: File exists [system]"
    assert path.read_text() == written + "# mine\n"


def test_template_of_the_site(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is copied as it is. The user is to run it: so nobody but root may write it."""
    monkeypatch.setattr(access, "_roots", lambda _is_rootless: {os.getuid()})
    template = tmp_path / "template.sh"
    site.settings["DEV_TEMPLATE"] = str(template)
    assert site.run("--new", "cpu") == 1
    assert f"cannot read the site's template {template}: No such file or directory: ask" in error(capfd)
    template.write_text("#!/bin/sh\n#SBATCH --partition=dev\n")
    for mode in (0o666, 0o664):
        template.chmod(mode)
        assert site.run("--new", "cpu") == 1
        assert f"{template} is writable by users other than root" in error(capfd)
    template.chmod(0o644)
    monkeypatch.setattr(access, "_roots", lambda _is_rootless: {os.getuid() + 1})
    assert site.run("--new", "cpu") == 1
    monkeypatch.setattr(access, "_roots", lambda _is_rootless: {os.getuid()})
    assert site.run("--new", "cpu") == 0
    assert (site.profile.parent / "cpu.sh").read_bytes() == template.read_bytes()


@pytest.mark.parametrize("engine", ["podman", "podman-hpc", "enroot", ""])
def test_templates(engine: str) -> None:
    """It is for the engine that the node has, and begins with lines for Slurm alone: after a command, it reads none."""
    text = templates.script(lambda name: name if name == engine else None, "/x/ssh_hook")
    assert ("--container-image" in text) == (engine == "enroot")
    assert (f"srun {engine or 'podman'} run " in text) == (engine != "enroot")
    commands = [number for number, line in enumerate(text.splitlines()) if not line.startswith("#")]
    options = [number for number, line in enumerate(text.splitlines()) if line.startswith("#SBATCH")]
    assert len(options) == 2 and max(options) < min(commands)


@pytest.mark.parametrize("name", ["", "GPU", "a/b", "../x", "-x", "a b", "a\n", "é", "a" * 33, "a,b", "%j", "$(x)"])
def test_names_that_cannot_be(site: Site, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    for option in ("--new", "--start", "--cancel", "--log"):
        assert site.run(f"{option}={name}") == 1
        assert "cannot be the name of a profile" in error(capfd)
    assert site.run(f"--has=dev-{name}") == 1
    assert os.listdir(site.profile.parent) == ["gpu.sh"] and not site.live()


@pytest.mark.parametrize(
    ("line", "is_taken"),
    [
        ("Host a dev-cpu", True),
        ("host=dev-*", True),
        ('Match originalhost "x,dev-c*" exec "true"', True),
        ("Host *", False),
        ("Host dev-server", False),
        ("# Host dev-cpu", False),
        ("HostName dev-cpu", False),
    ],
)
def test_host_of_the_users_own(site: Site, line: str, is_taken: bool, capfd: pytest.CaptureFixture[str]) -> None:
    (site.home / ".ssh").mkdir()
    (site.home / ".ssh/config").write_text(f"Include x\n  {line}\n")
    assert site.run("--new", "cpu") == int(is_taken)
    assert (f"is for the host dev-cpu too: {line}: choose another name" in error(capfd)) == is_taken
    assert (site.profile.parent / "cpu.sh").exists() == (not is_taken)


@pytest.mark.parametrize("include", ["Include extra", "include ~/.ssh/ex*", "Include x {home}/.ssh/extra"])
def test_host_in_an_included_file(site: Site, include: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Files that ssh does not find or read do not matter, nor does our own, nor one that includes itself."""
    own = site.home / ".oci-hooks/ssh/client/config"
    own.parent.mkdir(parents=True)
    own.write_text('Match originalhost "dev-*"\n')
    (site.home / ".ssh").mkdir()
    (site.home / ".ssh/config").write_text(
        f"Include ~/.oci-hooks/ssh/client/config none\nHost a\n    {include.format(home=site.home)}\n"
    )
    extra = site.home / ".ssh/extra"
    os.mkfifo(extra)
    assert site.run("--new", "cpu") == 0
    extra.unlink()
    extra.write_text("Include ~/.ssh/extra\nHost DEV-cpu2\n")
    assert site.run("--new", "cpu2") == 1
    assert "is for the host dev-cpu2 too: Host DEV-cpu2: choose another name" in error(capfd)


def test_no_such_profile(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    for words in (["--connect", "dev-x"], ["--start", "x"], ["--cancel", "x"], ["--log", "x"]):
        assert site.run(*words) == 1
        assert "you have no profile x (you have: gpu): 'ssh_hook dev --new x' writes it" in error(capfd)
    assert [site.run("--has", host) for host in ("dev-gpu", "'dev-gpu'", "dev-x")] == [0, 0, 1]


def _directory(site: Site) -> None:
    site.profile.parent.chmod(0o770)


def _link(site: Site) -> None:
    site.profile.rename(site.home / "other")
    site.profile.symlink_to(site.home / "other")


def _fifo(site: Site) -> None:
    site.profile.unlink()
    os.mkfifo(site.profile, 0o600)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda site: site.profile.chmod(0o620), "that nobody else can write [not-trusted]"),
        (_directory, "that nobody else can write [not-trusted]"),
        (_link, "gpu.sh: Too many levels of symbolic links"),
        (_fifo, "that nobody else can write [not-trusted]"),
        (lambda site: site.profile.write_text(""), "gpu.sh is not a job script"),
        (lambda site: site.profile.write_text("x" * ((1 << 20) + 1)), "gpu.sh is not a job script"),
    ],
)
def test_profile_that_is_refused(
    site: Site,
    make: Callable[[Site], None],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(dev, "hangs_up", lambda _seconds: True)
    make(site)
    assert site.run("--connect", "dev-gpu", "--terminal") == 1
    assert said in error(capfd)
    assert not site.submitted()


def test_profile_of_another(site: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    uid = os.geteuid()
    monkeypatch.setattr(store.os, "geteuid", lambda: uid + 1)
    assert site.run("--start", "gpu") == 1
    assert "that nobody else can write [not-trusted]" in error(capfd)
    assert not site.submitted()


# Jobs


def test_job_that_runs(site: Site, entered: Callable[[], list[str]]) -> None:
    site.add(41, "COMPLETING", node="node1")
    site.add(42, "RUNNING", node="node[2-3]")
    assert site.run("--connect", "dev-gpu", "--via", "srun") == 0
    assert entered() == ["connect --job 42 --wait 120 --via srun node2"]
    assert not site.submitted()


def test_only_a_person_submits_again(
    site: Site,
    entered: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """An editor's connection submits the first job, and no other: also if the first one was cancelled in the queue."""
    monkeypatch.setattr(dev, "hangs_up", lambda _seconds: True)
    assert site.run("--connect", "dev-gpu") == 1
    assert error(capfd).endswith("job 100 of dev-gpu has not started [no-container]")
    site.add(100, "CANCELLED")
    for _attempt in range(3):
        assert site.run("--connect", "dev-gpu") == 1
        assert error(capfd) == REFUSED
    assert len(site.submitted()) == 1 and not entered()
    site.mark.unlink()
    assert site.run("--connect", "dev-gpu") == 1
    assert len(site.submitted()) == 2
    assert site.run("--connect", "dev-gpu", "--terminal") == 1
    site.add(101, "CANCELLED")
    assert site.run("--connect", "dev-gpu", "--terminal") == 1
    assert len(site.submitted()) == 3


@pytest.mark.parametrize(
    ("sbatch", "said"),
    [
        ("exec sleep 1000", "Slurm did not answer within 1 s (sbatch)"),
        ("echo 'sbatch: error: Socket timed out' >&2; exit 1", "sbatch: error: Socket timed out"),
        ("echo '100;far'", "job 100 went to the cluster far, and was cancelled: remove --clusters from the profile"),
        (None, "there is no sbatch in PATH"),
    ],
)
def test_submission_that_fails_is_not_repeated(
    site: Site, sbatch: str | None, said: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Slurm may have the job nevertheless, and an editor reconnects all night."""
    monkeypatch.setattr(own_jobs, "_TIMEOUT", 1.0)
    program = site.slurm / "sbatch"
    original = program.read_text()
    program.unlink()
    if sbatch is not None:
        program.write_text(f"#!/bin/sh\n{sbatch}\n")
        program.chmod(0o755)
    assert site.run("--connect", "dev-gpu") == 1
    assert said in error(capfd)
    program.write_text(original)
    program.chmod(0o755)
    monkeypatch.setattr(own_jobs, "_TIMEOUT", within(20))
    waits: list[float] = []

    def hangs_up(seconds: float) -> bool:
        waits.append(seconds)
        return True

    monkeypatch.setattr(dev, "hangs_up", hangs_up)
    assert site.run("--connect", "dev-gpu") == 1
    assert error(capfd) == REFUSED and not site.submitted()
    assert not waits  # for a submission under way
    assert site.run("--start", "gpu") == 0


def test_killed_submitter(site: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Whether sbatch has run is not known: an editor's connection waits for a job, but submits none."""
    monkeypatch.setattr(dev, "_SUBMISSION", 1.0)
    site.mark.touch()
    begin = time.monotonic()
    assert site.run("--connect", "dev-gpu") == 1
    assert error(capfd) == REFUSED and not site.submitted()
    assert time.monotonic() - begin >= 1
    assert site.run("--start", "gpu") == 0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Path.mkdir, "Is a directory"),
        (os.mkfifo, "No such device or address"),
        (lambda mark: mark.symlink_to("/dev/null"), "Too many levels of symbolic links"),
        (lambda mark: mark.symlink_to("missing"), "Too many levels of symbolic links"),
    ],
)
def test_mark_that_cannot_be_created(
    site: Site,
    make: Callable[[Path], None],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Then nothing would keep an editor from submitting again."""
    monkeypatch.setattr(dev, "_SUBMISSION", 1.0)
    make(site.mark)
    assert site.run("--connect", "dev-gpu") == 1
    assert error(capfd) == REFUSED
    assert site.run("--start", "gpu") == 1
    assert error(capfd).startswith(f"ssh_hook: error: no job was submitted: cannot create {site.mark}: {said}")
    assert not site.submitted()


def test_directory_that_is_full(site: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """No mark, no job; and a mark that cannot be written forbids as much."""

    def is_full(*_arguments: Any, **_named: Any) -> int:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    def open_unless_mark(path: Any, *rest: Any, **named: Any) -> int:
        return (is_full if path == str(site.mark) else os_open)(path, *rest, **named)

    os_open = os.open
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", open_unless_mark)
        for words in (["--connect", "dev-gpu"], ["--start", "gpu"]):
            assert site.run(*words) == 1
            assert f"no job was submitted: cannot create {site.mark}: Disk quota exceeded" in error(capfd)
    assert not site.submitted()
    monkeypatch.setattr(dev, "_SUBMISSION", 0.1)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", is_full)
        assert site.run("--start", "gpu") == 0
    site.add(100, "CANCELLED")
    capfd.readouterr()
    assert site.run("--connect", "dev-gpu") == 1
    assert error(capfd) == REFUSED and len(site.submitted()) == 1


@pytest.mark.parametrize("does_cancel", [True, False])
def test_job_on_another_cluster(site: Site, does_cancel: bool, capfd: pytest.CaptureFixture[str]) -> None:
    (site.slurm / "sbatch").write_text("#!/bin/sh\necho '100;far'\n")
    (site.slurm / "scancel").write_text(
        f'#!/bin/sh\necho "$@" >{site.slurm}/cancelled\necho "scancel: error: no far" >&2\n'
        f"exit {int(not does_cancel)}\n"
    )
    assert site.run("--start", "gpu") == 1
    now = "was cancelled"
    if not does_cancel:
        now = "is still there (cannot cancel job 100: scancel: error: no far; run 'scancel --clusters=far 100')"
    assert error(capfd) == (
        f"ssh_hook: error: job 100 went to the cluster far, and {now}: remove --clusters from the profile "
        "[no-container]"
    )
    assert (site.slurm / "cancelled").read_text() == f"--user={os.getuid()} --clusters=far 100\n"


def test_submission(site: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """The script as it is, in the home, and with nothing of another job that this may run in."""
    for name in ("SLURM_JOB_ID", "SBATCH_PARTITION", "SQUEUE_FORMAT"):
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("SLURM_CONF", "/etc/x")
    for said in ("job 100 of dev-gpu: pending\n", "job 100 of dev-gpu: pending\n"):
        assert site.run("--start", "gpu") == 0
        assert capfd.readouterr().out == said
    (facts,) = site.submitted()
    assert (facts["script"], facts["directory"]) == (SCRIPT, str(site.home))
    log = f"{site.home}/.oci-hooks/dev/gpu-%j.log"
    assert facts["options"] == {"parsable": "", "job-name": NAME, "dependency": "singleton", "output": log}
    assert facts["environment"]["SLURM_CONF"] == "/etc/x"
    assert not {"SLURM_JOB_ID", "SBATCH_PARTITION", "SQUEUE_FORMAT"} & facts["environment"].keys()


def test_waiting(site: Site, entered: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """What Slurm says, each time that it changes; then into the container."""
    states = [
        {"reason": "Resources"},
        {"reason": "Priority", "start": "2026-12-02T08:00:00"},
        {"state": "CONFIGURING", "node": "node5"},
        {"state": "RUNNING", "node": "node5"},
    ]

    def hangs_up(_seconds: float) -> bool:
        site.asked += 1
        if site.asked % 3 == 0:
            site.add(100, **{"state": "PENDING", **states[site.asked // 3]})
        return False

    monkeypatch.setattr(dev, "hangs_up", hangs_up)
    assert site.run("--connect", "dev-gpu", "--terminal") == 0
    begin = "ssh_hook: job 100 of dev-gpu is "
    end = "; if you stop waiting, it stays: end it with 'ssh_hook dev --cancel gpu'"
    said = ["pending (Resources)", "pending (Priority), start 2026-12-02T08:00:00", "configuring (None)"]
    assert error(capfd).splitlines() == [begin + words + end for words in said]
    assert entered() == ["connect --job 100 --wait 120 --via ssh node5"]


def test_client_that_goes_while_it_waits(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add(42, "PENDING")
    monkeypatch.setattr(dev, "_POLL", 1000)
    program = f"import sys; sys.path.insert(0, {str(HOOK)!r}); from ssh_hook.cli import main\n"
    program += f"sys.exit(main(['dev', '--connect', 'dev-gpu'], {site.settings!r}))"
    reader, writer = os.pipe()
    client = subprocess.Popen([sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert client.stderr is not None and "is pending" in client.stderr.readline()
    begin = time.monotonic()
    os.close(reader)
    assert client.wait(within(60)) == 1
    assert time.monotonic() - begin < within(5)
    client.stderr.close()
    assert site.live() == ["42"]


def test_waiting_processes_ask_by_turns(site: Site, entered: Callable[[], list[str]], tmp_path: Path) -> None:
    """Of several on a login node one asks; when it is gone, another one does."""
    site.add(42, "PENDING")
    program = f"import sys; sys.path.insert(0, {str(HOOK)!r}); from ssh_hook.cli import main\n"
    program += "from ssh_hook.commands.dev import dev; dev._POLL = 0.2; dev._MAX_SILENCE = 1000.0\n"
    program += f"dev.launcher = lambda: {str(tmp_path / 'connect')!r}\n"
    program += f"sys.exit(main(['dev', '--connect', 'dev-gpu'], {site.settings!r}))"
    readers = []
    waiting = []
    try:
        for _process in range(3):
            reader, writer = os.pipe()
            command = [sys.executable, "-c", program]
            waiting.append(subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE, text=True))
            readers.append(reader)
            os.close(writer)
        for process in waiting:
            assert process.stderr is not None and "is pending" in process.stderr.readline()
        asked = site.slurm / "asked"
        asked.unlink()
        deadline = time.monotonic() + within(60)
        while not asked.exists() or len(asked.read_text().split()) < 6:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert len(set(asked.read_text().split())) == 1
        site.add(42, "RUNNING")
        assert [process.wait(within(60)) for process in waiting] == [0, 0, 0]
        assert len(entered()) == 3
    finally:
        for process in waiting:
            process.kill()
            process.communicate()
        for reader in readers:
            os.close(reader)


def test_turn_that_another_has(site: Site, monkeypatch: pytest.MonkeyPatch, entered: Callable[[], list[str]]) -> None:
    """As another user may: the process asks by itself, after a while."""
    site.add(42, "PENDING")
    silence = 0.5
    monkeypatch.setattr(dev, "_MAX_SILENCE", silence)

    def hangs_up(_seconds: float) -> bool:
        site.add(42, "RUNNING")
        time.sleep(0.05)
        return False

    monkeypatch.setattr(dev, "hangs_up", hangs_up)
    with socket.socket(socket.AF_UNIX) as turn:
        turn.bind(f"\0{NAME}-{os.getuid()}")
        begin = time.monotonic()
        assert site.run("--connect", "dev-gpu") == 0
    assert time.monotonic() - begin >= silence
    assert len(entered()) == 1


def test_job_of_another_user(site: Site) -> None:
    site.add(42, "RUNNING", uid=str(os.getuid() + 1))
    site.add(43, "RUNNING", name=NAME + "x")
    assert site.run("--start", "gpu") == 0
    assert len(site.submitted()) == 1
    assert site.run("--cancel", "gpu") == 0
    assert site.live() == ["42", "43"]


@pytest.fixture(name="at_once")
def fixture_at_once(site: Site, tmp_path: Path) -> Iterator[Callable[..., list[str]]]:
    """Return what runs `ssh_hook dev` on so many login nodes at once, and returns what each printed."""
    children: list[subprocess.Popen[str]] = []
    program = f"import sys; sys.path.insert(0, {str(HOOK)!r}); from ssh_hook.cli import main\n"
    program += f"from ssh_hook.commands.dev import dev; dev._POLL = 0.05; dev.launcher = lambda: '{tmp_path}/connect'\n"
    program += f"sys.exit(main(['dev', *sys.argv[1:]], {site.settings!r}))"

    def at_once(count: int, *words: str) -> list[str]:
        command = [sys.executable, "-c", program, *words]
        pipe = subprocess.PIPE
        children.extend(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) for _child in range(count))
        return ["".join(child.communicate(timeout=within(60))) for child in children]

    yield at_once
    for child in children:
        child.kill()
        child.wait()


def test_one_job_of_many_that_start_at_once(site: Site, at_once: Callable[..., list[str]]) -> None:
    assert at_once(6, "--start", "gpu") == ["job 100 of dev-gpu: pending\n"] * 6
    assert site.live() == ["100"]


def test_editor_that_connects_several_times_at_once(
    site: Site, entered: Callable[[], list[str]], at_once: Callable[..., list[str]]
) -> None:
    """As VS Code does: one connection submits, the others wait for its sbatch, and all enter the container."""
    (site.slurm / "free").touch()
    slow = site.slurm / "slow"
    slow.touch()

    def answer() -> None:
        deadline = time.monotonic() + within(60)
        asked = site.slurm / "asked"
        while time.monotonic() < deadline and (not asked.exists() or len(set(asked.read_text().split())) < 3):
            time.sleep(0.05)
        time.sleep(1.0)  # they look at the mark
        slow.unlink()

    slurm = threading.Thread(target=answer)
    slurm.start()
    assert at_once(3, "--connect", "dev-gpu") == [""] * 3
    slurm.join()
    assert len(site.submitted()) == 1 and len(entered()) == 3


def test_job_that_a_killed_connection_left(
    site: Site, entered: Callable[[], list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    """It waits for the first one; whoever sees both ends it."""
    site.add(42, "RUNNING")
    site.add(43, "PENDING", reason="Dependency")
    assert site.run("--connect", "dev-gpu") == 0
    assert site.live() == ["42"] and len(entered()) == 1
    site.add(44, "PENDING", reason="Dependency")
    (site.slurm / "scancel").write_text("#!/bin/sh\necho no answer >&2\nexit 1\n")
    assert site.run("--connect", "dev-gpu") == 0
    assert error(capfd) == "ssh_hook: cannot cancel job 44: no answer"
    assert len(entered()) == 2


def test_limit_of_one_job(site: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """sbatch's own words and status, or the job that another connection has submitted meanwhile."""
    (site.slurm / "refused").touch()
    assert site.run("--start", "gpu") == 7
    assert error(capfd) == "sbatch: error: QOSMaxSubmitJobPerUserLimit"
    find = own_jobs.find

    def find_first(names: list[str]) -> list[own_jobs.OwnJob]:
        found = find(names)
        site.add(42, "PENDING")
        return found

    monkeypatch.setattr(own_jobs, "find", find_first)
    assert site.run("--start", "gpu") == 0
    assert capfd.readouterr().out == "job 42 of dev-gpu: pending\n"


def test_job_that_ends_before_its_container_is_up(
    site: Site, entered: Callable[[], list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    """While ssh waits for the container; its output is shown, and cannot control the terminal."""
    site.add(42, "RUNNING")
    (site.slurm / "fails").touch()
    assert site.run("--connect", "dev-gpu") == 1
    assert error(capfd) == ""  # `connect` has said why
    (site.profile.parent / "gpu-42.log").write_bytes(b"pulling\t" + 200 * b"x" + b"\nno \x1b[2J\xff space\n\n")
    job = site.slurm / "job.42"
    program = Path(dev.launcher())
    program.write_text(f"#!/bin/sh\nsed -i s/RUNNING/FAILED/ {job}\nexit 1\n")
    assert site.run("--connect", "dev-gpu") == 1
    assert error(capfd).splitlines() == [
        "pulling " + 200 * "x",
        r"no \x1b[2J\ufffd space",
        "ssh_hook: error: job 42 of dev-gpu has ended (FAILED): the lines above are the end of its output "
        "[no-container]",
    ]
    assert entered()


@pytest.mark.parametrize(("state", "shown"), [("CANCELLED", " (CANCELLED)"), ("COMPLETING", "")])
def test_job_that_ends_at_once(
    site: Site, state: str, shown: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dev, "hangs_up", lambda _seconds: site.add(42, state))
    site.add(42, "PENDING")
    assert site.run("--connect", "dev-gpu") == 1
    assert f"job 42 of dev-gpu has ended{shown}: it has no output" in error(capfd)


def test_output(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    """The newest job's; a new job removes that of earlier ones, and of no other profile."""
    assert site.run("--log", "gpu") == 1
    assert "no job of dev-gpu has written anything" in error(capfd)
    for number, name in enumerate(("gpu-7.log", "gpu-6.log", "gpu-x-5.log", "gpu-notes.log")):
        (site.profile.parent / name).write_text(f"from {name}\n")
        os.utime(site.profile.parent / name, (number, number))
    assert site.run("--log", "gpu") == 0
    assert capfd.readouterr().out == f"{site.profile.parent}/gpu-6.log:\nfrom gpu-6.log\n"
    assert site.run("--start", "gpu") == 0
    assert sorted(os.listdir(site.profile.parent)) == [*("gpu-notes.log", "gpu-x-5.log", "gpu.sh", "gpu.submitted")]


def test_output_that_is_no_file(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    """Nobody writes to a pipe of that name."""
    os.mkfifo(site.profile.with_name("gpu-7.log"))
    assert site.run("--log", "gpu") == 0
    assert capfd.readouterr().out == f"{site.profile.parent}/gpu-7.log:\n"


def test_list(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    (site.profile.parent / "cpu.sh").touch()
    site.add(42, "RUNNING", left="3:59:01")
    assert site.run() == 0
    assert capfd.readouterr().out.splitlines() == [
        "PROFILE  JOB  STATE    NODE   TIME LEFT",
        "cpu      -    -        -      -",
        "gpu      42   RUNNING  node7  3:59:01",
    ]
    for path in site.profile.parent.iterdir():
        path.unlink()
    assert site.run() == 0
    assert capfd.readouterr().out == "You have no profiles: 'ssh_hook dev --new NAME' writes one.\n"


def test_cancel(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    assert site.run("--cancel", "gpu") == 1
    assert "dev-gpu has no job" in error(capfd)
    site.add(42, "RUNNING")
    site.add(43, "PENDING")
    assert site.run("--cancel", "gpu") == 0
    assert capfd.readouterr().out == "cancelled job 42, 43\n"
    assert site.live() == []


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("exec sleep 1000", "Slurm did not answer within 1 s (squeue)"),
        ("echo 'slurm_load_jobs error: Unable to contact' >&2; exit 1", "your jobs: slurm_load_jobs error: Unable"),
        (None, "there is no squeue in PATH: run this where you can submit jobs to Slurm"),
    ],
)
def test_slurm_does_not_answer(
    site: Site, program: str | None, said: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(own_jobs, "_TIMEOUT", 1.0)
    squeue = site.slurm / "squeue"
    squeue.unlink()
    if program is not None:
        squeue.write_text(f"#!/bin/sh\n{program}\n")
        squeue.chmod(0o755)
    assert site.run("--connect", "dev-gpu", "--terminal") == 1
    assert said in error(capfd)
    assert not site.submitted()


def test_own_configuration_is_not_there(site: Site) -> None:
    assert ssh_config.line_for("dev-gpu") is None
    assert not (site.home / ".ssh").exists()
