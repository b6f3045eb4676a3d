"""Whose annotations mean this hook, and what is said of containers whose engine did not call it."""

from __future__ import annotations

import pytest
from ssh_hook.commands.unserved import Running, is_near, unserved

ENABLED = "com.hooks.ssh.enabled"


def said(annotations: dict[str, str], engine: str = "podman", calls_hook: bool = False) -> list[str]:
    return unserved([Running(engine, "0" * 64, "solver", annotations, calls_hook)], [])


@pytest.mark.parametrize(
    "name",
    [
        "com.hooks.ssh.enable",
        "com.hook.ssh.enabled",
        "com.hooks.shh.enabled",
        "com.hooks.sshd.enabled",
        "com.Hooks.SSH.Enabled",
        "com.hooks.ssh",
        "hooks.ssh.enabled",
        "hook-ssh",
    ],
)
def test_names_that_mean_the_hook(name: str) -> None:
    assert is_near(name)


@pytest.mark.parametrize(
    "name",
    ["com.hooks.mpi.enabled", "com.hooks.slurm.enabled", "com.hooks.amdgpu.enabled", "run.oci.hooks.stderr", "ssh", ""],
)
def test_names_of_others(name: str) -> None:
    assert not is_near(name)


@pytest.mark.parametrize(
    ("annotations", "advice"),
    [
        ({"com.hooks.ssh.enable": "true"}, f"write the annotation {ENABLED} in place of com.hooks.ssh.enable, and"),
        ({"com.hooks.ssh.port": "15300"}, f"write the annotation {ENABLED}=true, and start it again"),
        (
            {"com.Hooks.ssh.prot": "1", "com.hooks.ssh.wait": "1"},
            f"write the annotation {ENABLED}=true, com.hooks.ssh.port in place of com.Hooks.ssh.prot, and",
        ),
        ({ENABLED: "true"}, "podman found no hook for its annotations"),
    ],
)
def test_advice(annotations: dict[str, str], advice: str) -> None:
    (sentence,) = said(annotations)
    assert sentence.startswith("your container solver (podman, 000000000000) runs without SSH: ")
    assert advice in sentence
    assert said(annotations, calls_hook=True) == []
    (of_docker,) = said(annotations, "docker")
    assert "Docker takes --device ocihooks.org/ssh=on" in of_docker


def test_no_complaint_of_what_is_meant() -> None:
    assert said({}) == said({ENABLED: "false", "com.hooks.ssh.prot": "1"}) == []
