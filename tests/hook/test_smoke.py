"""Every engine and image: a login, and nothing left after it."""

from __future__ import annotations

import pytest
from containers import ENGINES, PORT, listening, processes, records, wait_for
from starter import Start


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
