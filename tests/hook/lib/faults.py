"""Makes a chosen system call of the hook fail, or kills a process at it, and tells what the hook leaves.

The hook runs under a filter that asks a supervisor about every call (seccomp_unotify(2)). So the very call that is
meant fails, in the very process that is meant, and nothing of the hook is changed for it.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from containers import (
    ALICE,
    COPIES,
    DOORS,
    ENABLED,
    ENTRIES,
    LAUNCHER,
    RECORD,
    SETTINGS,
    WORK,
    HookErrors,
    Plain,
    call_hook,
    configuration,
    discard_bundle,
    hook_json,
    keys,
    make_bundle,
    processes,
    run,
    traces,
    wait_for,
)
from patience import within
from recorded import age

# In the order in which they make their first calls.
ROLES = (
    "the hook",
    "the provisioner",
    "the forker of the daemon",
    "the daemon",
    "the writer of the pidfile",
)
DAEMON = ROLES.index("the daemon")
ERRORS = {"EIO": errno.EIO, "EPERM": errno.EPERM, "ENOSYS": errno.ENOSYS}
KILL = "SIGKILL"  # of the process that makes the call
KILL_CONTAINER = "SIGKILL of the container"  # of its first process
KILL_RUNTIME = "SIGKILL of the runtime"
_ALICES = WORK / "fault"
PIDFILE = _ALICES / "hook.pid"
PIDFILE_IN_CONTAINER = "layer/upper/tmp/hook.pid"
# They do not fail for a pipe, a descriptor of one's own, a child of one's own, and a time that is one.
_CERTAIN = ("close", "wait4", "clock_nanosleep")
# Memory is not what this is about; the others never return, or would hold up the sending of the listener.
_QUIET = "brk mmap munmap mremap madvise mprotect futex sendmsg exit exit_group rt_sigreturn restart_syscall".split()
_ORDERS = WORK / "fault.json"
_DATAGRAMS = "0002"  # SOCK_DGRAM, in /proc/net/unix
_REPORT = WORK / "fault-report.json"

# What the runtime starts as the hook: argv[0] is this, its arguments are the hook's.
_SUPERVISOR = f"""#!/usr/bin/python3 -IS
import array, ctypes, fcntl, json, os, select, signal, socket, struct, sys, time
RECEIVE, SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_*
CONTINUE = 1
orders = json.load(open({str(_ORDERS)!r}))
state = sys.stdin.buffer.read()


def run_hook(supervisor):
    load, jump, give, allow, notify = 0x20, 0x15, 0x06, 0x7FFF0000, 0x7FC00000
    quiet = orders["quiet"]
    program = [(load, 0, 0, 0)] + [(jump, len(quiet) - at, 0, number) for at, number in enumerate(quiet)]
    program += [(give, 0, 0, notify), (give, 0, 0, allow)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    message = array.array("i", [0])
    listener = ctypes.CDLL(None).syscall(orders["seccomp"], 1, 8, ctypes.byref(filter))  # FILTER_FLAG_NEW_LISTENER
    message[0] = listener
    supervisor.sendmsg([b"f"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, message)])
    supervisor.close()
    os.close(listener)
    reader, writer = os.pipe()
    os.write(writer, state)
    os.close(writer)
    os.dup2(reader, 0)
    os.execv({LAUNCHER!r}, sys.argv)


