"""Many sessions in one container: launchers open hundreds at once, and each has to end."""

from __future__ import annotations

import many
import openssh
import pytest
from containers import Container, keys
from starter import Start

CLIENTS = ("ours", "openssh")


@pytest.fixture(scope="module")
def container(start_shared: Start) -> Container:
    return start_shared("crun", network="private")


@pytest.fixture(scope="module", params=CLIENTS)
def client(
    request: pytest.FixtureRequest, container: Container, tmp_path_factory: pytest.TempPathFactory
) -> many.Client:
    if request.param == "ours":
        return many.own_client(container)
    key = openssh.convert(keys() / "id_dropbear", tmp_path_factory.mktemp("keys") / "id")
    return many.openssh_client(container, key)


def test_128_at_once(container: Container, client: many.Client) -> None:
    sessions = many.all_at_once(container, client, 128)
    assert sessions == [many.Session(0, b"%d\n" % number, b"") for number in range(128)]


@pytest.mark.parametrize("pause", [0, 0.002], ids=["fast", "slow"])
def test_sessions_with_much_output_end(container: Container, client: many.Client, pause: float) -> None:
    assert many.with_output(container, client, 200, pause) == []
