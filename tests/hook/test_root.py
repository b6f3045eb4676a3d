"""The hook finds the container's root directory by its mount: whoever owns what lies above it cannot have it elsewhere.

Bob owns the directories above the root file systems of alice's containers. He renames while the hook works: that is, in
hooks before and after ours, which run as he.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import openssh
import pytest
from changes import bind
from containers import (
    ALICE,
    BOB,
    ENABLED,
    IMAGES,
    PORT,
    SETTINGS,
    WORK,
    Engine,
    Plain,
    Result,
    as_user,
    hook_json,
    keys,
    new_name,
    plain_create,
    processes,
    run,
    wait_for,
)
from hook_log import Syslog
from refusals import assert_one_line

TOP = Path("/run/hook-root")
NODE = TOP / "node"  # a directory of the node's, in which a container could live
BOBS = TOP / "bob"
ROOTFS = BOBS / "image/rootfs"
SECRET = "secret of the node's root"
NOT_A_MOUNT = "root-not-a-mount"
REFUSED = "is no longer where its OCI runtime mounted it"


class Swap(NamedTuple):
    """What bob does before the hook and after it, in his directory. `volumes` of the container are sources and paths.

    `without` is a mount that he does it without, in a mount namespace of his own, since it is a mount point elsewhere.
    """

    before: str
    after: str
    volumes: tuple[tuple[Path, str], ...] = ()
    without: str = ""
    said: str = REFUSED


def link(target: str | Path, said: str = REFUSED) -> Swap:
    """Exchange the root file system for a link to `target`."""
    return Swap(f"mv image true; mkdir image; ln -s {target} image/rootfs", "rm -r image; mv true image", said=said)


ABOVE = Swap(
    f"mv image true; mkdir image; ln -s {BOBS} image/rootfs; ln -s true/rootfs/dev true/rootfs/bin .",
    "rm -r image dev bin; mv true image",
)
# The runtime's mount is at `image` then, and what was below it at `image/rootfs`.
_UP, _DOWN = "mv image/rootfs true; mv image old; mv true image", "mv image true; mv old image; mv true image/rootfs"
VOLUME = Swap(
    f"{_UP}; mv image/b/rootfs image/rootfs", f"mv image/rootfs image/b/rootfs; {_DOWN}", ((NODE, "/b/rootfs"),)
)
SWAPS = {
    "node-directory": link(NODE),
    "directory-above": ABOVE,
    "directory-below": Swap(
        f"{_UP}; mv image/below image/rootfs", f"mv image/rootfs image/below; {_DOWN}", ((Path("/dev"), "/below/dev"),)
    ),
    "volume": VOLUME,
    "volume-with-volumes": VOLUME._replace(volumes=((TOP, "/b"),)),
    "volume-on-a-volume": Swap(
        f"{_UP}; ln -s b/node image/rootfs", f"rm image/rootfs; {_DOWN}", ((TOP, "/b"), (NODE, "/b/node"))
    ),
    "mount-of-the-node": link("/home"),
    "inherited": Swap(
        "mv image true; mkdir image; mv inherited image/rootfs",
        "mv image/rootfs inherited; rmdir image; mv true image",
        without="inherited",
    ),
    "fuse": link("/proc/{pid}/root/run/hook-root/bob/fuse", "a link of procfs leads there"),
    "host": link("/", "is the host's own"),
}


@pytest.fixture
def tree(nothing_left: None) -> Iterator[Path]:
    """Bob's directory with an image's tree, in which one program is set-user-ID, and a directory of the node's."""
    TOP.mkdir(mode=0o755)
    for top in (NODE, ROOTFS):
        top.parent.mkdir(parents=True, exist_ok=True)
        run(["cp", "-rT", (IMAGES / "busybox.rootfs").resolve(), top]).checked()
    (NODE / "dev").mkdir(exist_ok=True)
    os.mknod(NODE / "dev/null", 0o20666, os.makedev(1, 3))
    for path in ("b/rootfs", "below/dev", "home/alice"):
        (ROOTFS / path).mkdir(parents=True, exist_ok=True)
    for name in ("fuse", "upper", "work", "inherited"):
        (BOBS / name).mkdir()
    run(["chown", "-R", f"{BOB}:{BOB}", BOBS]).checked()
    BOBS.chmod(0o777)
    reader = ROOTFS / "bin/reader"
    shutil.copy("/bin/busybox", reader)
    os.chown(reader, 0, 0)
    reader.chmod(0o4755)
    (NODE / "secret").write_text(SECRET, encoding="ascii")
    (NODE / "secret").chmod(0o600)
    yield ROOTFS
    run(["umount", "--no-canonicalize", BOBS / "inherited"])  # if it is mounted
    shutil.rmtree(TOP)


