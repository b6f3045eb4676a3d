"""What the runtime takes away from a container last, sessions do not have; and what waits for it, nobody looks into."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import openssh
import pytest
from changes import beside_others, without_home
from containers import ALICE, as_user, keys, plain_start
from patience import within
from starter import Start

# As podman has them.
MASKED = "/proc/acpi /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/scsi /sys/firmware".split()
READ_ONLY = "/proc/asound /proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger".split()
# Opens for writing, and writes nothing.
PROBE = """
for path in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sysrq-trigger; do
    (: >>$path) 2>/dev/null && echo "may write $path"
done
for path in /proc/kcore /proc/keys /proc/timer_list; do
    [ ! -s $path ] && [ -z "$(head -c 1 $path 2>/dev/null)" ] || echo "may read $path"
done
ls -A /sys/firmware /proc/scsi 2>/dev/null | grep -v ':$' | grep .
echo probed
"""


def of_root(config: dict[str, Any]) -> None:
    without_home(config)
    config["process"].update(user={"uid": 0, "gid": 0}, env=["HOME=/root", "PATH=/bin"])
    capabilities = config["process"]["capabilities"]
    capabilities.update(effective=capabilities["bounding"], permitted=capabilities["bounding"])
    config["mounts"].append({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]})
    config["linux"].update(maskedPaths=MASKED, readonlyPaths=READ_ONLY)
    config["linux"]["namespaces"].append({"type": "network"})


@pytest.mark.parametrize("engine", ["crun", "runc"])
def test_kernel_parameters_are_set_all_the_same(start: Start, engine: str, tmp_path: Path) -> None:
    """Nobody else may, in a running container, nor write or read what the runtime masks."""
    key = openssh.convert(keys("root") / "id_dropbear", tmp_path / "key")
    wanted = {"net.ipv4.ping_group_range": "7\t9", "net.ipv4.conf.lo.forwarding": "1", "kernel.shmmni": "77"}
    files = ["/proc/sys/" + name.replace(".", "/") for name in wanted]

    def change(config: dict[str, Any]) -> None:
        of_root(config)
        config["linux"]["sysctl"] = wanted

    container = start(engine, "busybox", change=change)
    probe = (
        f"cat {' '.join(files)}; for file in {' '.join(files)}; do (: >>$file) 2>/dev/null && echo $file; done; {PROBE}"
    )
    expected = [*wanted.values(), "probed"]
    assert openssh.login(key, probe, user="root", container=container).checked().text.splitlines() == expected
    assert container.exec("/bin/sh", "-c", probe).checked().text.splitlines() == expected


def test_nodes_null_device_is_not_the_containers(start: Start, tmp_path: Path) -> None:
    key = openssh.convert(keys("root") / "id_dropbear", tmp_path / "key")
    container = start("crun", "busybox", change=of_root)
    before = Path("/dev/null").stat()
    script = "cd /proc/$(cat /opt/oci-hooks/ssh/dropbear/dropbear.pid)/fd && chmod 600 0 1 2; stat -c %a /dev/null"
    assert openssh.login(key, script, user="root", container=container).checked().text == "600"
    after = Path("/dev/null").stat()
    assert (after.st_mode, after.st_ctime_ns) == (before.st_mode, before.st_ctime_ns)


# Looks at every waiting process of alice's that is still the hook's, and says what it could open of one.
SPY = """
import os, sys, time
seen, opened = 0, set()
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            status = open(f"/proc/{pid}/status").read()
            if "Name:\\tssh_hook" not in status or "\\nUid:\\t2001\\t2001" not in status or "State:\\tS" not in status:
                continue
            seen += 1
            for name in ("fd", "mem", "maps", "environ", "root", "cwd"):
                path = f"/proc/{pid}/{name}"
                try:
                    os.listdir(path) if name == "fd" else os.open(path, os.O_RDONLY)
                except PermissionError:
                    continue
                if "Name:\\tssh_hook" in open(f"/proc/{pid}/status").read():
                    opened.add(name)
        except OSError:
            continue
print(seen > 0, *sorted(opened))
"""


def test_nobody_looks_into_the_process_that_waits_to_be_the_daemon() -> None:
    """It is the user's already, and copied from the hook."""
    command = as_user(ALICE, "/usr/bin/python3", "-ISB", "-c", SPY, str(within(6)))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as spy:
        while spy.poll() is None:
            container = plain_start("crun", "busybox", change=beside_others)
            container.stop().checked()
            container.remove()
        assert spy.communicate()[0] == "True\n"
