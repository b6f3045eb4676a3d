"""Files that real clients bring into containers and out of them: sftp, scp, rsync, git."""

from __future__ import annotations

import hashlib
import os
import random
import shlex
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import openssh
import pytest
from containers import ALICE, ENGINES, PORT, Container, Result, keys, run
from patience import within
from programs import add_programs
from starter import Start, Starter

# Containers of alice's on the node's network have the same port on different addresses.
HERE, THERE, ELSEWHERE = "127.0.0.1", "127.0.0.2", "127.0.0.3"
OTHER_PORT = 15300  # of containers that listen on all addresses, beside those

RSYNC_AND_GIT = ("/usr/bin/rsync", "/usr/bin/git", "/usr/bin/git-upload-pack", "/usr/bin/git-receive-pack")
OPENSSH = ("/usr/bin/ssh", "/usr/bin/scp", "/usr/bin/sftp")

NAMES = [
    b"plain",
    b"a  b",
    b"it's",
    b'"quoted"',
    b"$HOME `id` $(id)",
    b"* ? [a] {b,c}",
    b"back\\slash",
    b"semi;colon & more",
    b"-rf",
    b"~",
    b"#",
    b"\xc3\xa4\xff\xfe",
]
NEWLINE = b"two\nlines"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return openssh.convert(keys() / "id_dropbear", tmp_path_factory.mktemp("keys") / "id")


@pytest.fixture(scope="module", params=["debian", "busybox"])
def container(request: pytest.FixtureRequest) -> Iterator[Container]:
    """A container that is reached from the bed."""
    starter = Starter()
    yield starter("crun", request.param, settings={"LISTEN_ADDRESSES": HERE})
    starter.remove_all()


@pytest.fixture(scope="module")
def there(start_shared: Start) -> Container:
    """Another one, whose image has rsync and git, and no client of OpenSSH."""
    return start_shared(
        "crun",
        "debian",
        prepare=lambda root: add_programs(root, *RSYNC_AND_GIT),
        settings={"LISTEN_ADDRESSES": THERE},
    )


@pytest.fixture(scope="module")
def with_openssh(start_shared: Start) -> Container:
    """A third one, whose image has OpenSSH's clients as well."""
    return start_shared(
        "crun",
        "debian",
        prepare=lambda root: add_programs(root, *RSYNC_AND_GIT, *OPENSSH),
        settings={"LISTEN_ADDRESSES": ELSEWHERE},
    )


def sftp(key: Path, *lines: str, host: str = HERE) -> Result:
    """What sftp gives that is told these lines; it ends at the first that fails."""
    return run(
        [*openssh.copier("sftp", key, "-b", "-"), f"alice@{host}"], "".join(f"{line}\n" for line in lines).encode()
    )


def scp(key: Path, *arguments: str | bytes | Path, options: tuple[str, ...] = ()) -> Result:
    return run([*openssh.copier("scp", key, *options), "--", *arguments])


def remote(path: str | bytes, host: str = HERE) -> bytes:
    """`path` as scp names it there."""
    return f"alice@{host}:".encode() + os.fsencode(path)


def escaped(name: bytes) -> bytes:
    """`name` for what expands patterns."""
    return b"".join(b"\\" + bytes([byte]) if byte in b"*?[]\\{}" else bytes([byte]) for byte in name)


def fill(directory: Path) -> Path:
    """Put a file of each odd name into a new directory, with the name as its content."""
    directory.mkdir()
    for name in [*NAMES, NEWLINE]:
        (directory / os.fsdecode(name)).write_bytes(name)
    return directory


def contents(directory: Path) -> dict[bytes, bytes]:
    return {os.fsencode(path.name): path.read_bytes() for path in directory.iterdir()}


ALL = {name: name for name in [*NAMES, NEWLINE]}


def place(container: Container, name: str) -> Path:
    """A path in the container's /tmp, as the bed reaches it; nothing is there."""
    path = container.path("/tmp") / name
    run(["rm", "-rf", path]).checked()
    return path


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# sftp

ON_OTHER_PORT = {"com.hooks.ssh.port": str(OTHER_PORT)}


