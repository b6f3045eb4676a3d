# SPDX-License-Identifier: GPL-3.0-or-later
"""createRuntime, seen from inside of the container: what the hook's child does, and in which order."""

from __future__ import annotations

import posix

from .container import DEFAULT_PIDFILE
from .content import DROPBEAR
from .entry import Entry
from .errors import HookError
from .restrictions import Restrictions
from .settings import printable
from .setup import Setup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .child import Child
    from .daemon import Daemon
    from .login import Login
    from .rootfs import Rootfs
    from .target import Target


def start_inside(target: Target, login: Login, daemon: Daemon, child: Child) -> Callable[[], None]:
    """Join the container, set it up, and have its daemon run. Returns what takes that back.

    Raises HookError, and OSError for what no check foresaw.
    """
    container, settings = target.container, target.settings
    try:
        daemon.fork()
        if target.namespaces is not None:
            target.namespaces.join_unrooted()
        entry = Entry(target)
        programs = _open_programs(f"{settings.dropbear_dir}/bin")
        process = daemon.process()
        is_in_user_namespace = target.engine.is_rootless or target.has_user_namespace()
        context = target.labels.mount_context
        setup = Setup(container, login, settings, entry.rootfs, context, is_in_user_namespace, child.warn)
        daemon.require_startable()
        pidfile = setup.mount(programs)
        daemon.pidfile = _open_pidfile(entry.rootfs, container.annotations.pidfile_container)
        program = posix.stat("dropbear", dir_fd=programs)
        identity = process.pid, process.start_time(), program.st_dev, program.st_ino
        descriptors = pidfile, -1 if daemon.pidfile is None else daemon.pidfile
        child.tell("forked", " ".join(map(str, (*identity, posix.readlink("/proc/self"), *descriptors))))
        options = setup.cover()
        Restrictions(container, entry, context).apply(in_kernel=False)
        child.await_record()
        for place in [f"[{address}]:{target.port}" for address in target.listen] or [str(target.port)]:
            options += ["-p", place]
        daemon.run(f"{DROPBEAR}/bin/dropbear", [*options, "-P", DEFAULT_PIDFILE])
    except BaseException:
        daemon.take_back()
        raise
    return daemon.take_back


def _open_programs(path: str) -> int:
    try:
        descriptor = posix.open(path, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError as error:
        raise HookError(f"cannot open {path} (DROPBEAR_DIR in the OCI hook's JSON file): {error.strerror}") from None
    return descriptor


def _open_pidfile(rootfs: Rootfs, path: str) -> int | None:
    """The pidfile that the annotation names; None where it is Dropbear's own."""
    if path == DEFAULT_PIDFILE:
        return None
    try:
        return rootfs.pidfile(path)
    except OSError as error:
        problem = (
            f"the annotation com.hooks.ssh.pidfile_container: cannot write {printable(path)} as the container's user"
        )
        raise HookError(f"{problem}: {error.strerror}") from None
