"""Where the daemon listens: in a network of the container's own everywhere, on the node's where the site says."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from containers import ALICE, PORT, SETTINGS, WORK, Container, new_name, run
from hook_log import Syslog
from refusals import assert_refused
from starter import Start

ADDRESS, OTHER = "10.99.0.1", "fd00:99::1"


@pytest.fixture(scope="module", autouse=True)
def addresses() -> Iterator[None]:
    """Addresses of the bed's network on which nothing else listens."""
    for address in (f"{ADDRESS}/32", f"{OTHER}/128"):
        run(["ip", "address", "add", address, "dev", "lo"]).checked()
    yield
    for address in (f"{ADDRESS}/32", f"{OTHER}/128"):
        run(["ip", "address", "del", address, "dev", "lo"]).checked()


def sockets(container: Container) -> set[str]:
    """Where something listens on the port, in the container's network."""
    command = ["nsenter", "--target", str(container.init()), "--net", "ss", "-Hltn", f"sport = :{PORT}"]
    return {line.split()[3].removesuffix(f":{PORT}") for line in run(command).checked().text.splitlines()}


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        (ADDRESS, {ADDRESS}),
        (f"{ADDRESS},127.0.0.1", {ADDRESS, "127.0.0.1"}),
        (OTHER, {f"[{OTHER}]"}),
        (f"{OTHER},{ADDRESS}", {f"[{OTHER}]", ADDRESS}),
        ("", {"0.0.0.0", "[::]"}),
    ],
)
def test_on_the_nodes_network(start: Start, listen: str, expected: set[str]) -> None:
    container = start("crun", settings={"LISTEN_ADDRESSES": listen})
    assert sockets(container) == expected
    for address in expected:
        assert container.ssh("echo here", host=address.strip("[]").replace("0.0.0.0", "127.0.0.1")).text == "here"
    if expected == {ADDRESS}:
        assert container.ssh("true", host="127.0.0.1").status != 0


def test_on_a_network_of_its_own(start: Start) -> None:
    container = start("crun", network="private", settings={"LISTEN_ADDRESSES": ADDRESS})
    assert sockets(container) == {"0.0.0.0", "[::]"}


def test_two_containers_of_a_node_share_the_port_on_different_addresses(start: Start) -> None:
    first = start("crun", settings={"LISTEN_ADDRESSES": ADDRESS})
    second = start("crun", settings={"LISTEN_ADDRESSES": OTHER})
    for host, container in ((ADDRESS, first), (OTHER, second)):
        assert first.ssh("cat /proc/sys/kernel/hostname; readlink /proc/self/ns/mnt", host=host).text.endswith(
            container.exec("readlink", "/proc/self/ns/mnt").text
        )


@pytest.mark.parametrize(
    ("listen", "words"),
    [
        ("10.99.0.2", ["10.99.0.2", "not an address of this node"]),
        (f"{ADDRESS},fd00:99::2", ["fd00:99::2", "not an address of this node"]),
        ("localhost", ["LISTEN_ADDRESSES", "localhost", "not an IP address"]),
        ("10.99.0.1/32", ["LISTEN_ADDRESSES", "not an IP address"]),
        ("10.99.0.1,", ["LISTEN_ADDRESSES", "''", "not an IP address"]),
        ("fe80::1%lo", ["LISTEN_ADDRESSES", "not an IP address"]),
        (" 10.99.0.1", ["LISTEN_ADDRESSES", "not an IP address"]),
        (",".join(f"10.0.0.{number}" for number in range(11)), ["LISTEN_ADDRESSES", "11 addresses"]),
    ],
)
def test_refused(start: Start, syslog: Syslog, listen: str, words: list[str]) -> None:
    assert_refused(start, syslog, "crun", *words, settings={"LISTEN_ADDRESSES": listen})


def test_port_in_use_on_one_of_the_addresses(start: Start, syslog: Syslog) -> None:
    start("crun", settings={"LISTEN_ADDRESSES": ADDRESS})
    words = (f"port {PORT} is in use", "dropbear")
    assert_refused(start, syslog, "crun", *words, settings={"LISTEN_ADDRESSES": f"{OTHER},{ADDRESS}"})


@pytest.mark.parametrize("engine", ["rootless", "crun"])
def test_a_user_without_root_is_told_that_the_port_is_the_users_own(start: Start, syslog: Syslog, engine: str) -> None:
    start(engine)
    assert_refused(start, syslog, "rootless", f"port {PORT} is in use by", f"of uid {ALICE}: choose another")


HALF = f"""
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>
int main(int argc, char **argv) {{
    struct sockaddr_in any = {{.sin_family = AF_INET, .sin_port = htons({PORT})}};
    int taken = socket(AF_INET, SOCK_STREAM, 0), on = argc > 0;
    setsockopt(taken, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(taken, (struct sockaddr *)&any, sizeof any) == 0 && listen(taken, 1) == 0)
        execv("/opt/oci-hooks/ssh/dropbear/bin/dropbearmulti", argv); /* which keeps the socket */
    return 9;
}}
"""


def test_port_that_is_half_taken_after_the_hook_looked(start: Start, syslog: Syslog) -> None:
    """The server listens in both families or not at all; the other half of its port would be somebody else's."""
    directory = WORK / new_name()
    shutil.copytree(f"{SETTINGS['DROPBEAR_DIR']}/bin", directory / "bin", symlinks=True)
    program = directory / "bin/dropbear"
    program.unlink()
    run(["musl-gcc", "-static", "-x", "c", "-", "-o", program], HALF.encode()).checked()
    program.chmod(0o111)
    assert_refused(start, syslog, "crun", f"port {PORT}", image="busybox", settings={"DROPBEAR_DIR": str(directory)})
