# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of ``ssh_hook``: the interface of Sarus's SSH hook."""

from __future__ import annotations

import gc
import sys

from . import VERSION
from .errors import describe_failure, kind_of
from .fast_stdlib import TYPE_CHECKING, environment, os, signal
from .log import ERROR, log
from .oci.state import read_state

if TYPE_CHECKING:
    from collections.abc import Callable


def main(arguments: list[str], defaults: dict[str, str], load: Callable[[str], None] = lambda _stage: None) -> int:
    """Run one command; return the exit status: 0, or 1 after an error that was reported.

    `load` comes from the launcher: it loads all modules of a stage, or of keygen, at once, so that no import follows.

    `defaults` are the site's settings. The caller's environment overrides all but PYTHON_PACKAGES: colon-separated
    directories with cryptography and pyroute2. An OCI runtime passes all settings in the environment.
    """
    # Appended: nothing in these directories may shadow the standard library.
    sys.path += [path for path in defaults.get("PYTHON_PACKAGES", "").split(":") if path.startswith("/")]
    stage = {"start-ssh-daemon": _run_stage, "start-in-enroot": _run_in_enroot}.get(" ".join(arguments))
    if stage is not None:
        status = _report_failure(lambda: stage(environment(), load))
        if log.kept:
            _keep_messages()
        os._exit(status)  # nothing is left to flush, and the interpreter's finalization would take 2 ms of the start
    return _report_failure(lambda: _run_command(arguments, {**defaults, **environment()}, load))


def _report_failure(command: Callable[[], int]) -> int:
    """Return the exit status of `command`; log any exception as one line and return 1."""
    try:
        return command()
    except Exception as error:
        failure, kind = describe_failure(error), kind_of(error)
    log(
        ERROR, failure, kind
    )  # after the handler: until then the exception keeps its frames alive, and their memory may be all there is
    return 1


def _keep_messages() -> None:
    """Save the warnings and errors of this call where the user can read them, if possible."""
    try:
        from .node import last_messages  # here: most starts log no warning

        last_messages.write(*log.subject, log.fields().get("job", ""), log.kept)
    except Exception:
        pass  # syslog has them


def _run_stage(variables: dict[str, str], load: Callable[[str], None]) -> int:
    """Run the stage that matches the state on standard input; import only the modules that it needs."""
    _prepare_stage()
    state = read_state(0)
    log.subject = (state.id, state.bundle)
    if state.status == "stopped":
        load("poststop")
        from .stop.poststop import poststop

        poststop(state)
    else:
        load("create_runtime")
        from .start.from_runtime import create_runtime

        create_runtime(state, variables)
    return 0


def _run_in_enroot(variables: dict[str, str], load: Callable[[str], None]) -> int:
    """Run the stage for enroot, which does not use an OCI runtime."""
    umask = _prepare_stage()
    load("enroot")
    from .start.from_enroot import start_in_enroot

    start_in_enroot(variables, umask)
    return 0


def _describe_subject() -> dict[str, str]:
    """Return the log fields that identify the container and its user."""
    from .node import subject  # here: most starts log no warning

    return subject.fields()


def _prepare_stage() -> int:
    """Prepare the process for a stage; return its previous umask."""
    gc.disable()  # there is little garbage, and a collection in forked processes causes copy-on-write faults
    log.to_syslog = True
    log.describe_subject = _describe_subject
    # crun blocks every signal, and a daemon that inherits this mask never reaps its children.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return os.umask(0o022)


def _run_command(arguments: list[str], settings: dict[str, str], load: Callable[[str], None]) -> int:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback after Ctrl-C, from here on
    name, *words = arguments or [""]
    if name == "keygen":
        load(name)
    from .dispatch import SUMMARIES, dispatch, usage

    if name in SUMMARIES:
        return dispatch(name, words, settings)
    if name == "--version":
        print(f"ssh_hook {VERSION}")
    elif name in ("-h", "--help", "help"):
        print(usage())
    else:
        print(usage(), file=sys.stderr)
        return 1
    return 0
