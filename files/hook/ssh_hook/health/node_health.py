# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook doctor --node``: check as root whether this node can start SSH daemons in containers; print one line.

It is for health checks of nodes between jobs. It uses no network, reads no user's files, and changes nothing; with
``--probe``, a container does (probe.py).
"""

from __future__ import annotations

import os
import stat
import sys

from .. import VERSION
from ..confine import libseccomp
from ..errors import ARGUMENTS_WRONG, DISK_FULL, INSTALL_DAMAGED, NOT_TRUSTED, SYSTEM, HookError
from ..linux.files import is_own
from ..linux.ownership import only_user_can_change
from ..linux.resolution import File, UnreachableError, resolve
from ..log import one_line
from ..node import places
from ..oci.settings import Settings
from ..schedulers.nodes import launcher
from ..start.server import Programs, require_undumpable
from . import checks
from .checks import CLIENT_PROGRAMS, OK, PROBLEM, Result, within_deadline
from .hook_files import files_naming_hook

_DEADLINE = 3.0  # seconds for each of six checks, which take milliseconds unless a file system hangs


def run(settings: dict[str, str], *, as_json: bool, probed_user: str | None = None) -> int:
    """Print one line, or JSON; return 1 if a check finds a problem. Raises HookError unless run by root.

    `probed_user` is the name of a user in whose name a container is started if all other checks succeed.
    """
    if os.geteuid() != 0:
        raise HookError(
            ARGUMENTS_WRONG,
            "doctor --node checks what only root can see: run it as root, or 'ssh_hook doctor' as yourself",
        )
    results = {name: within_deadline(check, settings, _DEADLINE) for name, check in CHECKS.items()}
    if probed_user is not None and all(kind == OK for kind, _text in results.values()):
        from .probe import DEADLINE, probe  # here: most checks need no container

        results["probe"] = within_deadline(lambda values: probe(probed_user, values), settings, DEADLINE)
    problems = [f"{name}: {text}" for name, (kind, text) in results.items() if kind == PROBLEM]
    if as_json:
        print(checks.as_json(results))
    elif problems:
        print(one_line(f"{PROBLEM}: {'; '.join(problems)}"))
    else:
        print(one_line(f"{OK}: ssh_hook {VERSION}; {'; '.join(text for _kind, text in results.values())}"))
    return 1 if problems else 0


def _require_roots(path: str) -> None:
    """Raise HookError if users other than root could change what `path` leads to, OSError if it is missing."""

    def visit(file: File) -> None:
        _require_only_root(os.fsdecode(file.path), file.status)

    try:
        resolve(os.fsencode(path), follow=True, visit=visit).close()
    except UnreachableError as unreachable:
        raise OSError(unreachable.error.errno, unreachable.error.strerror, os.fsdecode(unreachable.path)) from None


def _require_only_root(path: str, status: os.stat_result) -> None:
    """Raise HookError if users other than root could change the file `path` with this status."""
    if not only_user_can_change(status, 0):
        raise HookError(
            NOT_TRUSTED,
            f"{path} is writable by users other than root (owner uid {status.st_uid}, mode "
            f"{stat.S_IMODE(status.st_mode):04o}), who could run code as root: run the playbook audit",
        )


def _check_code(_values: dict[str, str]) -> Result:
    """Check the hook's own code, with its bytecode and the previous version, and the interpreter that runs it."""
    library = f"{os.path.dirname(os.path.dirname(launcher()))}/lib"
    for path in (launcher(), sys.executable, library):
        _require_roots(path)
    for version in [f"{library}/{name}" for name in os.listdir(library) if name.startswith("ssh_hook-")]:
        for directory, *names in os.walk(version):
            for path in [directory, *(f"{directory}/{name}" for kind in names for name in kind)]:
                _require_only_root(path, os.lstat(path))
    return OK, launcher()


def _check_settings(values: dict[str, str]) -> Result:
    settings = Settings(values)
    _require_roots(settings.passwd_file)
    with open(settings.passwd_file, "rb") as file:
        if not file.read(1):
            raise HookError(INSTALL_DAMAGED, f"{settings.passwd_file} (PASSWD_FILE) is empty: run the playbook deploy")
    return OK, settings.passwd_file


def _check_programs(values: dict[str, str]) -> Result:
    directory = f"{Settings(values).dropbear_dir}/bin"
    programs = Programs(directory)
    _require_roots(directory)
    for name in (programs.name, *CLIENT_PROGRAMS):
        path = f"{programs.path}/{name}"
        _require_roots(path)
        if not os.access(path, os.X_OK):
            raise HookError(INSTALL_DAMAGED, f"{path} cannot be executed: run the playbook deploy")
    return OK, f"{directory}/{programs.name}"


def _check_engine(_values: dict[str, str]) -> Result:
    files = files_naming_hook()
    if not files:
        raise HookError(
            INSTALL_DAMAGED,
            f"no hook JSON or CDI spec in the engines' directories calls {launcher()}: run the playbook deploy",
        )
    for path in files:
        _require_roots(path)
    return OK, ", ".join(files)


def _check_records(_values: dict[str, str]) -> Result:
    """Check the hook's directories of records. The first start on a node creates them."""
    for path in (places.ROOT_COPIES, places.ENTRIES):
        for place in (os.path.dirname(path), path):
            try:
                status = os.lstat(place)
            except FileNotFoundError:
                break
            if not is_own(status, stat.S_IFDIR):
                raise HookError(
                    NOT_TRUSTED,
                    f"{place} must be a directory that only root can write to: remove it, a start creates it again",
                )
            space = os.statvfs(place)
            if space.f_flag & os.ST_RDONLY or space.f_bavail == 0 or (space.f_files and space.f_favail == 0):
                problem = "its file system is full or read-only: free space, or remount it"
                raise HookError(DISK_FULL, f"cannot write to {place}: {problem}")
    return OK, "the hook can write its records of running daemons"


def _check_kernel(values: dict[str, str]) -> Result:
    require_undumpable()
    if Settings(values).require_seccomp:
        libseccomp.load()
        if not os.path.exists("/proc/sys/kernel/seccomp/actions_avail"):
            raise HookError(
                SYSTEM, "the kernel has no seccomp filters, which sessions need for the container's profile"
            )
    return OK, f"Linux {os.uname().release}"


CHECKS = {
    "code": _check_code,
    "settings": _check_settings,
    "programs": _check_programs,
    "engine": _check_engine,
    "records": _check_records,
    "kernel": _check_kernel,
}