def content() -> set[str]:
    """All that is below bob's directory and the node's, but what a runtime makes in a root file system."""
    found = set()
    for top in (NODE, BOBS):
        for directory, names, files in os.walk(top):
            if Path(directory) in (ROOTFS, BOBS / "true/rootfs"):
                names[:] = []
                continue
            found |= {os.path.join(directory, name) for name in names + files}
    return found


def as_bob(swap: Swap, script: str) -> list[str]:
    """A command by which bob runs a script in his directory."""
    command = ["/usr/bin/setpriv", f"--reuid={BOB}", f"--regid={BOB}", "--clear-groups"]
    command += ["/bin/sh", "-euc", f"cd {BOBS}; {script}"]
    if swap.without:
        alone = f'umount {BOBS}/{swap.without} 2>/dev/null || umount {ROOTFS}; exec "$@"'  # wherever he has it now
        command = ["/usr/bin/unshare", "--mount", "--propagation=private", "/bin/sh", "-euc", alone, "sh", *command]
    return command


def restore(swap: Swap) -> None:
    """Undo what bob has done, unless he has: a hook that fails is the last one."""
    if any((BOBS / name).exists() for name in ("true", "old")):
        run(as_bob(swap, swap.after)).checked()


def hooks(swap: Swap, settings: dict[str, str], pid: int = 0) -> list[dict[str, Any]]:
    """The hooks of a start: bob's, ours, and bob's again."""
    scripts = (swap.before.format(pid=pid), swap.after)
    first, last = ({"path": command[0], "args": command} for command in (as_bob(swap, each) for each in scripts))
    return [first, hook_json(settings), last]


def create(
    runtime: str,
    swap: Swap,
    root: str | Path = ROOTFS,
    pid: int = 0,
    stage: str = "createRuntime",
    propagation: str = "",
) -> Plain:
    """Make alice's container with the root file system `root`, whose parents bob exchanges."""
    settings = {**SETTINGS, **({"JOIN_NAMESPACES": "false"} if stage == "createContainer" else {})}

    def change(config: dict[str, Any]) -> None:
        config["root"]["path"] = str(root)
        config["mounts"] += [bind(*volume) for volume in swap.volumes]
        config["hooks"][stage] = hooks(swap, settings, pid)
        if propagation:
            config["linux"]["rootfsPropagation"] = propagation

    return plain_create(runtime, "busybox", change=change, stage=stage)


def assert_says(container: Plain, started: Result, swap: Swap) -> None:
    """What the hook says of a start that it refused is one line, with the path of the root directory."""
    assert_one_line(container.failure(started).hook.rstrip("\n") + "\n", str(ROOTFS), swap.said, kind=NOT_A_MOUNT)


class Fuse:
    """A file system of bob's by FUSE, in his own user and mount namespaces. Attributes: pid, of his process there."""

    def __init__(self) -> None:
        layers = f"lowerdir={NODE},upperdir={BOBS}/upper,workdir={BOBS}/work"
        script = f"fuse-overlayfs -o {layers} {BOBS}/fuse && echo mounted && exec sleep 1000"
        command = as_user(BOB, "/bin/unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c", script)
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"mounted\n"
        self.pid = self._process.pid

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def read_secret(directory: Path) -> str:
    """What alice's session reads, as early as she can, by the set-user-ID program of the image."""
    key = directory / "key"
    openssh.convert(keys() / "id_dropbear", key)
    command = f"bin/reader cat {NODE}/secret node/secret ../node/secret /secret"
    return run([*openssh.client(key, port=PORT), "alice@127.0.0.1", command]).text


