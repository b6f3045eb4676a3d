"""What a launch over many hosts needs: a job whose containers run ``first``, one in each network namespace.

job.py [HOSTS...]    so many hosts; 16, 64 and 256 without

Run in a bed where the hook is installed. All is real but the network, a bridge, and that all hosts share this machine's
processors: seconds say less than processes and descriptors.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from containers import ALICE, Plain, plain_create, run

BRIDGE = "job"
NETWORK = "10.98"
HALF = 128  # hosts that the last number of an address counts
HOSTS = (16, 64, 256)
AT_ONCE = 4  # starts
WAIT = 900  # seconds, for the slowest host
SAMPLE = 1.0  # seconds
HOME = Path("/home/alice")
FIRST = "/opt/oci-hooks/ssh/bin/first"
# What a launcher does: a session on each host at once, each open until all are there.
LAUNCHER = """
touch $HOME/job-answered
open='echo x >>$HOME/job-sessions; until [ -e $HOME/job-end ]; do sleep 2; done'
while read -r host; do /opt/oci-hooks/ssh/bin/ssh -n "$host" "$open" & done </opt/oci-hooks/ssh/hosts
while [ "$(wc -l <$HOME/job-sessions)" -lt "$(wc -l </opt/oci-hooks/ssh/hosts)" ]; do sleep 1; done
touch $HOME/job-open
sleep 3
touch $HOME/job-end
wait
"""
TITLES = (
    *("Hosts", "All started, s", "All answered, s", "All sessions open, s", "All ended, s"),
    *("Processes", "for each host", "Descriptors", "of the first daemon and its sessions", "MiB"),
)


class Load(NamedTuple):
    """What there is at one moment: processes, their descriptors, those of the first container, MiB of memory."""

    processes: int
    descriptors: int
    first: int
    memory: float


def addresses(hosts: int) -> list[str]:
    """The addresses of so many hosts."""
    return [f"{NETWORK}.{number // HALF + 1}.{number % HALF + 1}" for number in range(hosts)]


def annotation(hosts: int) -> str:
    """The same, as the annotation names them."""
    whole = [f"{NETWORK}.{half + 1}.1+{HALF - 1}" for half in range(hosts // HALF)]
    rest = hosts % HALF
    return ",".join([*whole, *([f"{NETWORK}.{hosts // HALF + 1}.1+{rest - 1}"] if rest else [])])


@contextmanager
def networks(hosts: int) -> Iterator[list[str]]:
    """So many network namespaces on one bridge; yields their paths."""
    batch = [f"link add {BRIDGE} type bridge", f"link set {BRIDGE} up"]
    paths = []
    for number, address in enumerate(addresses(hosts)):
        name = f"job{number}"
        paths.append(f"/run/netns/{name}")
        run(["ip", "netns", "add", name]).checked()
        batch += [f"link add {name} type veth peer name eth0 netns {name}", f"link set {name} master {BRIDGE} up"]
        inside = f"address add {address}/16 dev eth0\nlink set eth0 up\nlink set lo up\n"
        batch_of(["-n", name], inside, after=batch)
        batch = []
    try:
        yield paths
    finally:
        for path in paths:
            run(["ip", "netns", "delete", Path(path).name]).checked()
        run(["ip", "link", "delete", BRIDGE]).checked()


def batch_of(options: list[str], inside: str, after: list[str]) -> None:
    """Run lines of ip, first those `after` which the ones `inside` a namespace can work."""
    run(["ip", "-batch", "-"], "\n".join(after).encode()).checked()
    run(["ip", *options, "-batch", "-"], inside.encode()).checked()


def measure(first: str) -> Load:
    """Return what there is now; `first` names the pid namespace of the first container."""
    own, processes, descriptors, of_first, memory = os.getpid(), 0, 0, 0, 0
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            count = len(os.listdir(directory / "fd"))
            its = os.readlink(directory / "ns/pid")
            pages = int((directory / "statm").read_text(encoding="ascii").split()[1])
            shared = int((directory / "statm").read_text(encoding="ascii").split()[2])
        except OSError:
            continue  # it ended meanwhile
        if int(directory.name) == own:
            continue
        processes, descriptors, memory = processes + 1, descriptors + count, memory + pages - shared
        of_first += count if its == first else 0
    return Load(processes, descriptors, of_first, memory * os.sysconf("SC_PAGE_SIZE") / 2**20)


def create(number: int, network: str, hosts: int) -> Plain:
    """Make the bundle of the container on one host."""

    def change(config: dict[str, Any]) -> None:
        config["process"]["args"] = [FIRST, "sh", "-c", LAUNCHER]
        config["linux"]["namespaces"].append({"type": "network", "path": network})
        config["hostname"] = f"job{number}"

    annotations = {"com.hooks.ssh.hosts": annotation(hosts), "com.hooks.ssh.wait": str(WAIT)}
    return plain_create("crun", "busybox", change=change, annotations=annotations)


def wait_until(what: Path, start: float) -> float:
    """Wait for a file; return the seconds from `start` on."""
    end = start + WAIT
    while not what.exists():
        if time.monotonic() > end:
            raise RuntimeError(f"{what} does not come")
        time.sleep(0.1)
    return time.monotonic() - start


def launch(hosts: int) -> str:
    """Run one job, and return a line of the table."""
    for name in ("job-answered", "job-sessions", "job-open", "job-end"):
        (HOME / name).unlink(missing_ok=True)
    (HOME / "job-sessions").touch()
    os.chown(HOME / "job-sessions", ALICE, ALICE)
    before = measure("")
    loads = [before]
    with networks(hosts) as paths:
        containers = [create(number, path, hosts) for number, path in enumerate(paths)]
        try:
            start, ended, first = time.monotonic(), threading.Event(), [""]

            def sample() -> None:
                while not ended.wait(SAMPLE):
                    loads.append(measure(first[0]))

            sampler = threading.Thread(target=sample)
            sampler.start()
            with ThreadPoolExecutor(AT_ONCE) as pool:
                started = pool.map(Plain.start, containers)
                next(started).checked()
                first[0] = os.readlink(f"/proc/{containers[0].init()}/ns/pid")
                for result in started:
                    result.checked()
            seconds = [time.monotonic() - start]
            seconds += [wait_until(HOME / name, start) for name in ("job-answered", "job-open")]
            while any(b'"running"' in run(["crun", "state", container.name]).out for container in containers):
                time.sleep(0.2)
            seconds.append(time.monotonic() - start)
            ended.set()
            sampler.join()
        finally:
            for container in containers:
                container.remove()
    processes = max(load.processes for load in loads) - before.processes
    cells = [
        *(f"{hosts}", *(f"{value:.1f}" for value in seconds), f"{processes}", f"{processes / hosts:.1f}"),
        f"{max(load.descriptors for load in loads) - before.descriptors}",
        f"{max(load.first for load in loads)}",
        f"{max(load.memory for load in loads) - before.memory:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main(arguments: list[str]) -> int:
    """Print the table; returns the exit status."""
    print("| " + " | ".join(TITLES) + " |", "|---" * len(TITLES) + "|", sep="\n", flush=True)
    for hosts in [int(argument) for argument in arguments] or HOSTS:
        print(launch(hosts), flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (RuntimeError, AssertionError, subprocess.CalledProcessError) as error:
        sys.exit(f"job: {error}")
