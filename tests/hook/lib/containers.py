"""Real containers for the tests of the hook: podman with crun and runc, rootless podman, plain crun and runc."""

from __future__ import annotations

import json
import os
import re
import select
import socket
import struct
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from patience import within

ROOT = Path(__file__).resolve().parents[3]
IMAGES = ROOT / ".cache" / "images"
WORK = Path("/run/hook-test")
LAUNCHER = "/opt/oci-hooks/bin/ssh_hook"
PORT = 15263
RECORD = "ssh_hook.daemon"
SILENT = "silent"  # the name of a process that keeps readers of its files in /proc waiting (held.py)
COPIES = Path("/var/lib/ocihooks-ssh/daemons")  # of the records of root's containers
ALICES_COPIES = Path("/run/user/2001/ocihooks-ssh/daemons")
ENTRIES = Path("/run/ocihooks-ssh/entries")  # of root's containers, for their users
ALICES_ENTRIES = Path("/tmp/ocihooks-ssh-2001/daemons")
ALICES_DOORS = Path("/run/user/2001/ocihooks-ssh/doors")
RUNC_BUSY = re.compile(rb"could not ensure we are a cloned binary: Device or resource busy")
ATTEMPTS = 5  # to do what may fail on a busy machine
TIMEOUT = 60.0  # seconds, of an idle machine; nothing takes a tenth of it, unless it hangs
ENABLED = {"com.hooks.ssh.enabled": "true"}
SETTINGS = {
    "HOOK_BASE_DIR": "/home",
    "PASSWD_FILE": "/opt/oci-hooks/etc/passwd",
    "DROPBEAR_DIR": "/opt/oci-hooks/dropbear",
    "SERVER_PORT_DEFAULT": str(PORT),
}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ALICE = 2001
BOB = 2002
DOORS = ENTRIES / str(ALICE)  # of root's containers that are alice's; entries and messages are there too
# of linux/netlink.h, linux/sock_diag.h and net/tcp_states.h
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, _NLMSG_ERROR, _NLMSG_DONE = 4, 20, 0x301, 2, 3
_TCP_LISTEN = 10


class Result(NamedTuple):
    """What a command gave."""

    status: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        """Standard output, without its last newline."""
        return self.out.decode("utf-8", "surrogateescape").removesuffix("\n")

    def checked(self) -> Result:
        """This result, if the command succeeded; else AssertionError with what it said."""
        assert self.status == 0, f"exit status {self.status}: {self.err.decode(errors='replace')}{self.text}"
        return self


repeated: Counter[str] = Counter()  # how often something was tried again, by its reason


class StartFailed(Exception):
    """A container did not start; what the hook said is in `hook`, what the engine said in `engine`."""

    def __init__(self, status: int, hook: str, engine: str) -> None:
        super().__init__(f"exit status {status}; hook: {hook!r}; engine: {engine!r}")
        self.status = status
        self.hook = hook
        self.engine = engine


def run(
    command: Sequence[str | bytes | Path],
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    pass_fds: Sequence[int] = (),
) -> Result:
    """Run a command of this bed to its end."""
    # Files, not pipes: what the command leaves running may keep them open for ever.
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        source.write(stdin)
        source.seek(0)
        with subprocess.Popen(
            command, stdin=source, stdout=out, stderr=err, env=env, cwd=cwd, pass_fds=pass_fds
        ) as process:
            status = _wait(process)
        out.seek(0)
        err.seek(0)
        return Result(status, out.read(), err.read())


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Return the exit status of a command; kill one that does not end. Popen.wait() would notice an end 50 ms late."""
    descriptor = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        seconds = within(TIMEOUT)
        if not poll.poll(seconds * 1000):
            process.kill()
            raise subprocess.TimeoutExpired(process.args, seconds)
    finally:
        os.close(descriptor)
    return process.wait()


def as_user(uid: int, *command: str, name: str = "alice") -> list[str]:
    """A command that runs `command` as a user who has logged in."""
    environment = [
        f"HOME=/home/{name}",
        f"USER={name}",
        f"XDG_RUNTIME_DIR=/run/user/{uid}",
        "PATH=/usr/bin:/bin:/usr/sbin:/sbin",
        "PODMAN_IGNORE_CGROUPSV1_WARNING=1",
    ]
    return [
        "setpriv",
        f"--reuid={uid}",
        f"--regid={uid}",
        "--clear-groups",
        "env",
        "-i",
        "-C",
        "/",
        *environment,
        *command,
    ]


def wait_for(condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    """Poll until `condition` holds; AssertionError that names `what` when it does not come."""
    begin = time.monotonic()
    while not condition():
        waited = time.monotonic() - begin
        assert waited < within(seconds), f"{what}: not within {waited:.0f} s"
        time.sleep(0.01)


def repeat_while(pattern: re.Pattern[bytes], work: Callable[[], Result], reason: str) -> Result:
    """Do `work` again while its output matches `pattern`, at most ATTEMPTS times; return the last result.

    Each further attempt is counted by its reason.
    """
    for _number in range(ATTEMPTS - 1):
        result = work()
        if pattern.search(result.err + result.out) is None:
            return result
        repeated[reason] += 1
    return work()


# What a command of the hook's says where it could not look at all containers in time (health/unserved.py).
TOO_LATE = re.compile(rb"list your .* within [0-9]+ s|the time limit of [0-9]+ s was reached|processes .* in time: try")


def run_in_time(command: Sequence[str | bytes | Path], stdin: bytes = b"") -> Result:
    """Run a command of the hook's that looks at running containers, until its own seconds are enough for that."""
    return repeat_while(TOO_LATE, lambda: run(command, stdin), "commands that were late")


