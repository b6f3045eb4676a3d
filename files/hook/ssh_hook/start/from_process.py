# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of `ssh_hook attach`: derived from a running process instead of config.json."""

from __future__ import annotations

from ..confine.apply import capability_names
from ..confine.lsm import Labels, label_of
from ..confine.rlimits import limit_names
from ..errors import ATTACH_REFUSED, SYSTEM, HookError
from ..fast_stdlib import TYPE_CHECKING, closing, os
from ..linux import syscalls
from ..linux.cgroups import Cgroups
from ..linux.id_maps import read_map
from ..linux.identity import Identity
from ..linux.namespaces import Namespaces
from ..linux.process import Process
from ..node import conmon
from ..node.bundle import find_bundle
from ..node.engine import Engine
from ..node.entry_reader import collect_own
from ..node.owner import Owner
from ..node.running_process import Rights
from ..oci.json_reader import Node
from ..oci.oci_config import Container, read_config
from .attach import Attach, EndedBySupervisor, RunningRoot
from .attach_introduction import Introduction
from .basis import Basis
from .description import APPTAINER, engine_of
from .imitated_gate import Gate, OpenGate
from .plan import StartPlan

if TYPE_CHECKING:
    from typing import Any

    from ..keys.passwd import Entry
    from ..linux.id_maps import IdMap
    from ..node.running_process import RunningProcess
    from ..oci.settings import Settings


def from_process(
    target: RunningProcess,
    entry: Entry,
    settings: Settings,
    runtime_directory: str,
    without_seccomp: bool,
    annotations: dict[str, str],
    instance: str,
) -> Attach:
    """Return the plan, with the other inputs of an attach. Raises HookError.

    `entry` is the caller's passwd entry. `runtime_directory` is the user's, where runtimes keep their state.
    `annotations` are the user's requests. `instance` is the name of Apptainer's instance, if the process is in one.
    """
    init = target.process
    cgroups = Cgroups(init.directory, rootless=True, may_stay_out=True)
    namespaces = Namespaces(init.directory)
    running = _Description(target)
    container = running.container(runtime_directory, without_seccomp, annotations)
    engine = Engine()
    labels = Labels(container)
    # SELinux closes files that a program's label may not use: the memory file has the caller's label.
    gate = OpenGate(init) if labels.changes_selinux else Gate()
    caller = Identity(os.geteuid(), os.getegid())
    basis = Basis(
        *(container, settings, engine, Owner(entry, caller, caller), init, init.directory, namespaces, cgroups, labels),
        port_option="--port",
        has_own_network=namespaces.has("net"),
    )
    collect_own(engine.host_uid)
    arguments, variables = conmon.find_above(init)
    identity, name, _bundle = conmon.container_of(arguments)
    engine_name = engine_of(bool(arguments), identity, cgroups)
    if instance:
        engine_name, name = APPTAINER, instance
    daemon_entry = basis.entry(engine_name, identity, name, variables, ("", caller), str(init.pid))
    root = RunningRoot(target, container, entry, settings, labels, namespaces, basis.server.programs.path)
    plan = StartPlan(
        basis,
        root=root,
        last_namespaces=("time", "user"),
        in_user_namespace=True,
        provides_home=True,
        door=basis.make_door(caller.uid),
        logins=basis.open_login_log({}, process=str(init.pid)),
        gate=gate.descriptor,
        registration=Introduction(daemon_entry),
        ending=EndedBySupervisor(target, container),
    )
    return Attach(plan, root, gate, target, running.warnings)


