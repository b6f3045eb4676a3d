"""Containers in the position in which enroot calls its hooks, without enroot: alice's, on the bed's network."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from containers import (
    ALICE,
    ALICES_DOORS,
    IMAGES,
    PATH,
    TIMEOUT,
    WORK,
    Container,
    Result,
    as_user,
    kept_records,
    new_name,
    run,
    wait_for,
)
from patience import within

LIB = Path(__file__).resolve().parent
HOOKS = "/etc/enroot/hooks.d"
SCRIPT = f"{HOOKS}/zz-ocihooks-ssh.sh"
STEPS = ("switch", "drop", "exec")


class Enroot(Container):
    """A container that has begun to start. Attributes: root, its root file system; process, the container's first."""

    def __init__(
        self,
        *,
        command: Sequence[str] = ("/bin/sleep", "1000"),
        env: Mapping[str, str] | None = None,
        requests: Mapping[str, str] | None = None,
        hold: Sequence[str] = (),
        mounts: str = "",
        prepare: Callable[[Path], None] | None = None,
        remap: bool = False,
        hooks: str = HOOKS,
        without_mounts: bool = False,
        filters: int = 0,
        beside: Enroot | None = None,
    ) -> None:
        """Start it with `env` and alice's `requests` of the hook; `hold` are the steps at which it stops.

        `prepare` gets the root file system, to change it; with `remap` alice is root in it. Its
        program has as many seccomp `filters` more than the one that enroot loads before its hooks. It has the root file
        system of `beside`, if there is one.
        """
        self.name = new_name()
        self._directory = WORK / self.name
        self.root: Path = self._directory / "rootfs" if beside is None else beside.root
        self._steps = self._directory / "steps"
        self._environment = {"PATH": PATH, "HOME": "/home/alice", **(env or {})}
        self._remap = remap
        self._namespace = ""
        self._doors: set[Path] = set()
        self._tasks: list[subprocess.Popen[bytes]] = []
        self._make_directories()
        if beside is None:
            self._make_root()
        if prepare is not None:
            prepare(self.root)
        for step in hold:
            (self._steps / f"hold-{step}").touch()
        lines = "\n".join(f"{name}={value}" for name, value in self._environment.items())
        asked = {"OCIHOOKS_SSH": "1"} if requests is None else requests
        variables = {"CONTAINER_ENV": lines, "MOUNTS": mounts, "STEPS": str(self._steps), "HOOKS": hooks, **asked}
        if without_mounts:
            variables["WITHOUT_MOUNTS"] = "1"
        variables["FILTERS"] = str(filters)
        mapping = ["--map-root-user"] if remap else ["--map-current-user", "--keep-caps"]
        self._errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            as_user(
                ALICE,
                *(f"{name}={value}" for name, value in variables.items()),
                *("unshare", "--user", *mapping, "--mount", "--propagation", "unchanged"),
                *("/usr/bin/python3", str(LIB / "enroot_filter.py")),
                *(str(LIB / "enroot_start.sh"), str(self.root), *command),
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
        )

    def _make_directories(self) -> None:
        """The directory of its steps, and that of enroot's runtime files."""
        self._steps.mkdir(parents=True)
        runtime = Path(f"/run/user/{ALICE}/enroot")
        runtime.mkdir(exist_ok=True)
        for directory in (self._steps, runtime):
            os.chown(directory, ALICE, ALICE)

    def _make_root(self) -> None:
        """A copy of busybox that is alice's, as enroot makes it."""
        self.root.mkdir()
        run(["cp", "-rT", (IMAGES / "busybox.rootfs").resolve(), self.root]).checked()
        (self.root / "home" / "alice").mkdir(parents=True, exist_ok=True)
        run(["chown", "-R", f"{ALICE}:{ALICE}", self.root]).checked()

    def go_on(self, step: str) -> None:
        """Let it go on from this step."""
        (self._steps / f"hold-{step}").unlink()

    def wait_at(self, step: str) -> None:
        """Wait until it is at this step."""
        wait_for(lambda: (self._steps / f"at-{step}").exists() or self.process.poll() is not None, f"step {step}")
        assert self.process.poll() is None, self.said()

    def wait_until_it_runs(self) -> Enroot:
        """Wait until its program runs."""
        self.wait_at("exec")
        wait_for(lambda: b"enroot_switch" not in self._command_line(), "the container's program")
        self._namespace = _user_namespace(self.process.pid)
        return self

    def _command_line(self) -> bytes:
        return Path(f"/proc/{self.process.pid}/cmdline").read_bytes()

    def said(self) -> str:
        """What its start wrote to standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def fails(self) -> str:
        """Wait until its start has failed; what it said."""
        assert self.process.wait(within(TIMEOUT)) != 0
        return self.said()

    def entered(self, *command: str) -> list[str]:
        """The command line that runs a command in it, as `enroot exec` does."""
        return as_user(
            ALICE,
            *("nsenter", "--user", "--mount", "--preserve-credentials", "--target", str(self.init())),
            *("env", "-i", *(f"{name}={value}" for name, value in self._environment.items()), *command),
        )

    def exec(self, *command: str | bytes, stdin: bytes = b"") -> Result:
        return run(self.entered(*(os.fsdecode(word) for word in command)), stdin)

    def wait_until_it_stops(self) -> None:
        """Wait until its program has stopped itself, as the one that pyxis starts does."""
        wait_for(lambda: Path(f"/proc/{self.init()}/stat").read_text().rpartition(")")[2].split()[0] == "T", "stop")

    def join(self, *command: str) -> subprocess.Popen[bytes]:
        """Join as a task of pyxis does (enroot_join.py); it executes `command` when its standard input is closed."""
        task = subprocess.Popen(
            as_user(ALICE, "/usr/bin/python3", str(LIB / "enroot_join.py"), str(self.init()), *command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._tasks.append(task)
        assert task.stdout is not None and task.stdout.readline() == b"joined\n"
        return task

    def exits(self) -> None:
        """Continue its first process, and wait until that has exited."""
        self.process.send_signal(signal.SIGCONT)
        assert self.process.wait(within(TIMEOUT)) == 0

    def init(self) -> int:
        return self.process.pid

    def end(self) -> None:
        """End its first process."""
        self._note_doors()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(within(TIMEOUT))

    def stop(self) -> Result:
        self.end()
        return Result(0, b"", b"")

    def _note_doors(self) -> None:
        """Note the doors of its daemon, which is in its user namespace."""
        self._namespace = self._namespace or _user_namespace(self.process.pid)
        for door in ALICES_DOORS.glob("*"):
            if self._namespace and _user_namespace(_daemon_of(door)) == self._namespace:
                self._doors.add(door)

    def remove(self) -> None:
        self._note_doors()
        if self.process.poll() is None:
            self.end()
        for task in self._tasks:
            with task:
                task.kill()
        self._errors.close()
        for door in self._doors:
            wait_for(partial(_is_left, door), "end of the daemon")
        for left in filter(_is_left, [*ALICES_DOORS.glob("*"), *kept_records()]):
            left.unlink()  # as alice's next start does
        for _attempt in range(100):  # the daemon is about to end
            shutil.rmtree(self._directory, ignore_errors=True)
            if not self._directory.exists():
                return
            time.sleep(0.05)
        raise AssertionError(f"{self._directory} cannot be removed")


def _daemon_of(door: Path) -> int:
    return int(door.name.partition("-")[0])


def _is_left(path: Path) -> bool:
    """Tell whether the daemon of a door or an entry has ended."""
    return not Path("/proc", str(_daemon_of(path))).exists()


def _user_namespace(pid: int) -> str:
    """Return what says which it is; empty where the process has ended."""
    try:
        return os.readlink(f"/proc/{pid}/ns/user")
    except OSError:
        return ""
