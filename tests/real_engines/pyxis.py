"""What the real pyxis and enroot keep of the contract, on a cluster that molecule/real-engines has prepared.

Usage: pyxis.py, in the bed of the cluster, with the environment of cluster.py.
"""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cluster
import tested
from cluster import HOOK, TWICE, alice, configure_login, job, log_in, says, soon, ssh, when_it_runs

ASKS = "OCIHOOKS_SSH=1"
GUIDE = Path(__file__).resolve().parents[2] / "docs/engines/enroot.md"
DIRECTORIES = ("/srv/enroot/enroot-2001", "/run/enroot/2001", "/run/pyxis")
IMAGE = "--container-image=/images/real-engines/busybox.sqsh"
# slurmd runs its own program for a task prolog, in the container.
SLURMSTEPD = "--container-mounts=" + ",".join(
    ("/usr/lib:/usr/lib", "/usr/lib:/lib", "/usr/lib64:/lib64", *["/etc/alternatives/slurmstepd:" * 2])
).removesuffix(":")
ROWS = {
    "plain": [],
    "two tasks": ["--ntasks=2"],
    "TaskProlog": ["--task-prolog=/bin/true", SLURMSTEPD],
    "--container-remap-root": ["--container-remap-root"],
}


def srun(*options: str, command: str, variables: str = "", check: bool = True) -> str:
    """Run a shell command in a container of pyxis whose user asks for SSH."""
    return cluster.srun(*options, command=command, variables=f"{ASKS} {variables}", check=check)


def start_row(name: str, options: list[str]) -> bool:
    """Start containers; tell whether all had SSH."""

    def start(node: str, worker: int) -> str:
        port = f"OCIHOOKS_SSH_PORT={21000 + worker}"
        return srun(f"--nodelist={node}", IMAGE, *options, command=TWICE, variables=port, check=False)

    return cluster.start_row(name, start, 2 if "--ntasks=2" in options else 1)


def end_time(name: str, options: list[str], ending: Callable[[], None]) -> bool:
    """Measure how long the daemon outlives the last task."""

    def run() -> str:
        return srun("--nodelist=compute1", IMAGE, *options, command="exec sleep 4351", check=False)

    return cluster.end_time(name, run, ending, ("dropbear", "ssh_hook"))


def checks() -> list[bool]:
    """Check the rest of the table; each says its result."""
    import_image = "enroot create --force --name bb /images/real-engines/busybox.sqsh >/dev/null 2>&1"
    by_root = "OCIHOOKS_SSH=1 enroot start --root bb sh -c 'ssh alice@127.0.0.1 id -u; ssh root@127.0.0.1 id -u'"
    named = ["--nodelist=compute1", "--container-name=kept"]
    hosts = "OCIHOOKS_SSH_HOSTS=compute1,compute2 OCIHOOKS_SSH_WAIT=60"
    home = "--container-mount-home"
    one = "--nodelist=compute1"
    return [
        says("enroot start --root", "0\n0", alice(f"{import_image}; {by_root}", "compute1", check=False)),
        says(
            "--container-remap-root, by name",
            "0",
            srun(one, IMAGE, "--container-remap-root", command="ssh alice@127.0.0.1 id -u", check=False),
        ),
        says(
            "--container-name, twice",
            "2001\n2001",
            srun(*named, IMAGE, command="ssh 127.0.0.1 id -u", check=False)
            + "\n"
            + srun(*named, command="ssh 127.0.0.1 id -u", check=False),
        ),
        says(
            "--container-mount-home",
            "/home/alice/.oci-hooks",
            srun(one, IMAGE, home, command="ssh 127.0.0.1 'ls -d ~/.oci-hooks'", check=False),
        ),
        says(
            "first",
            "compute1\ncompute2",
            srun(
                *("--nodes=2", IMAGE),
                command="/opt/oci-hooks/ssh/bin/first sh -c 'ssh compute1 hostname; ssh compute2 hostname'",
                variables=hosts,
                check=False,
            ),
        ),
        says("the job script of the guide", "compute1\ncompute2", by_script()),
        says("a step joins a container, and attaches after the first", "joined\nattached", by_joining()),
        says("ssh job1234", "2001 compute1", to_job()),
        says("attach in a step: lasts, detach, again, killed, again", "in in out in out in", by_attach()),
    ]


def to_job() -> str:
    """Log in from the login node to the container of a job by its name."""
    configure_login()
    with job(f"{IMAGE} sleep 600", ASKS) as number:
        soon(lambda: log_in(number) != "")
        return log_in(number)


