# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of ``ssh_hook``: the interface of Sarus's SSH hook."""

from __future__ import annotations

import gc
import sys

from .errors import HookError, describe_failure, printable
from .kernel.lean import TYPE_CHECKING, environment, os, signal
from .log import DEBUG, ERROR, INFO, log
from .spec.state import read_state

if TYPE_CHECKING:
    from collections.abc import Callable


_USAGE = """usage: ssh_hook keygen [--overwrite] [--verbose | --debug]     make your SSH keys for containers
       ssh_hook check-user-has-sshkeys [--verbose | --debug]   exit with 0 if you have them
       ssh_hook client-config [--port PORT] [HOSTS]            set up ssh outside of containers
       ssh_hook wait [--timeout SECONDS] [--port PORT] [HOSTS] wait for the containers on these hosts
       ssh_hook sweep [--verbose | --debug]                    end and remove what killed container runtimes left
       ssh_hook start-ssh-daemon                               for OCI runtimes: the container's state is on stdin
       ssh_hook start-in-enroot                                for enroot: its hooks.d calls it
HOSTS: names such as node1 or gpu[001-128], or --hostfile FILE, or else those of the Slurm job"""


def main(arguments: list[str], defaults: dict[str, str]) -> int:
    """Run one command; return the exit status: 0, or 1 after an error that was reported.

    `defaults` are the site's settings. The caller's environment overrides them, except PYTHON_PACKAGES: colon-separated
    directories that hold cryptography and pyroute2. For an OCI runtime the environment has all settings.
    """
    packages = defaults.get("PYTHON_PACKAGES", "")  # the site decides where to import from, not the caller
    stage = {"start-ssh-daemon": _run_stage, "start-in-enroot": _run_in_enroot}.get(" ".join(arguments))
    if stage is not None:
        status = _report_failure(lambda: stage([path for path in packages.split(":") if path]))
        os._exit(status)  # nothing is left to flush, and the interpreter's finalization would take 2 ms of the start
    return _report_failure(lambda: _user_command(arguments, {**defaults, **environment(), "PYTHON_PACKAGES": packages}))


def _report_failure(command: Callable[[], int]) -> int:
    """Return the exit status of `command`; log any exception as one line and return 1."""
    try:
        return command()
    except Exception as error:
        failure = describe_failure(error)
    log(ERROR, failure)  # after the handler: the exception keeps what its frames hold, which may be all of the memory
    return 1


def _run_stage(packages: list[str]) -> int:
    """Run the stage that the state on standard input calls for; import only the modules that this stage needs."""
    _prepare_stage()
    state = read_state(0)
    if state.status == "stopped":
        from .stages.poststop import poststop

        poststop(state)
    else:
        from .stages.create_runtime import create_runtime

        create_runtime(state, packages)
    return 0


def _run_in_enroot(packages: list[str]) -> int:
    """Run the stage for enroot, which calls no OCI runtime."""
    umask = _prepare_stage()
    from .stages.enroot import start_in_enroot

    start_in_enroot(umask, packages)
    return 0


def _prepare_stage() -> int:
    """Make the process ready for a stage; return the umask that it had."""
    gc.disable()  # there is little garbage, and a collection in forked processes causes copy-on-write faults
    log.to_syslog = True
    # crun blocks every signal, and a daemon that inherits this mask never reaps its children.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return os.umask(0o022)


def _user_command(arguments: list[str], settings: dict[str, str]) -> int:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback after Ctrl-C
    command, *options = arguments or [""]
    allowed = {"keygen": {"--overwrite", "--verbose", "--debug"}, "check-user-has-sshkeys": {"--verbose", "--debug"}}
    if command in ("-h", "--help", "help"):
        print(_USAGE)
    elif command == "sweep":
        return _sweep(options)
    elif command in ("wait", "client-config") or (command in allowed and set(options) <= allowed[command]):
        _key_command(command, options, settings)
    else:
        print(_USAGE, file=sys.stderr)
        return 1
    return 0


def _sweep(options: list[str]) -> int:
    for option in options:
        if option not in ("--verbose", "--debug"):
            raise HookError(f"sweep takes --verbose or --debug, and not '{printable(option)}': see 'ssh_hook --help'")
    from .commands.sweep import sweep

    _set_level(options)
    return sweep()


def _set_level(options: list[str]) -> None:
    log.level = DEBUG if "--debug" in options else INFO if "--verbose" in options else log.level


def _key_command(command: str, options: list[str], settings: dict[str, str]) -> None:
    from .commands import keygen
    from .keys.errors import KeyStoreError

    _set_level(options)
    try:
        if command == "keygen":
            print(keygen.keygen(settings, "--overwrite" in options))
        elif command == "client-config":
            from .commands.client_config import client_config

            print(client_config(options, settings))
        elif command == "wait":
            from .commands.wait import wait

            wait(options, settings)
        else:
            log(INFO, keygen.check(settings))
    except KeyStoreError as error:
        raise HookError(str(error)) from None