def wait_until_found() -> None:
    """Wait until commands of alice's find her SSH daemons in this bed: when their containers' own programs run.

    The engine may have ended a moment before.
    """
    found: dict[int, dict[str, str]] = {}
    for path in Path("/proc").glob("[0-9]*/status"):  # and no cmdline, which may hang
        with suppress(OSError):  # it has ended
            status = dict(line.split(":\t", 1) for line in path.read_text(encoding="utf-8").splitlines())
            if status["Name"] == "dropbear":
                found[int(path.parent.name)] = status
    for pid, status in found.items():
        is_child = int(status["PPid"]) in found  # a server or a connection, into which nobody looks
        if not is_child and status["Uid"].split()[0] == str(ALICE):
            wait_for(partial(_alice_sees, pid), f"daemon {pid}, which its user may look at")


def _alice_sees(pid: int) -> bool:
    look = as_user(ALICE, "stat", "--dereference", f"/proc/{pid}/ns/net")
    return run(look).status == 0 or not Path(f"/proc/{pid}").exists()


class Container:
    """A running container."""

    name: str

    def exec(self, *command: str | bytes, stdin: bytes = b"") -> Result:
        """Run a command in it, as its user and with its environment."""
        raise NotImplementedError

    def at_terminal(self, *command: str) -> list[str]:
        """The command line that runs a command in it at the caller's terminal."""
        raise NotImplementedError

    def init(self) -> int:
        """The pid of its first process in this bed."""
        raise NotImplementedError

    def bundle(self) -> Path:
        """The directory with its config.json."""
        raise NotImplementedError

    def stop(self) -> Result:
        """End it, so that poststop runs; what the engine said."""
        raise NotImplementedError

    def remove(self) -> None:
        """End it if it runs, and remove all that is left of it."""
        raise NotImplementedError

    def ssh(self, *arguments: str | bytes, stdin: bytes = b"", host: str = "127.0.0.1") -> Result:
        """`ssh HOST ARGUMENTS...`, from inside the container to its own daemon."""
        return self.exec("ssh", host, *arguments, stdin=stdin)

    def daemon(self) -> int:
        """The pid of its SSH daemon in this bed, by the record."""
        lines = (self.bundle() / RECORD).read_text(encoding="utf-8").splitlines()
        return int(next(line.removeprefix("pid=") for line in lines if line.startswith("pid=")))

    def path(self, path: str) -> Path:
        """A path in the container, as this bed reaches it."""
        return Path(f"/proc/{self.init()}/root{path}")


def assert_alive(container: Container, daemon: int) -> None:
    """The container runs, its SSH daemon is `daemon` still, and answers."""
    assert container.exec("true").status == 0
    assert container.daemon() == daemon
    assert container.ssh("echo here").checked().text == "here"


class HookErrors:
    """The file to which crun redirects the hook's stderr."""

    def __init__(self) -> None:
        WORK.mkdir(mode=0o755, exist_ok=True)
        descriptor, path = tempfile.mkstemp(dir=WORK, prefix="stderr-")
        os.fchmod(descriptor, 0o666)
        os.close(descriptor)
        self.path = Path(path)

    def take(self) -> str:
        """What the hook wrote; the file is gone then."""
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""
        self.path.unlink(missing_ok=True)
        return text


