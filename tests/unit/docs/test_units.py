"""The systemd units of the role, compared with the oldest systemd that they are to run with: 239, of EL 8."""

from __future__ import annotations

import re
from pathlib import Path

from ssh_hook.commands import sweep

TEMPLATES = Path(__file__).resolve().parents[3] / "roles" / "ssh_hook" / "templates"
OLDEST = 239
# The release of systemd in which each directive came, or its value that the units use, by its NEWS.
SINCE = {
    **dict.fromkeys(("Description", "Wants", "After", "Type", "ExecStart", "UMask", "WantedBy", "SyslogIdentifier"), 1),
    **dict.fromkeys(("OnBootSec", "OnUnitActiveSec", "PrivateTmp", "PrivateNetwork", "CapabilityBoundingSet"), 1),
    **dict.fromkeys(("DefaultDependencies", "KillSignal", "LimitCORE", "Nice", "User", "Group", "KillMode"), 1),
    "NoNewPrivileges": 187,
    "SuccessExitStatus": 189,
    "TimeoutStartSec": 188,
    "Slice": 205,
    "DevicePolicy": 208,
    "PrivateDevices": 209,
    "ProtectHome": 214,
    "TasksMax": 227,
    "RandomizedDelaySec": 229,
    "TimeoutStopSec": 229,  # "infinity"
    "MemoryMax": 231,
    "ExecStopPost": 231,  # with "+"
    "ReadWritePaths": 231,
    "ProtectSystem": 232,  # "strict"
    "CollectMode": 236,
    "PrivateMounts": 239,
    "RestrictSUIDSGID": 242,
}
# An older systemd ignores these with a line in the journal: the unit does its work, with one restriction less.
IGNORED = {"RestrictSUIDSGID"}


def test_systemd_239_knows_the_directives() -> None:
    units = [path for path in TEMPLATES.iterdir() if re.search(r"\.(service|timer)\.j2$", path.name)]
    assert len(units) == 5
    used = {name for path in units for name in re.findall(r"^(\w+)=", path.read_text(encoding="utf-8"), re.MULTILINE)}
    assert used <= SINCE.keys()
    assert {name for name in used if SINCE[name] > OLDEST} == IGNORED


def test_no_service_runs_for_ever() -> None:
    """A service of the type oneshot has no limit of its own, and its timer waits for its end."""
    services = list(TEMPLATES.glob("*.service.j2"))
    assert len(services) == 3
    assert [path for path in services if "\nTimeoutStartSec=" not in path.read_text(encoding="utf-8")] == []


def test_the_sweep_has_a_limit_of_memory() -> None:
    """It reads what all users' processes call themselves."""
    text = (TEMPLATES / "ssh-hook-sweep.service.j2").read_text(encoding="utf-8")
    assert re.findall(r"^MemoryMax=(.*)$", text, re.MULTILINE) == ["256M"]


def test_a_users_own_sweep_is_hers_and_confined() -> None:
    """She cannot trace it, by its group; what hangs of it is neither awaited nor added to."""
    text = (TEMPLATES / "ssh-hook-sweep@.service.j2").read_text(encoding="utf-8")
    lines = set(text.splitlines())
    wanted = {
        "User=%i",
        "Group=65534",
        "CapabilityBoundingSet=",
        "NoNewPrivileges=true",
        "MemoryMax=128M",
        "TasksMax=16",
        "LimitCORE=0",
        "DevicePolicy=closed",
        "Nice=19",
        "KillSignal=SIGKILL",
        "TimeoutStopSec=infinity",
        "Slice=system.slice",
    }
    assert wanted - lines == set()
    assert "DefaultDependencies=no" in lines  # else systemd would wait for it at a shutdown
    assert "+" not in text  # the prefix for a command that root runs
    assert not re.search("^(Condition|Assert)|Path|Protect|Private|Directory|EnvironmentFile", text, re.MULTILINE)


def test_the_refresh_of_the_passwd_file_waits_for_no_users() -> None:
    text = (TEMPLATES / "ssh-hook-passwd.service.j2").read_text(encoding="utf-8")
    assert "KillMode=process" in text.splitlines()


def test_roots_sweep_unmounts_for_all() -> None:
    """PrivateNetwork implies a mount namespace of its own in newer versions."""
    text = (TEMPLATES / "ssh-hook-sweep.service.j2").read_text(encoding="utf-8")
    assert "PrivateMounts=false" in text.splitlines()


def test_roots_sweep_waits_for_no_users() -> None:
    text = (TEMPLATES / "ssh-hook-sweep.service.j2").read_text(encoding="utf-8")
    assert "KillMode=process" in text.splitlines()  # else systemd waits for what a user holds up, and the unit fails
    assert f"SuccessExitStatus={sweep.INCOMPLETE}" in text.splitlines()  # which users can cause
    (started,) = re.findall(r"systemctl (.*?) \$\$\(", text)
    assert started == "start --no-block"