@pytest.mark.parametrize("runtime", ["crun", "runc"])
@pytest.mark.parametrize("name", SWAPS)
def test_exchanged_before_the_hook(tree: Path, syslog: Syslog, tmp_path: Path, runtime: str, name: str) -> None:
    swap = SWAPS[name]
    with ExitStack() as stack:
        pid = 0
        if name == "fuse":
            fuse = Fuse()
            stack.callback(fuse.close)
            pid = fuse.pid
        if swap.without:
            run(["mount", "--bind", NODE, BOBS / swap.without]).checked()
        before = content()
        container = create(runtime, swap, pid=pid)
        stack.callback(container.remove)
        started = container.start()
        read = read_secret(tmp_path) if started.status == 0 else ""
        restore(swap)
        assert (started.status, read) == (1, ""), "the hook worked in a directory that bob chose"
        assert_says(container, started, swap)
        assert content() == before


@pytest.mark.parametrize("runtime", ["crun", "runc"])
@pytest.mark.parametrize("name", ["node-directory", "directory-above", "inherited"])
def test_exchanged_at_create_container(tree: Path, syslog: Syslog, runtime: str, name: str) -> None:
    swap = SWAPS[name]
    with ExitStack() as stack:
        if swap.without:
            run(["mount", "--bind", NODE, BOBS / swap.without]).checked()
        container = create(runtime, swap, stage="createContainer")
        stack.callback(container.remove)
        started = container.start()
        restore(swap)
        assert started.status == 1
        assert_says(container, started, swap)


@pytest.mark.parametrize("name", ["directory-above", "volume", "mount-of-the-node"])
def test_rootless_container_below_another_users_directory(tree: Path, name: str) -> None:
    """The container is alice's own; bob only has a directory above it."""
    run(["chown", "-R", f"{ALICE}:{ALICE}", ROOTFS]).checked()
    swap = SWAPS[name]
    if name == "volume":  # bob may rename none of alice's directories but the topmost
        run(["chown", f"{BOB}:{BOB}", ROOTFS, ROOTFS / "b", ROOTFS / "b/rootfs"]).checked()
        run(["chmod", "777", ROOTFS, ROOTFS / "b", ROOTFS / "b/rootfs"]).checked()
    directory = WORK / new_name()
    directory.mkdir(mode=0o755)
    when = {"annotations": {f"^{key}$": f"^{value}$" for key, value in ENABLED.items()}}
    told = TOP / "told"
    told.mkdir(mode=0o777)
    told.chmod(0o777)
    made = hooks(swap, SETTINGS)
    made[0] = by_request(told / "before")
    made[2] = by_request(told / "after")
    for number, hook in enumerate(made):
        text = json.dumps({"version": "1.0.0", "hook": hook, "when": when, "stages": ["createRuntime"]})
        (directory / f"0{number}.json").write_text(text, encoding="ascii")
    container = new_name()
    command = [*Engine("rootless").podman, "--hooks-dir", str(directory), "run", "--detach", "--name", container]
    command += ["--network=host", "--annotation=com.hooks.ssh.enabled=true"]
    command += [f"--volume={source}:{path}" for source, path in swap.volumes]
    errors = WORK / f"{container}.errors"
    errors.touch()
    errors.chmod(0o666)
    command += [f"--annotation=run.oci.hooks.stderr={errors}", "--rootfs", str(ROOTFS), "/bin/sleep", "1000"]
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/run") as engine:
            serve_request(told / "before", as_bob(swap, swap.before), engine)
            serve_request(told / "after", as_bob(swap, swap.after), engine)
            _out, said = engine.communicate()
        assert engine.returncode == 126, said
        assert_one_line(errors.read_text(encoding="utf-8"), str(ROOTFS), swap.said, kind=NOT_A_MOUNT)
    finally:
        run([*Engine("rootless").podman, "rm", "-f", "-t0", "-i", container], cwd="/run").checked()
        restore(swap)
        errors.unlink()
        shutil.rmtree(directory)
        run(["chown", "-R", "root:root", TOP]).checked()


