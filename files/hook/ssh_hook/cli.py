# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of ``ssh_hook``: the interface of Sarus's SSH hook."""

from __future__ import annotations

import gc
import posix
import sys

from .container import read_state
from .errors import HookError, describe_failure
from .log import DEBUG, ERROR, INFO, log
from .paths import environment
from .settings import Settings, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from signal import SIG_DFL, SIG_SETMASK, SIGCHLD, SIGINT, pthread_sigmask
    from signal import signal as set_signal

    from .container import State
else:  # the C half of signal: its other half imports enum
    from _signal import SIG_DFL, SIG_SETMASK, SIGCHLD, SIGINT, pthread_sigmask
    from _signal import signal as set_signal

_USAGE = """usage: ssh_hook keygen [--overwrite] [--verbose | --debug]     make your SSH keys for containers
       ssh_hook check-user-has-sshkeys [--verbose | --debug]   exit with 0 if you have them
       ssh_hook client-config [--port PORT] [HOSTS]            set up ssh outside of containers
       ssh_hook wait [--timeout SECONDS] [--port PORT] [HOSTS] wait for the containers on these hosts
       ssh_hook sweep [--verbose | --debug]                    end and remove what killed container runtimes left
       ssh_hook start-ssh-daemon                               for OCI runtimes: the container's state is on stdin
HOSTS: names such as node1 or gpu[001-128], or --hostfile FILE, or else those of the Slurm job"""


def main(arguments: list[str], defaults: dict[str, str]) -> int:
    """Run one command; returns the exit status: 0, or 1 after an error that was reported.

    `defaults` are the site's settings, for what a user's environment does not set (an OCI runtime's has them all);
    PYTHON_PACKAGES, directories separated by colons that hold cryptography and pyroute2, is only there.
    """
    packages = defaults.get("PYTHON_PACKAGES", "")  # where to import from is the site's to say, not the caller's
    if arguments == ["start-ssh-daemon"]:
        status = _guarded(lambda: _start_or_stop([path for path in packages.split(":") if path]))
        posix._exit(status)  # a container waits, and there is nothing to flush: the interpreter's tidying up takes 2 ms
    return _guarded(lambda: _user_command(arguments, {**defaults, **environment(), "PYTHON_PACKAGES": packages}))


def _guarded(command: Callable[[], int]) -> int:
    """The exit status of `command`, every failure of which ends in one line."""
    try:
        return command()
    except Exception as error:
        log(ERROR, describe_failure(error))
    return 1


def _start_or_stop(packages: list[str]) -> int:
    """Only what a stage takes is imported: poststop takes little."""
    gc.disable()  # there is little garbage, and forked processes would each copy what it looks at
    log.to_syslog = True
    pthread_sigmask(SIG_SETMASK, [])  # crun blocks every signal, and a daemon that inherits that never reaps
    set_signal(SIGCHLD, SIG_DFL)
    posix.umask(0o022)
    state = read_state(0)
    if state.status == "stopped":
        from .stop import stop

        stop(state)
    else:
        _start(state, packages)
    return 0


def _start(state: State, packages: list[str]) -> None:
    from .start import start

    settings = Settings(environment())
    bundle = posix.open(state.bundle, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    start(settings, state, bundle, packages)


def _user_command(arguments: list[str], settings: dict[str, str]) -> int:
    set_signal(SIGINT, SIG_DFL)  # an interrupt needs no traceback
    command, *options = arguments or [""]
    allowed = {"keygen": {"--overwrite", "--verbose", "--debug"}, "check-user-has-sshkeys": {"--verbose", "--debug"}}
    if command in ("-h", "--help", "help"):
        print(_USAGE)
    elif command == "wait":
        from .wait import wait

        wait(options, settings)
    elif command == "sweep":
        return _sweep(options)
    elif command == "client-config" or (command in allowed and set(options) <= allowed[command]):
        _key_command(command, options, settings)
    else:
        print(_USAGE, file=sys.stderr)
        return 1
    return 0


def _sweep(options: list[str]) -> int:
    for option in options:
        if option not in ("--verbose", "--debug"):
            raise HookError(f"sweep takes --verbose or --debug, and not '{printable(option)}': see 'ssh_hook --help'")
    from .sweep import sweep

    _set_level(options)
    return sweep()


def _set_level(options: list[str]) -> None:
    log.level = DEBUG if "--debug" in options else INFO if "--verbose" in options else log.level


def _key_command(command: str, options: list[str], settings: dict[str, str]) -> None:
    from . import keygen
    from .keystore import KeyStoreError

    _set_level(options)
    try:
        if command == "keygen":
            print(keygen.keygen(settings, "--overwrite" in options))
        elif command == "client-config":
            from .client_config import client_config

            print(client_config(options, settings))
        else:
            log(INFO, keygen.check(settings))
    except KeyStoreError as error:
        raise HookError(str(error)) from None