class Podman(Container):
    """A container of podman; rootless podman is alice's."""

    def __init__(self, engine: Engine, name: str, errors: HookErrors) -> None:
        self.name = name
        self._engine = engine
        self._errors = errors
        self._init = 0
        self._bundle = ""

    def podman(self, *arguments: str | bytes, stdin: bytes = b"") -> Result:
        """Run podman, as the user whose container it is."""
        # conmon, which it starts, writes a file `oom` into its directory
        return run([*self._engine.podman, *arguments], stdin, cwd="/run")

    def exec(self, *command: str | bytes, stdin: bytes = b"") -> Result:
        return self.podman("exec", "-i", self.name, *command, stdin=stdin)

    def at_terminal(self, *command: str) -> list[str]:
        return [*self._engine.podman, "exec", "-it", self.name, *command]

    def inspect(self, template: str) -> str:
        return self.podman("inspect", "--format", template, self.name).checked().text

    def init(self) -> int:
        if not self._init:
            self._init = int(self.inspect("{{.State.Pid}}"))
        return self._init

    def bundle(self) -> Path:
        if not self._bundle:
            self._bundle = self.inspect("{{.OCIConfigPath}}")
        return Path(self._bundle).parent

    def stop(self) -> Result:
        return self.podman("stop", "-t0", self.name)

    def remove(self) -> None:
        self._errors.take()
        self.podman("rm", "-f", "-t0", "-i", self.name).checked()


class Plain(Container):
    """A container of crun or runc without an engine around it; `root` is its root file system."""

    def __init__(self, runtime: str, name: str, directory: Path, errors: HookErrors) -> None:
        self.name = name
        self.directory = directory
        self.root = directory / "rootfs"
        self._runtime = runtime
        self._errors = errors

    def runtime(self, *arguments: str | bytes, stdin: bytes = b"") -> Result:
        """Run the runtime."""
        return unless_busy(lambda: run([self._runtime, *arguments], stdin))

    def start(self, *options: str, only_created: bool = False) -> Result:
        """Start it with these options of the runtime's command `run` or `create`; what the runtime said."""
        command = ["create"] if only_created else ["run", "--detach"]
        return self.runtime(*command, *options, "--bundle", str(self.directory), self.name)

    def failure(self, started: Result) -> StartFailed:
        """The error that tells of a start that failed."""
        return start_failed(started, self._errors)

    def exec(self, *command: str | bytes, stdin: bytes = b"") -> Result:
        return self.runtime("exec", self.name, *command, stdin=stdin)

    def at_terminal(self, *command: str) -> list[str]:
        return [self._runtime, "exec", "--tty", self.name, *command]

    def begin(self) -> None:
        """Let the process of a container run that was only created."""
        self.runtime("start", self.name).checked()

    def state(self) -> dict[str, Any]:
        """The runtime's state of the container."""
        state: dict[str, Any] = json.loads(self.runtime("state", self.name).checked().out)
        return state

    def init(self) -> int:
        return int(self.state()["pid"])

    def bundle(self) -> Path:
        return self.directory

    def stop(self) -> Result:
        return self.runtime("delete", "--force", self.name)

    def remove(self) -> None:
        if self.runtime("state", self.name).status == 0:
            self.runtime("delete", "--force", self.name).checked()
        self._errors.take()
        discard_bundle(self.directory)


