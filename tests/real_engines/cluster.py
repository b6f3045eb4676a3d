"""What the tables of engines share: commands on the cluster, rows of starts and ends, and what steps leave on a node.

In the environment, STARTS (20) are the starts of each row, STEPS (40) the job steps after which a node is compared with
before.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
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
# Twice: a watcher that takes the container for ended needs a while to end the daemon.
TWICE = "ssh 127.0.0.1 true && sleep 0.5 && ssh 127.0.0.1 echo served"
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
    """Run a shell command in a step of alice's, with these variables before srun."""
    line = shlex.join(["srun", "--quiet", *options, "sh", "-c", command])
    return alice(f"{variables} {line}", check=check)


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def says(name: str, expected: str, found: str) -> bool:
    """Say whether a command printed what was expected."""
    is_right = found == expected
    say(f"{name}: {'right' if is_right else f'wrong: {found!r}, not {expected!r}'}")
    return is_right


def soon(look: Callable[[], bool]) -> bool:
    """Tell whether `look` does within some minutes."""
    for _attempt in range(100):
        if look():
            return True
        time.sleep(1)
    return False


def start_row(name: str, start: Callable[[str, int], str], tasks: int = 1) -> bool:
    """Start containers, several at a time on each node; tell whether all had SSH.

    `start` runs TWICE in a container on this node, with as many tasks, for the worker of this number.
    """
    workers: dict[int, int] = {}
    lock = threading.Lock()

    def is_served(_number: int) -> bool:
        with lock:
            worker = workers.setdefault(threading.get_ident(), len(workers))
        return start(NODES[worker % len(NODES)], worker).split() == ["served"] * tasks

    began = time.monotonic()
    with ThreadPoolExecutor(WORKERS) as pool:
        served = list(pool.map(is_served, range(STARTS)))
    say(f"{name}: {served.count(False)} of {STARTS} starts without SSH ({time.monotonic() - began:.0f} s)")
    return all(served)


def wait() -> None:
    """Wait for as long as a daemon may outlive its container."""
    time.sleep(END_LIMIT)


def left(node: str, directories: Sequence[str]) -> set[str]:
    """Return what a node has of alice's and of the hook's: processes, mounts, records, files of these directories."""
    return set(
        ssh(
            node,
            "ps -o comm= -u alice; ps -eo comm= | grep -E 'dropbear|ssh_hook'; "
            "grep -hoE 'ocihooks-ssh|/opt/oci-hooks/ssh[^ ]*' /proc/[0-9]*/mountinfo; "
            f"find /run /tmp /var/lib/ocihooks-ssh -xdev -name 'ssh_hook.daemon*'; "
            f"ls -d {' '.join(f'{directory}/*' for directory in directories)} 2>/dev/null; true",
            check=False,
        ).splitlines()
    )


def leaves_nothing(
    step: str, directories: Sequence[str], variables: str = "", settle: Callable[[], object] = wait
) -> bool:
    """Run many job steps, one on each node at a time; then, after `settle`, compare the nodes with before.

    `step` is what srun gets besides the node: options, and a command that prints "served" by a session.
    """
    before = {node: left(node, directories) for node in NODES}
    script = (
        f"for i in $(seq {STEPS // len(NODES)}); do for n in {' '.join(NODES)}; do "
        f"srun --quiet -N1 -n1 -w $n {step} & done; wait; done"
    )
    out = alice(f"{variables} salloc --quiet --nodes={len(NODES)} bash -c {shlex.quote(script)} 2>&1", check=False)
    served = out.splitlines().count("served")
    settle()
    more = {node: left(node, directories) - before[node] for node in NODES}
    say(f"{STEPS} steps: {served} with SSH; left: {more}")
    return served == STEPS // len(NODES) * len(NODES) and not any(more.values())


def end_time(name: str, run: Callable[[], object], ending: Callable[[], object], daemons: Sequence[str]) -> bool:
    """Measure how long the daemon outlives the last task, as seen on the node.

    `run` runs `sleep 4351` in a container on compute1, which has these of the hook's processes.
    """
    ssh("compute1", f"cat >/root/ends.py <<'END'\n{(HERE / 'ends.py').read_text(encoding='utf-8')}\nEND")
    with ThreadPoolExecutor() as pool:
        seen = pool.submit(ssh, "compute1", f"python3 /root/ends.py {' '.join(daemons)}", False)
        pool.submit(run)
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


def configure_login() -> None:
    """Let alice log in from the login node to nodes, and to her containers."""
    nodes = "Host compute?\\n StrictHostKeyChecking accept-new\\n"
    alice(
        f"{HOOK} client-config >/dev/null; rm -rf ~/.ssh; mkdir -m 700 ~/.ssh; ssh-keygen -q -t ed25519 -N '' "
        "-f ~/.ssh/id_ed25519; cp ~/.ssh/id_ed25519.pub ~/.ssh/authorized_keys; "
        f"printf 'Include {CLIENT_CONFIG}\\n{nodes}' >~/.ssh/config"
    )


@contextmanager
def job(step: str, variables: str = "") -> Iterator[str]:
    """Have a job run whose step on compute1 is what these words of srun start; yield its number."""
    number = alice(f"{variables} sbatch --parsable --nodelist=compute1 --output=/dev/null --wrap 'srun {step}'")
    try:
        yield number
    finally:
        alice(f"scancel {number}")


def log_in(number: str) -> str:
    """Return what a login from the login node to the container of a job says; empty where there is no SSH in it."""
    return alice(f"ssh -o BatchMode=yes job{number} 'echo $(id -u) $(hostname)'", check=False)
