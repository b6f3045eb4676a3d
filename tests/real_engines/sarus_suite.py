"""What the real Sarus Suite keeps of the contract, on a cluster that molecule/real-suite has prepared.

Usage: sarus_suite.py, in the bed of the cluster, with the environment of cluster.py.
"""

from __future__ import annotations

import shlex
import sys
import time

import cluster
import tested
from cluster import HOOK, NODES, TWICE, alice, configure_login, job, log_in, says, soon, ssh, when_it_runs

AT_ONCE = cluster.HERE.parents[1] / "molecule/sarus-suite/files/at_once.sh"
# All that a user of SSH writes.
EDF = """\
image = "localhost/debian"

[annotations]
com.hooks.ssh.enabled = "true"
"""
PASS = '[env]\nPASSED = "${PASSED}"\n'
AUTHORIZE = 'com.hooks.ssh.authorize_ssh_key = "${HOME}/key.pub"\n'
# What a site sets besides the release's settings, which are the module hpc, and images mounted as the user's.
ROWS = {
    "keep-id": 'podman_module = "hpc-keep-id"',
    "hpc": "",
    "hpc, parallax_mp_uid = 0": "parallax_mp_uid = 0\nparallax_mp_gid = 0",
}
VARIABLES = "SLURM_CLUSTER_NAME SLURM_JOB_ID SLURM_JOB_NODELIST SLURM_JOB_NUM_NODES SLURM_JOB_UID"
PORT = "sed -n 's/^.*Port.//p' /opt/oci-hooks/ssh/ssh_config"
SWEPT_AFTER = 61  # seconds for which a sweep leaves the record of a daemon that has ended


def srun(*options: str, command: str, edf: str = "ssh", variables: str = "") -> str:
    """Run a shell command in a container with SSH, with these variables before srun."""
    return cluster.srun(*options, f"--edf={edf}", command=command, variables=variables, check=False)


def configure(settings: str) -> None:
    """Give the suite these settings on all nodes, after the release's."""
    for node in ("login", *NODES):
        ssh(node, f"printf '%s\\n' {shlex.quote(settings)} >/etc/sarus-suite/99-row.conf")


def write_edf(name: str, text: str) -> None:
    """Write an environment definition file of alice's."""
    alice(f"mkdir -p ~/.edf && printf %s {shlex.quote(text)} >~/.edf/{name}.toml")


def job_settings() -> str:
    """Return what containers of a job on two nodes have from it: "right" for each, or job, port and hosts."""
    out = srun("--nodes=2", command=f"echo $SLURM_JOB_ID $({PORT}) $(cat /opt/oci-hooks/ssh/hosts)")
    seen = []
    for line in out.splitlines():
        number = line.split()[0]
        is_right = line.split() == [number, str(20000 + int(number) % 10000), *NODES]
        seen.append("right" if is_right else line)
    return " ".join(seen)


def by_job() -> str:
    """Log in from the login node to the container of a job by its name."""
    with job("--edf=ssh sleep 600") as number:
        soon(lambda: log_in(number) != "")
        return log_in(number)


def by_own_key() -> str:
    """Log in from the login node with the key that an EDF authorizes, and no configuration of ours."""
    options = "-F none -i ~/key -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    with job("--edf=authorized sleep 600") as number:
        line = f"ssh {options} -p {20000 + int(number) % 10000} compute1 'echo $(id -u) $(hostname)'"
        soon(lambda: alice(line, check=False) != "")
        return alice(line, check=False)


def at_once() -> str:
    """Run two steps of a job on a node; say whether each has its own port and a session in its own container."""
    out = alice("salloc --quiet --nodelist=compute1 --ntasks=2 ./at_once.sh", check=False)
    number, *lines = out.splitlines() or ["0"]
    steps = sorted(line.split() for line in lines)
    ports = [str(20000 + (int(number) + more) % 10000) for more in (0, 1103)]
    containers = [step[2:] for step in steps]  # of the task and of the session
    is_right = (
        [step[:2] for step in steps] == [["0", ports[0]], ["1", ports[1]]]
        and all(len(each) == 2 and each[0] == each[1] for each in containers)
        and containers[0] != containers[1]
    )
    return "right" if is_right else out


def end_time(name: str, command: str) -> bool:
    """Measure how long the daemon outlives the last task, which ends by a command on compute1."""

    def run() -> str:
        return srun("--nodelist=compute1", command="exec sleep 4351")

    return cluster.end_time(name, run, when_it_runs(command), ("dropbear",))


def sweep() -> None:
    """Sweep as alice's timer does, since the suite removes a container before podman has called the hook.

    Nothing but records is left before.
    """
    records = "find /run -path '*/ocihooks-ssh/daemons/*' | wc -l"
    cluster.say(f"records before a sweep: {' and '.join(ssh(node, records) for node in NODES)}")
    time.sleep(SWEPT_AFTER)
    for node in NODES:
        alice(f"{HOOK} sweep", node)


def row(name: str, settings: str) -> list[bool]:
    """Check containers with these settings of the suite's; each check says its result."""
    uid = "2001" if name == "keep-id" else "0"
    ours = "ssh compute1 hostname; ssh compute2 hostname"
    variables = "ssh \"$(hostname)\" env | sed -n 's/^\\(SLURM_[^=]*\\)=.*/\\1/p' | sort"
    configure(settings)
    return [
        cluster.start_row(name, lambda node, _worker: srun(f"--nodelist={node}", command=TWICE)),
        says(f"{name}: port and hosts", "right right", job_settings()),
        says(
            f"{name}: first",
            "compute1\ncompute2",
            srun("--nodes=2", command=f"/opt/oci-hooks/ssh/bin/first sh -c '{ours}'"),
        ),
        says(f"{name}: variables", VARIABLES, " ".join(srun("--nodelist=compute1", command=variables).split())),
        says(
            f"{name}: a variable of srun's shell, by the EDF alone",
            "1,",
            srun(
                "--nodelist=compute1",
                command="ssh \"$(hostname)\" 'echo $PASSED,$EXPORTED'",
                edf="passing",
                variables="PASSED=1 EXPORTED=2",
            ),
        ),
        says(f"{name}: ssh job1234", f"{uid} compute1", by_job()),
        says(f"{name}: authorize_ssh_key", f"{uid} compute1", by_own_key()),
        says(f"{name}: two steps at once", "right", at_once()),
        end_time(f"{name}: a task ends", "pkill -KILL -u alice -x sleep"),
        end_time(f"{name}: scancel", "scancel --user alice"),
        cluster.leaves_nothing("--edf=ssh ssh 127.0.0.1 echo served", ("/dev/shm",), settle=sweep),
    ]


def main() -> int:
    """Go through the rows; the exit status is 0 where all is right."""
    configure_login()
    alice("ssh-keygen -q -t ed25519 -N '' -f ~/key <<<y >/dev/null")
    write_edf("ssh", EDF)
    write_edf("authorized", EDF + AUTHORIZE)
    write_edf("passing", EDF + PASS)
    alice(f"printf %s {shlex.quote(AT_ONCE.read_text(encoding='utf-8'))} >at_once.sh; chmod +x at_once.sh")
    results = [row(name, settings) for name, settings in ROWS.items()]
    if not all(map(all, results)):
        return 1
    programs = {"podman": "/usr/local/bin/podman", "crun": "/usr/local/bin/crun", "Slurm": "srun"}
    said = {name: ssh("compute1", f"{program} --version") for name, program in programs.items()}
    tested.note("real-suite", {name: tested.version(text) for name, text in said.items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
