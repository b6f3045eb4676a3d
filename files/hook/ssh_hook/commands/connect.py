# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook connect``: connect to the SSH daemon of the caller's container, as an OpenSSH ProxyCommand.

The user reaches the node through its own sshd, with the site's usual authentication, or through Slurm, with a job step.
On the node this command finds the user's container and relays between standard input and output and the daemon's door
or port. So no compute node needs an open port, and no one needs to know one. The client checks the container's host key
end to end.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from ..errors import ARGUMENTS_WRONG, NO_CONTAINER, PORT_UNUSABLE, SYSTEM, HookError, printable
from ..fast_stdlib import write_all
from ..linux import syscalls, user_namespaces
from ..log import WARNING, log
from ..node.inventory import LOOPBACK, Daemon, find_daemons
from ..oci.annotations import parse_seconds
from ..oci.host_list import is_host
from ..oci.settings import NO_PORT
from ..schedulers import nodes, slurm
from ..schedulers.job_names import is_task, split_node, split_step
from ..schedulers.nodes import SRUN, SUFFIX, add_way, launcher

HERE = "localhost"  # as NODE: this node, whatever its name
_TIMEOUT = 10.0  # seconds until the daemon accepts the connection
_POLL = 0.05  # seconds
_STEP_START = 60.0  # seconds until a step's first byte: srun may wait for the scheduler forever
_STEP_END = 20.0  # seconds for srun to end a step
# Without --unbuffered Slurm forwards whole lines only.
_STEP_OPTIONS = (
    *("--overlap", "--nodes=1", "--ntasks=1", "--mpi=none", "--chdir=/", "--unbuffered", "--quiet", "--immediate=30"),
)
_FOR_SRUN = ("SLURM_", "SRUN_", "_SLURM_SPANK_")  # options, including those of plugins that might start a container
_KEPT_FOR_SRUN = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT")
_SIGNALLED = 128  # a higher exit status means that a signal ended the step
_CHUNK = 1 << 16  # bytes
_MAX_WAIT = 3600  # seconds
_WAIT_POLL = 0.5  # seconds between two searches for a container
_MAX_NAMED = 8  # containers in a message
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


DESCRIPTION = """Connect standard input and output to the SSH daemon of your container.
The configuration from 'ssh_hook client-config' runs this as ProxyCommand.
Without NODE, connect to the container on this node or, with --job, on the first node of the job. With NODE, connect
through that node's own sshd or, with --via srun, through a step of the job."""
EXAMPLE = "ssh_hook connect --job 1234 node002"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--job",
        help="the container of this job: its ID, or a host name for ssh such as job1234 or node002.job1234; 1234.1 is "
        "step 1 of the job",
    )
    choice.add_argument(
        "--name", help="the container's name, the beginning of its id, or its pid as shown by 'ssh_hook status'"
    )
    add_way(parser)
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        default="0",
        help=f"wait for the container if it has no SSH daemon yet, at most {_MAX_WAIT} seconds (default: 0)",
    )
    parser.add_argument("node", nargs="?", metavar="NODE", help=f"where the container is; {HERE} is this node")


def run(arguments: Namespace, _settings: dict[str, str]) -> int:
    """Relay bytes until the daemon hangs up; or exec ssh to NODE, or run a job step there, to do so.

    Raises HookError.
    """
    job, node = _parse_job(_unquoted(arguments.job), _unquoted(arguments.node))
    wait = parse_seconds(arguments.wait, "--wait", ARGUMENTS_WRONG, most=_MAX_WAIT)
    name = _checked(arguments.name, _NAME.fullmatch, "--name", "the name, the id or the pid of a container")
    node = None if node is None else node.removesuffix(SUFFIX)
    if job is not None:
        job, node = _complete(job, node)
    node = _checked(node, is_host, "NODE", "the name of a node")
    if node is not None and not _is_here(node):
        if arguments.via == SRUN:
            return _run_step(node, job, wait)
        _exec_ssh(node, job, name, wait)
    _relay(_open(_wait_for(job, name, wait)))
    return 0


