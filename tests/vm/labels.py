"""What the tests of both security modules ask of a container."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attached
import openssh
from containers import Container, Result, keys, processes, wait_for
from hook_log import Syslog

RUNTIMES = ("crun", "runc")


def label(pid: int) -> str:
    """The label of a process, as the kernel writes it."""
    return Path(f"/proc/{pid}/attr/current").read_text(encoding="ascii").rstrip("\0\n")


def session_label(container: Container) -> str:
    """The label that a session sees as its own."""
    return container.ssh("cat /proc/self/attr/current").checked().text.rstrip("\0")


def assert_all_labelled(container: Container, expected: str) -> None:
    """The container's first process, its SSH daemon and a session have this label."""
    labels = [label(container.init()), label(container.daemon()), session_label(container)]
    assert labels == [expected] * 3, labels


def assert_lands_by_door(expected: str) -> None:
    """A session by the door of alice's only container has this label; she sends no key."""
    landed = openssh.login(Path("/dev/null"), "cat /proc/self/attr/current", options=openssh.BY_DOOR).checked()
    assert landed.text.rstrip("\0") == expected, landed.err


def assert_logged(container: Container, syslog: Syslog) -> None:
    """A session leaves two lines in the system log."""
    container.ssh("exit 7")
    wait_for(lambda: len(syslog.logins()) == 2, "the lines of a session")
    assert syslog.logins()[1]["status"] == "7"


def take_on(file: str, value: str) -> list[str]:
    """A command that runs another under a label, which it writes to `file` in attr."""
    return ["/bin/sh", "-c", f'echo -n "{value}" >/proc/self/attr/{file} && exec "$@"', "-"]


@contextmanager
def attached_to(labelled: list[str], prepare: Callable[[Path], None]) -> Iterator[tuple[int, Callable[..., Result]]]:
    """alice's container of bubblewrap, to which she has attached. Gives its first process, and what logs in to it.

    `labelled` runs its first process; `prepare` changes its image.
    """
    attached.WHERE.mkdir()
    image = attached.make_image("image")
    prepare(image)
    attached.ENGINES["labelled"] = [*attached.ENGINES["bwrap-write"], *labelled]
    key = openssh.convert(keys() / "id_dropbear", attached.WHERE / "key")
    container = attached.start("labelled", image, 345690)
    try:
        attached.attach(container)
        yield container.pid, lambda command: openssh.login(key, command, port=attached.PORT)
        attached.hook("detach").checked()
    finally:
        attached.stop(container)
        shutil.rmtree(attached.WHERE)


def assert_attached(process: int, session: Result, expected: str) -> None:
    """The process, the daemon and a session have this label."""
    daemon = next(pid for pid, name in processes().items() if name == "dropbear")
    labels = [label(process), label(daemon), session.checked().text.rstrip("\0")]
    assert labels == [expected] * 3, labels