class Engine:
    """What starts containers. `name` is podman-crun, podman-runc, rootless, crun or runc."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_podman = name in ("podman-crun", "podman-runc", "rootless")
        self.runtime = "runc" if name.endswith("runc") else "crun"
        own = ["podman", "--runtime", self.runtime]
        self.podman = as_user(ALICE, *own) if name == "rootless" else own

    def start(self, image: str = "debian", **options: Any) -> Container:
        """Start a container; see `podman_start` and `plain_start` for the options. Raises StartFailed."""
        return podman_start(self, image, **options) if self.is_podman else plain_start(self.runtime, image, **options)


ENGINES = ("podman-crun", "podman-runc", "rootless", "crun", "runc")


def new_name() -> str:
    return f"t-{os.urandom(4).hex()}"


def podman_start(
    engine: Engine,
    image: str,
    options: Iterable[str] = (),
    command: Sequence[str] = ("/bin/sleep", "1000"),
    env: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    hooks_dir: str | Path | None = None,
    user: str | None = None,
    network: str = "host",
    home: str = "/home/alice",
    name: str | None = None,
    enabled: bool = True,
) -> Podman:
    """`podman run --detach`, as alice with her home (rootless: as the container's root, with the image's), and ssh.

    `image` is one of the tests' images, or the absolute path of a root file system.
    Without `enabled`, the annotation that calls the hook is missing.
    """
    name = new_name() if name is None else name
    errors = HookErrors()
    arguments = ["--detach", "--name", name, "--network", network]
    if engine.name != "rootless":
        arguments += ["--user", f"{ALICE}:{ALICE}" if user is None else user]
        arguments += ["--volume", f"{home}:/home/alice", "--env", "HOME=/home/alice"]
    elif user is not None:
        arguments += ["--user", user]
    asked = ENABLED if enabled else {}
    for key, value in {**asked, "run.oci.hooks.stderr": str(errors.path), **(annotations or {})}.items():
        arguments += ["--annotation", f"{key}={value}"]
    for key, value in (env or {}).items():
        arguments += ["--env", f"{key}={value}"]
    container = Podman(engine, name, errors)
    global_options = ["--hooks-dir", str(hooks_dir)] if hooks_dir else []
    source = ["--rootfs", image] if image.startswith("/") else [f"localhost/ssh-test/{image}"]
    arguments += [*options, *source, *command]

    def start() -> Result:
        started = container.podman(*global_options, "run", *arguments)
        if started.status != 0:
            container.podman("rm", "-f", "-t0", "-i", name)
        return started

    started = unless_busy(start)
    if started.status != 0:
        raise start_failed(started, errors)
    return container


def unless_busy(work: Callable[[], Result]) -> Result:
    """Do `work`, again where runc itself failed before anything of the container ran; return the last result.

    runc runs a copy of itself that it has sealed in memory. The kernel refuses a seal while it uses a page of the copy
    itself, which a machine at work does now and then.
    """
    return repeat_while(RUNC_BUSY, work, "runc's seal")


def start_failed(started: Result, errors: HookErrors) -> StartFailed:
    """The error that tells of a start that failed, with what the hook said; runc puts that into its own error."""
    hook_said = errors.take() or hook_lines(started.err)
    return StartFailed(started.status, hook_said, started.err.decode(errors="replace"))


def hook_lines(text: bytes) -> str:
    """What the hook said, out of what runc says, which repeats it between quotes of its own."""
    decoded = text.decode(errors="replace")
    start = decoded.find("ssh_hook: ")
    if start < 0:
        return ""
    return decoded[start:].rstrip().removesuffix('"').replace("\\n", "\n")


def configuration() -> dict[str, Any]:
    """A config.json for alice's container, on the bed's network."""
    capabilities = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"]
    return {
        "ociVersion": "1.0.2",
        "hostname": "plain",
        "process": {
            "terminal": False,
            "user": {"uid": ALICE, "gid": ALICE},
            "args": ["/bin/sleep", "1000"],
            "env": [f"PATH={PATH}", "HOME=/home/alice"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": [], "permitted": [], "inheritable": []},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096}],
            "noNewPrivileges": False,
        },
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "mode=755", "size=64k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            },
            {
                "destination": "/home/alice",
                "type": "bind",
                "source": "/home/alice",
                "options": ["rbind", "rprivate", "rw"],
            },
        ],
        "annotations": {},
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]},
    }


def with_settings(changes: Mapping[str, str | None] | None) -> dict[str, str]:
    """The site's settings with these changes; None takes a setting away."""
    return {name: value for name, value in {**SETTINGS, **(changes or {})}.items() if value is not None}


def hook_json(settings: Mapping[str, str], launcher: str = LAUNCHER) -> dict[str, Any]:
    """The hook as config.json lists it, with the site's settings."""
    return {
        "path": launcher,
        "args": ["ssh_hook", "start-ssh-daemon"],
        "env": [f"{name}={value}" for name, value in settings.items()],
    }


def make_bundle(image: str, config: dict[str, Any], prepare: Callable[[Path], None] | None = None) -> Path:
    """A bundle with a throw-away layer over the image; `prepare` gets the root file system, to change it."""
    directory = WORK / new_name()
    for name in ("rootfs", "layer"):
        (directory / name).mkdir(parents=True)
    run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", directory / "layer"]).checked()
    for name in ("upper", "work"):
        (directory / "layer" / name).mkdir()
    lower = (IMAGES / f"{image}.rootfs").resolve()
    layers = f"lowerdir={lower},upperdir={directory}/layer/upper,workdir={directory}/layer/work"
    run(["mount", "-t", "overlay", "-o", layers, "overlay", directory / "rootfs"]).checked()
    if prepare is not None:
        prepare(directory / "rootfs")
    text = json.dumps(config, ensure_ascii=False)  # bytes that are no UTF-8 as such
    (directory / "config.json").write_bytes(os.fsencode(text))
    return directory