def _wait_for(job: str | None, name: str | None, seconds: int) -> Daemon:
    """Return the container that `job` or `name` selects; wait while there is none, and ssh runs. Raises HookError."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return choose(find_daemons(), job, name)
        except HookError as error:
            if error.kind != NO_CONTAINER or time.monotonic() > deadline or hangs_up(_WAIT_POLL):
                raise


def hangs_up(seconds: float) -> bool:
    """Return whether ssh closes its end of standard output within `seconds`; otherwise wait that long."""
    poll = select.poll()
    poll.register(1, 0)
    return bool(poll.poll(seconds * 1000))


def _wait_words(seconds: int) -> list[str]:
    """Return the arguments that have this command on another node wait as long."""
    return ["--wait", str(seconds)] if seconds else []  # a node may have an earlier version


def _unquoted(word: str | None) -> str | None:
    """Return `word` without client-config's quotes around a host's name, which Windows' ssh does not remove."""
    return word if word is None else re.sub(r"\A'(.*)'\Z", r"\1", word)


def _parse_job(text: str | None, node: str | None) -> tuple[str | None, str | None]:
    """Return the job number in `text`, and the node, which `text` may contain too. Raises HookError."""
    if text is None:
        return None, node
    parts = split_node(text)
    if parts is None:
        raise HookError(
            ARGUMENTS_WRONG, f"--job is '{printable(text)}': give the number of a job, or a name such as job1234"
        )
    return parts[1], node or parts[0]


def _checked(value: str | None, is_right: Callable[[str], object], what: str, wanted: str) -> str | None:
    """Return `value`, validated for the command line of the node's shell. Raises HookError."""
    if value is not None and not is_right(value):
        raise HookError(ARGUMENTS_WRONG, f"{what} is '{printable(value)}': give {wanted}")
    return value


def _complete(job: str, node: str | None) -> tuple[str, str]:
    """Return the job number as in the cgroup of `job`, with the step if `job` has one, and a node. Raises HookError."""
    name, step = split_step(job) or (job, "")
    if node is None or (is_task(name) and node != HERE):
        name, node = _locate(name, node)
    return f"{name}.{step}" if step else name, node


def _locate(job: str, node: str | None) -> tuple[str, str]:
    """Ask Slurm for `job`; return its number as in its cgroup, and `node`, or else the job's first node.

    Each array task, such as 1234_5, has a job number of its own. If Slurm does not report it and `node` is known, `job`
    is returned: the container's variables may contain it. Raises HookError.
    """
    try:
        found = slurm.locate(job)
    except HookError:
        if node is None:
            raise
        return job, node
    number, first = found or (job, HERE)
    return number, node or first


def _is_here(node: str) -> bool:
    """Return whether `node` is this node, comparing names up to the first dot."""
    return node == HERE or node.partition(".")[0] == socket.gethostname().partition(".")[0]


def _exec_ssh(node: str, job: str | None, name: str | None, wait: int) -> None:
    """Exec OpenSSH's client, which runs this command on `node`. Raises HookError."""
    chosen = ["--job", job] if job is not None else ["--name", name] if name is not None else []
    command = nodes.command(node, ["connect", *chosen, *_wait_words(wait), HERE])
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise HookError(SYSTEM, f"cannot run ssh to reach {node}: {error.strerror}") from None


