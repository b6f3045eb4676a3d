"""Rootless podman with settings of the Sarus Suite's module `hpc`, as the suite starts containers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from containers import Engine, Podman, podman_start

MODULE = """[containers]
netns = "host"
pidns = "host"
utsns = "host"
cgroupns = "host"
cgroups = "no-conmon"
[engine]
hooks_dir = ["/usr/share/containers/oci/hooks.d"]
"""


@contextmanager
def installed() -> Iterator[None]:
    """Give podman the module."""
    module = Path("/etc/containers/containers.conf.modules/hpc")
    module.parent.mkdir(parents=True, exist_ok=True)
    module.write_text(MODULE, encoding="utf-8")
    try:
        yield
    finally:
        module.unlink()


def start(annotations: Mapping[str, str] | None = None, env: Mapping[str, str] | None = None) -> Podman:
    """Start alice's container of busybox. `env` are variables, as an EDF sets them."""
    engine = Engine("rootless")
    engine.podman = [*engine.podman, "--module", "hpc"]
    return podman_start(engine, "busybox", annotations=annotations, env=env)
