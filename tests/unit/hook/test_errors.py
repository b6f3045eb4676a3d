"""Kinds of errors: each is in the catalogue, has a remedy, can be provoked, and travels by itself."""

from __future__ import annotations

import ast
import errno
import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import ssh_hook
from ssh_hook import dispatch, errors
from ssh_hook.commands import connect
from ssh_hook.commands.attach import targets
from ssh_hook.confine import rlimits, seccomp
from ssh_hook.errors import HookError, describe_failure, kind_of, shorten
from ssh_hook.health.error_catalogue import CATALOGUE
from ssh_hook.keys import formats, store
from ssh_hook.keys.errors import KeyStoreError
from ssh_hook.linux import disposable_process, id_maps
from ssh_hook.linux.cgroups import Cgroups
from ssh_hook.linux.mounts import MountTable
from ssh_hook.linux.root_mount import open_root_mount
from ssh_hook.node import last_messages
from ssh_hook.node.caller import caller_entry
from ssh_hook.oci import json_reader, settings
from ssh_hook.oci.annotations import Annotations
from ssh_hook.oci.json_reader import Node

SOURCES = Path(ssh_hook.__file__).parent
TESTS = Path(__file__).resolve().parents[2]
MOST = 30


def no_space(*_arguments: object) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def in_a_child(work: Callable[[], object], timeout: float = 60) -> bytes:
    return disposable_process.run(lambda: str(work()).encode(), "cannot do it", None, timeout=timeout)


def hang() -> None:
    """Do not end before the deadline. The child is killed and left behind, so it is reaped here."""
    try:
        in_a_child(lambda: time.sleep(60), 0.5)
    finally:
        os.waitpid(-1, 0)


def ended() -> None:
    """Ask for the cgroups of a process that is gone."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    directory = os.open(f"/proc/{pid}", os.O_RDONLY)
    os.waitpid(pid, 0)
    try:
        Cgroups(directory, False)
    finally:
        os.close(directory)


def own_root() -> None:
    directory = os.open("/proc/self", os.O_RDONLY)
    try:
        open_root_mount("/", directory, None)
    finally:
        os.close(directory)


def shared_volume() -> None:
    MountTable(b"1 0 0:1 / / rw shared:1 - tmpfs none rw\n").refuse_shared(os.open("/", os.O_PATH), "/x")


def unsafe_key() -> None:
    store.check_owner(os.stat_result((0o100666, 0, 0, 1, os.geteuid(), 0, 0, 0, 0, 0)), "/x", 0o077)


# Of each kind that a container cannot be had to fail with, and of most others, what fails so.
PROVOKED: dict[str, Callable[[Path], object]] = {
    errors.ANNOTATION_WRONG: lambda _path: Annotations(Node({"com.hooks.ssh.hosts": "a,a"}, "it")),
    errors.ARGUMENTS_WRONG: lambda _path: dispatch.parse("status", ["--nonsense"]),
    errors.ATTACH_REFUSED: lambda _path: targets.RunningProcess(2**30),
    errors.CONFIG_WRONG: lambda _path: json_reader.parse(b"{", "config.json"),
    errors.CONFINEMENT_REFUSED: lambda _path: rlimits.limit("RLIMIT_NOTHING"),
    errors.CONTAINER_ENDED: lambda _path: ended(),
    errors.DISK_FULL: lambda _path: in_a_child(no_space),
    errors.HOME_HANGS: lambda _path: hang(),
    errors.INSTALL_DAMAGED: lambda _path: caller_entry({"PASSWD_FILE": "/no/such/file", "HOOK_BASE_DIR": "/home"}),
    errors.INTERNAL: lambda _path: in_a_child(lambda: 1 // 0),
    errors.KEYS_DAMAGED: lambda _path: formats.check_private_key(b"nonsense", "/x"),
    errors.KEYS_UNSAFE: lambda _path: unsafe_key(),
    errors.MOUNT_REFUSED: lambda _path: shared_volume(),
    errors.NO_CONTAINER: lambda _path: connect.choose([], None, None),
    errors.NO_KEYS: lambda path: store.load(str(path / "a/.oci-hooks/ssh/keys"), "a"),
    errors.NO_MEMORY: lambda _path: in_a_child(lambda: os.kill(os.getpid(), signal.SIGKILL)),
    errors.NOT_TRUSTED: lambda path: last_messages.read(str(path)),
    errors.ROOT_NOT_A_MOUNT: lambda _path: own_root(),
    errors.SECCOMP_UNKNOWN: lambda path: seccomp.make_filter(Node({"flags": ["NOTHING"]}, "seccomp"), str(path)),
    errors.SETTING_WRONG: lambda _path: settings.default_port({"SERVER_PORT_DEFAULT": "0"}),
    errors.SYSTEM: lambda _path: id_maps.read_map("/no/such/map"),
}


@pytest.mark.parametrize("kind", PROVOKED)
def test_what_fails_so(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises((HookError, KeyStoreError)) as failure:
        PROVOKED[kind](tmp_path)
    assert failure.value.kind == kind, failure.value
    assert kind_of(failure.value) == kind


@functools.cache
def texts_of(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


@pytest.mark.parametrize("kind", errors.KINDS)
def test_each_is_provoked(kind: str) -> None:
    """In a container, whose test names the kind, or here."""
    by_containers = [
        path.name for room in ("hook", "vm") for path in TESTS.glob(f"{room}/test_*.py") if kind in texts_of(path)
    ]
    assert by_containers or kind in PROVOKED


@pytest.mark.parametrize("kind", errors.KINDS)
def test_each_has_a_row_with_remedies(kind: str) -> None:
    entry = CATALOGUE[kind]
    assert entry.when and entry.user
    for text in (entry.when, entry.user, entry.admin):
        assert text == text.strip() and text[-1:] != "."


def test_there_are_few_and_no_others() -> None:
    assert set(CATALOGUE) == set(errors.KINDS)
    assert len(errors.KINDS) == len(set(errors.KINDS)) <= MOST
    assert all(kind.replace("-", "").isalpha() and kind.islower() for kind in errors.KINDS)


@functools.cache
def names_of(path: Path) -> set[str]:
    """The names that a module's code has; one in a comment or an import does not count."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return attributes | {node.id for node in nodes if isinstance(node, ast.Name)}