def by_request(path: Path) -> dict[str, Any]:
    """A hook that asks for something by a file, and waits until it is done."""
    script = f"cat >/dev/null; : >{path}; while [ -e {path} ]; do sleep 0.02; done"
    return {"path": "/bin/sh", "args": ["sh", "-c", script]}


def serve_request(path: Path, command: list[str], engine: subprocess.Popen[bytes]) -> None:
    """Run a command when a hook asks for it, unless the engine ends before."""
    wait_for(lambda: path.exists() or engine.poll() is not None, f"the hook {path.name}", 60)
    if path.exists():
        run(command).checked()
        path.unlink()


@pytest.mark.parametrize("options", [[], ["--no-pivot"]], ids=["pivot", "no-pivot"])
@pytest.mark.parametrize(("runtime", "name"), [("crun", "volume"), ("crun", "inherited"), ("runc", "volume")])
def test_exchanged_after_the_hook(tree: Path, runtime: str, name: str, options: list[str]) -> None:
    """The runtime takes the other mount for the root: Dropbear, which was set up in the first one, ends at its gate.

    runc needs a /proc there. runc 1.3.6 and 1.5 open the root directory before the hooks: they stay in it, or, with
    --no-pivot, fail.
    """
    swap = SWAPS[name]._replace(before="true", after=SWAPS[name].before)
    if runtime == "runc":
        swap = swap._replace(volumes=(*swap.volumes, (Path("/proc"), "/b/rootfs/proc")))
    with ExitStack() as stack:
        if swap.without:
            run(["mount", "--bind", NODE, BOBS / swap.without]).checked()
        stack.callback(lambda: restore(SWAPS[name]))
        container = create(runtime, swap)
        stack.callback(container.remove)
        started = container.start(*options)
        is_exchanged = started.status == 0 and container.path("/secret").exists()  # it has the directory of the node's
        assert is_exchanged or "TREE" in os.environ, started.err
        if started.status == 0 and not is_exchanged:
            assert container.exec("ssh", "127.0.0.1", "echo served").checked().text == "served"
        else:
            wait_for(lambda: not dropbears(), "end of Dropbear")


# Mounts a file system that never answers, in the mount namespace of the container's first process.
MUTE = f"""
import ctypes, json, os, sys, time
os.setns(os.open("/proc/" + str(json.load(sys.stdin)["pid"]) + "/ns/mnt", os.O_RDONLY), os.CLONE_NEWNS)
server = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={{server}},rootmode=40755,user_id=0,group_id=0,allow_other"
if ctypes.CDLL(None).mount(b"none", b"{BOBS}", b"fuse", 0, options.encode()):
    raise SystemExit("not mounted")
if os.fork() == 0:
    for descriptor in (0, 1, 2):
        os.dup2(os.open("/dev/null", os.O_RDWR), descriptor)
    open("{TOP}/mute", "w").write(str(os.getpid()))
    time.sleep(60)
"""


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_root_that_hangs(tree: Path, runtime: str) -> None:
    """It has a sentence of its own: nobody has renamed anything."""

    def change(config: dict[str, Any]) -> None:
        config["root"]["path"] = str(ROOTFS)
        hook = {"path": "/usr/bin/python3", "args": ["python3", "-ISB", "-c", MUTE]}
        config["hooks"]["createRuntime"].insert(0, hook)

    container = plain_create(runtime, "busybox", change=change)
    try:
        started = container.start()
        assert started.status == 1
        said = ("no answer within", "of the user's keys, the container's root directory, its home or another")
        assert_one_line(container.failure(started).hook.rstrip("\n") + "\n", *said, kind="home-hangs")
    finally:
        os.kill(int((TOP / "mute").read_text(encoding="ascii")), signal.SIGKILL)
        container.remove()


