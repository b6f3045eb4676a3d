"""The name on the cluster leads into each container of the user's, whatever the image has under that name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import openssh
import pytest
from containers import (
    ALICE,
    LAUNCHER,
    PORT,
    WORK,
    Container,
    as_user,
    keys,
    run,
    run_in_time,
    wait_for,
    wait_until_found,
)
from enroot import Enroot
from starter import Start

# What an image or a volume has at /etc/passwd; the container is root's in each case.
PASSWDS = {
    "the node's": f"root:x:0:0:root:/root:/bin/sh\nalice:x:{ALICE}:{ALICE}::/home/alice:/bin/bash\n",
    "another uid's": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\nalice:x:4321:4321::/x:/bin/sh\n",
    "before root's": "alice:x:4321:4321::/x:/bin/sh\nroot:x:0:0:root:/root:/bin/sh\n",
    "without root": "alice:x:4321:4321::/x:/bin/sh\n",
}


def by_every_way(container: Container, key: Path, name: str) -> list[str]:
    """Log in under a name from inside and outside; what these sessions say of themselves."""
    command = "id -u; echo $USER; echo $HOME"
    inside = container.exec("ssh", f"{name}@127.0.0.1", command).checked().text
    outside = run(openssh.client(key, f"{name}@127.0.0.1", command)).checked().text
    return [inside, outside]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return openssh.convert(keys() / "id_dropbear", tmp_path / "key")


@pytest.fixture
def passwd() -> Iterator[Path]:
    """A file to be mounted at /etc/passwd."""
    path = WORK / "passwd"
    path.touch(0o644)
    yield path
    path.unlink()


@pytest.mark.parametrize("image", ["debian", "busybox"])
@pytest.mark.parametrize("which", PASSWDS)
def test_root_in_rootless_podman(start: Start, key: Path, passwd: Path, which: str, image: str) -> None:
    passwd.write_text(PASSWDS[which], encoding="ascii")
    container = start("rootless", image, options=["--volume", f"{passwd}:/etc/passwd:ro"])
    home = "/root" if "root:" in PASSWDS[which] else "/home/alice"
    assert by_every_way(container, key, "alice") == [f"0\nalice\n{home}"] * 2
    assert container.ssh("id -u").checked().text == "0"
    if "root:" in PASSWDS[which]:
        assert by_every_way(container, key, "root") == [f"0\nroot\n{home}"] * 2
        assert container.exec("id", "-un").text == "root"
    run(as_user(ALICE, LAUNCHER, "wait", "127.0.0.1")).checked()
    wait_until_found()
    assert run_in_time(as_user(ALICE, LAUNCHER, "status")).checked().err == b""  # it logs in, too


def test_another_user_than_root(start: Start, key: Path, passwd: Path) -> None:
    passwd.write_text(PASSWDS["another uid's"], encoding="ascii")
    options = ["--userns=keep-id", "--env=HOME=/home/alice", "--volume", f"{passwd}:/etc/passwd:ro"]
    container = start("rootless", options=options)
    assert by_every_way(container, key, "alice") == [f"{ALICE}\nalice\n/home/alice"] * 2


@pytest.mark.parametrize("remap", [False, True])
def test_enroot(nothing_left: None, key: Path, remap: bool) -> None:
    """Its own hook 10-shadow.sh writes lines for root, nobody and the user, whoever is root."""

    def prepare(root: Path) -> None:
        lines = f"nobody:x:65534:65534:nobody:/:/sbin/nologin\nalice:x:{ALICE}:{ALICE}::/home/alice:/bin/sh\n"
        (root / "etc").mkdir(exist_ok=True)
        (root / "etc/passwd").write_text(f"root:x:0:0:root:/root:/bin/sh\n{lines}", encoding="ascii")
        os.chown(root / "etc/passwd", ALICE, ALICE)

    container = Enroot(remap=remap, prepare=prepare, env={"HOME": "/root"} if remap else {})
    try:
        container.wait_until_it_runs()
        expected = "0\nalice\n/root" if remap else f"{ALICE}\nalice\n/home/alice"
        assert by_every_way(container, key, "alice") == [expected] * 2
    finally:
        container.remove()
    wait_for(lambda: run(openssh.client(key, "alice@127.0.0.1", "true")).status != 0, f"end of port {PORT}")