def discard_bundle(directory: Path) -> None:
    """Remove what `make_bundle` made; AssertionError if the hook's record is still in it."""
    left = [path.name for path in directory.glob(f"{RECORD}*")]
    run(["umount", directory / "rootfs"]).checked()
    run(["umount", directory / "layer"]).checked()
    run(["rm", "-rf", "--one-file-system", directory]).checked()
    assert not left, f"the hook left {left} in the bundle"


def plain_start(
    runtime: str, image: str, *, only_created: bool = False, options: Iterable[str] = (), **bundle: Any
) -> Plain:
    """Create and start a container of `image`; with `only_created` its own process waits for `begin`.

    `options` are the runtime's, `bundle` the arguments of `plain_create`.
    """
    container = plain_create(runtime, image, **bundle)
    started = container.start(*options, only_created=only_created)
    if started.status != 0:
        failure = container.failure(started)
        container.remove()
        raise failure
    return container


def plain_create(
    runtime: str,
    image: str,
    prepare: Callable[[Path], None] | None = None,
    change: Callable[[dict[str, Any]], None] | None = None,
    settings: Mapping[str, str | None] | None = None,
    annotations: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    launcher: str = LAUNCHER,
    stage: str = "createRuntime",
    network: str = "host",
) -> Plain:
    """Make the bundle of a container of `image`, which is to be started by its `start`.

    `prepare` changes its root file system, `change` its config.json; `settings` are added to the site's, or taken away
    where they are None; `network` is host or private.
    """
    errors = HookErrors()
    config = configuration()
    hook = hook_json(with_settings(settings), launcher)
    config["hooks"] = {stage: [hook], "poststop": [hook]}
    config["annotations"] = {**ENABLED, "run.oci.hooks.stderr": str(errors.path), **(annotations or {})}
    config["process"]["env"] += [f"{key}={value}" for key, value in (env or {}).items()]
    if network == "private":
        config["linux"]["namespaces"].append({"type": "network"})
    if change is not None:
        change(config)
    directory = make_bundle(image, config, prepare)
    return Plain(runtime, directory.name, directory, errors)


class Call(NamedTuple):
    """How the hook ended that a test called itself."""

    status: int
    out: str
    err: str


def call_hook(
    state: Mapping[str, Any] | bytes,
    settings: Mapping[str, str | None] | None = None,
    launcher: str = LAUNCHER,
    pass_fds: Sequence[int] = (),
) -> Call:
    """Call the hook as a runtime does, with `state` on its standard input."""
    data = state if isinstance(state, bytes) else json.dumps(state).encode()
    bundle = "/" if isinstance(state, bytes) else state.get("bundle", "/")
    cwd = bundle if os.path.isdir(str(bundle)) else "/"
    done = run([launcher, "start-ssh-daemon"], data, with_settings(settings), cwd, pass_fds)
    return Call(done.status, done.out.decode(errors="replace"), done.err.decode(errors="replace"))


