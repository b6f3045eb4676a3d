"""A systemd that knows the sweep's units and no others, as the role installs those."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from containers import LAUNCHER, ROOT, Result, run, wait_for

UNIT = "ssh-hook-sweep.service"
_USERS = "ssh-hook-sweep@.service"
_REMOVE_CGROUP = 'mount -t cgroup2 none /sys/fs/cgroup && find "/sys/fs/cgroup/$1" -depth -type d -exec rmdir {} +'
_SYSTEMD = r"""
set -e
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys # the machine's settings stay as they are
mount --bind /dev/null /dev/console
# A cgroup of version 2 for all that it makes: with version 1, it would not wait for the processes of a unit here.
mount -t cgroup2 none /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$5"
echo 0 >"/sys/fs/cgroup/$5/cgroup.procs"
mount -t tmpfs none /mnt
mkdir /mnt/user
mount --rbind /run/user /mnt/user
mount -t tmpfs none /run
mkdir /run/user /run/units /run/units/"$1".d /run/units/"$3".d
mount --rbind /mnt/user /run/user
printf '%s' "$2" >/run/units/"$1"
printf '%s' "$4" >/run/units/"$3"
printf '[Service]\nTimeoutStartSec=3\n' >/run/units/"$3".d/soon.conf
mkdir -p /run/systemd/system.conf.d
printf '[Manager]\nDefaultTimeoutStopSec=2\n' >/run/systemd/system.conf.d/soon.conf
printf '[Service]\nTimeoutStopSec=90\n' >/run/units/"$1".d/usual.conf
for other in basic sysinit shutdown; do
    printf '[Unit]\nDefaultDependencies=no\n' >"/run/units/$other.target"
done
exec unshare --cgroup --mount sh -c 'umount /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"' sh \
    env -i container=test PATH="$PATH" SYSTEMD_UNIT_PATH=/run/units \
    /lib/systemd/systemd --unit=basic.target --log-target=console --default-standard-output=inherit
"""


def user_unit(uid: int) -> str:
    """Return the name of the unit of the user `uid`."""
    return _USERS.replace("@", f"@{uid}")


def _text(unit: str) -> str:
    template = ROOT / "roles/ssh_hook/templates" / f"{unit}.j2"
    text = template.read_text(encoding="utf-8").replace("{{ ssh_hook__launcher }}", LAUNCHER)
    return re.sub(r"\{\{ ' --metrics '.*\}\}", "", text)


@contextmanager
def sweeping_systemd() -> Iterator[Callable[..., str]]:
    """Give a function that calls this systemd's systemctl, which has to succeed, and returns what it prints."""
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", _SYSTEMD, "sh"]
    cgroup = f"sweep-test-{os.getpid()}"
    units = [word for unit in (UNIT, _USERS) for word in (unit, _text(unit))]
    manager = subprocess.Popen(
        [*command, *units, cgroup], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )

    def systemctl(*words: str) -> Result:
        child = Path(f"/proc/{manager.pid}/task/{manager.pid}/children").read_text(encoding="ascii").strip()
        return run(["nsenter", "--target", child or "none", "--mount", "--pid", "systemctl", *words])

    def is_up() -> bool:
        assert manager.poll() is None, "systemd has ended"
        return systemctl("is-active", "basic.target").status == 0

    try:
        wait_for(is_up, "systemd")
        yield lambda *words: systemctl(*words).checked().text
    finally:
        manager.kill()
        said, _nothing = manager.communicate()
        sys.stdout.write(said.decode(errors="replace"))  # pytest shows it where the test fails
        remove = ["unshare", "--mount", "sh", "-c", _REMOVE_CGROUP, "sh", cgroup]
        wait_for(lambda: run(remove).status == 0, "end of the cgroup's processes")
