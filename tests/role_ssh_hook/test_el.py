"""What nodes with EL need besides: a real firewalld opens the daemons' ports, and SELinux has a rule for the programs.

SELinux itself does not run here. Its tools and its store do, and take the rule.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from node import ROOT, listing, play
from patience import within

AS_EL = (str(Path(__file__).with_name("as_el")),)
COLLECTIONS = f"{ROOT}/.cache/collections:{ROOT}/.cache/el"
ZONE: dict[str, object] = {"ssh_hook_firewalld_zone": "internal", "ssh_hook_container_ports": [15264]}
SECONDS = 120  # for firewalld to start


def firewall_cmd(*arguments: str) -> str:
    """Return what firewall-cmd prints; empty if it fails."""
    done = subprocess.run(
        [*AS_EL, "firewall-cmd", *arguments], capture_output=True, text=True, check=False, timeout=within(SECONDS)
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def ports() -> list[list[str]]:
    """The open ports of the zone: those that are open now, and those that will be after the next start."""
    now, then = (firewall_cmd(*option, "--zone=internal", "--list-ports") for option in ((), ("--permanent",)))
    return [now.split(), then.split()]


@pytest.fixture
def firewalld() -> Iterator[None]:
    """Run firewalld, with a bus of its own."""
    before = listing("/etc")
    process = subprocess.Popen([*AS_EL, "firewalld"], start_new_session=True)
    end = time.monotonic() + within(SECONDS)
    while firewall_cmd("--state") != "running":
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.2)
    yield
    process.terminate()
    process.wait(within(SECONDS))
    os.kill(int(Path("/run/dbus/pid").read_text(encoding="ascii")), 15)
    shutil.rmtree("/run/dbus")
    shutil.rmtree("/etc/firewalld")
    assert listing("/etc") == before


def test_without_the_collection_nothing_is_changed() -> None:
    before = listing()
    wanted = {**ZONE, "dropbear_selinux_type": True}
    for playbook in ("deploy", "audit", "remove"):
        done = play(playbook, variables=wanted)
        said = " ".join(done.said.split())
        for name, module in (
            ("ssh_hook_firewalld_zone", "ansible.posix.firewalld"),
            ("dropbear_selinux_type", "community.general.sefcontext"),
        ):
            sentence = (
                f"{name} needs the module {module}, which is missing on the controller: run ansible-galaxy collection"
            )
            assert (done.status != 0, sentence in said) == (True, True), done.said
    assert listing() == before


@pytest.mark.usefixtures("firewalld")
def test_ports_are_opened_and_closed() -> None:
    checked = play("deploy", "--check", before=AS_EL, collections=COLLECTIONS, variables=ZONE)
    assert (checked.status, ports()) == (0, [[], []]), checked.said
    deployed = play("deploy", before=AS_EL, collections=COLLECTIONS, variables=ZONE)
    assert (deployed.status, ports()) == (0, [["15263/tcp", "15264/tcp"]] * 2), deployed.said
    again = play("deploy", before=AS_EL, collections=COLLECTIONS, variables=ZONE)
    assert (again.status, again.changed) == (0, 0), again.said

    assert firewall_cmd("--permanent", "--zone=internal", "--remove-port=15263/tcp") == "success"
    audited = play("audit", before=AS_EL, collections=COLLECTIONS, variables=ZONE)
    sentence = "firewalld does not open port 15263 in the zone internal. Run the deployment."
    assert (audited.status != 0, sentence in " ".join(audited.said.split())) == (True, True), audited.said

    removed = play("remove", before=AS_EL, collections=COLLECTIONS, variables=ZONE)
    assert (removed.status, ports()) == (0, [[], []]), removed.said


RULE = [
    {
        "hosts": "all",
        "gather_facts": False,
        "module_defaults": {"community.general.sefcontext": {"ignore_selinux_state": True, "reload": False}},
        "tasks": [
            {
                "name": "Set the rule",
                "ansible.builtin.include_role": {"name": "ocihooks.ssh.dropbear", "tasks_from": "selinux"},
            },
        ],
    }
]
# The least that semanage takes for a policy.
POLICY = """
(handleunknown allow)
(class process (transition))
(class file (read))
(classorder (process file))
(mls true)
(sensitivity s0)
(sensitivityorder (s0))
(category c0)
(categoryorder (c0))
(sensitivitycategory s0 (range c0 c0))
(level low (s0))
(level high (s0 (range c0 c0)))
(type host_t)
(type container_ro_file_t)
(typeattribute file_type)
(typeattributeset file_type (container_ro_file_t))
(typeattribute device_node)
(typeattributeset device_node (host_t))
(allow host_t file_type (file (read)))
(allow host_t device_node (file (read)))
(user system_u)
(role system_r)
(role object_r)
(userrole system_u system_r)
(userrole system_u object_r)
(userlevel system_u low)
(userrange system_u (low high))
(roletype system_r host_t)
(roletype object_r host_t)
(roletype object_r container_ro_file_t)
(context host (system_u system_r host_t (low high)))
(sid kernel)
(sidorder (kernel))
(sidcontext kernel host)
"""


@pytest.fixture
def selinux_store(tmp_path: Path) -> Iterator[None]:
    """A policy in the store that semanage changes."""
    etc, store = Path("/etc/selinux"), Path("/var/lib/selinux")
    (etc / "test/contexts/files").mkdir(parents=True)
    (etc / "test/policy").mkdir()
    store.mkdir()
    (etc / "config").write_text("SELINUX=permissive\nSELINUXTYPE=test\n", encoding="ascii")
    (etc / "semanage.conf").write_text("module-store = direct\nexpand-check = 0\n", encoding="ascii")
    policy = tmp_path / "base.cil"
    policy.write_text(POLICY, encoding="ascii")
    subprocess.run([*AS_EL, "semodule", "-n", "-s", "test", "-i", policy], check=True)
    yield
    shutil.rmtree(etc)
    shutil.rmtree(store)


def label(path: str) -> str:
    """Return the label that the policy has for a path."""
    done = subprocess.run([*AS_EL, "matchpathcon", "-n", path], capture_output=True, text=True, check=False)
    return done.stdout.strip()


@pytest.mark.usefixtures("selinux_store")
def test_selinux_has_a_rule_for_the_programs_until_they_are_removed(tmp_path: Path) -> None:
    playbook = tmp_path / "rule.yml"
    playbook.write_text(json.dumps(RULE), encoding="utf-8")
    program, wanted = "/opt/oci-hooks/dropbear-2026.94-0123456789ab/bin/ssh", "system_u:object_r:container_ro_file_t:s0"

    def changed(state: str, *arguments: str) -> int:
        done = play(
            str(playbook.with_suffix("")),
            *arguments,
            before=AS_EL,
            collections=COLLECTIONS,
            variables={
                "dropbear_prefix": "/opt/oci-hooks",
                "dropbear__selinux_state": state,
                "dropbear__has_selinux": True,  # as the kernel here has not
            },
        )
        assert done.status == 0, done.said
        return done.changed

    assert (changed("present", "--check"), label(program) == wanted) == (1, False)
    assert (changed("present"), label(program)) == (1, wanted)
    assert label("/opt/oci-hooks/bin/ssh_hook") != wanted
    assert changed("present") == 0
    assert (changed("absent"), label(program) == wanted) == (1, False)
    assert changed("absent") == 0
