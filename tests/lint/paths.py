"""Lists where the hook follows a path that no constant names: each place needs the reason why it is safe, here.

A user may own a directory on such a path, and exchange it at any moment. So whoever adds such a place writes down what
comes of that, with root's rights or the engine's; and a reason whose place is gone is an error too. Not looked at are
names in an open directory (dir_fd), and the commands that only users call.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

HOOK = Path(__file__).resolve().parents[2] / "files/hook/ssh_hook"
# The others in these rooms are called by users.
ROOMS_OF_COMMANDS = {HOOK / "commands", HOOK / "health"}
ROOTS_COMMANDS = ("sweep.py", "metrics.py", "node_health.py", "probe.py", "refresh_passwd.py", "prolog.py", "epilog.py")
OF_OS = frozenset(
    "access chdir chmod chown execve link listdir lstat mkdir open readlink rename replace rmdir scandir stat statvfs "
    "symlink truncate unlink utime".split()
)
OF_HOOK = frozenset("exists isdir lexists open_in_root open_without_magic_links openat2 open_tree".split())
WITH_DIRECTORY = {"read_file": 2, "create_file": 4}  # how many arguments these have if the last is an open directory

SETTING = (
    "a setting of root's names it; the role verifies after each deployment that only root changes what it leads to"
)
KERNEL = "it is in /proc or /sys, where no user owns a directory"
AS_USER = "the process has the user's rights alone, so that it leads nowhere where the user may not go"
CHECKED = "whatever it leads to is used only if nobody but the caller can write to it, and its names are then below it"
ENROOTS = "enroot and its hooks have the user's rights alone, as has this process"
DESCRIPTOR = "this is an open directory or a name, not a path"
CALLERS = "a helper: each place that calls it stands here by itself"
BUNDLE = (
    "who can exchange the bundle could have done so before the runtime read it, and so have root run any hook; the "
    "record in it counts only if it is root's, and fits the process"
)
REASONS = {
    "health/metrics.py _open_own": CHECKED,
    "health/node_health.py _check_code": "of the directory and all above it, what users can change is refused first",
    "health/node_health.py _check_programs": SETTING,
    "health/node_health.py _check_records": "/var/lib and /run are root's",
    "health/probe.py probe": "only root writes to /run, where this process has just made the directory",
    "health/probe.py _shared": "only root writes to /, and to the directory in /run that this process has made",
    "commands/refresh_passwd.py _refresh": SETTING,
    "confine/lsm.py Labels.__init__": KERNEL,
    "confine/lsm.py label_of": KERNEL,
    "confine/lsm.py _has_apparmor": KERNEL,
    "confine/lsm.py _write": KERNEL + "; the process is not yet in the container's root directory",
    "confine/seccomp.py _CachedProgram.write": "only their owner writes to /run and /run/user/UID",
    "confine/seccomp.py _CachedProgram._open": CHECKED,
    "start/port_holder.py _has_open": KERNEL,
    "node/bundle.py find_bundle": AS_USER,
    "node/door.py _require_room": "only root writes to /run/ocihooks-ssh",
    "node/door.py _label_sockets": KERNEL,
    "node/door_collection.py _is_old": "only root writes to /run/ocihooks-ssh",
    "linux/files.py names": CALLERS,
    "node/caller.py dropbearkey": AS_USER,
    "node/caller.py is_root_without_keys": AS_USER,
    "node/earlier.py free_job": "only root writes to /run/ocihooks-ssh",
    "node/job_place.py make": "/run is root's, and only root makes directories there",
    "node/locks.py make_place": "only root writes to /run and to /run/ocihooks-ssh",
    "node/locks.py open_at": "only root writes to /run/ocihooks-ssh",
    "node/own_places.py open_own": CHECKED,
    "node/places.py _make": "only root writes to /run/ocihooks-ssh",
    "node/places.py _names": "only root writes to /run/ocihooks-ssh",
    "node/places.py free_own": "only root writes to /run/ocihooks-ssh; root's own record or its list names the file",
    "node/places.py open_directory": "only root writes to /run/ocihooks-ssh",
    "node/places.py unlink": "only the caller could have written a record that names it",
    "node/places.py write": "only root writes to /run/ocihooks-ssh",
    "stop/janitor.py _free_entries": "only root writes to /run/ocihooks-ssh",
    "node/last_messages.py _user_of": "the uid in it decides who may read one message, and nothing else",
    "node/last_messages.py read": AS_USER + "; a file that is not root's or the user's own is not shown",
    "node/owner.py _find_by_uid": SETTING,
    "node/entry_reader.py _named": CHECKED,
    "node/record.py remove_kept": "only root could have written a record that names it",
    "node/userfiles.py read_public_keys": AS_USER,
    "node/userfiles.py write_pidfile.write": AS_USER,
    "node/userfiles.py remove_pidfile.remove": AS_USER,
    "node/userfiles.py _open_log": AS_USER,
    "linux/cgroups.py Cgroups._open": "no user owns a directory of cgroupfs above the container's own, but a rootless "
    "engine, whose user it is",
    "linux/cgroups.py Cgroups.limit": "as for _open; only the numbers in cgroupfs's own files are read, and a path "
    "of the kernel's names them",
    "linux/files.py close_all_but": DESCRIPTOR,
    "linux/files.py remove_leftovers": DESCRIPTOR,
    "linux/mounts.py clone_tree": DESCRIPTOR,
    "linux/mounts.py clone_mount": "DROPBEAR_DIR; " + SETTING,
    "linux/process.py all_processes": KERNEL,
    "linux/process.py Process._threads": KERNEL,
    "linux/root_mount.py _open": "what it leads to has to be the root of the mount that the runtime has made, which "
    "no user can make, move, or have another mount taken for; O_PATH opens nothing else",
    "linux/rootfs.py Rootfs.open": "it cannot lead out of the container's root directory",
    "linux/rootfs.py open_in_root": CALLERS,
    "linux/rootfs.py open_without_magic_links": CALLERS,
    "keys/dropbearkey.py Dropbearkey.new_keys": AS_USER + "; /dev/shm is sticky, so that nobody else exchanges what "
    "the user makes there",
    "keys/dropbearkey.py Dropbearkey._execute": AS_USER,
    "keys/dropbearkey.py _in_fips_mode": KERNEL,
    "keys/dropbearkey.py _read_key": AS_USER,
    "fast_stdlib.py exists": CALLERS,
    "keys/store.py open_parent": AS_USER,
    "keys/writer.py removable": DESCRIPTOR,
    "keys/writer.py _contents": DESCRIPTOR,
    "keys/writer.py _leftovers": DESCRIPTOR,
    "keys/writer.py _remove_entry": DESCRIPTOR,
    "keys/writer.py _remove_empty_parents": AS_USER,
    "provision/hostfiles.py Launch.__init__": "it is beside the hook's own program, which the role verifies",
    "start/daemon.py _execute": "a name in the current directory, which is the checked one of Dropbear's programs",
    "start/enter.py _OpenMountedRoot.open_programs": SETTING,
    "start/from_enroot.py from_enroot": ENROOTS,
    "start/from_enroot.py _read_environment": ENROOTS,
    "start/from_process.py _Description._from_engine": AS_USER,
    "start/from_runtime.py create_runtime": BUNDLE,
    "start/server.py Programs.__init__": SETTING,
    "start/joined.py is_served": ENROOTS,
    "start/server.py _read_link": SETTING,
    "stop/poststop.py poststop": BUNDLE,
    "stop/orphans.py sweep": CHECKED,
}


def is_fixed(path: ast.expr) -> bool:
    """Tell whether no variable part of a path comes before a directory of /proc."""
    if isinstance(path, ast.JoinedStr):
        first = path.values[0]
        return isinstance(first, ast.Constant) and str(first.value).startswith("/proc/")
    return isinstance(path, ast.Constant)


def follows_path(call: ast.Call) -> bool:
    """Tell whether a call follows a path that no constant names, from the root directory."""
    function = call.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        is_meant = function.attr in {"os": OF_OS, "syscalls": OF_HOOK}.get(function.value.id, ())
    else:
        name = function.id if isinstance(function, ast.Name) else ""
        is_meant = name in OF_HOOK or len(call.args) < WITH_DIRECTORY.get(name, 0)
    is_relative = any(keyword.arg in ("dir_fd", "src_dir_fd") for keyword in call.keywords)
    return is_meant and not is_relative and bool(call.args) and not is_fixed(call.args[0])


def places(node: ast.AST, name: str = "") -> Iterator[str]:
    """Yield the names of the functions that follow such a path, and of their classes."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call) and follows_path(child):
            yield name
        inner = f"{name}.{child.name}".lstrip(".") if isinstance(child, (ast.FunctionDef, ast.ClassDef)) else name
        yield from places(child, inner)


def found() -> set[str]:
    """Return all such places of the hook."""
    files = [
        path for path in HOOK.rglob("*.py") if path.name in ROOTS_COMMANDS or not ROOMS_OF_COMMANDS & {*path.parents}
    ]
    parsed = ((path, ast.parse(path.read_text(encoding="utf-8"))) for path in files)
    return {f"{path.relative_to(HOOK)} {place}" for path, tree in parsed for place in places(tree)}


def main() -> int:
    """Print what is missing and what is left; the exit status is 0 where that is nothing."""
    now = found()
    for place in sorted(now - REASONS.keys()):
        print(f"{place} follows a path: say in {Path(__file__).name} what a user who owns a part of it can do")
    for place in sorted(REASONS.keys() - now):
        print(f"{place} follows no path any more: remove it from {Path(__file__).name}")
    return int(now != REASONS.keys())


if __name__ == "__main__":
    sys.exit(main())
