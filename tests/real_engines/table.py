"""What the real pyxis and enroot keep of the contract, on a cluster that molecule/real-engines has prepared.

Usage: table.py, in the bed of the cluster. In the environment, STARTS (20) are the starts of each row, STEPS (40) the
job steps after which a node is compared with before.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
STARTS = int(os.environ.get("STARTS", "20"))
STEPS = int(os.environ.get("STEPS", "40"))
NODES = ("compute1", "compute2")
WORKERS = 4  # two on each node
HOOK = "/opt/oci-hooks/bin/ssh_hook"
CLIENT_CONFIG = "~/.oci-hooks/ssh/client/config"
IMAGE = "--container-image=/images/real-engines/busybox.sqsh"
# Twice: a watcher that takes the container for ended needs a while to end the daemon.
TWICE = "ssh 127.0.0.1 true && sleep 0.5 && ssh 127.0.0.1 echo served"
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
END_LIMIT = 2.0  # seconds


def ssh(node: str, command: str, check: bool = True) -> str:
    """Run a shell command on a node as root; return what it printed."""
    line = ("ssh", "-F", "/run/cluster/ssh_config", node, command)
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise SystemExit(f"{node}: {command}: exit status {done.returncode}: {done.stderr}{done.stdout}")
    return done.stdout.strip()


def alice(command: str, node: str = "login", check: bool = True) -> str:
    """Run a shell command as alice."""
    return ssh(node, f"runuser -l alice -c {shlex.quote(command)}", check)


def srun(*options: str, command: str, variables: str = "", check: bool = True) -> str:
    """Run a shell command in a container of pyxis whose user asks for SSH."""
    line = shlex.join(["srun", "--quiet", *options, "sh", "-c", command])
    return alice(f"OCIHOOKS_SSH=1 {variables} {line}", check=check)


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def start_row(name: str, options: list[str]) -> bool:
    """Start containers, several at a time on each node; tell whether all had SSH."""
    tasks = 2 if "--ntasks=2" in options else 1
    workers: dict[int, int] = {}
    lock = threading.Lock()

    def start(_number: int) -> bool:
        with lock:
            worker = workers.setdefault(threading.get_ident(), len(workers))
        place = f"--nodelist={NODES[worker % len(NODES)]}"
        port = f"OCIHOOKS_SSH_PORT={21000 + worker}"
        said = srun(place, IMAGE, *options, command=TWICE, variables=port, check=False)
        return said.split() == ["served"] * tasks

    began = time.monotonic()
    with ThreadPoolExecutor(WORKERS) as pool:
        served = list(pool.map(start, range(STARTS)))
    say(f"{name}: {served.count(False)} of {STARTS} starts without SSH ({time.monotonic() - began:.0f} s)")
    return all(served)


def left(node: str) -> set[str]:
    """Return what a node has of alice's and of the hook's: processes, mounts, records, directories of containers."""
    return set(
        ssh(
            node,
            "ps -o comm= -u alice; ps -eo comm= | grep -E 'dropbear|ssh_hook'; "
            "grep -hoE 'ocihooks-ssh|/opt/oci-hooks/ssh[^ ]*' /proc/[0-9]*/mountinfo; "
            "find /run /tmp /var/lib/ocihooks-ssh -xdev -name 'ssh_hook.daemon*'; ls /srv/containers/enroot-2001; "
            "ls /run/enroot/2001 /run/pyxis 2>/dev/null; true",
            check=False,
        ).splitlines()
    )


def leaves_nothing() -> bool:
    """Run many job steps, and compare the nodes with before."""
    before = {node: left(node) for node in NODES}
    script = (
        f"for i in $(seq {STEPS // len(NODES)}); do for n in {' '.join(NODES)}; do "
        f"srun --quiet -N1 -n1 -w $n {IMAGE} ssh 127.0.0.1 echo served & done; wait; done"
    )
    out = alice(f"OCIHOOKS_SSH=1 salloc --quiet --nodes={len(NODES)} bash -c {shlex.quote(script)} 2>&1", check=False)
    served = out.splitlines().count("served")
    time.sleep(END_LIMIT)
    more = {node: left(node) - before[node] for node in NODES}
    say(f"{STEPS} steps: {served} with SSH; left: {more}")
    return served == STEPS // len(NODES) * len(NODES) and not any(more.values())


def end_time(name: str, options: list[str], ending: Callable[[], None]) -> bool:
    """Measure how long the daemon outlives the last task, as seen on the node."""
    ssh("compute1", f"cat >/root/ends.py <<'END'\n{(HERE / 'ends.py').read_text(encoding='utf-8')}\nEND")
    with ThreadPoolExecutor() as pool:
        seen = pool.submit(ssh, "compute1", "python3 /root/ends.py", False)
        pool.submit(srun, "--nodelist=compute1", IMAGE, *options, command="exec sleep 4351", check=False)
        ending()
        seconds = seen.result()
    say(f"{name}: the daemon ended {seconds} s after the last task")
    return seconds != "" and float(seconds) < END_LIMIT


def when_it_runs(command: str) -> Callable[[], None]:
    """Return what runs a command as root on compute1 when the task of `end_time` has run for a while."""

    def end() -> None:
        ssh("compute1", "until pgrep -u alice -x dropbear >/dev/null; do sleep 0.1; done; sleep 1.5")
        ssh(*(("compute1", command) if "pkill" in command else ("login", command)))

    return end


def says(name: str, expected: str, found: str) -> bool:
    """Say whether a command printed what was expected."""
    is_right = found == expected
    say(f"{name}: {'right' if is_right else f'wrong: {found!r}, not {expected!r}'}")
    return is_right


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
        says("ssh job1234", "2001 compute1", to_job()),
        says("attach in a step: lasts, detach, again, killed, again", "in in out in out in", by_attach()),
    ]


def configure_login() -> None:
    """Let alice log in from the login node to nodes, and to her containers."""
    nodes = "Host compute?\\n StrictHostKeyChecking accept-new\\n"
    alice(
        f"{HOOK} client-config >/dev/null; rm -rf ~/.ssh; mkdir -m 700 ~/.ssh; ssh-keygen -q -t ed25519 -N '' "
        "-f ~/.ssh/id_ed25519; cp ~/.ssh/id_ed25519.pub ~/.ssh/authorized_keys; "
        f"printf 'Include {CLIENT_CONFIG}\\n{nodes}' >~/.ssh/config"
    )


@contextmanager
def job(command: str, variables: str = "") -> Iterator[str]:
    """Have a job run whose step is a container with this program on compute1; yield its number."""
    step = f"sbatch --parsable --nodelist=compute1 --output=/dev/null --wrap 'srun {IMAGE} {command}'"
    number = alice(f"{variables} {step}")
    try:
        yield number
    finally:
        alice(f"scancel {number}")


def soon(look: Callable[[], bool]) -> bool:
    """Tell whether `look` does within some minutes."""
    for _attempt in range(100):
        if look():
            return True
        time.sleep(1)
    return False


def log_in(number: str) -> str:
    """Return what a login from the login node to the container of a job says; empty where there is no SSH in it."""
    return alice(f"ssh -o BatchMode=yes job{number} 'echo $(id -u) $(hostname)'", check=False)


def to_job() -> str:
    """Log in from the login node to the container of a job by its name."""
    configure_login()
    with job("sleep 600", "OCIHOOKS_SSH=1") as number:
        soon(lambda: log_in(number) != "")
        return log_in(number)


def by_attach() -> str:
    """Attach in steps of a job to its container, which has no SSH; say after each change whether a login gets in.

    The server is there at once and a while later, is ended by detach, attached again, killed with its step as Slurm
    kills it, and attached once more.
    """
    with ThreadPoolExecutor() as pool, job("sleep 4352") as number:
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


def main() -> int:
    """Go through the table; the exit status is 0 where all is right."""
    results = [start_row(name, options) for name, options in ROWS.items()]
    results += checks()
    results += [
        end_time("a task ends", [], when_it_runs("pkill -KILL -u alice -x sleep")),
        end_time("scancel", [], when_it_runs("scancel --user alice")),
        end_time("scancel, --container-remap-root", ["--container-remap-root"], when_it_runs("scancel -u alice")),
        end_time("time limit", ["--time=0:01"], lambda: None),
        leaves_nothing(),
    ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
