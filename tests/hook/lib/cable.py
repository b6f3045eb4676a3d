"""Cables: a network of its own is reached from the bed by a pair of interfaces."""

from __future__ import annotations

from containers import run, wait_for

NETWORK = "10.98.0"


def address(number: int) -> str:
    """The address at the far end of cable `number`."""
    return f"{NETWORK}.{number * 4 + 2}"


def near_address(number: int) -> str:
    """The bed's own address on cable `number`."""
    return f"{NETWORK}.{number * 4 + 1}"


def plug(pid: int, number: int) -> str:
    """Lay cable `number` into the network of the process `pid`; return the address there. It goes with that network."""
    enter = ["nsenter", "--net", "--target", str(pid), "ip"]
    near = f"cable{number}"
    # A network outlives its last process by a moment.
    wait_for(lambda: run(["ip", "link", "show", near]).status != 0, f"end of the earlier {near}")
    run(["ip", "link", "add", near, "type", "veth", "peer", "name", "eth0", "netns", str(pid)]).checked()
    run([*enter, "address", "add", f"{address(number)}/30", "dev", "eth0"]).checked()
    run([*enter, "link", "set", "eth0", "up"]).checked()
    run(["ip", "address", "add", f"{near_address(number)}/30", "dev", near]).checked()
    run(["ip", "link", "set", near, "up"]).checked()
    return address(number)