class _Description:
    """Describes a process in the form of config.json. Attributes: warnings, for the user."""

    def __init__(self, target: RunningProcess) -> None:
        """Read the process's id maps. Raises HookError."""
        self.warnings: list[str] = []
        self._target = target
        self._init = target.process
        directory = target.process.directory
        self._uid_map, self._gid_map = read_map("uid_map", directory), read_map("gid_map", directory)

    def container(self, runtime_directory: str, without_seccomp: bool, annotations: dict[str, str]) -> Container:
        """Return the container, derived from its process. Raises HookError."""
        rights = self._target.rights
        capabilities = dict(rights.capabilities)
        uid = self._inside(self._uid_map, rights.uid, "uid")
        if uid == 0:  # execve(2) gives root its whole bounding set
            capabilities["bounding"] &= capabilities["permitted"]
        process: dict[str, Any] = {
            "user": {
                "uid": uid,
                "gid": self._inside(self._gid_map, rights.gid, "gid"),
                "additionalGids": self._groups(),
                "umask": rights.umask,
            },
            "env": self._target.read_environment(),
            "noNewPrivileges": rights.no_new_privileges,
            "capabilities": {name: capability_names(mask) for name, mask in capabilities.items()},
            "rlimits": self._limits(),
        }
        for name, label in zip(("apparmorProfile", "selinuxLabel"), label_of(self._init)):
            if label:
                process[name] = label
        linux = self._from_engine(runtime_directory, without_seccomp)
        where = f"process {self._init.pid}"
        described = {"annotations": annotations, "process": process, "linux": linux, "root": {"path": "/"}}
        return Container(Node(described, where), where)

    def _inside(self, id_map: IdMap, outside: int, kind: str) -> int:
        inside = id_map.inside(outside)
        if inside is None:
            raise HookError(
                ATTACH_REFUSED,
                f"process {self._init.pid} has the {kind} {outside}, which its user namespace does not map",
            )
        return inside

    def _groups(self) -> list[int]:
        """Return the supplementary groups for sessions. Raises HookError if there are too many."""
        rights, pid = self._target.rights, self._init.pid
        own = {*os.getgroups(), os.getegid()}
        mapped = {group: self._gid_map.inside(group) for group in rights.groups}
        unmapped = [group for group, inside in mapped.items() if inside is None]
        foreign = [group for group in unmapped if group not in own]
        if foreign:
            raise HookError(ATTACH_REFUSED, f"process {pid} has more rights than you: the group{_list(foreign)}")
        if self._target.read("setgroups").strip() == "deny":  # sessions keep the caller's
            surplus = sorted(own - {*rights.groups, rights.gid})
            if surplus:
                raise HookError(
                    ATTACH_REFUSED,
                    f"process {pid} lacks the group{_list(surplus)} that you have, and its user namespace does not "
                    "allow dropping groups: run attach without it (as root: setpriv --groups), or start the "
                    "container with it",
                )
        elif unmapped:
            self.warnings.append(f"sessions lack the group{_list(unmapped)}, which its user namespace does not map")
        return [inside for inside in mapped.values() if inside is not None]

    def _limits(self) -> list[dict[str, Any]]:
        """Return the rlimits of the process, capped at the caller's own."""
        limits, lowered = [], []
        for number, (name, (soft, hard)) in enumerate(zip(limit_names(), self._target.rights.limits)):
            _own_soft, most = syscalls.getrlimit(number)
            if hard > most:
                lowered.append(name)
            limits.append({"type": name, "soft": min(soft, most), "hard": min(hard, most)})
        if lowered:
            self.warnings.append(f"in sessions {', '.join(lowered)} is lower than the process's, since yours is")
        return limits

    def _from_engine(self, runtime_directory: str, without_seccomp: bool) -> dict[str, Any]:
        """Return what is known only from the engine's config.json. Raises HookError."""
        rights, pid = self._target.rights, self._init.pid
        found: dict[str, Any] = {}
        bundle = find_bundle(self._target.namespace("mnt"), runtime_directory)
        if bundle is not None:
            try:
                with closing(os.open(bundle, os.O_RDONLY | os.O_DIRECTORY)) as directory:
                    linux = read_config(directory, bundle).node("linux")
            except OSError as error:
                raise HookError(SYSTEM, f"cannot open the bundle {bundle} of process {pid}: {error.strerror}") from None
            if linux.has("mountLabel"):
                found["mountLabel"] = linux.text("mountLabel")
            if rights.has_filter and linux.has("seccomp"):
                found["seccomp"] = linux.node("seccomp").value
        self._check_filters("seccomp" in found, without_seccomp)
        return found

    def _check_filters(self, is_known: bool, without_seccomp: bool) -> None:
        """Raise HookError if sessions would lack a seccomp filter of the process."""
        rights, pid = self._target.rights, self._init.pid
        with Process(os.getpid()) as process:
            own = Rights(process)
        is_whole = is_known and rights.filters <= own.filters + 1
        if not rights.has_filter or is_whole:
            return
        if not without_seccomp:
            origin = "it added itself" if is_known else "no config.json contains"
            raise HookError(
                ATTACH_REFUSED,
                f"process {pid} has a seccomp filter that {origin}, and the kernel shows it only to root: "
                "--without-seccomp starts sessions without it",
            )
        self.warnings.append("sessions lack a seccomp filter that the process has, as --without-seccomp allows")


def _list(groups: list[int]) -> str:
    return ("s " if len(groups) > 1 else " ") + ", ".join(map(str, groups))