SHARED = TOP / "shared"
# The runtime's mount is at `true` then, and that of the volume /z at its place.
Z = Swap(f"{_UP}; mv image/z image/rootfs", f"mv image/rootfs image/z; {_DOWN}", ((NODE, "/z"),))
PROPAGATING = {  # what bob does, and the source of the volume on the shared one
    "volume": (Z, NODE),
    "copy": (link(SHARED / "w"), NODE),
    "copy-on-itself": (link(SHARED / "w"), SHARED / "w"),
}


@pytest.fixture
def shared(tree: Path) -> Iterator[Path]:
    """A shared mount, whose devices and those above it are those of the mount that bob's directory is on."""
    with ExitStack() as stack:
        for path in (SHARED, BOBS):
            path.mkdir(exist_ok=True)
            run(["mount", "--bind", path, path]).checked()
            stack.callback(run, ["umount", "-R", "-l", path])
        run(["mount", "--make-private", BOBS]).checked()
        run(["mount", "--make-shared", SHARED]).checked()
        (SHARED / "w").mkdir()
        (ROOTFS / "z").mkdir()
        yield SHARED


@pytest.mark.parametrize("runtime", ["crun", "runc"])
@pytest.mark.parametrize("name", PROPAGATING)
def test_volume_on_a_shared_volume(shared: Path, syslog: Syslog, runtime: str, name: str) -> None:
    """It is mounted on the node too, and comes back from there: newer than the runtime's, with the same devices."""
    swap, source = PROPAGATING[name]

    def change(config: dict[str, Any]) -> None:
        config["root"]["path"] = str(ROOTFS)
        config["linux"]["rootfsPropagation"] = "rshared"
        config["mounts"] += [bind(shared, "/v", "rshared", "rw"), bind(source, "/v/w", "rw")]
        config["mounts"] += [bind(*volume) for volume in swap.volumes]
        config["hooks"]["createRuntime"] = hooks(swap, SETTINGS)

    before = content()
    container = plain_create(runtime, "busybox", change=change)
    started = container.start()
    restore(swap)
    try:
        assert started.status == 1, "the hook worked in a directory that bob chose"
        assert_says(container, started, swap)
        assert content() == before
    finally:
        container.remove()


@pytest.mark.parametrize("runtime", ["crun", "runc"])
@pytest.mark.parametrize("name", ["none", "volume"])
def test_the_node_mounts_meanwhile(shared: Path, syslog: Syslog, runtime: str, name: str) -> None:
    """What the node mounts after the runtime has cloned its namespace neither hinders a start nor helps bob."""
    swap = Z._replace(before="true", after="true") if name == "none" else Z
    script = f"cat >/dev/null; mount --bind {NODE} {shared}/w; mount --bind {shared} {shared}"  # podman does the latter

    def change(config: dict[str, Any]) -> None:
        config["root"]["path"] = str(ROOTFS)
        config["mounts"] += [bind(*volume) for volume in swap.volumes]
        mounting = {"path": "/bin/sh", "args": ["sh", "-c", script]}
        config["hooks"]["createRuntime"] = [mounting, *hooks(swap, SETTINGS)]

    before = content()
    container = plain_create(runtime, "busybox", change=change)
    started = container.start()
    restore(swap)
    try:
        if name == "none":
            assert started.status == 0, container.failure(started).hook
            assert container.ssh("echo here").checked().text == "here"
        else:
            assert started.status == 1, "the hook worked in a directory that bob chose"
            assert_says(container, started, swap)
            assert content() == before
    finally:
        container.remove()