@pytest.mark.parametrize("kind", errors.KINDS)
def test_each_is_raised(kind: str) -> None:
    (name,) = [name for name, value in vars(errors).items() if value == kind]
    users = [
        path
        for path in SOURCES.rglob("*.py")
        if path.name not in ("errors.py", "error_catalogue.py") and name in names_of(path)
    ]
    assert users or kind in (errors.CONTAINER_ENDED, errors.INTERNAL), "it is a kind of no error"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ZeroDivisionError("x"), errors.INTERNAL),
        (MemoryError(), errors.NO_MEMORY),
        (PermissionError(errno.EACCES, "Permission denied"), errors.SYSTEM),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), errors.DISK_FULL),
        (OSError("without a number"), errors.INTERNAL),
        (errors.ContainerEndedError(), errors.CONTAINER_ENDED),
    ],
)
def test_any_exception_has_a_kind(error: Exception, kind: str) -> None:
    assert kind_of(error) == kind
    assert describe_failure(error)


def test_a_kind_that_a_users_process_made_up_is_none() -> None:
    """The user can be the child, and say anything."""

    def forge() -> NoReturn:
        raise HookError('x"} 1\n\x1b', "text")

    with pytest.raises(HookError, match="text") as failure:
        in_a_child(forge)
    assert failure.value.kind == errors.INTERNAL


@pytest.mark.parametrize(
    ("count", "end"), [(0, ""), (1, "h0"), (8, "h6, h7"), (9, "h7 and 1 more"), (20, "h7 and 12 more")]
)
def test_a_long_list_of_names_is_cut(count: int, end: str) -> None:
    shown = shorten([f"h{number}" for number in range(count)])
    assert shown.endswith(end)
    assert shown.count("h") == min(count, 8)
