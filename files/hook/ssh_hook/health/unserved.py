# SPDX-License-Identifier: GPL-3.0-or-later
"""The caller's running containers, and those meant to have SSH whose engine never calls the hook.

A misspelled com.hooks.ssh.enabled matches no hook JSON, so the engine never calls the hook and the user gets no
message. podman's containers are found through conmon, whose command line names the bundle; Docker's through its
command.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..errors import CONFIG_WRONG, HookError, LateError, printable
from ..fast_stdlib import closing, fsdecode, read_all
from ..linux import disposable_process
from ..linux.process import Process
from ..linux.process_search import ask_own_processes
from ..log import WARNING, log
from ..node.conmon import CONMON, container_of
from ..node.inventory import Daemon
from ..oci.annotations import ENABLED, distance, nearest
from ..oci.json_reader import read_document
from ..oci.oci_config import parse_config
from ..schedulers.nodes import launcher

DEVICE = "ocihooks.org/ssh=on"
_TIMEOUT = 2.0  # seconds, for all of them
_SPARE = 0.2  # seconds reserved for returning the answer
_MAX_CONTAINERS = 64  # containers of each engine
_MAX_NAMES = 8  # annotations of a container
_MAX_CONFIG = 1 << 22  # bytes
_MAX_ARGUMENTS = 1 << 16  # bytes; a process can make its command line any length
_MAX_TEXT = 200  # characters of a name
_MAX_DISTANCE = 2  # letters; com.hooks.mpi.enabled, for another hook, differs in three
_ALIKE = re.compile(r"hooks?.{0,5}ssh")


class Running:
    """A running container.

    Attributes:
        engine: podman or docker.
        id, name: of the container.
        requests: its annotations for this hook, misspelled ones included, keyed by name.
        calls_hook: whether its engine calls the hook.
    """

    def __init__(self, engine: str, identity: str, name: str, requests: dict[str, str], calls_hook: bool) -> None:
        self.engine = engine
        self.id = identity
        self.name = name
        self.requests = requests
        self.calls_hook = calls_hook

    def fields(self) -> list[object]:
        """Return the constructor's arguments, for JSON."""
        return [self.engine, self.id, self.name, self.requests, self.calls_hook]

    def label(self) -> str:
        """Return the container's name for messages."""
        return printable(f"{self.name} ({self.engine}, {self.id[:12]})")


def find_running() -> list[Running]:
    """Return the caller's running containers, as `look` does; log a warning if some could not be found."""
    found, unseen = look()
    for warning in unseen:
        log(WARNING, warning)
    return found


def look() -> tuple[list[Running], list[str]]:
    """Return the caller's running containers, and messages on why some could not be found.

    It forks, so the caller must have no other thread. It takes at most two seconds.
    """
    deadline = time.monotonic() + _TIMEOUT - _SPARE
    try:
        answer = disposable_process.run(
            lambda: json.dumps(_look(deadline)).encode(), "cannot list your containers", None, (), _TIMEOUT
        )
        found = json.loads(answer)
    except LateError:
        return [], [f"could not list your containers within {_TIMEOUT:.0f} s: a file system may hang"]
    except (HookError, ValueError) as error:
        return [], [f"cannot list your containers: {error}"]
    return [Running(*fields) for fields in found["containers"]], found["warnings"]


def unserved(containers: Iterable[Running], daemons: Iterable[Daemon]) -> list[str]:
    """Return a message for each container that was meant to have SSH, but whose engine does not call the hook.

    Containers of `daemons` have SSH nevertheless, by ``ssh_hook attach``.
    """
    served = {daemon.id for daemon in daemons}
    return [
        f"your container {each.label()} runs without SSH: {_advice(each)}"
        for each in containers
        if not each.calls_hook and each.requests and each.requests.get(ENABLED) != "false" and each.id not in served
    ]


def _advice(container: Running) -> str:
    """Return the correct annotation for a container whose engine does not call the hook."""
    wrong = {name: nearest(name) for name in container.requests}
    words = [f"{right} instead of {printable(name)}" for name, right in wrong.items() if name != right]
    if container.engine == "docker":
        others = f", and with {', '.join(words)}" if words else ""
        return f"Docker ignores the annotation {ENABLED}: start it again with --device {DEVICE}{others}"
    if ENABLED in container.requests:
        return "podman called no hook for the annotations: see 'engine' in the output of 'ssh_hook doctor'"
    lead = [] if ENABLED in wrong.values() else [f"{ENABLED}=true"]
    return f"start it again with the annotation {', '.join([*lead, *words])}"


def _look(deadline: float) -> dict[str, Any]:
    """Return all containers, and warnings. Must run in a disposable process, since it may hang."""
    warnings: list[str] = []
    containers = list(_of_podman(deadline, warnings))
    known = {container.id for container in containers}
    containers += [each for each in _of_docker(deadline, warnings) if each.id not in known]
    return {"containers": [each.fields() for each in containers], "warnings": warnings}