def by_script() -> str:
    """Submit the guide's job script with the guide's command, as printed; return the lines that name a node."""
    text = GUIDE.read_text(encoding="utf-8")
    script = re.findall(r"^```\n(#!/usr/bin/env bash\n.*?)^```$", text, re.MULTILINE | re.DOTALL)
    command = re.findall(r"^\$ sbatch pyxis\.sh busybox (.*)$", text, re.MULTILINE)
    alice(f"printf %s {shlex.quote(script[0])} >pyxis.sh")
    image = IMAGE.partition("=")[2]
    alice(f"sbatch --quiet --wait --time=2 --output=pyxis.out pyxis.sh {image} {command[0]}", check=False)
    return alice("grep ^compute pyxis.out; rm pyxis.sh pyxis.out", check=False)


def by_joining() -> str:
    """Return what sessions of a step print that joins the container of another step, before and after that ends.

    The first session is by the first step's daemon, the second one by a daemon that a step of its own attaches. The
    mount shows that both are in the container that was joined.
    """
    flag, ended = "/dev/shm/real-engines.joined", "/dev/shm/real-engines.ended"
    name, mounts = "--container-name=shared", "--container-mounts=/images:/mnt"
    step = ["srun", "--quiet", "--overlap"]
    session = "ssh 127.0.0.1 test -d /mnt/real-engines"
    again = f"until {session}; do sleep 1; done; echo attached"
    first = shlex.join([*step, name, IMAGE, mounts, "sh", "-c", f"until [ -e {flag} ]; do sleep 0.2; done; rm {flag}"])
    task = f"{session} && echo joined; touch {flag}; until rm {ended}; do sleep 0.2; done 2>/dev/null; {again}"
    second = shlex.join([*step, f"{name}:exec", "sh", "-c", task])
    command = shlex.join(step)
    runs = f"{command} pgrep -x dropbear >/dev/null"
    attach = f"{command} {HOOK} attach --without-seccomp"
    script = (
        f"{first} & first=$!; until {runs}; do sleep 1; done; {second} & second=$!; "
        f"wait $first; while {runs}; do sleep 0.2; done; {command} touch {ended}; {attach} >/dev/null & wait $second"
    )
    allocate = "OCIHOOKS_SSH=1 salloc --quiet --nodelist=compute1 timeout 120"
    return alice(f"{allocate} bash -c {shlex.quote(script)} 2>/dev/null", check=False)


def by_attach() -> str:
    """Attach in steps of a job to its container, which has no SSH; say after each change whether a login gets in.

    The server is there at once and a while later, is ended by detach, attached again, killed with its step as Slurm
    kills it, and attached once more.
    """
    with ThreadPoolExecutor() as pool, job(f"{IMAGE} sleep 4352") as number:
        step = f"srun --quiet --overlap --jobid={number} --ntasks=1"

        def attach() -> str:
            pool.submit(alice, f"{step} {HOOK} attach --without-seccomp", check=False)
            return becomes("in")

        def becomes(expected: str) -> str:
            return expected if soon(lambda: (log_in(number) == "2001 compute1") is (expected == "in")) else "never"

        soon(lambda: ssh("compute1", "pgrep -u alice -fx '/bin/sleep 4352'", check=False) != "")
        seen = [attach()]
        time.sleep(5)
        seen.append("in" if log_in(number) else "out")
        alice(f"{step} {HOOK} detach")
        seen += [becomes("out"), attach()]
        steps = alice(f"squeue --noheader --steps --jobs={number} --format=%i | sort --version-sort").split()
        alice(f"scancel --signal=KILL {[each for each in steps if each.rpartition('.')[2].isdigit()][-1]}")
        return " ".join([*seen, becomes("out"), attach()])


def versions() -> dict[str, str]:
    """Return those of the programs on a node."""
    commands = {
        "enroot": "enroot version",
        "pyxis": "grep --text --only-matching 'pyxis: version v[0-9.]*' /usr/lib/slurm/spank_pyxis.so",
        "Slurm": "srun --version",
    }
    return {name: tested.version(ssh("compute1", command)) for name, command in commands.items()}


def main() -> int:
    """Go through the table; the exit status is 0 where all is right."""
    results = [start_row(name, options) for name, options in ROWS.items()]
    results += checks()
    results += [
        end_time("a task ends", [], when_it_runs("pkill -KILL -u alice -x sleep")),
        end_time("scancel", [], when_it_runs("scancel --user alice")),
        end_time("scancel, --container-remap-root", ["--container-remap-root"], when_it_runs("scancel -u alice")),
        end_time("time limit", ["--time=0:01"], lambda: None),
        cluster.leaves_nothing(f"{IMAGE} ssh 127.0.0.1 echo served", DIRECTORIES, variables=ASKS),
    ]
    if not all(results):
        return 1
    tested.note("real-engines", versions())
    return 0


if __name__ == "__main__":
    sys.exit(main())
