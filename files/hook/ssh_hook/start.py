# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook's work at createRuntime: an SSH server inside the container that is being made.

The hook itself stays on the host: it reads what belongs to the user as the user, keeps the record and reports. Its
child is a process of the container's pid namespace. It joins the rest of the container, starts the daemon, and ends, so
that nothing of the hook stays there, where even a zombie would keep the container from ending.

They part before the user is known: what that takes, the hook imports and reads while the others are at work.
"""

from __future__ import annotations

from .child import Child
from .container import read_container
from .inside import start_inside
from .limits import raise_own_limits
from .log import log
from .target import Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .container import State
    from .settings import Settings


def start(settings: Settings, state: State, bundle: int, packages: list[str]) -> None:
    """Start the daemon of the container and record it in its bundle, whose directory is open as `bundle`.

    `packages` are directories that hold pyroute2. Raises HookError; then nothing stays behind.
    """
    container = read_container(bundle, state.bundle)
    log.level = container.annotations.log_level
    raise_own_limits(container)
    target = Target(container, settings, packages, state, bundle)
    child = Child()
    if target.namespaces is not None:
        target.namespaces.join("pid")  # of the child
    child.fork(lambda: start_inside(target, child))
    try:
        from .outside import accompany

        accompany(target, child)
    finally:
        child.end()
