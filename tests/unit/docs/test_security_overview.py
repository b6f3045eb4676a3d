"""The tables and the command of docs/security-overview.md are those of the hook, the units and the role's defaults."""

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.ocihooks.ssh.plugins.plugin_utils._engine_paths import engine_paths
from ssh_hook import dispatch
from ssh_hook.start.port import PORTS_OF_JOBS

ROOT = Path(__file__).resolve().parents[3]
ROLE = ROOT / "roles" / "ssh_hook"
PAGE = (ROOT / "docs" / "security-overview.md").read_text(encoding="utf-8")
DEFAULTS = (ROLE / "defaults" / "main.yml").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (?!What |---)(.+) \| (.+) \| .+ \|$", PAGE, re.MULTILINE)  # what runs as root, and when


def read(name: str) -> str:
    """A template of the role, with the default of the one variable in which the timers differ."""
    minutes = re.findall(r"^ssh_hook_passwd_refresh_minutes: ([0-9]+)$", DEFAULTS, re.MULTILINE)
    text = (ROLE / "templates" / name).read_text(encoding="utf-8")
    return text.replace("{{ ssh_hook_passwd_refresh_minutes }}", *minutes)


def test_what_runs_as_root() -> None:
    """The hook, and the commands for administrators."""
    assert ROWS[0][0].startswith("the hook, ")
    commands = {name for what, _when in ROWS for name in re.findall("`(?:ssh_hook )?([a-z-]+)`", what)}
    assert commands == set(dispatch._FOR_ADMINISTRATORS)


def test_what_runs_by_a_timer() -> None:
    found = []
    for path in (ROLE / "templates").glob("*.service.j2"):
        service = read(path.name)
        if "\nUser=" not in service:
            timer = read(path.name.replace("service", "timer"))
            started = re.findall(r"^ExecStart=\{\{ ssh_hook__launcher \}\} ([a-z-]+)", service, re.MULTILINE)
            minutes = re.findall(r"^OnUnitActiveSec=([0-9]+)min$", timer, re.MULTILINE)
            found += [(f"`ssh_hook {started[0]}`, by a timer", f"every {minutes[0]} minutes")]
    assert sorted(found) == sorted(row for row in ROWS if "by a timer" in row[0])


def test_what_listens() -> None:
    (port,) = re.findall(r"^ssh_hook_server_port_without_job: ([0-9]+)$", DEFAULTS, re.MULTILINE)
    ports = f"at port {port}, or with `ssh_hook_server_port: auto` at {PORTS_OF_JOBS[0]} to {PORTS_OF_JOBS[-1]},"
    assert ports in " ".join(PAGE.split())


def test_what_is_removed_to_switch_it_off() -> None:
    """With the defaults: the files by which engines call the hook."""
    (command,) = re.findall(r"^# rm -f ((?:.*\\\n)*.*)$", PAGE, re.MULTILINE)
    (directory,) = re.findall(r"^ssh_hook_hooks_dirs: .* else '(.+?)'", DEFAULTS, re.MULTILINE)
    (name,) = re.findall(r"^ssh_hook_json_name: .* else '(.+?)'", DEFAULTS, re.MULTILINE)
    dirs = ("enroot_hooks_dir", "podman_hpc_modules_dir", "slurm_prolog_dir", "slurm_epilog_dir")
    values = {"ssh_hook_hooks_dirs": [directory], "ssh_hook_json_name": name, "ssh_hook_cdi": True}
    paths = engine_paths({**values, **{f"ssh_hook_{variable}": "" for variable in dirs}})
    assert set(command.replace("\\", "").split()) == {*paths.hooks, paths.enroot, paths.cdi}