def dropbears() -> list[int]:
    """The processes of the hook, but for zombies: the container's first process reaps nobody."""
    found = []
    for pid in processes():
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended since it was listed
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
            if state != "Z":
                found.append(pid)
    return found


@pytest.mark.parametrize("runtime", ["crun", "runc"])
@pytest.mark.parametrize(
    ("propagation", "own"),
    [
        ("shared", ""),
        ("slave", ""),
        ("private", ""),
        ("shared", "rshared"),
        ("shared", "rslave"),
        ("shared", "unbindable"),
    ],
)
def test_root_on_a_mount_of_any_propagation(tree: Path, runtime: str, propagation: str, own: str) -> None:
    """systemd makes all mounts of a node shared; the runtime makes the one above its own private.

    `own` is what the container asks for. podman does for a volume that is shared or a slave.
    """
    run(["mount", "--bind", BOBS, BOBS]).checked()
    try:
        run(["mount", "--make-shared", BOBS]).checked()
        run(["mount", f"--make-{propagation}", BOBS]).checked()
        container = create(runtime, Swap("true", "true"), propagation=own)
        try:
            container.start().checked()
            assert container.ssh("echo here").checked().text == "here"
        finally:
            container.remove()
    finally:
        run(["umount", "-R", BOBS]).checked()


@pytest.mark.parametrize("options", [[], ["--no-pivot"]], ids=["pivot", "no-pivot"])
def test_root_below_a_link(tree: Path, options: list[str]) -> None:
    """As at a site where /home is a link to /nfs/home. runc refuses links itself."""
    (TOP / "link").symlink_to(BOBS / "image")
    container = create("crun", Swap("true", "true"), TOP / "link/rootfs")
    try:
        container.start(*options).checked()
        assert container.ssh("echo here").checked().text == "here"
    finally:
        container.remove()


@pytest.fixture
def alices_tree(nothing_left: None) -> Iterator[Path]:
    """An image's tree in alice's home, hers, and a link to the directory above it."""
    top = Path("/home/alice/trees")
    (top / "real").mkdir(parents=True)
    (top / "link").symlink_to("real")
    run(["cp", "-rT", (IMAGES / "busybox.rootfs").resolve(), top / "real/tree"]).checked()
    run(["chown", "-R", "--no-dereference", f"{ALICE}:{ALICE}", top]).checked()
    yield top
    shutil.rmtree(top)


@pytest.mark.parametrize(("runtime", "above"), [("crun", "real"), ("crun", "link"), ("runc", "real")])
@pytest.mark.parametrize("name", ["podman", "rootless"])
def test_podman_with_a_users_tree(alices_tree: Path, name: str, runtime: str, above: str) -> None:
    """runc refuses links itself."""
    engine = Engine(f"podman-{runtime}" if name == "podman" else name)
    if name == "rootless":
        engine.podman = as_user(ALICE, "podman", "--runtime", runtime)
    container = engine.start(str(alices_tree / above / "tree"))
    try:
        assert container.ssh("echo here").checked().text == "here"
        assert container.path("/").samefile(alices_tree / "real/tree")
    finally:
        container.remove()


def test_graph_root_below_a_link() -> None:
    storage = TOP / "storage"
    storage.mkdir(parents=True)
    (TOP / "link").symlink_to(storage)
    engine = Engine("podman-crun")
    engine.podman = [*engine.podman, "--root", str(TOP / "link/root"), "--runroot", str(TOP / "link/run")]
    try:
        tar = run(["tar", "-C", (IMAGES / "busybox.rootfs").resolve(), "-c", "."]).checked().out
        run([*engine.podman, "import", "--quiet", "-", "localhost/ssh-test/busybox"], tar).checked()
        container = engine.start("busybox")
        try:
            assert container.ssh("echo here").checked().text == "here"
        finally:
            container.remove()
    finally:
        run([*engine.podman, "system", "reset", "--force"])
        run(["umount", "-R", storage / "root/overlay"])
        shutil.rmtree(TOP)
