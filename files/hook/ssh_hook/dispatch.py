# SPDX-License-Identifier: GPL-3.0-or-later
"""Find a user's or a timer's command by its name, parse its arguments, and run it."""

from __future__ import annotations

from .commands import COMMON_FLAGS, flags_of
from .fast_stdlib import TYPE_CHECKING
from .log import DEBUG, INFO, log

if TYPE_CHECKING:
    from typing import Any

    from .commands import Command


_FOR_USERS = {
    "keygen": "create your SSH keys for containers",
    "client-config": "set up ssh on a login node or a laptop to reach your containers",
    "dev": "work in a container of a job that 'ssh dev-NAME' starts",
    "options": "print the engine options for a job's containers",
    "wait": "wait until your containers accept logins",
    "status": "show your containers that have an SSH daemon",
    "logins": "show the sessions in your containers, from the journal",
    "why": "show why your container did not start, or has no SSH",
    "doctor": "check that SSH into your containers works, and suggest fixes",
    "attach": "start an SSH daemon in one of your running containers",
    "detach": "stop an SSH daemon that attach started",
}
_FOR_PROGRAMS = {
    "connect": "connect to the SSH daemon of your container, as ssh's ProxyCommand",
    "check-user-has-sshkeys": "exit with 0 if you have SSH keys for containers",
}
_FOR_ADMINISTRATORS = {
    "sweep": "clean up after container runtimes that were killed",
    "refresh-passwd": "write a passwd file from the name service",
    "prolog": "record a job that starts, for Slurm's Prolog or PBS",
    "epilog": "remove the record of a job that ends, for Slurm's Epilog or PBS",
}
_GROUPS = {
    "For users": _FOR_USERS,
    "For scripts and other programs": _FOR_PROGRAMS,
    "For administrators": _FOR_ADMINISTRATORS,
}
SUMMARIES = {**_FOR_USERS, **_FOR_PROGRAMS, **_FOR_ADMINISTRATORS}
_IN_FOLDERS = {
    "attach": "attach.attach",
    "detach": "attach.detach",
    "dev": "dev.dev",
}  # all others are modules of the package commands


class Flags:
    """The flags, one attribute each, as argparse would return them: importing argparse takes longer than keygen."""

    def __init__(self, flags: dict[str, bool]) -> None:
        self.__dict__.update(flags)


def _load(name: str) -> Command:
    """Import the module of the command, and of no other."""
    module = _IN_FOLDERS.get(name, name.replace("-", "_"))
    command: Command = __import__(f"{__package__}.commands.{module}", fromlist=["run"])
    return command


def parse(name: str, words: list[str]) -> tuple[Command, Any]:
    """Return the command called `name`, a key of SUMMARIES, and its arguments. Raises HookError.

    If asked to, prints the help text or the version and raises SystemExit.
    """
    command = _load(name)
    flags = flags_of(command)
    if flags is not None:
        flags = {**flags, **COMMON_FLAGS}
        if set(words) <= {f"--{flag}" for flag in flags}:
            return command, Flags({flag: f"--{flag}" in words for flag in flags})

    from .parser import parser_of

    return command, parser_of(name, command).parse_intermixed_args(words)


def dispatch(name: str, words: list[str], settings: dict[str, str]) -> int:
    """Run the command called `name`, a key of SUMMARIES; return its exit status. Raises HookError."""
    command, arguments = parse(name, words)
    log.level = DEBUG if arguments.debug else INFO if arguments.verbose else log.level
    return command.run(arguments, settings)


def usage() -> str:
    """Return the text that lists all commands."""
    width = max(map(len, SUMMARIES))
    groups = []
    for title, summaries in _GROUPS.items():
        lines = "".join(f"  {name:{width}}  {summary}\n" for name, summary in summaries.items())
        groups.append(f"{title}:\n{lines}\n")
    return (
        "usage: ssh_hook COMMAND [ARGUMENTS] | --help | --version\n\n"
        f"SSH into containers.\n\n{''.join(groups)}"
        "'ssh_hook COMMAND --help' shows the options and an example.\n"
        "OCI runtimes call 'ssh_hook start-ssh-daemon', with the container's state on standard input."
    )
