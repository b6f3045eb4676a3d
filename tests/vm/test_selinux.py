"""SELinux in enforcing mode: a session is confined as the container's first process is, and what the hook mounts is the
container's. The policy is selinux.cil.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from containers import PORT, SETTINGS, WORK, StartFailed, listening, new_name, shell_around
from hook_log import Syslog
from labels import (
    RUNTIMES,
    assert_all_labelled,
    assert_attached,
    assert_lands_by_door,
    assert_logged,
    attached_to,
    label,
    take_on,
)
from refusals import assert_one_line
from starter import Start

HOST = "system_u:system_r:host_t:s0-s0:c0.c2"
PROCESS = "system_u:system_r:box_t:s0:c0,c2"
CAGED = "system_u:system_r:cage_t:s0:c0,c2"
MOUNT = "system_u:object_r:box_file_t:s0:c0,c2"
UNKNOWN = "system_u:object_r:unknown_t:s0"
XATTR = "security.selinux"
ROOT = Path(__file__).resolve().parents[2]


def boxed(**process: object) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        config["process"].update({"selinuxLabel": PROCESS, **process})
        config["linux"]["mountLabel"] = MOUNT

    return change


def file_label(path: Path) -> str:
    return os.getxattr(path, XATTR).rstrip(b"\0").decode()


def test_enforcing() -> None:
    assert Path("/sys/fs/selinux/enforce").read_text(encoding="ascii") == "1"
    assert label(os.getpid()) == HOST


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_label(start: Start, runtime: str) -> None:
    container = start(runtime, "busybox", change=boxed())
    assert_all_labelled(container, PROCESS)
    assert container.ssh("echo x >/home/alice/x").status == 1  # alice's own, but not the container's
    assert not Path("/home/alice/x").exists()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_door(start: Start, runtime: str) -> None:
    """Its socket has the container's label: SELinux would take one of the host's from the daemon."""
    start(runtime, "busybox", change=boxed())
    assert_lands_by_door(PROCESS)


def test_door_without_a_label(start: Start) -> None:
    start("crun", "busybox")
    assert_lands_by_door(HOST)


def test_logins_leave_lines(start: Start, syslog: Syslog) -> None:
    assert_logged(start("crun", "busybox", change=boxed()), syslog)


def test_a_memory_file_that_dropbear_may_not_write(start: Start, syslog: Syslog) -> None:
    """Sessions go on without lines."""
    container = start("crun", "busybox", change=boxed(selinuxLabel=CAGED))
    assert_all_labelled(container, CAGED)
    assert syslog.logins() == []


def test_label_under_no_new_privileges(start: Start) -> None:
    container = start("crun", "busybox", change=boxed(noNewPrivileges=True))
    assert_all_labelled(container, PROCESS)


def test_attach(nothing_left: None) -> None:
    with attached_to(take_on("exec", PROCESS), lambda image: None) as (process, login):
        assert_attached(process, login("cat /proc/self/attr/current"), PROCESS)
        assert login("echo x >/x").status == 1  # the image is alice's own, but not the container's


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_no_label(start: Start, runtime: str) -> None:
    container = start(runtime, "busybox")
    assert_all_labelled(container, HOST)
    container.ssh("echo x >/home/alice/x && rm /home/alice/x").checked()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_mount_label(start: Start, runtime: str) -> None:
    container = start(runtime, "busybox", change=boxed())
    base = "/opt/oci-hooks/ssh"
    generated = (base, f"{base}/dropbear/environment", f"{base}/ssh_config", f"{base}/id_openssh", "/etc/passwd")
    for path in (*generated, "/home/alice/.ssh", "/home/alice/.ssh/authorized_keys"):
        assert (path, file_label(container.path(path))) == (path, MOUNT)
    node = Path(SETTINGS["DROPBEAR_DIR"], "bin/ssh")
    assert file_label(container.path("/usr/bin/ssh")) == file_label(node), "a program of the node's, as Dropbear is"
    assert container.ssh("ssh 127.0.0.1 echo right").checked().text == "right"
    container.ssh("echo x >/home/alice/.ssh/x").checked()


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("known", [PROCESS, MOUNT], ids=["process", "mount"])
def test_label_that_the_policy_does_not_know(start: Start, runtime: str, known: str) -> None:
    # the runtime would refuse it at once, so the hook alone sees it
    launcher = shell_around(WORK / new_name(), f'sed -i "s/{known}/{UNKNOWN}/" config.json && hook "$@"')
    with pytest.raises(StartFailed) as failure:
        start(runtime, "busybox", change=boxed(), launcher=launcher)
    assert_one_line(failure.value.hook.rstrip("\n") + "\n", f"SELinux label '{UNKNOWN}'", kind="lsm-refused")
    assert PORT not in listening()


def test_dropbear_that_the_container_may_not_run(start: Start) -> None:
    directory = WORK / new_name()
    shutil.copytree(SETTINGS["DROPBEAR_DIR"], directory, symlinks=True)
    os.setxattr(directory / "bin" / "dropbearmulti", XATTR, b"system_u:object_r:private_t:s0")
    with pytest.raises(StartFailed) as failure:
        start("crun", "busybox", change=boxed(), settings={"DROPBEAR_DIR": str(directory)})
    assert_one_line(failure.value.hook, "Permission denied", "SELinux")
    assert PORT not in listening()


def version(program: Path, before: str) -> str:
    """The version that a program of the node says it is, after the words `before`."""
    said = subprocess.run([program, "-V"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    return said.stdout.removeprefix(before).split()[0].rstrip(",")


def install_programs(prefix: Path) -> bool:
    """Install the node's own Dropbear below another prefix, by the module. Return whether that changed something."""
    node = Path(SETTINGS["DROPBEAR_DIR"], "bin")
    programs = {f"bin/{name}": node / name for name in ("dropbearmulti", "scp", "sftp", "sftp-server", "ssh")}
    archive = WORK / new_name()
    with tarfile.open(archive, "w") as opened:
        for name, path in programs.items():
            opened.add(path, name)
    files = [
        [name, hashlib.sha256(path.read_bytes()).hexdigest(), 0o111 if path.name == "dropbearmulti" else 0o755]
        for name, path in programs.items()
    ]
    arguments = {
        "prefix": str(prefix),
        "versions": {
            "dropbear": version(node / "dropbear", "Dropbear v"),
            "openssh": version(node / "ssh", "OpenSSH_"),
        },
        "release": {"name": "dropbear-1-0123456789ab", "files": files},
        "archive": str(archive),
    }
    done = subprocess.run(
        [sys.executable, "-B", ROOT / "plugins/modules/dropbear_programs.py"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        env={**os.environ, "PYTHONPATH": str(ROOT.parents[2])},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    answer = json.loads(done.stdout)
    assert done.returncode == 0, (answer["msg"], answer.get("path"))
    return bool(answer["changed"])


def test_the_module_gives_programs_the_label_that_the_policy_has_for_them(start: Start) -> None:
    prefix, contexts = WORK / new_name(), Path("/etc/selinux/test/contexts/files")
    contexts.mkdir(parents=True)
    Path("/etc/selinux/config").write_text("SELINUX=enforcing\nSELINUXTYPE=test\n", encoding="ascii")
    private = f"{prefix}.* system_u:object_r:private_t:s0\n"
    (contexts / "file_contexts").write_text(private, encoding="ascii")
    prefix.mkdir(0o755, parents=True)
    settings = {"DROPBEAR_DIR": f"{prefix}/dropbear"}
    assert install_programs(prefix)
    with pytest.raises(StartFailed) as failure:
        start("crun", "busybox", change=boxed(), settings=settings)
    assert_one_line(failure.value.hook, "Permission denied", "SELinux")

    rule = f"{prefix}/dropbear-.* system_u:object_r:host_file_t:s0\n"
    (contexts / "file_contexts").write_text(private + rule, encoding="ascii")
    assert install_programs(prefix)
    assert not install_programs(prefix)
    start("crun", "busybox", change=boxed(), settings=settings).ssh("true").checked()
