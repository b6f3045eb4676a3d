"""Paths below a container's root directory, which others may rename."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from ssh_hook import fast_stdlib
from ssh_hook.errors import HookError, NotCreatedError
from ssh_hook.linux import rootfs, syscalls
from ssh_hook.linux.identity import Identity
from ssh_hook.linux.rootfs import Rootfs


def before_read(number: int, do: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do something right before a link of /proc is read for the nth time."""
    read, reads = fast_stdlib.os.readlink, 0

    def readlink(path: str) -> str:
        nonlocal reads
        reads += 1
        if reads == number:
            do()
        return read(path)

    monkeypatch.setattr(fast_stdlib.os, "readlink", readlink)


@pytest.mark.parametrize("link", [False, True])
def test_renamed_root_does_not_change_the_place_of_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: bool
) -> None:
    """By its place it is decided whether root may make a home there: not among an image's programs."""
    root, other = tmp_path / "image/rootfs", tmp_path / "other"
    (root / "usr/lib").mkdir(parents=True)
    if link:
        (root / "home").mkdir()
        (root / "home/x").symlink_to("..")

    def rename() -> None:
        (tmp_path / "image").rename(other)
        (root / "home").mkdir(parents=True)
        (other / "rootfs").rename(root / "home/x")

    container = Rootfs(os.open(root, os.O_PATH), Identity(os.getuid(), os.getgid()))
    directory = os.open(root / "usr/lib", os.O_PATH)
    try:
        assert container._place(directory) == "/usr/lib"
        assert container._place(container.descriptor) == ""
        before_read(2, rename, monkeypatch)
        with pytest.raises(HookError, match=r"^/home/x/usr/lib in the container was moved"):
            container._place(directory)
    finally:
        os.close(directory)
        os.close(container.descriptor)


def test_volume_that_shows_a_directory_is_not_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After such a rename it may be found in a volume that shows the image itself."""
    (tmp_path / "usr").mkdir()
    container = Rootfs(os.open(tmp_path, os.O_PATH), Identity(os.getuid(), os.getgid()))
    directory = os.open(tmp_path / "usr", os.O_PATH)
    monkeypatch.setattr(rootfs, "mount_id", lambda descriptor: b"1" if descriptor == directory else b"2")
    try:
        with pytest.raises(HookError, match=r"^/usr in the container was moved"):
            container._place(directory)
    finally:
        os.close(directory)
        os.close(container.descriptor)


SECRET = "of the node"


@pytest.fixture(name="image")
def fixture_image(tmp_path: Path) -> Iterator[Rootfs]:
    """The root directory of a container, beside a file of the node's."""
    (tmp_path / "secret").write_text(SECRET, encoding="utf-8")
    root = tmp_path / "image"
    (root / "etc").mkdir(parents=True)
    (root / "etc/file").write_text("of the image", encoding="utf-8")
    (root / "etc/relative").symlink_to("./file")
    (root / "etc/absolute").symlink_to("/etc/file")
    (root / "etc/node").symlink_to(f"{tmp_path}/secret")
    (root / "etc/above").symlink_to("../../../../etc/../secret")
    (root / "etc/loop").symlink_to("loop")
    (root / "etc/directory").symlink_to("/etc")
    os.mkfifo(root / "etc/fifo")
    container = Rootfs(os.open(root, os.O_PATH), Identity(os.getuid(), os.getgid()))
    yield container
    os.close(container.descriptor)


