"""podman-hpc in a bed, with the role's module file: alice's containers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from containers import ALICE, IMAGES, ROOT, Container, Result, as_user, new_name, run
from install import template

TREE = ROOT / ".cache" / "podman-hpc"
SITE = Path("/etc/podman_hpc")
IMAGE = "localhost/ssh-test/busybox"
CONFIGURATION = 'hooks_dir: "/usr/share/containers/oci/hooks.d"\nmodules_dir: "/etc/podman_hpc/modules.d"\n'


def podman_hpc(*arguments: str, stdin: bytes = b"") -> Result:
    """Run podman-hpc as alice."""
    path = f"PATH={TREE}/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    return run(as_user(ALICE, path, str(TREE / "bin" / "podman-hpc"), "--log-level", "error", *arguments), stdin)


@contextmanager
def installed() -> Iterator[None]:
    """As a site has it; with one image."""
    (SITE / "modules.d").mkdir(parents=True)
    (SITE / "podman_hpc.yaml").write_text(CONFIGURATION, encoding="utf-8")
    (SITE / "modules.d" / "ocihooks-ssh.yaml").write_text(template("podman_hpc.yaml.j2"), encoding="utf-8")
    podman_hpc("import", str((IMAGES / "busybox.tar").resolve()), IMAGE).checked()
    yield
    shutil.rmtree(SITE)


class PodmanHpc(Container):
    """A container of podman-hpc."""

    def __init__(self, name: str) -> None:
        self.name = name

    def exec(self, *command: str | bytes, stdin: bytes = b"") -> Result:
        words = [word if isinstance(word, str) else word.decode() for word in command]
        return podman_hpc("exec", "-i", self.name, *words, stdin=stdin)

    def init(self) -> int:
        return int(podman_hpc("inspect", "--format", "{{.State.Pid}}", self.name).checked().text)

    def stop(self) -> Result:
        return podman_hpc("stop", "-t0", self.name)

    def remove(self) -> None:
        podman_hpc("rm", "-f", "-t0", "-i", self.name).checked()


def start(*options: str) -> PodmanHpc:
    """Start a container that waits."""
    name = new_name()
    podman_hpc("run", "--detach", "--name", name, *options, IMAGE, "/bin/sleep", "1000").checked()
    return PodmanHpc(name)