@pytest.mark.parametrize("engine", ENGINES)
def test_sftp_in_every_engine(start: Start, key: Path, tmp_path: Path, engine: str) -> None:
    container = start(engine, "busybox", annotations=ON_OTHER_PORT)
    data = os.urandom(300_000)
    (tmp_path / "a").write_bytes(data)
    user = container.exec("/bin/id", "-un").text if engine == "rootless" else "alice"
    batch = f"put {tmp_path}/a /tmp/a\nget /tmp/a {tmp_path}/b\n".encode()
    run([*openssh.copier("sftp", key, "-b", "-", port=OTHER_PORT), f"{user}@{HERE}"], batch).checked()
    assert (tmp_path / "b").read_bytes() == data
    assert (container.path("/tmp/a")).read_bytes() == data


def test_sftp_commands(container: Container, key: Path, tmp_path: Path) -> None:
    """What somebody types who looks around."""
    top = place(container, "sftp")
    (tmp_path / "file").write_bytes(b"content")
    said = sftp(
        key,
        "pwd",
        "mkdir /tmp/sftp",
        "cd /tmp/sftp",
        f"put {tmp_path}/file",
        "ls -l",
        "rename file moved",
        "chmod 640 moved",
        "ln moved hard",
        "symlink moved link",
        "cp moved copy",
        "df",
        f"get link {tmp_path}/back",
        "rm hard",
        "mkdir empty",
        "rmdir empty",
    ).checked()
    assert "Remote working directory: /home/alice" in said.text
    assert sorted(path.name for path in top.iterdir()) == ["copy", "link", "moved"]
    assert stat.S_IMODE((top / "moved").stat().st_mode) == 0o640
    assert os.readlink(top / "link") == "moved"
    assert (tmp_path / "back").read_bytes() == (top / "copy").read_bytes() == b"content"
    assert (top / "moved").stat().st_uid == ALICE


def test_sftp_odd_names(container: Container, key: Path, tmp_path: Path) -> None:
    source = fill(tmp_path / "source")
    top = place(container, "odd")
    sftp(key, f"put -r {source} /tmp/odd", f"get -r /tmp/odd {tmp_path}/back").checked()
    assert contents(top) == ALL
    assert contents(tmp_path / "back") == ALL


def test_sftp_resumes(container: Container, key: Path, tmp_path: Path) -> None:
    """Only what is missing is sent: what was there stays, even if it is something else."""
    data = os.urandom(3_000_000)
    part = b"x" * 1_000_000
    (tmp_path / "whole").write_bytes(data)
    (tmp_path / "back").write_bytes(part)
    there = place(container, "resumed")
    there.write_bytes(part)
    os.chown(there, ALICE, ALICE)
    sftp(key, f"reput {tmp_path}/whole /tmp/resumed").checked()
    assert there.read_bytes() == part + data[len(part) :]
    there.write_bytes(data)
    sftp(key, f"reget /tmp/resumed {tmp_path}/back").checked()
    assert (tmp_path / "back").read_bytes() == part + data[len(part) :]


def make_tree(top: Path) -> Path:
    """A directory with files of several modes and times, also ones that nobody may write."""
    (top / "sub" / "deep").mkdir(parents=True)
    (top / "empty").mkdir()
    for number, mode in enumerate((0o755, 0o644, 0o600, 0o444)):
        file = top / "sub" / f"file{number}"
        file.write_bytes(bytes([number]) * number * 1000)
        file.chmod(mode)
    (top / "sub" / "deep" / "file").write_bytes(b"deep")
    (top / "link").symlink_to("sub/file1")
    for number, path in enumerate(sorted(top.rglob("*"), reverse=True)):  # what is deeper first
        os.utime(path, (1_500_000_000, 1_600_000_000 + number), follow_symlinks=False)
    (top / "sub" / "deep").chmod(0o700)
    (top / "sub").chmod(0o751)
    os.utime(top, (1_500_000_000, 1_700_000_000))
    return top


