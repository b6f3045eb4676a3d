# SPDX-License-Identifier: GPL-3.0-or-later
"""The provisioner: a child of the hook that joins the container, sets it up for sessions, and exits.

It stays in the hook's pid namespace, so that the container can end even while a user's directory blocks the
provisioner. It forks the daemon through an intermediate process in the container's pid namespace, which exits at once:
so the container's first process becomes the daemon's parent and reaps it, and the pid namespace can end.
"""

from __future__ import annotations

from ..errors import ANNOTATION_WRONG, IMAGE_UNFIT, HookError, UnservedError, kind_of_os, printable
from ..fast_stdlib import TYPE_CHECKING, os, write_all
from ..keys.errors import MissingKeysError
from ..linux import syscalls
from ..node.user_keys import read_credentials
from ..oci.annotations import PIDFILE_CONTAINER
from ..oci.container_paths import PIDFILE
from ..provision.setup import Setup
from .channel import EndOfMessagesError, KeysMissing, NoAnswerError, Provisioned, Unserved, Warned
from .daemon import become_daemon
from .enter import EnteredContainer

if TYPE_CHECKING:
    from typing import NoReturn

    from ..linux.rootfs import Rootfs
    from ..node.owner import Owner
    from ..node.user_keys import Credentials
    from ..provision.hostfiles import Launch
    from .channel import Channel, ProvisionerEnd
    from .plan import OpenRoot, StartPlan

_PROBLEM = "cannot set the container up"


def provision(plan: StartPlan, channel: Channel) -> NoReturn:
    """Run the provisioner: fork the daemon, and set the container up. Errors go to the hook; the exit status is 0 or 1.

    Files that outlive the container are written last, when the daemon listens.
    """
    status = 1
    try:
        _close_output()
        root = plan.root.open()
        _fork_daemon(plan, root, channel)
        end = channel.provisioner_end()
        try:
            _provision(plan, root, end)
            status = 0
        except (EndOfMessagesError, NoAnswerError, BrokenPipeError):
            pass  # the daemon has sent the reason to the hook, or the hook has exited
        except UnservedError as error:
            end.to_hook.send(Unserved(error.kind, str(error)))
        except Exception as error:
            end.to_hook.fail(error, _PROBLEM)
    except Exception as error:
        channel.fail(error, _PROBLEM)
    finally:
        os._exit(status)


def _close_output() -> None:
    """Close the runtime's pipes: it waits for EOF, and a user may block this process longer than the hook runs."""
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


def _fork_daemon(plan: StartPlan, root: OpenRoot, channel: Channel) -> None:
    problem = "cannot start a process in the container"
    plan.namespaces.join("pid")  # for children only
    try:
        pid = syscalls.fork()
    except OSError as error:  # ENOMEM if the pid namespace has ended
        raise HookError(kind_of_os(error), f"{problem}: {error.strerror}; has the container ended?") from None
    if pid == 0:
        try:
            if plan.cgroups.fork() == 0:
                become_daemon(plan, root, channel)
        except OSError as error:
            channel.fail(HookError(kind_of_os(error), f"{problem}: {error.strerror}"), problem)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def _provision(plan: StartPlan, root: OpenRoot, end: ProvisionerEnd) -> None:
    container, server = plan.container, plan.server
    # Not in the hook, since a user can block the process that reads the files.
    credentials = _read_credentials(plan, root.owner, end)
    launch = _launch(plan.hosts)
    entered = EnteredContainer(root, end.to_hook)
    plan.namespaces.close()
    mount_programs = root.open_programs()
    mount_context, in_user_namespace = plan.labels.mount_context, plan.in_user_namespace
    setup = Setup(
        *(container, root.owner.entry, plan.settings, entered.rootfs, mount_context, in_user_namespace, launch)
    )
    port_is_free = end.await_port()
    setup.mount(mount_programs, plan.provides_home)
    end.announce_programs(port_is_free)
    names = launch.known_names(server.port) if launch else []
    known_hosts = server.known_hosts(credentials.host_public_keys, names)
    host_keys = setup.provide(credentials, server.ssh_config(setup.account), known_hosts)
    for warning in setup.warnings:
        end.to_hook.send(Warned(IMAGE_UNFIT, warning))
    pidfile = _open_pidfile(entered.rootfs, container.annotations.pidfile_container)
    provisioned = Provisioned(*host_keys)
    end.to_hook.send(provisioned)
    if pidfile is None and plan.settings.overlay:
        return  # no file outlives the container
    end.await_keep(provisioned)
    if pidfile is not None:
        write_all(pidfile, b"%d\n" % port_is_free.pid)
    setup.finish(credentials)


def _read_credentials(plan: StartPlan, owner: Owner, end: ProvisionerEnd) -> Credentials:
    """Read the user's keys; if there are none, let the hook create them. Raises HookError.

    This process must not: its children are in the container's pid namespace, which cannot end while one is blocked.
    """
    try:
        return read_credentials(plan.container, owner, plan.settings)
    except MissingKeysError as error:
        end.to_hook.send(KeysMissing(error.kind, str(error)))
    end.await_keys()
    return read_credentials(plan.container, owner, plan.settings)


def _launch(hosts: list[tuple[str, int]]) -> Launch | None:
    """Return the files for a container with its job's hosts, or None. Must be called before imports are disabled."""
    if not hosts:
        return None

    from ..provision.hostfiles import Launch

    return Launch(hosts)


def _open_pidfile(rootfs: Rootfs, path: str) -> int | None:
    """Open and truncate the annotation's pidfile; return None if it is Dropbear's default. Raises HookError."""
    if path == PIDFILE:
        return None
    try:
        return rootfs.pidfile(path)
    except OSError as error:
        problem = f"the annotation {PIDFILE_CONTAINER}: cannot write {printable(path)} as the container's user"
        raise HookError(ANNOTATION_WRONG, f"{problem}: {error.strerror}") from None
    except HookError as error:
        raise HookError(ANNOTATION_WRONG, f"the annotation {PIDFILE_CONTAINER}: {error}") from None
