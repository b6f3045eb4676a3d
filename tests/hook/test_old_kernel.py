"""Kernels that lack the newer system calls and flags: a filter answers as they do, to the hook and its daemon alone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import openssh
import pytest
from containers import Container, StartFailed, keys, processes, run, wait_for
from old_kernel import KERNELS, write_wrapper
from starter import Start

OPENAT2, FUTEX_WAITV = 437, 449  # system calls since Linux 5.6 and 5.16
# Prints the error number of each of these system calls, and of those with flags that the old kernel does not know.
PROBE = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for number in {numbers}:
    libc.syscall(number, -1, 0, 0, 0, 0, 0)
    print(ctypes.get_errno())
for number, argument, mask in {flags}:
    arguments = [mask if place == argument else 0 for place in range(6)]
    libc.syscall(number, *map(ctypes.c_ulong, arguments))
    print(ctypes.get_errno())
"""


@pytest.fixture
def wrapper(tmp_path: Path) -> str:
    return write_wrapper(tmp_path / "old_kernel")


def seccomp(pid: int) -> str:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(line.split()[1] for line in lines if line.startswith("Seccomp:"))


@pytest.mark.parametrize(("kernel", "answers"), [("4.18", [38, 38, 22]), ("5.14", [22, 38, 22, 22, 22, 22])])
def test_filter_is_in_force(tmp_path: Path, kernel: str, answers: list[int]) -> None:
    numbers, flags = [OPENAT2, FUTEX_WAITV], KERNELS[kernel].flags
    probe = ["/usr/bin/python3", "-I", "-c", PROBE.format(numbers=numbers, flags=flags)]
    wrapper = write_wrapper(tmp_path / "old_kernel", kernel)
    assert list(map(int, run([wrapper, "run", *probe]).checked().text.split())) == answers
    assert "38" not in run(probe).checked().text.split()


@pytest.mark.parametrize("engine", ["crun", "runc"])
def test_login_with_the_calls_of_el_9(start: Start, tmp_path: Path, engine: str) -> None:
    assert_works(start(engine, launcher=write_wrapper(tmp_path / "old_kernel", "5.14"), network="private"))


@pytest.mark.parametrize("image", ["debian", "busybox"])
@pytest.mark.parametrize("engine", ["crun", "runc"])
def test_login(start: Start, wrapper: str, engine: str, image: str) -> None:
    container = start(engine, image, launcher=wrapper, network="private")
    assert_works(container)
    container.stop().checked()
    wait_for(lambda: not processes(), "end of the daemon")


def assert_works(container: Container) -> None:
    assert container.ssh("cat; exit 3", stdin=b"\0x").out == b"\0x"
    assert container.ssh("exit 3").status == 3
    assert seccomp(container.daemon()) == "2"  # so the hook that started it was under the filter
    assert seccomp(container.init()) == "0"
    written = container.ssh("cat /proc/self/cgroup").checked().text
    assert sorted(written.splitlines()) == sorted(container.exec("cat", "/proc/1/cgroup").checked().text.splitlines())


def test_links_in_the_image(start: Start, wrapper: str) -> None:
    """The walk that stands in for openat2 follows links as that does."""

    def prepare(root: Path) -> None:
        (root / "usr/local/real/opt").mkdir(parents=True)
        (root / "opt").rmdir()
        (root / "opt").symlink_to("../../usr/local/./real/../real/opt")
        shutil.rmtree(root / "etc/profile.d")
        (root / "usr/local/profile.d").mkdir()
        (root / "etc/profile.d").symlink_to("/usr/local/profile.d")

    container = start("crun", launcher=wrapper, network="private", prepare=prepare)
    assert_works(container)
    assert container.exec("/usr/local/real/opt/oci-hooks/ssh/dropbear/bin/ssh", "-V").checked()


@pytest.mark.parametrize("target", ["/proc/1/root/opt", "/proc/self/cwd", "/proc/1/cwd"])
def test_link_out_of_the_container_is_refused(start: Start, wrapper: str, target: str) -> None:
    def prepare(root: Path) -> None:
        (root / "opt").rmdir()
        (root / "opt").symlink_to(target)

    with pytest.raises(StartFailed) as failure:
        start("crun", launcher=wrapper, network="private", prepare=prepare)
    assert "/opt" in failure.value.hook


def test_open_sessions_end_without_pidfd(start: Start, wrapper: str, tmp_path: Path) -> None:
    def change(config: dict[str, dict[str, list[dict[str, str]]]]) -> None:
        config["linux"]["namespaces"] = [e for e in config["linux"]["namespaces"] if e["type"] != "pid"]

    container = start("crun", launcher=wrapper, change=change)
    key = openssh.convert(keys() / "id_dropbear", tmp_path / "id")
    with subprocess.Popen(
        [*openssh.client(key), "alice@127.0.0.1", "echo $$; exec sleep 987655"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as client:
        assert client.stdout is not None
        session = Path("/proc") / client.stdout.readline().decode().strip()
        assert session.exists()
        container.stop().checked()
        wait_for(lambda: not processes() and not session.exists(), "end of daemon and session")