def tree(top: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode, time and content of all below a directory, and its own; links count as what they lead to."""
    return {
        str(path.relative_to(top)): (
            stat.S_IMODE(path.stat().st_mode),
            int(path.stat().st_mtime),
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [top, *top.rglob("*")]
    }


def test_sftp_directories(container: Container, key: Path, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source")
    top = place(container, "tree")
    sftp(key, f"put -rp {source} /tmp/tree", f"get -rp /tmp/tree {tmp_path}/back").checked()
    (source / "link").unlink()  # sftp leaves links out
    os.utime(source, (1_500_000_000, 1_700_000_000))
    assert tree(top) == tree(source)
    assert tree(tmp_path / "back") == tree(source)


def long_run(command: list[str | bytes | Path]) -> None:
    subprocess.run(command, stdin=subprocess.DEVNULL, timeout=within(300), check=True)


def test_a_file_of_one_gibibyte(start: Start, key: Path, tmp_path: Path) -> None:
    """Into a container by sftp and out of it by scp; not in the container's /tmp, which is memory here."""
    size, block = 1 << 30, 1 << 20
    source, there, back = (Path("/home/alice") / name for name in ("source", "there", "back"))
    chance = random.Random(1)
    start("crun", "busybox", annotations=ON_OTHER_PORT)
    try:
        with source.open("wb") as file:  # with holes, and a megabyte of noise here and there
            for offset in range(0, size, 64 * block):
                file.seek(offset + chance.randrange(60 * block))
                file.write(chance.randbytes(block))
            file.truncate(size)
        wanted = digest(source)
        batch = tmp_path / "batch"
        batch.write_text(f"put {source} {there}\n")
        long_run([*openssh.copier("sftp", key, "-q", "-b", str(batch), port=OTHER_PORT), f"alice@{HERE}"])
        assert digest(there) == wanted
        source.unlink()
        long_run([*openssh.copier("scp", key, "-q", port=OTHER_PORT), remote(str(there)), back])
        assert digest(back) == wanted
    finally:
        for path in (source, there, back):
            path.unlink(missing_ok=True)


# scp

MODERN, OLD = (), ("-O",)
PROTOCOLS = pytest.mark.parametrize("protocol", [MODERN, OLD], ids=["sftp", "rcp"])

# What the old protocol, whose lines are names, makes of a name of two lines, here as with any server.
ALL_OLD = {name.replace(b"\n", b"\\^J"): name for name in ALL}


@PROTOCOLS
def test_scp_odd_names(container: Container, key: Path, tmp_path: Path, protocol: tuple[str, ...]) -> None:
    source = fill(tmp_path / "source")
    top = place(container, "odd")
    wanted = ALL_OLD if protocol == OLD else ALL
    scp(key, source, remote("/tmp/odd"), options=("-r", *protocol)).checked()
    assert contents(top) == wanted
    scp(key, remote("/tmp/odd"), tmp_path / "back", options=("-r", *protocol)).checked()
    assert contents(tmp_path / "back") == wanted


def test_scp_of_files_with_odd_names(container: Container, key: Path, tmp_path: Path) -> None:
    source = fill(tmp_path / "source")
    top = place(container, "odd")
    top.mkdir(mode=0o777)
    top.chmod(0o777)
    scp(key, *source.iterdir(), remote("/tmp/odd/")).checked()
    assert contents(top) == ALL
    (tmp_path / "back").mkdir()
    scp(key, *(remote(b"/tmp/odd/" + escaped(name)) for name in ALL), tmp_path / "back").checked()
    assert contents(tmp_path / "back") == ALL


@PROTOCOLS
def test_scp_directories(container: Container, key: Path, tmp_path: Path, protocol: tuple[str, ...]) -> None:
    source = make_tree(tmp_path / "source")
    top = place(container, "tree")
    scp(key, source, remote("/tmp/tree"), options=("-rp", *protocol)).checked()
    scp(key, remote("/tmp/tree"), tmp_path / "back", options=("-rp", *protocol)).checked()
    assert tree(top) == tree(source)
    assert tree(tmp_path / "back") == tree(source)


def test_what_the_user_may_not_do_fails(container: Container, key: Path, tmp_path: Path) -> None:
    secret = place(container, "secret")
    secret.write_bytes(b"root's")
    secret.chmod(0o600)
    (tmp_path / "file").write_bytes(b"content")
    for failed in (
        sftp(key, f"get /tmp/secret {tmp_path}/back"),
        scp(key, remote("/tmp/secret"), tmp_path / "back"),
        scp(key, remote("/tmp/secret"), tmp_path / "back", options=OLD),
        sftp(key, f"put {tmp_path}/file /tmp/secret"),
        scp(key, tmp_path / "file", remote("/tmp/secret")),
        scp(key, tmp_path / "file", remote("/tmp/secret"), options=OLD),
    ):
        assert failed.status == 1
        assert b"ermission denied" in failed.err
    assert secret.read_bytes() == b"root's"
    missing = scp(key, remote("/tmp/no such file"), tmp_path / "back")
    assert (missing.status, b"No such file" in missing.err) == (1, True)
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("by", [("-3",), ("-3", "-O")], ids=["sftp", "rcp"])
def test_scp_from_container_to_container_by_way_of_the_node(
    container: Container, there: Container, key: Path, by: tuple[str, ...]
) -> None:
    source, target = place(container, "source"), place(there, "target")
    source.write_bytes(os.urandom(300_000))
    scp(key, remote("/tmp/source"), remote("/tmp/target", THERE), options=by).checked()
    assert target.read_bytes() == source.read_bytes()


@PROTOCOLS
def test_scp_in_a_container_without_one(container: Container, there: Container, protocol: tuple[str, ...]) -> None:
    """To another container and back, and, started there, likewise."""
    fill(place(container, "source")).chmod(0o755)
    for name in ("target", "back"):
        place(container, name)
        place(there, name)
    wanted = ALL_OLD if protocol == OLD else ALL
    container.exec("scp", "-r", *protocol, "/tmp/source", f"{THERE}:/tmp/target").checked()
    container.exec("scp", "-r", *protocol, f"{THERE}:/tmp/target", "/tmp/back").checked()
    there.exec("scp", "-r", *protocol, f"{HERE}:/tmp/source", "/tmp/back").checked()
    for copy in (there.path("/tmp/target"), container.path("/tmp/back"), there.path("/tmp/back")):
        assert contents(copy) == wanted
    there.exec("scp", "-rp", *protocol, "/tmp/back", f"alice@{HERE}:/tmp/target").checked()
    assert contents(container.path("/tmp/target")) == wanted
    failed = container.exec("scp", *protocol, f"{THERE}:/tmp/missing", "/tmp/other")
    assert failed.status == 1
    assert b"No such file" in failed.err


def test_sftp_in_a_container_without_one(container: Container, there: Container) -> None:
    """A transfer that was broken off goes on, in both directions."""
    data = os.urandom(2_000_000)
    for name, content in (("whole", data), ("back", data[:1_000_000])):
        place(container, name).write_bytes(content)
        os.chown(container.path("/tmp") / name, ALICE, ALICE)
    target = place(there, "target")
    target.write_bytes(data[:500_000])
    os.chown(target, ALICE, ALICE)
    batch = b"reput /tmp/whole /tmp/target\nreget /tmp/target /tmp/back\n"
    container.exec("sftp", "-b", "-", THERE, stdin=batch).checked()
    assert target.read_bytes() == container.path("/tmp/back").read_bytes() == data


# An image that has clients of its own


@PROTOCOLS
def test_images_own_scp(with_openssh: Container, there: Container, protocol: tuple[str, ...]) -> None:
    fill(place(with_openssh, "source")).chmod(0o755)
    target, back = place(there, "target"), place(with_openssh, "back")
    wanted = ALL_OLD if protocol == OLD else ALL
    with_openssh.exec("scp", "-r", *protocol, "/tmp/source", f"{THERE}:/tmp/target").checked()
    with_openssh.exec("scp", "-rp", *protocol, f"alice@{THERE}:/tmp/target", "/tmp/back").checked()
    assert contents(target) == wanted
    assert contents(back) == wanted


def test_images_own_sftp(with_openssh: Container, there: Container) -> None:
    fill(place(with_openssh, "source")).chmod(0o755)
    target, back = place(there, "target"), place(with_openssh, "back")
    batch = b"put -r /tmp/source /tmp/target\nget -r /tmp/target /tmp/back\n"
    with_openssh.exec("sftp", "-b", "-", THERE, stdin=batch).checked()
    assert contents(target) == ALL
    assert contents(back) == ALL
    assert with_openssh.exec("sftp", "-b", "-", f"alice@{THERE}", stdin=b"get /tmp/missing /tmp/other\n").status == 1


# rsync and git


def by_ssh(key: Path) -> str:
    """The client as rsync's -e and GIT_SSH_COMMAND take it."""
    return shlex.join(openssh.client(key))


def test_rsync_from_the_node(there: Container, key: Path, tmp_path: Path) -> None:
    source = fill(make_tree(tmp_path / "tree") / "odd").parent
    top, back = place(there, "tree"), tmp_path / "back"
    rsync = ["rsync", "-rtpl", "-e", by_ssh(key)]
    run([*rsync, f"{source}/", remote("/tmp/tree", THERE)]).checked()
    run([*rsync, remote("/tmp/tree/", THERE), back]).checked()
    assert tree(top) == tree(back) == tree(source)
    assert contents(back / "odd") == ALL
    (top / "sub" / "file1").write_bytes(b"changed")
    changed = run([*rsync, "-i", "--delete", f"{source}/", remote("/tmp/tree", THERE)]).checked()
    assert [line.split()[1] for line in changed.text.splitlines() if line.startswith("<")] == ["sub/file1"]
    assert tree(top) == tree(source)


@pytest.mark.parametrize("is_bare", [True, False], ids=["image-without-openssh", "image-with-openssh"])
def test_rsync_between_containers(there: Container, with_openssh: Container, is_bare: bool) -> None:
    one, other, host = (there, with_openssh, ELSEWHERE) if is_bare else (with_openssh, there, THERE)
    fill(place(one, "source")).chmod(0o755)
    target, back = place(other, "target"), place(one, "back")
    one.exec("rsync", "-rt", "/tmp/source/", f"{host}:/tmp/target").checked()
    one.exec("rsync", "-rtz", f"alice@{host}:/tmp/target/", "/tmp/back").checked()
    assert contents(target) == contents(back) == ALL
    failed = one.exec("rsync", f"{host}:/tmp/missing", "/tmp/back")
    assert failed.status == 23
    assert b"No such file" in failed.err


AUTHOR = ("-c", "user.name=Alice", "-c", "user.email=alice@site.example", "-c", "init.defaultBranch=main")


def test_git_from_the_node(there: Container, key: Path, tmp_path: Path) -> None:
    place(there, "repository")
    there.exec("git", *AUTHOR, "init", "--quiet", "--bare", "/tmp/repository").checked()
    environment = {**os.environ, "GIT_SSH_COMMAND": by_ssh(key), "HOME": str(tmp_path)}

    def git(*arguments: str, inside: str = "work") -> Result:
        return run(["git", *AUTHOR, "-C", str(tmp_path / inside), *arguments], env=environment).checked()

    git("clone", "--quiet", f"alice@{THERE}:/tmp/repository", "work", inside="")
    (tmp_path / "work" / "file").write_bytes(os.urandom(1_000_000))
    git("add", "file")
    git("commit", "--quiet", "--message", "one")
    git("push", "--quiet", "origin", "main")
    git("clone", "--quiet", f"ssh://alice@{THERE}:{PORT}/tmp/repository", "again", inside="")
    assert (tmp_path / "again" / "file").read_bytes() == (tmp_path / "work" / "file").read_bytes()


@pytest.mark.parametrize("is_bare", [True, False], ids=["image-without-openssh", "image-with-openssh"])
def test_git_between_containers(there: Container, with_openssh: Container, is_bare: bool) -> None:
    one, other, host = (there, with_openssh, ELSEWHERE) if is_bare else (with_openssh, there, THERE)
    for name in ("work", "again"):
        place(one, name)
    place(other, "it's a repository")

    def git(*arguments: str) -> Result:
        return one.exec("git", *AUTHOR, "-C", "/tmp", *arguments).checked()

    other.exec("git", *AUTHOR, "init", "--quiet", "--bare", "/tmp/it's a repository").checked()
    git("clone", "--quiet", f"{host}:/tmp/it's a repository", "work")
    git("-C", "work", "commit", "--quiet", "--allow-empty", "--message", "one")
    git("-C", "work", "push", "--quiet", "origin", "main")
    git("clone", "--quiet", f"ssh://alice@{host}/tmp/it's a repository", "again")
    assert git("-C", "again", "log", "--format=%s").text == "one"
