# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook's work at createRuntime: an SSH server inside the container that is being made.

The hook itself stays on the host: it reads what belongs to the user as the user, keeps the record and reports. Its
child is a process of the container's pid namespace. It joins the rest of the container, starts the daemon, and ends, so
that nothing of the hook stays there, where even a zombie would keep the container from ending.

They part when all is read: each page that forked processes share is copied when one of them first writes to it, which
takes longer than the work that they could do side by side.
"""

from __future__ import annotations

from . import linux, userfiles
from .child import Child
from .container import read_container
from .daemon import Daemon
from .inside import start_inside
from .limits import raise_own_limits
from .log import log
from .login import read_login
from .outside import accompany
from .owner import find_owner
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
    owner = find_owner(target.user, target.engine, settings.passwd_file)
    log.stdout = userfiles.log_descriptor(container.annotations.log_stdout, owner.keeper, log.stdout)
    log.stderr = userfiles.log_descriptor(container.annotations.log_stderr, owner.keeper, log.stderr)
    login = read_login(container, owner, settings)
    linux.prctl(linux.PR_SET_DUMPABLE, 0)  # no process of the container may look into those of the hook that join it
    child = Child()
    daemon = Daemon(target, child.warn)
    if target.namespaces is not None:
        target.namespaces.join("pid")  # of the child
    child.fork(lambda: start_inside(target, login, daemon, child))
    daemon.leave()
    try:
        accompany(target, owner, daemon.words, child)
    finally:
        child.end()
