"""JOIN_NAMESPACES=false: the hook runs at createContainer, in the container's namespaces already."""

from __future__ import annotations

import json

import pytest
from containers import ENABLED, PORT, SETTINGS, WORK, hook_json, listening, processes, wait_for
from hook_log import Syslog
from refusals import assert_refused
from starter import Start, Starter


@pytest.mark.parametrize("image", ["debian", "busybox"])
@pytest.mark.parametrize("value", ["false", "False"])
@pytest.mark.parametrize("engine", ["crun", "runc"])
def test_login(start: Start, engine: str, value: str, image: str) -> None:
    settings = {"JOIN_NAMESPACES": value}
    container = start(engine, image, network="private", stage="createContainer", settings=settings)
    assert PORT not in listening()
    assert container.ssh("cat; exit 4", stdin=b"\0").out == b"\0"
    assert container.ssh("exit 4").status == 4
    container.stop().checked()
    wait_for(lambda: not processes(), "end of the daemon")


@pytest.mark.parametrize("engine", ["crun", "runc"])
def test_refused_in_the_hosts_namespaces(start: Starter, syslog: Syslog, engine: str) -> None:
    words = ("JOIN_NAMESPACES", "runs in the host's mount namespace", "createContainer")
    assert_refused(start, syslog, engine, *words, settings={"JOIN_NAMESPACES": "false"})
    assert_refused(start, syslog, "podman-" + engine, *words, hooks_dir=with_setting())


def with_setting() -> str:
    """A directory for podman with the hook's JSON file, in which JOIN_NAMESPACES is false."""
    directory = WORK / "hooks.d"
    directory.mkdir(exist_ok=True)
    when = {"annotations": {f"^{name}$": f"^{value}$" for name, value in ENABLED.items()}}
    hook = hook_json({**SETTINGS, "JOIN_NAMESPACES": "false"})
    text = json.dumps({"version": "1.0.0", "hook": hook, "when": when, "stages": ["createRuntime"]})
    (directory / "hook.json").write_text(text, encoding="utf-8")
    return str(directory)


def test_true_is_the_default(start: Start) -> None:
    container = start("crun", network="private", settings={"JOIN_NAMESPACES": "TRUE"})
    assert PORT not in listening()
    container.ssh("true").checked()
