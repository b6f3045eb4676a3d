"""AppArmor: a session is confined as the container's first process is. The profiles are in apparmor.profile."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from containers import ALICE, IMAGES, StartFailed, processes, run
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


def under(profile: str, **process: object) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        config["process"].update(process, apparmorProfile=profile)

    return change


def add_forbidden(root: Path) -> None:
    (root / "forbidden").mkdir()
    os.chown(root / "forbidden", ALICE, ALICE)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_profile(start: Start, runtime: str) -> None:
    container = start(runtime, "busybox", prepare=add_forbidden, change=under("box"))
    assert_all_labelled(container, "box (enforce)")
    assert container.ssh("echo x >/forbidden/x").status == 1
    assert not container.path("/forbidden/x").exists()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_no_profile(start: Start, runtime: str) -> None:
    container = start(runtime, "busybox", prepare=add_forbidden)
    assert_all_labelled(container, "unconfined")
    container.ssh("echo x >/forbidden/x").checked()


@pytest.mark.parametrize("profile", ["box", "box-named"])
def test_door(start: Start, profile: str) -> None:
    start("crun", "busybox", change=under(profile))
    assert_lands_by_door(f"{profile} (enforce)")


@pytest.mark.parametrize("profile", ["box", "box-named"])
def test_logins_leave_lines(start: Start, syslog: Syslog, profile: str) -> None:
    assert_logged(start("crun", "busybox", change=under(profile)), syslog)


def test_profile_under_no_new_privileges(start: Start) -> None:
    container = start("crun", "busybox", change=under("box", noNewPrivileges=True))
    assert_all_labelled(container, "box (enforce)")


def test_profile_that_names_paths(start: Start) -> None:
    container = start("crun", "busybox", change=under("box-named"))
    assert_all_labelled(container, "box-named (enforce)")


def test_profile_that_names_paths_as_the_host_sees_them(start: Start) -> None:
    with pytest.raises(StartFailed) as failure:
        start("crun", "busybox", change=under("box-absolute"))
    assert_one_line(failure.value.hook, "AppArmor")
    assert not processes()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_profile_that_is_not_loaded(start: Start, runtime: str) -> None:
    with pytest.raises(StartFailed) as failure:
        start(runtime, "busybox", change=under("missing"))
    assert_one_line(failure.value.hook.rstrip("\n") + "\n", "AppArmor profile 'missing'", kind="lsm-refused")
    assert not processes()


def test_attach(nothing_left: None) -> None:
    with attached_to(take_on("apparmor/exec", "exec box"), add_forbidden) as (process, login):
        assert_attached(process, login("cat /proc/self/attr/current"), "box (enforce)")
        assert login("echo x >/forbidden/x").status == 1
        login("echo x >/x").checked()


def test_podman_has_a_profile_of_its_own(start: Start) -> None:
    run(["podman", "import", "--quiet", IMAGES / "busybox.tar", "localhost/ssh-test/busybox"]).checked()
    container = start("podman-crun", "busybox")
    profile = label(container.init())
    assert profile.startswith("containers-default-"), profile
    assert_all_labelled(container, profile)