def _run_step(node: str, job: str | None, wait: int) -> int:
    """Run this command on `node` in a step of `job`; return 0, or 1 if the step has reported an error.

    Raises HookError, also if the step was killed.
    """
    if job is None:
        raise HookError(ARGUMENTS_WRONG, "--via srun reaches only containers of a job: give --job, or use ssh job1234")
    number = job.partition(".")[0]
    command = [SRUN, *_STEP_OPTIONS, f"--jobid={number}", f"--nodelist={node}"]
    command += [launcher(), "connect", "--job", job, *_wait_words(wait), HERE]
    kept = {
        name: value for name, value in os.environ.items() if name in _KEPT_FOR_SRUN or not name.startswith(_FOR_SRUN)
    }
    # Ctrl-C is meant for a command in one session, and other sessions may share the connection. It ends at EOF of its
    # standard input, also after ssh's SIGHUP.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    output, end = os.pipe()
    try:
        process = subprocess.Popen(command, env=kept, start_new_session=True, stdout=end)
    except OSError as error:
        raise HookError(SYSTEM, f"cannot run srun to reach {node}: {error.strerror}") from None
    finally:
        os.close(end)
    start = _STEP_START + wait
    if not _poll_output(output).poll(start * 1000):
        _end(process)
        raise HookError(
            SYSTEM, f"no step of job {number} started on {node} within {start:.0f} s: see squeue --jobs {number}"
        )
    _copy_output(output)
    os.close(output)
    status = _end_status(process)
    if status < 0 or status > _SIGNALLED:
        raise HookError(
            NO_CONTAINER,
            f"the job step on {node} was killed, perhaps because job {number} has ended: see squeue --jobs {number}",
        )
    return min(status, 1)


def _end_status(process: subprocess.Popen[bytes]) -> int:
    """Return the exit status of srun, whose output is no longer read; kill it if it does not exit."""
    try:
        return process.wait(_STEP_END)
    except subprocess.TimeoutExpired:
        _end(process)
        return process.returncode


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STEP_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _poll_output(output: int) -> select.poll:
    """Return a poll object for `output` becoming readable, or ssh closing its end of standard output."""
    poll = select.poll()
    poll.register(output, select.POLLIN)
    poll.register(1, 0)  # also while srun is silent
    return poll


def _copy_output(output: int) -> None:
    """Copy what the descriptor `output` brings to standard output, until one of them is closed."""
    poll = _poll_output(output)
    try:
        while 1 not in dict(poll.poll()):
            data = os.read(output, _CHUNK)
            if not data:
                return
            write_all(1, data)
    except OSError:
        pass  # the connection was reset, or ssh has exited


def choose(daemons: list[Daemon], job: str | None, name: str | None) -> Daemon:
    """Return the one container that `job` or `name` selects. Raises HookError, which lists the containers."""
    node = socket.gethostname()
    if name is not None:
        found, what = [daemon for daemon in daemons if daemon.answers_to(name)], f" called {name}"
    elif job is not None:
        found, what = _of_job(daemons, job), f" of job {job}"
    else:
        found, what = daemons, ""
    if len(found) == 1:
        return found[0]
    if not daemons:
        raise HookError(NO_CONTAINER, f"you have no container with an SSH daemon on {node}: run 'ssh_hook why' there")
    shown = "; ".join(_describe(daemon) for daemon in (found or daemons)[:_MAX_NAMED])
    if not found:
        raise HookError(NO_CONTAINER, f"no container{what} has an SSH daemon on {node}; your containers there: {shown}")
    raise HookError(
        ARGUMENTS_WRONG,
        f"you have {len(found)} containers{what} on {node}; choose one with --name NAME or PID in the ProxyCommand: "
        f"{shown}",
    )


def _of_job(daemons: list[Daemon], job: str) -> list[Daemon]:
    """Return the containers of `job`, or of its step if one is given.

    If none of the job's containers is in a step, as in a batch script, step 0 is the first one started, 1 the next.
    """
    found = [daemon for daemon in daemons if daemon.is_of_job(job)]
    found = found or [daemon for daemon in daemons if daemon.is_of_array(job) or daemon.leader == job]
    name, number = split_step(job) or (job, "")
    if found or not number:
        return found
    found, step = _of_job(daemons, name), int(number)
    if any(daemon.step for daemon in found):
        return [daemon for daemon in found if daemon.step and int(daemon.step) == step]
    return found[step : step + 1]


