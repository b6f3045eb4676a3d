"""Logins from container to container, ours and OpenSSH's in turn: one, many at once, and those of a launcher."""

from __future__ import annotations

from collections.abc import Iterator

import lab
from table import Row, medians, ratio_at_most

LOGINS = 128
HOSTS = 64


def login_rows() -> Iterator[Row]:
    """One command on another host."""
    with lab.containers(2) as made, lab.clock(made[0]) as clock:
        host = lab.address(2)
        seconds = medians(
            40,
            {
                "ours": lambda: clock.seconds(["ssh", host, "true"]),
                "openssh": lambda: clock.seconds([*lab.OPENSSH, host, "true"]),
            },
        )
    yield Row(
        "`ssh host true` between containers",
        seconds["ours"] * 1e3,
        seconds["openssh"] * 1e3,
        "ms",
        "OpenSSH's ssh to its sshd",
        (ratio_at_most(0.2),),
    )


def many_logins_rows() -> Iterator[Row]:
    """Many at once to one container, until the last has ended."""
    with lab.containers(2) as made, lab.clock(made[0]) as clock:
        host = lab.address(2)
        seconds = medians(
            5,
            {
                "ours": lambda: clock.seconds(*[["ssh", host, "true"]] * LOGINS),
                "openssh": lambda: clock.seconds(*[[*lab.OPENSSH, host, "true"]] * LOGINS),
            },
        )
    yield Row(
        f"{LOGINS} logins at once to one container, until the last",
        seconds["ours"],
        seconds["openssh"],
        "s",
        "OpenSSH's ssh to its sshd, MaxStartups 1000",
        (ratio_at_most(0.6),),
    )


def launch_rows() -> Iterator[Row]:
    """One command in many containers, by pdsh."""
    with lab.containers(HOSTS + 1) as made, lab.clock(made[0]) as clock:
        hosts = f"{lab.NETWORK}.[2-{HOSTS + 1}]"
        pdsh = ["pdsh", "-S", "-R", "ssh", "-f", str(HOSTS), "-w", hosts, "true"]
        # pdsh takes the first ssh of PATH
        peers = ["env", f"PATH={lab.PLACE}/bin:/usr/bin:/bin", f"PDSH_SSH_ARGS_APPEND={' '.join(lab.OPENSSH[1:])}"]
        seconds = medians(
            5,
            {
                "ours": lambda: clock.seconds(pdsh),
                "openssh": lambda: clock.seconds([*peers, *pdsh]),
            },
        )
    yield Row(
        f"`pdsh -w {HOSTS} containers true` from one",
        seconds["ours"],
        seconds["openssh"],
        "s",
        "the same by OpenSSH",
        (ratio_at_most(1),),
    )