@pytest.fixture(name="resolve", params=["openat2", "walk"])
def fixture_resolve(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to resolve a path: the second is that of kernels before 5.6."""

    def openat2(*_arguments: object) -> int:
        raise OSError(errno.ENOSYS, "no such system call")

    if request.param == "walk":
        monkeypatch.setattr(syscalls, "openat2", openat2)


@pytest.mark.usefixtures("resolve")
@pytest.mark.parametrize(
    "path", ["/etc/file", "etc/file", "/etc/relative", "/etc/absolute", "/etc/directory/directory/file", "/../etc/file"]
)
def test_a_path_is_resolved_within_the_root(image: Rootfs, path: str) -> None:
    assert image.read(path, 100) == b"of the image"


@pytest.mark.usefixtures("resolve")
@pytest.mark.parametrize("path", ["/missing", "/etc/node", "/etc/above", "/../secret", "/etc/missing/file"])
def test_no_path_leads_out_of_the_root(image: Rootfs, path: str) -> None:
    assert image.read(path, 100) is None


@pytest.mark.usefixtures("resolve")
def test_links_that_never_end_and_last_ones_that_must_not_be_followed(image: Rootfs) -> None:
    with pytest.raises(HookError, match=r"^cannot read /etc/loop in the container: Too many levels of symbolic links$"):
        image.read("/etc/loop", 100)
    with pytest.raises(OSError, match="Too many levels"):
        image.open("/etc/absolute", os.O_RDONLY | os.O_NOFOLLOW)
    with pytest.raises(NotADirectoryError):
        image.open("/etc/file/x", os.O_PATH)


@pytest.mark.usefixtures("resolve")
@pytest.mark.parametrize("count", [40, 41])
def test_as_many_links_as_the_kernel_follows(image: Rootfs, tmp_path: Path, count: int) -> None:
    for number in range(count):
        (tmp_path / f"image/link{number}").symlink_to(f"link{number + 1}")
    (tmp_path / f"image/link{count}").write_bytes(b"the end")
    with pytest.raises(HookError, match="Too many levels") if count > 40 else nullcontext():
        assert image.read("/link0", len(b"the end")) == b"the end"


@pytest.mark.usefixtures("resolve")
def test_no_link_of_procfs_is_followed(image: Rootfs) -> None:
    root = os.open("/", os.O_PATH)
    try:
        for path in ("/proc/self/root/etc/passwd", f"/proc/{os.getpid()}/fd/{image.descriptor}"):
            with pytest.raises(OSError, match=r"symbolic link|may lead anywhere"):
                rootfs.open_in_root(root, path, os.O_PATH)
            with pytest.raises(OSError, match=r"symbolic link|may lead anywhere"):
                rootfs.open_without_magic_links(path, os.O_PATH)
        found = rootfs.open_without_magic_links(f"/proc/{os.getpid()}/status", os.O_RDONLY)
        assert os.read(found, 5) == b"Name:"
        os.close(found)
    finally:
        os.close(root)


@pytest.mark.usefixtures("resolve")
def test_no_descriptor_is_left_open(image: Rootfs) -> None:
    before = os.listdir("/proc/self/fd")
    for path in ("/etc/directory/../etc/absolute", "/etc/loop", "/etc/fifo", "/etc/missing/file"):
        with suppress(HookError):
            image.read(path, 100)
    os.close(image.file("/etc/file"))
    os.close(image.directory("/var/lib/new"))
    with suppress(HookError):
        image.file("/etc/directory")
    assert os.listdir("/proc/self/fd") == before


def test_kernel_is_asked_again_while_something_is_renamed(image: Rootfs, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [errno.EAGAIN, errno.EINTR, errno.EAGAIN]
    openat2: Any = syscalls.openat2

    def interrupted(*arguments: Any) -> int:
        if errors:
            raise OSError(errors.pop(), "renamed")
        descriptor: int = openat2(*arguments)
        return descriptor

    monkeypatch.setattr(syscalls, "openat2", interrupted)
    assert image.read("/etc/file", 100) == b"of the image"
    errors += [errno.EAGAIN] * 1000
    with pytest.raises(BlockingIOError):
        image.open("/etc/file", os.O_PATH)
    errors[:] = [errno.EACCES]
    with pytest.raises(OSError, match="renamed"):
        image.open("/etc/file", os.O_PATH)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/etc", "/etc in the container is not a regular file"),
        ("/etc/fifo", "/etc/fifo in the container is not a regular file"),
        ("/etc/file", "/etc/file in the container is larger than 11 bytes"),
    ],
)
def test_what_is_not_read(image: Rootfs, path: str, problem: str) -> None:
    with pytest.raises(HookError, match=f"^{problem}$"):
        image.read(path, len("of the image") - 1)


def deny_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the user create no directory, for tests that cannot be two users: root is who does not act as her."""
    acts_as_user = [False]
    mkdir = fast_stdlib.os.mkdir

    def checked_mkdir(name: str, mode: int, dir_fd: int) -> None:
        if acts_as_user[0]:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        mkdir(name, mode, dir_fd=dir_fd)

    @contextmanager
    def acting_as(_identity: Identity) -> Iterator[None]:
        acts_as_user[0] = True
        try:
            yield
        finally:
            acts_as_user[0] = False

    monkeypatch.setattr(rootfs, "ActingAs", acting_as)
    monkeypatch.setattr(fast_stdlib.os, "mkdir", checked_mkdir)


def test_what_the_user_may_create_is_hers_and_is_noted(image: Rootfs, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[tuple[str, str, str]] = []
    image.note = lambda kind, path, content: notes.append((kind, path, content))
    os.close(image.directory("/var/lib"))
    os.close(image.file("/var/lib/x"))
    os.close(image.file("/var/lib/x"))
    assert notes == [("entry", "/var", ""), ("entry", "/var/lib", ""), ("entry", "/var/lib/x", "")]
    with pytest.raises(HookError, match=r"^/etc in the container is not a regular file$"):
        image.file("/etc")
    with pytest.raises(HookError, match=r"^cannot open the directory /etc/file in the container: Not a directory$"):
        image.directory("/etc/file")
    with pytest.raises(HookError, match=r"cannot create /etc/\.\. in the container: the last part of the path is not"):
        image.user_directory(image.descriptor, "new", "/etc/..")
    monkeypatch.setattr(syscalls, "filesystem_type", lambda _parent: syscalls.PROC_SUPER_MAGIC)
    with pytest.raises(HookError, match=r"^cannot create /srv in the container: its file system belongs to the kernel"):
        image.directory("/srv")


@pytest.mark.parametrize("reason", ["none", "volume", "directory of the user", "not allowed"])
def test_root_creates_only_where_nobody_can_replace_it(
    image: Rootfs, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    """The root directory here belongs to who runs the test, so the container's user is another one."""
    deny_the_user(monkeypatch)
    monkeypatch.setattr(fast_stdlib.os, "chown", lambda _path, _uid, _gid: None)
    if reason != "directory of the user":
        image.user = Identity(os.getuid() + 1, os.getgid())
    if reason == "volume":
        monkeypatch.setattr(rootfs, "mount_id", lambda _descriptor: b"another")
    parent = os.open("etc", os.O_PATH, dir_fd=image.descriptor)
    try:
        if reason == "none":
            os.close(image.directory("/etc/new"))
        else:
            with pytest.raises(NotCreatedError, match=r"^cannot create /etc/new in the container: Permission denied$"):
                image.user_directory(parent, "new", "/etc/new", as_root=reason != "not allowed")
        assert ("new" in os.listdir(f"/proc/self/fd/{parent}")) == (reason == "none")
    finally:
        os.close(parent)


def test_a_directory_for_the_user_is_given_to_her(image: Rootfs, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, int]] = []
    deny_the_user(monkeypatch)
    monkeypatch.setattr(fast_stdlib.os, "chown", lambda _path, uid, gid: given.append((uid, gid)))
    image.user = Identity(os.getuid() + 1, os.getgid() + 1)
    with pytest.raises(HookError, match=r"^/home in the container is not a directory of its user \(uid \d+\)$"):
        image.make_user_directory("/home", lambda path: path == "/home")  # chown(2) did nothing here
    assert given == [(os.getuid() + 1, os.getgid() + 1)]
    with pytest.raises(NotCreatedError, match=r"^cannot create /srv in the container: Permission denied$"):
        image.make_user_directory("/srv/x", lambda path: path == "/srv")
    with pytest.raises(NotCreatedError, match=r"^cannot create /etc/directory/x in the container: Permission denied$"):
        image.make_user_directory("/etc/directory/x", lambda path: path.startswith("/etc/directory"))  # a link to /etc


def test_another_users_directory_or_link_is_not_the_users(image: Rootfs) -> None:
    os.close(image.user_directory(image.descriptor, "etc", "/etc"))
    image.user = Identity(os.getuid() + 1, os.getgid())
    before = os.listdir("/proc/self/fd")
    with pytest.raises(HookError, match=r"^/etc in the container is not a directory of its user"):
        image.user_directory(image.descriptor, "etc", "/etc")
    assert os.listdir("/proc/self/fd") == before
    parent = os.open("etc", os.O_PATH, dir_fd=image.descriptor)
    with pytest.raises(HookError, match=r"^cannot open /etc/directory in the container without following a link"):
        image.user_directory(parent, "directory", "/etc/directory")
    os.close(parent)


def test_pidfile_makes_directories_for_such_files_alone(image: Rootfs, monkeypatch: pytest.MonkeyPatch) -> None:
    os.close(image.pidfile("/run/x/sshd.pid"))
    deny_the_user(monkeypatch)
    image.user = Identity(os.getuid() + 1, os.getgid())
    with pytest.raises(NotCreatedError, match=r"^cannot create /srv in the container: Permission denied$"):
        image.pidfile("/srv/x/sshd.pid")
