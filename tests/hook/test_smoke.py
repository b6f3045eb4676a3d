"""Every engine and image: a login, and nothing left after it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers import ALICE, ENGINES, IMAGES, PORT, as_user, listening, processes, records, run, wait_for
from starter import Start

ROOT = Path(__file__).resolve().parents[2]
# What readers run first, and what it prints besides the node's name.
FIRST = {"README.md": [], "docs/start-here.md": ["alice"], "docs/admin-guide.md": []}


def cgroups(text: str) -> list[str]:
    return sorted(text.splitlines())


@pytest.mark.parametrize("image", ["debian", "busybox"])
@pytest.mark.parametrize("engine", ENGINES)
def test_login(start: Start, engine: str, image: str) -> None:
    container = start(engine, image)
    assert container.ssh("exit 7").status == 7
    assert container.ssh("cat; echo end", stdin=b"\0\xff\n").checked().out == b"\0\xff\nend\n"
    assert PORT in listening()
    session = container.ssh("cat /proc/self/cgroup").checked().text
    assert cgroups(session) == cgroups(container.exec("/bin/cat", "/proc/1/cgroup").checked().text)

    container.stop().checked()
    wait_for(lambda: not processes(), f"end of {processes()}")
    assert PORT not in listening()
    assert not records()


@pytest.fixture
def image() -> Iterator[None]:
    """Alice's podman has the image of the guides, and need not pull it."""
    name, archive = "docker.io/library/busybox", Path("/home/alice/image.tar")
    run(["tar", "-C", (IMAGES / "busybox.rootfs").resolve(), "-cf", archive, "."]).checked()
    try:
        run(as_user(ALICE, "podman", "import", "--quiet", str(archive), name)).checked()
    finally:
        archive.unlink()
    yield
    run(as_user(ALICE, "podman", "rmi", "--force", name)).checked()


@pytest.mark.parametrize("page", FIRST)
def test_the_first_command_of_the_guides(image: None, page: str) -> None:
    """As printed."""
    text = (ROOT / page).read_text(encoding="utf-8")
    start = r"podman run --rm --network host --annotation com\.hooks\.ssh\.enabled=true "
    (command,) = re.findall(rf"{start}(?:.*\\\n)*[^`\n]*", text)
    printed = run(as_user(ALICE, "sh", "-c", command)).checked().text
    assert printed.splitlines() == [os.uname().nodename, *FIRST[page]]