def _of_podman(deadline: float, warnings: list[str]) -> Iterator[Running]:
    """Yield podman's containers, newest first."""
    found = sorted(_monitors(deadline), reverse=True)
    unread = []
    for _start, pid in found[:_MAX_CONTAINERS]:
        if time.monotonic() > deadline:
            warnings.append(
                f"checked only some of your podman containers: the time limit of {_TIMEOUT:.0f} s was reached"
            )
            break
        name = str(pid)
        try:
            with closing(os.open(f"/proc/{pid}/cmdline", os.O_RDONLY)) as file:
                arguments = fsdecode(read_all(file, _MAX_ARGUMENTS)).split("\0")
            identity, name, bundle = container_of(arguments)
            if not (identity and bundle):
                continue
            config = _read_config(bundle)
            requests = _requests(config.get("annotations") or {})
            calls_hook = launcher() in _hooks(config)
            yield Running("podman", identity[:_MAX_TEXT], name[:_MAX_TEXT], requests, calls_hook)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has exited, or is a session of `podman exec`
        except (OSError, HookError, KeyError, TypeError, AttributeError):
            unread.append(printable(name[:_MAX_TEXT]))
    if unread:
        others = f" and {len(unread) - 1} more" if len(unread) > 1 else ""
        warnings.append(f"cannot check your podman container {unread[0]}{others}: its config.json is not readable")
    if len(found) > _MAX_CONTAINERS:
        warnings.append(f"checked only the newest {_MAX_CONTAINERS} of your {len(found)} podman containers")


def _monitors(deadline: float) -> Iterator[tuple[int, int]]:
    """Return start time and pid of each of the caller's conmon processes. Raises LateError.

    Those of a podman inside a container are omitted: they have a pid namespace of their own, and bundles that are not
    on the node.
    """
    depth = len(Process(os.getpid()).pids())

    def start_time_of_monitor(process: Process) -> bytes:
        is_monitor = process.read("comm").strip() == CONMON.encode() and process.uid() == os.getuid()
        return b"%d" % process.start_time() if is_monitor and len(process.pids()) == depth else b""

    found = ask_own_processes(start_time_of_monitor, deadline)
    return ((int(start_time), pid) for pid, start_time in found.items())


def _read_config(bundle: str) -> dict[str, Any]:
    """Return the config.json of a bundle. Raises OSError and HookError.

    A process from an image may call itself conmon and name any path, even a symbolic link to a device with side effects
    on open. So the file's type is checked before it is opened.
    """
    with closing(os.open(f"{bundle}/config.json", os.O_PATH)) as place:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise HookError(CONFIG_WRONG, f"{bundle}/config.json is not a regular file")
        with closing(os.open(f"/proc/self/fd/{place}", os.O_RDONLY)) as file:
            return parse_config(read_document(file, _MAX_CONFIG, bundle), bundle).value


def _hooks(config: dict[str, Any]) -> set[str]:
    """Return the programs that `config`, a config.json, names as hooks."""
    return {hook["path"] for hooks in (config.get("hooks") or {}).values() for hook in hooks}


def _requests(annotations: Mapping[str, str]) -> dict[str, str]:
    """Return those of `annotations` that are meant for this hook."""
    found = [(name, value) for name, value in annotations.items() if is_near(name)]
    return {name[:_MAX_TEXT]: str(value)[:_MAX_TEXT] for name, value in found[:_MAX_NAMES]}


def is_near(name: str) -> bool:
    """Return whether the annotation `name` is one of this hook's, or a misspelling of one."""
    lowered = name[:_MAX_TEXT].lower()
    return _ALIKE.search(lowered) is not None or distance(lowered, nearest(lowered)) <= _MAX_DISTANCE


def _of_docker(deadline: float, warnings: list[str]) -> Iterator[Running]:
    """Yield Docker's containers that run as the caller, newest first, if the caller may use Docker.

    podman may be installed under the name docker. It is not called: its containers are known already, and it would
    create a storage directory.
    """
    if shutil.which("docker") is None:
        return
    try:
        if not _docker(deadline, "--version").startswith("Docker "):
            return
        ids = _docker(deadline, "ps", "--quiet", "--no-trunc").split()
        if not ids:
            return
        described = json.loads(_docker(deadline, "inspect", *ids[:_MAX_CONTAINERS]))
    except subprocess.TimeoutExpired:
        warnings.append(f"cannot list your Docker containers: no answer within {_TIMEOUT:.0f} s")
        return
    except (OSError, ValueError):
        return  # the caller may not use Docker, or its daemon is not running
    for each in described:
        try:
            if each["Config"]["User"].partition(":")[0] in _names():
                host = each["HostConfig"]
                devices = [name for request in host["DeviceRequests"] or [] for name in request["DeviceIDs"] or []]
                requests = _requests(host.get("Annotations") or {})
                yield Running("docker", each["Id"], each["Name"].lstrip("/"), requests, DEVICE in devices)
        except (KeyError, TypeError, AttributeError):
            continue  # not Docker's output
    if len(ids) > _MAX_CONTAINERS:
        warnings.append(f"checked only {_MAX_CONTAINERS} of {len(ids)} Docker containers")


def _names() -> tuple[str, ...]:
    """Return the values of a Docker container's user with which it runs as the caller."""
    return (str(os.getuid()), "", "root") if os.getuid() == 0 else (str(os.getuid()),)


def _docker(deadline: float, *arguments: str) -> str:
    """Return the output of the docker command. Raises OSError, ValueError if it fails, and TimeoutExpired.

    If one of several requested containers no longer exists, it describes the others and fails.
    """
    done = subprocess.run(
        ["docker", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=max(0.0, deadline - time.monotonic()),
        check=False,
    )
    if done.returncode != 0 and not done.stdout:
        raise ValueError
    return done.stdout.decode("utf-8", "replace")
