# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of ``ssh_hook``: the interface of Sarus's SSH hook."""

from __future__ import annotations

import gc
import sys

from .errors import HookError, LateError, describe_failure, kind_of
from .linux.fast_stdlib import TYPE_CHECKING, environment, os, signal
from .log import ERROR, log
from .oci.state import read_state

if TYPE_CHECKING:
    from collections.abc import Callable

_KEEP_TIMEOUT = 2.0  # seconds


def main(arguments: list[str], defaults: dict[str, str], load: Callable[[str], None] = lambda _stage: None) -> int:
    """Run one command; return the exit status: 0, or 1 after an error that was reported.

    `load` is the launcher's: it loads all modules of a stage, or of keygen, at once, so that nothing is left to import.

    `defaults` are the site's settings. The caller's environment overrides them, except PYTHON_PACKAGES: colon-separated
    directories that hold cryptography and pyroute2. For an OCI runtime the environment has all settings.
    """
    packages = defaults.get("PYTHON_PACKAGES", "")  # the site decides where to import from, not the caller
    stage = {"start-ssh-daemon": _run_stage, "start-in-enroot": _run_in_enroot}.get(" ".join(arguments))
    if stage is not None:
        status = _report_failure(lambda: stage([path for path in packages.split(":") if path], load))
        if log.kept:
            _keep_messages()
        os._exit(status)  # nothing is left to flush, and the interpreter's finalization would take 2 ms of the start
    settings = {**defaults, **environment(), "PYTHON_PACKAGES": packages}
    return _report_failure(lambda: _run_command(arguments, settings, load))


def _report_failure(command: Callable[[], int]) -> int:
    """Return the exit status of `command`; log any exception as one line and return 1."""
    try:
        return command()
    except Exception as error:
        failure, kind = describe_failure(error), kind_of(error)
    log(
        ERROR, failure, kind
    )  # after the handler: the exception keeps what its frames hold, which may be all of the memory
    return 1


def _keep_messages() -> None:
    """Leave the warnings and errors of this call where the user can read them, if that is possible."""

    def keep() -> bytes:
        last_messages.write(*log.subject, log.fields().get("job", ""), log.kept)
        return b""

    try:
        from .linux import disposable_process  # here: most starts log no warning
        from .node import last_messages

        try:
            # Whoever replaces a file on which a user has mounted FUSE may wait without end: node/job_doors.py.
            disposable_process.run(keep, "cannot keep messages", None, timeout=_KEEP_TIMEOUT)
        except LateError:
            pass  # they are kept, and what hangs is the rest
        except HookError:
            keep()  # there is no memory for a process
    except Exception:
        pass  # syslog has them


def _run_stage(packages: list[str], load: Callable[[str], None]) -> int:
    """Run the stage that the state on standard input calls for; import only the modules that this stage needs."""
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

        create_runtime(state, packages)
    return 0


def _run_in_enroot(packages: list[str], load: Callable[[str], None]) -> int:
    """Run the stage for enroot, which calls no OCI runtime."""
    umask = _prepare_stage()
    load("enroot")
    from .start.from_enroot import start_in_enroot

    start_in_enroot(umask, packages)
    return 0


def _describe_subject() -> dict[str, str]:
    """Return whose container the call is about."""
    from .node import subject  # here: most starts log no warning

    return subject.fields()


def _prepare_stage() -> int:
    """Make the process ready for a stage; return the umask that it had."""
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
    from .commands.dispatch import SUMMARIES, dispatch, usage, version

    if name in SUMMARIES:
        return dispatch(name, words, settings)
    if name == "--version":
        print(version())
    elif name in ("-h", "--help", "help"):
        print(usage())
    else:
        print(usage(), file=sys.stderr)
        return 1
    return 0
