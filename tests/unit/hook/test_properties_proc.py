"""What the hook reads in /proc: names of a user's choice are in it, and must not look like lines or fields of the
kernel's.
"""

from __future__ import annotations

import os
import posix
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ssh_hook import fast_stdlib
from ssh_hook.errors import HookError
from ssh_hook.linux import cgroups as module
from ssh_hook.linux import mounts, syscalls

ENDS = "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"  # what Python takes for the end of a line, and the kernel does not
NAMES = st.text(st.sampled_from(f"a0:/. -#\\,{ENDS}\udcff"), min_size=1, max_size=12).filter(
    lambda name: "/" not in name and name not in (".", "..")
)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda names: "/" + "/".join(names))
INJECTED = "/user/x\x0c0::/system"


def escaped(text: str) -> str:
    """A field of mountinfo as the kernel writes it (mangle_path(), seq_escape())."""
    return "".join(f"\\{ord(character):03o}" if character in " \t\n\\#" else character for character in text)


class FakePosix:
    """The module posix, but opening one of `files` gives its content, and a path below `tree` notes it in `opened`."""

    def __init__(self, files: dict[str, str], tree: str) -> None:
        self.opened: list[str] = []
        self._files = files
        self._tree = tree

    def __getattr__(self, name: str) -> object:
        return getattr(posix, name)

    def open(self, path: str, flags: int, dir_fd: int | None = None) -> int:
        """open(2)."""
        if path in self._files:
            return memory(self._files[path])
        if path.startswith(self._tree):
            self.opened.append(path)
            return os.open("/", os.O_RDONLY)
        return os.open(path, flags, dir_fd=dir_fd)


def memory(text: str) -> int:
    """A descriptor of a file that holds `text`."""
    descriptor = os.memfd_create("proc")
    os.write(descriptor, os.fsencode(text))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


@contextmanager
def proc(mountinfo: list[str], cgroup: str, tree: str, controllers: str = "") -> Iterator[FakePosix]:
    """The module `cgroups` sees these mounts, and a process with this cgroup, of version 2 without `controllers`."""
    files = {
        "/proc/self/mountinfo": "".join(f"{line}\n" for line in mountinfo),
        "/proc/self/cgroup": f"0:{controllers}:/own\n",
        "cgroup": f"0:{controllers}:{cgroup}\n",
    }
    fake = FakePosix(files, tree)
    with mock.patch.object(module, "os", fake), mock.patch.object(fast_stdlib, "os", fake):
        yield fake


def start(cgroups: module.Cgroups) -> int:
    """Start a child in these cgroups, which are none. Returns its status."""
    with mock.patch.object(syscalls, "clone3_into_cgroup", lambda _directory: os.fork()):
        child = cgroups.fork()
        if child == 0:
            os._exit(0)
    return os.waitpid(child, 0)[1]


def mount_line(root: str, mount_point: str, kind: str, source: str = "x") -> str:
    """A line of mountinfo."""
    fields = (*map(escaped, (root, mount_point)), "rw,relatime", "shared:1", "-", kind, escaped(source), "rw")
    return " ".join(("36", "35", "0:31", *fields))


@given(PATHS, PATHS, NAMES)
@example(INJECTED, "/home/alice/a\x0cb", "g")
def test_a_cgroup_is_the_one_that_the_kernel_names(cgroup: str, fuse: str, hierarchy: str) -> None:
    """Whatever a user calls his cgroups and mount points."""
    tree = f"/sys/{hierarchy}"
    lines = [mount_line("/", fuse, "fuse"), mount_line("/", tree, "cgroup2"), mount_line(fuse, fuse, "tmpfs", fuse)]
    with proc(lines, cgroup, tree) as fake:
        assert start(module.Cgroups(-1, rootless=False)) == 0
    assert fake.opened == [os.path.join(tree, cgroup.lstrip("/"))]


def test_a_cgroup_of_version_1_is_entered_by_its_tasks() -> None:
    line = f"{mount_line('/', '/sys/cpu', 'cgroup')},cpu,cpuacct"
    with proc([line], "/job", "/sys/cpu", "cpu,cpuacct") as fake:
        cgroups = module.Cgroups(-1, rootless=False)
        assert start(cgroups) == 0
        assert fake.opened == []
        cgroups.open()
    assert fake.opened == ["/sys/cpu/job/tasks"]


def test_a_cgroup_that_cannot_be_opened_is_told() -> None:
    with proc([mount_line("/", "/nowhere", "cgroup2")], "/x\r", "/sys"), pytest.raises(HookError) as caught:
        module.Cgroups(-1, rootless=False)
    assert "cannot open the container's cgroup" in str(caught.value)


@given(st.lists(st.tuples(PATHS, NAMES, st.booleans()), min_size=1, max_size=4))
@example([("/a\rb", "a\rb c", True)])
def test_a_mount_is_the_one_that_the_kernel_lists(entries: list[tuple[str, str, bool]]) -> None:
    lines = []
    for number, (point, source, is_shared) in enumerate(entries):
        optional = "shared:7 " if is_shared else ""
        lines.append(f"{number} 0 0:{number} / {escaped(point)} rw {optional}- tmpfs {escaped(source)} rw\n")
    with mock.patch.object(fast_stdlib, "os", FakePosix({"/proc/self/mountinfo": "".join(lines)}, "/nowhere")):
        table = mounts.MountTable()
    for number, (_point, _source, is_shared) in enumerate(entries):
        with mock.patch.object(mounts, "mount_id", lambda _target, number=number: b"%d" % number):
            if is_shared:
                with pytest.raises(HookError, match="is on a shared mount"):
                    table.refuse_shared(-1, "/x")
            else:
                table.refuse_shared(-1, "/x")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_a_field_of_mountinfo_is_unescaped(text: str) -> None:
    assert mounts.unescape(escaped(text)) == text


def test_this_machines_own_mounts_are_read() -> None:
    command = ["findmnt", "--noheadings", "--output", "PROPAGATION", "/"]
    is_shared = subprocess.run(command, check=True, capture_output=True, text=True).stdout.startswith("shared")
    root = os.open("/", os.O_PATH)
    try:
        with pytest.raises(HookError) if is_shared else nullcontext():
            mounts.MountTable().refuse_shared(root, "/")
    finally:
        os.close(root)