def _describe(daemon: Daemon) -> str:
    called = f"{daemon.label}, " if daemon.label else ""
    step = f".{daemon.step}" if daemon.step else ""
    job = f", job {daemon.task or daemon.job}{step}" if daemon.job else ""
    place = "no port" if daemon.port == NO_PORT else f"port {daemon.port}"
    return printable(f"{daemon.pid} ({called}{place}{job})")


def _open(daemon: Daemon) -> socket.socket:
    """Connect to the daemon's door or, if there is none, its port. Raises HookError."""
    if daemon.door:
        try:
            return _open_door(daemon.door)
        except (FileNotFoundError, ConnectionRefusedError):
            gone = "the door of your container (a socket on the node) is gone: a logout or the end of a job removes it"
        except OSError as error:
            gone = f"cannot connect to the door of your container (a socket on the node): {error.strerror}"
        if daemon.port == NO_PORT:
            raise HookError(PORT_UNUSABLE, f"{gone}; the container has no port, so start it again, with a port")
        log(WARNING, f"{gone}; connecting to port {daemon.port} instead")
    elif daemon.port == NO_PORT:
        raise HookError(
            PORT_UNUSABLE,
            "the container has no port, and its door (a socket on the node) admits only its user: run this as that "
            "user",
        )
    return _open_port(daemon)


def _open_door(path: str) -> socket.socket:
    """Connect to the Unix socket on which a daemon accepts its user without a key. Raises OSError."""
    # Through a Unix socket a process in the container can get a pidfd of this process (SO_PEERPIDFD) and, if it may
    # trace it, steal its descriptors (pidfd_getfd).
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    peer = socket.socket(socket.AF_UNIX)
    try:
        _connect(peer, path)
    except OSError:
        peer.close()
        raise
    return peer


def _connect(peer: socket.socket, path: str) -> None:
    """Connect to a Unix socket; retry while its queue is full. Raises OSError."""
    deadline = time.monotonic() + _TIMEOUT
    peer.setblocking(False)
    while True:
        try:
            return peer.connect(path)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL)


def _open_port(daemon: Daemon) -> socket.socket:
    """Connect to the daemon's port, in its network namespace if it has its own. Raises HookError."""
    joined = daemon.has_own_network and _join_network(daemon)
    address, port = daemon.places[0]
    tried = [address] if address else LOOPBACK
    reason = ""
    for host in tried:
        try:
            return socket.create_connection((host, port), _TIMEOUT)
        except OSError as error:
            reason = error.strerror or str(error)
    advice = "run 'ssh_hook doctor' on this node"
    if daemon.has_own_network and not joined:
        advice = f"it has its own network: publish its port (podman: --publish {port}:{port}) or, except in rootless "
        advice += "Docker, use --network host"
    raise HookError(
        PORT_UNUSABLE, f"cannot connect to port {port} of your container on {socket.gethostname()}: {reason}: {advice}"
    )


def _join_network(daemon: Daemon) -> bool:
    """Join the daemon's network namespace through the user namespace that owns it; return False if not permitted."""
    try:
        network = os.open(f"/proc/{daemon.pid}/ns/net", os.O_RDONLY)
        if os.geteuid() != 0:
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # a process in it may have all capabilities over it
            syscalls.setns(user_namespaces.owning(network), syscalls.CLONE_NEWUSER)
        syscalls.setns(network, syscalls.CLONE_NEWNET)
    except OSError:
        return False  # a rootful engine's container: its port has to be published
    return True


def _relay(peer: socket.socket) -> None:
    """Relay between standard input and output and `peer` until it hangs up or the output is closed."""
    peer.settimeout(None)
    if peer.family != socket.AF_UNIX:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=_send, args=[peer], daemon=True).start()
    _copy_output(peer.fileno())


def _send(peer: socket.socket) -> None:
    try:
        while data := os.read(0, _CHUNK):
            peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the daemon hung up; the other direction ends too