def shell_around(path: Path, script: str) -> str:
    """Write a program that does what `script` says, in which `hook "$@"` is the hook; returns its path.

    It runs in the bundle, as the hook.
    """
    path.write_text(f'#!/bin/sh\nhook() {{ {LAUNCHER} "$@"; }}\n{script}\n', encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def after_login_of(uid: int) -> str:
    """A launcher of the hook, whose engine comes from a login of `uid`, as pam_loginuid(8) has it."""
    WORK.mkdir(exist_ok=True)
    return shell_around(WORK / f"login-{uid}", f'echo {uid} >/proc/self/loginuid && hook "$@"')


def keys(name: str = "alice") -> Path:
    """The directory of a user's keys."""
    return Path(f"/home/{name}/.oci-hooks/ssh/keys")


def listening() -> set[int]:
    """The TCP ports on which something listens in the bed's own network namespace."""
    return {port for family in (socket.AF_INET, socket.AF_INET6) for port in _listeners(family)}


def _listeners(family: int) -> Iterator[int]:
    """Ask the kernel for listeners alone, by sock_diag(7): /proc/net/tcp takes 5 ms for all connections."""
    request = struct.pack("=BBxxI48x", family, socket.IPPROTO_TCP, 1 << _TCP_LISTEN)
    header = struct.pack("=IHHII", 16 + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as netlink:
        netlink.sendall(header + request)
        while True:
            answer = netlink.recv(1 << 16)
            while answer:
                length, kind = struct.unpack_from("=IH", answer)
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR:  # the kernel lacks the module tcp_diag
                    yield from _listeners_of_proc("tcp6" if family == socket.AF_INET6 else "tcp")
                    return
                yield struct.unpack_from("!H", answer, 20)[0]  # struct inet_diag_msg, idiag_sport
                answer = answer[length + -length % 4 :]


def _listeners_of_proc(name: str) -> Iterator[int]:
    for line in Path("/proc/net", name).read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A":
            yield int(fields[1].rpartition(":")[2], 16)


def processes() -> dict[int, str]:
    """The hook's processes in the bed: daemons, sessions, clients, and the hook itself; with their names."""
    found = {}
    for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
        try:
            name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        is_other = name == SILENT or not is_client(pid)  # `is_client` would wait for a silent one
        if name.startswith(("dropbear", "ssh_hook")) or LAUNCHER.encode() in line or not is_other:
            found[pid] = name
    return found


def children(pid: int) -> list[int]:
    """The children of a process, the oldest first."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def is_alone(daemon: int) -> bool:
    """Tell whether the hook has no process but this daemon, and the one that accepts its connections."""
    found = list(processes())
    return len(found) == 2 and daemon in found


def is_client(pid: int) -> bool:
    """Tell whether a process runs the hook's ssh; not so a zombie, until the container's first process reaps it."""
    try:
        return Path(f"/proc/{pid}/exe").samefile(Path(SETTINGS["DROPBEAR_DIR"], "bin/ssh"))
    except OSError:
        return False


def running(*command: str, proc: str | Path = "/proc") -> set[str]:
    """The pids of the processes with just this command line, as the process file system at `proc` numbers them."""
    wanted = "".join(f"{word}\0" for word in command).encode()
    found = set()
    for path in Path(proc).glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == wanted:
                found.add(path.parent.name)
        except OSError:
            continue  # it ended meanwhile
    return found


def kept_records() -> list[Path]:
    """The entries of this bed's daemons outside of bundles; beds share /tmp, and have pid namespaces of their own."""
    own = f"\npid_namespace={os.stat('/proc/self/ns/pid').st_ino}\n"
    in_temporary = [path for path in ALICES_ENTRIES.glob("*") if own in _text(path)]
    return [*COPIES.glob("*"), *ALICES_COPIES.glob("*"), *in_temporary]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""  # another bed's, which has ended


def records() -> set[str]:
    """The hook's records, of daemons that run and of others; they are in no container's root file system."""
    places = [
        Path("/var/lib/containers/storage/overlay-containers"),
        Path("/home/alice/.local/share/containers/storage/overlay-containers"),
        WORK,
    ]
    copies = {str(path) for path in kept_records()}
    found = set()
    for place in places:
        for directory, names, files in os.walk(place):
            names[:] = [name for name in names if name not in ("rootfs", "layer")]  # of `make_bundle`
            found |= {os.path.join(directory, name) for name in (*names, *files) if name.startswith(RECORD)}
    return copies | found


def mounts() -> set[str]:
    """The hook's mounts in the bed's own mount namespace."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return {line for line in lines if "ocihooks-ssh" in line or "/opt/oci-hooks/dropbear" in line}


def text_of(path: Path) -> str:
    """Return the text of a file that root keeps for a user; empty if it is free."""
    return path.read_bytes().partition(b"\0")[0].decode()


def roots_doors() -> list[Path]:
    """Root's doors at which a daemon listens. The names of others are left to root's next sweep."""
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as sockets:
        paths = {Path(line.split()[-1]) for line in sockets if f" {ENTRIES}/" in line}
    return sorted(paths)


def is_gone(door: Path) -> bool:
    """Tell whether nobody listens at a door, whose name is gone unless it is root's."""
    return door not in roots_doors() if door.is_relative_to(ENTRIES) else not door.exists()


def traces() -> set[str]:
    """All that a hook may have left in the bed, in words."""
    return {
        *(f"process {pid} {name}" for pid, name in processes().items()),
        *(f"port {port}" for port in listening()),
        *(f"record {path}" for path in records()),
        *(f"mount {line}" for line in mounts()),
        *(f"door {path}" for path in [*roots_doors(), *ALICES_DOORS.glob("*")]),
        *(f"entry {path}" for path in ENTRIES.glob("*/[0-9j]*") if "-" not in path.name and text_of(path)),
    }