class Supervisor:
    def __init__(self, listener):
        self.listener, self.pids, self.calls, self.begun, self.hit = listener, [], [], False, False
        self.started = set()  # Dropbear's process and those that it has started
        self.alone = False  # nobody is left under the filter

    def answer(self):
        asked = bytearray(80)
        try:
            fcntl.ioctl(self.listener, RECEIVE, asked)
        except OSError:
            return  # who asked is gone
        number, pid, _flags, call, _arch, _at, first = struct.unpack_from("QIIiIQQ", asked)
        error, flags = self.decide(pid, call, first), CONTINUE
        try:
            fcntl.ioctl(self.listener, SEND, struct.pack("QqiI", number, 0, -error, 0 if error else CONTINUE))
        except OSError:
            pass

    def decide(self, pid, call, first):
        self.begun = self.begun or (call == orders["read"] and first == 0)  # the container's state: the hook's own work
        if not self.begun:
            return 0
        if [{DAEMON}, orders["execve"]] in self.calls and (
            pid == self.pids[{DAEMON}] or pid in self.started or parent(pid) in {{self.pids[{DAEMON}], *self.started}}
        ):
            self.started.add(pid)
            return 0  # Dropbear, and what it starts
        if pid not in self.pids:
            self.pids.append(pid)
        role = self.pids.index(pid)
        if role >= {len(ROLES)}:
            return 0
        self.calls.append([role, call])
        if [role, call] != orders["call"] or self.calls.count([role, call]) != orders["occurrence"]:
            return 0
        self.hit = True
        if orders["error"]:
            return orders["error"]
        init = json.loads(state)["pid"]
        os.kill({{{KILL_CONTAINER!r}: init, {KILL_RUNTIME!r}: os.getppid()}}.get(orders["how"], pid), signal.SIGKILL)
        if orders["how"] != {KILL!r}:
            self.await_end(init)
        return 0

    # A runtime that is killed takes the container along, which may last until the hook has reaped its child.
    def await_end(self, init):
        patience = time.monotonic() + 1
        while alive(init) and time.monotonic() < patience and (len(self.pids) == 1 or any(map(alive, self.pids[1:]))):
            time.sleep(0.001)

    def serve(self, until):
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        while not until():
            for _descriptor, event in poll.poll(20):
                if event & select.POLLIN:
                    self.answer()
                elif event & select.POLLHUP:
                    self.alone = True
                    time.sleep(0.001)  # who was last is about to end


