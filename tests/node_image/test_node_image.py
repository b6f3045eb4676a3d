"""The life of an image: previewed, deployed, harmed, audited, removed, deployed again, booted, and used.

The tests build upon each other, in this order. The bed that they run in has no network, and systemd does not run there.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import time
from collections.abc import Iterator

import pytest
from image import NAME, TREE, links, listing, play
from machine import HOST, Machine

TIMERS = ("ssh-hook-passwd", "ssh-hook-sweep")
LINKS = {f"timers.target.wants/{timer}.timer": f"/etc/systemd/system/{timer}.timer" for timer in TIMERS}
# A command that runs another while the image has this machine's /proc, /dev and /run, as in `wwctl image exec`.
WITH_MOUNTS = (
    *("unshare", "--mount", "sh", "-c"),
    f'for at in proc dev run; do mount --rbind "/$at" "{TREE}/$at"; done; exec "$@"',
    "-",
)
PORT = 15263
OTHER_PORT = 15300
TIMERS_SECONDS = 400  # the later one starts its service three minutes after the boot


@pytest.fixture(scope="module")
def untouched() -> dict[str, str]:
    """What is in the image before anything was deployed."""
    return listing()


def test_a_preview_changes_nothing(untouched: dict[str, str]) -> None:
    preview = play("deploy", "--check", "--diff")
    assert preview.status == 0, preview.said
    assert preview.changed > 0
    assert listing() == untouched


def test_a_deployment_is_idempotent() -> None:
    deployed = play("deploy")
    assert (deployed.status, deployed.changed > 0) == (0, True), deployed.said
    assert f"{NAME} is an image, not a running node" in deployed.words
    assert links() == LINKS
    for again in (play("deploy"), play("deploy", "--check"), play("audit")):
        assert (again.status, again.changed) == (0, 0), again.said


def test_nothing_of_this_machine_counts() -> None:
    # a process that holds the port of the hook, mounts, processes, a kernel: none of them will be the node's
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", PORT))
        taken.listen()
        for name in ("audit", "deploy"):
            again = play(name, before=WITH_MOUNTS, variables={"ssh_hook_listen_addresses": []})
            assert (again.status, again.changed) == (0, 0), again.said


def test_what_is_missing_is_found_and_mended() -> None:
    (TREE / "etc/systemd/system/timers.target.wants/ssh-hook-sweep.timer").unlink()
    found = play("audit")
    assert found.status != 0
    assert f"On {NAME} the systemd timers differ from the configuration. Run the deployment." in found.said
    mended = play("deploy")
    assert (mended.status, mended.changed) == (0, 1), mended.said
    assert links() == LINKS


def test_no_keys_are_made_in_an_image() -> None:
    deployed = play("deploy", variables={"ssh_hook_users": ["alice"]})
    assert (deployed.status, deployed.changed) == (0, 0), deployed.said
    assert f"No keys are created in the image {NAME}" in deployed.said
    assert not (TREE / "home/alice").exists()
    audited = play("audit", variables={"ssh_hook_users": ["alice"]})
    assert audited.status == 0, audited.said
    assert "keys of ssh_hook_users: an image has no homes, and no running node is known" in audited.said


def test_an_image_without_devices_is_refused_before_anything_is_changed() -> None:
    null = TREE / "dev/null"
    null.unlink()
    before = listing()
    try:
        refused = play("deploy")
        assert refused.status != 0
        assert f"/dev/null of {NAME} is not a device" in refused.said, refused.said
        null.unlink(missing_ok=True)  # a shell's, which wrote to it
        assert listing() == before
    finally:
        os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        null.chmod(0o666)


def test_removal_leaves_nothing(untouched: dict[str, str]) -> None:
    preview = play("remove", "--check")
    assert (preview.status, preview.changed > 0) == (0, True), preview.said
    removed = play("remove")
    assert removed.status == 0, removed.said
    assert listing() == untouched
    again = play("remove")
    assert (again.status, again.changed) == (0, 0), again.said


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A node that was booted from the image."""
    deployed = play("deploy")
    assert deployed.status == 0, deployed.said
    booted = Machine()
    try:
        booted.wait_until_up()
        yield booted
    finally:
        booted.end()


def test_systemd_runs_the_timers(machine: Machine) -> None:
    assert machine.checked("cat /proc/1/comm") == "systemd"
    for timer in TIMERS:
        assert machine.checked(f"systemctl is-enabled {timer}.timer && systemctl is-active {timer}.timer") == (
            "enabled\nactive"
        )


def test_the_node_is_as_the_variables_say(machine: Machine) -> None:
    for name in ("audit", "deploy"):
        again = play(name, inventory=machine.inventory())
        assert (again.status, again.changed) == (0, 0), again.said
        assert "is an image" not in again.words


def test_a_session_from_container_to_container(machine: Machine) -> None:
    machine.checked("podman import --quiet /srv/busybox.tar localhost/busybox")
    machine.checked("runuser -l alice -c '/opt/oci-hooks/bin/ssh_hook keygen'")
    machine.checked("launch alice localhost/busybox --env WHERE=first")
    machine.checked(
        f"launch alice localhost/busybox --name second --env WHERE=second --annotation com.hooks.ssh.port={OTHER_PORT}"
    )
    for name, port, other in (("alice", OTHER_PORT, "second"), ("second", PORT, "first")):
        said = machine.checked(f"podman exec {name} ssh -p {port} {HOST} 'id -u; hostname; echo $WHERE'")
        assert said.split() == ["2001", HOST, other]


def test_what_the_hook_keeps_below_run(machine: Machine) -> None:
    assert machine.checked("stat --format '%U %a' /run/ocihooks-ssh") == "root 711"
    status = machine.checked("/opt/oci-hooks/bin/ssh_hook status")
    assert str(PORT) in status
    assert str(OTHER_PORT) in status


def test_the_doctor_finds_no_fault(machine: Machine) -> None:
    said = machine.checked("runuser -l alice -c '/opt/oci-hooks/bin/ssh_hook doctor'")
    assert "problem" not in said
    assert "containers with an SSH daemon: 2, all respond" in said


def test_containers_end_without_a_trace(machine: Machine) -> None:
    machine.checked("podman rm --force --time 0 alice second")
    assert machine.checked("ls /var/lib/ocihooks-ssh/daemons") == ""


def test_the_timers_start_their_services(machine: Machine) -> None:
    deadline = time.monotonic() + TIMERS_SECONDS
    for timer in TIMERS:
        show = f"systemctl show --property=ExecMainExitTimestampMonotonic,Result {timer}.service"
        while "ExecMainExitTimestampMonotonic=0" in (said := machine.checked(show)):
            assert time.monotonic() < deadline, said
            time.sleep(2)
        assert "Result=success" in said
    assert "alice:x:2001:" in machine.checked("cat /opt/oci-hooks/etc/passwd")
    failed = machine.checked("systemctl list-units --failed --output=json")
    assert [unit["unit"] for unit in json.loads(failed)] == []