def alive(pid):
    try:
        return open(f"/proc/{{pid}}/stat").read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def parent(pid):
    try:
        return int(open(f"/proc/{{pid}}/stat").read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


ours, theirs = socket.socketpair()
hook = os.fork()
if hook == 0:
    ours.close()
    run_hook(theirs)
theirs.close()
_data, ancillary, _flags, _address = ours.recvmsg(1, socket.CMSG_SPACE(4))
supervisor = Supervisor(struct.unpack("i", ancillary[0][2])[0])
supervisor.serve(lambda: not alive(hook))
status = os.waitstatus_to_exitcode(os.waitpid(hook, 0)[1])
patience = time.monotonic() + (orders["patience"] if status else 0)
supervisor.serve(lambda: time.monotonic() > patience or not any(map(alive, supervisor.pids)))
report = {{
    "init": json.loads(state)["pid"],
    "status": status,
    "hit": supervisor.hit,
    "calls": supervisor.calls,
    "alive": [supervisor.pids.index(pid) for pid in supervisor.pids if alive(pid)],
    "started": [pid for pid in supervisor.started if alive(pid)],
    "files": sorted(
        os.path.join(directory, name)
        for directory, _names, names in os.walk("layer/upper")
        for name in names
        if os.lstat(os.path.join(directory, name)).st_size
    ),
    "record": sorted(name for name in os.listdir(".") if name.startswith({RECORD!r})),
    "pidfile": os.path.exists({str(PIDFILE)!r}),
}}
with open({str(_REPORT)!r} + ".new", "w") as file:
    json.dump(report, file)
os.rename(file.name, {str(_REPORT)!r})
if os.fork() == 0:  # sessions are under the filter too
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    supervisor.serve(lambda: supervisor.alone)
    os._exit(0)
os._exit(1 if status else 0)
"""


class Call(NamedTuple):
    """The system call `name`, for the `occurrence`-th time (from 1) in the process ROLES[role]."""

    role: int
    name: str
    occurrence: int

    def __str__(self) -> str:
        return f"{self.name} no. {self.occurrence} of {ROLES[self.role]}"


class Outcome(NamedTuple):
    """How a start went in which a call failed.

    hit: the call was made; status: the hook's, negative for a signal; said: what it wrote to stderr; left: what it left
    at its end, in words; confinement: of the daemon, if that runs; calls: what calls were made.
    """

    hit: bool
    status: int
    said: str
    left: list[str]
    confinement: dict[str, str]
    calls: list[Call]

    def problem(self, good: Outcome, how: str) -> str:
        """What is wrong with it, in words, by the measure of a start in which nothing failed; "" for nothing.

        A hook that fails says so in one line and leaves nothing. One that is killed leaves what the container's end and
        poststop take away, and maybe an empty pidfile. And one that goes on starts a daemon that is confined all
        the same.
        """
        if not self.hit:
            return "the call was not made"
        if self.status == 0:
            found = self.confinement
            different = {name: found.get(name) for name, value in good.confinement.items() if found.get(name) != value}
            return f"the daemon has {different}, and not {good.confinement}" if different else ""
        left = [what for what in self.left if how != KILL or what not in (PIDFILE_IN_CONTAINER, str(PIDFILE))]
        if self.status < 0:
            files = [what for what in left if what.startswith("layer/")]
            return f"left {files}" if files else ""
        is_line = self.said.startswith("ssh_hook: error: ") and self.said[:-1].isprintable() and self.said[-1] == "\n"
        if not is_line or "Traceback" in self.said:
            return f"said {self.said!r}"
        return f"left {left}" if left else ""


@functools.cache
def _libseccomp() -> ctypes.CDLL:
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_syscall_resolve_num_arch.restype = ctypes.c_char_p
    return library


@functools.cache
def _number(name: str) -> int:
    return int(_libseccomp().seccomp_syscall_resolve_name(name.encode()))


@functools.cache
def _name(number: int) -> str:
    named = _libseccomp().seccomp_syscall_resolve_num_arch(_libseccomp().seccomp_arch_native(), number)
    return str(number) if named is None else named.decode()


def _numbered(calls: list[list[int]]) -> list[Call]:
    seen: dict[tuple[int, int], int] = {}
    found = []
    for role, number in calls:
        seen[role, number] = seen.get((role, number), 0) + 1
        found.append(Call(role, _name(number), seen[role, number]))
    return found


def may_fail(call: Call) -> bool:
    """Whether there is any way in which the kernel refuses it."""
    goes_back = call.name == "setresuid" and call.role == 0 and call.occurrence % 2 == 0  # to an id that it kept
    return call.name not in _CERTAIN and not goes_back


def _server(daemon: int) -> int:
    """The process that listens: where logins are logged, the child of the daemon's."""
    children = Path(f"/proc/{daemon}/task/{daemon}/children").read_text(encoding="ascii").split()
    return int(children[0]) if children else daemon


def _serves(pid: int) -> bool:
    """Whether the server has let go of what it has at its gate: stat of the first process, its mount tables, a pipe."""
    try:
        names = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
    except FileNotFoundError:
        return False  # one was just closed
    return not any(name.endswith(("/stat", "/mountinfo")) or name.startswith("pipe:") for name in names)


def _confinement(pid: int) -> dict[str, str]:
    """All that tells what the process may do."""
    directory = Path(f"/proc/{pid}")
    found = {}
    for line in (directory / "status").read_text(encoding="ascii").splitlines():
        name, _colon, value = line.partition(":")
        if name.startswith(("Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Seccomp", "Umask", "Sig", "Shd")):
            found[name] = value.strip()
    del found["SigQ"]
    for name in ("limits", "oom_score_adj", "environ", "cgroup"):
        # the container's name is in its cgroup's
        text = (directory / name).read_bytes()
        found[name] = text.decode("utf-8", "replace") if name != "cgroup" else str(_is_in_cgroup_of_init(pid))
    found["root"] = str(os.stat(directory / "root").st_ino == os.stat(f"/proc/{_init(pid)}/root").st_ino)
    for kind in ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts"):
        ours, theirs = (os.readlink(f"/proc/{one}/ns/{kind}") for one in (pid, _init(pid)))
        found[f"ns/{kind}"] = str(ours == theirs)
    # A daemon without a door, where that cannot be made, has its port; one without a log of logins serves as well.
    lines = [line.split() for line in Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace").splitlines()]
    others = {f"socket:[{line[6]}]" for line in lines if str(DOORS) in line[-1] or line[4] == _DATAGRAMS}
    opened = [os.readlink(path) for path in (directory / "fd").iterdir()]
    others |= {target for target in opened if target.startswith("/memfd:") or target == "/"}
    found["fds"] = str(sorted(target.split(":")[0] for target in opened if target not in others))
    return found


def _init(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[1])  # the daemon falls to its container's first process


def _is_in_cgroup_of_init(pid: int) -> bool:
    ours, theirs = (Path(f"/proc/{one}/cgroup").read_bytes() for one in (pid, _init(pid)))
    return ours == theirs


def _configuration(launcher: Path, errors: HookErrors) -> dict[str, Any]:
    """A container that asks for all that the hook offers."""
    config = configuration()
    config["hooks"] = {"createRuntime": [hook_json(SETTINGS, str(launcher))]}
    config["process"].update(noNewPrivileges=True, oomScoreAdj=100)
    config["process"]["user"].update(umask=0o027, additionalGids=[7, 2777])
    _ALICES.mkdir(exist_ok=True)
    public = _ALICES / "key.pub"
    public.write_bytes((keys() / "authorized_keys").read_bytes())
    for path in (_ALICES, public):
        os.chown(path, ALICE, ALICE)
    config["annotations"] = {
        **ENABLED,
        "run.oci.hooks.stderr": str(errors.path),
        "com.hooks.ssh.pidfile_host": str(PIDFILE),
        "com.hooks.ssh.pidfile_container": "/tmp/hook.pid",
        "com.hooks.ssh.authorize_ssh_key": str(public),
    }
    return config


def _sweep() -> None:
    age()
    run([LAUNCHER, "sweep"]).checked()


def start_hitting(call: Call, how: str, change: Callable[[dict[str, Any]], None] | None = None) -> Outcome:
    """As `start`, but where the hook does not make the call, it is the last one of this kind that it does make: it
    waits by asking again, now more often and now less.
    """
    outcome = start(call, how, change)
    while not outcome.hit and (last := [made for made in outcome.calls if made[:2] == call[:2]]):
        outcome = start(last[-1], how, change)
    return outcome


def start(call: Call | None, how: str, change: Callable[[dict[str, Any]], None] | None = None) -> Outcome:
    """Start a container in which `call`, if there is one, fails as `how` says (a key of ERRORS, or KILL...); then end
    it. `change` changes its config.json.

    AssertionError where anything of the hook stays for good.
    """
    errors = HookErrors()
    launcher = WORK / "faulty"
    launcher.write_text(_SUPERVISOR, encoding="utf-8")
    launcher.chmod(0o755)
    orders: dict[str, Any] = {name: _number(name) for name in ("seccomp", "read", "execve")}
    orders.update(quiet=[_number(name) for name in _QUIET if _number(name) >= 0], error=ERRORS.get(how, 0))
    orders["call"] = [call.role, _number(call.name)] if call else []
    orders.update(occurrence=call.occurrence if call else 0, how=how, patience=within(2))
    _REPORT.unlink(missing_ok=True)
    _ORDERS.write_text(json.dumps(orders), encoding="ascii")
    PIDFILE.unlink(missing_ok=True)
    for directory in (COPIES.parent, ENTRIES):
        shutil.rmtree(directory, ignore_errors=True)  # so that each start makes the same calls
    config = _configuration(launcher, errors)
    if change is not None:
        change(config)
    directory = make_bundle("busybox", config)
    container = Plain("crun", directory.name, directory, errors)
    confinement: dict[str, str] = {}
    try:
        run_status = container.runtime("run", "--detach", "--bundle", str(directory), container.name).status
        wait_for(_REPORT.exists, "end of the hook")  # which a killed runtime does not await
        report = json.loads(_REPORT.read_text(encoding="utf-8"))
        how = how if report["hit"] else ""
        if run_status == 0 and how not in (KILL_CONTAINER, KILL_RUNTIME):
            server = _server(container.daemon())
            wait_for(lambda: _serves(server), "an open gate")
            confinement = _confinement(server)
            # Sessions are under the filter too, and a signal interrupts their calls while the supervisor is asked: also
            # calls that nothing interrupts otherwise, after which Dropbear gives up.
            wait_for(lambda: container.exec("ssh", "127.0.0.1", "true").status == 0, "a session")
            container.stop().checked()
        if how == KILL_RUNTIME:  # nobody is left to call poststop
            wait_for(lambda: not Path(f"/proc/{report['init']}").exists(), "end of the container")
            _sweep()
        if how == KILL_CONTAINER:
            call_hook({"status": "stopped", "bundle": str(directory)})
        wait_for(lambda: not processes(), "end of all processes of a container that is gone")
    finally:
        container.runtime("delete", "--force", container.name)
        if how != KILL_RUNTIME:
            call_hook({"status": "stopped", "bundle": str(directory)})
        if how == KILL:  # the hook may have been about to write the record that poststop reads
            _sweep()
        said = errors.take()
        discard_bundle(directory)
    wait_for(lambda: not traces(), "end of all that the hook left")
    assert not PIDFILE.exists() or not PIDFILE.stat().st_size, "poststop left a pidfile"
    left = [ROLES[role] for role in report["alive"]] + report["files"] + report["record"]
    left += ["the daemon's server"] if len(report["started"]) > 1 else []
    left += [str(PIDFILE)] if report["pidfile"] else []
    return Outcome(report["hit"], report["status"], said, left, confinement, _numbered(report["calls"]))
