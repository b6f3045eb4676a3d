# SPDX-License-Identifier: GPL-3.0-or-later
"""Find a command of people's or of a timer's by its name, parse its arguments, run it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from importlib import import_module
from typing import NoReturn, Protocol

from .. import VERSION
from ..errors import HookError, printable
from ..keys.errors import KeyStoreError
from ..log import DEBUG, INFO, log

SUMMARIES = {
    "keygen": "make your SSH keys for containers",
    "check-user-has-sshkeys": "exit with 0 if you have them",
    "client-config": "set up ssh outside of containers",
    "connect": "reach the SSH daemon of your container, for ssh's ProxyCommand",
    "wait": "wait for the containers on some hosts",
    "options": "print the options that start a job's containers",
    "status": "show your containers that have an SSH daemon",
    "why": "show why a container of yours did not start, or has no SSH",
    "doctor": "check what SSH into containers takes, and say what to do",
    "attach": "bring SSH into a container of yours that runs already",
    "detach": "end what attach has started",
    "sweep": "end and remove what killed container runtimes left",
    "refresh-passwd": "write a passwd file from the name service",
}
_IN_FOLDERS = {"attach": "attach.attach", "detach": "attach.detach"}  # the others' modules are beside this one


class Command(Protocol):
    """The module of a command.

    Attributes:
        DESCRIPTION: one sentence for --help.
        EXAMPLE: a command line for --help.
    """

    DESCRIPTION: str
    EXAMPLE: str

    def add_arguments(self, parser: ArgumentParser, /) -> None:
        """Add the command's own arguments to its parser."""

    def run(self, arguments: Namespace, settings: dict[str, str], /) -> int:
        """Run the command; return its exit status. Raises HookError and KeyStoreError.

        `settings` are the site's, overridden by the caller's environment.
        """


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise HookError(f"{printable(message)}: see '{self.prog} --help'")


def _load(name: str) -> Command:
    """Import the command's module, and no other command's."""
    module = _IN_FOLDERS.get(name, name.replace("-", "_"))
    command: Command = import_module(f".{module}", __package__)
    return command


def parse(name: str, words: list[str]) -> tuple[Command, Namespace]:
    """Return the command called `name`, a key of SUMMARIES, and its arguments. Raises HookError.

    Prints the help text or the version and raises SystemExit if that is asked for.
    """
    command = _load(name)
    parser = _Parser(
        prog=f"ssh_hook {name}",
        description=command.DESCRIPTION,
        epilog=f"example:\n  {command.EXAMPLE}",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    parser.add_argument("--verbose", action="store_true", help="say more about what is done")
    parser.add_argument("--debug", action="store_true", help="say still more")
    parser.add_argument("--version", action="version", version=version(), help="print the version")
    return command, parser.parse_intermixed_args(words)


def dispatch(name: str, words: list[str], settings: dict[str, str]) -> int:
    """Run the command called `name`, a key of SUMMARIES; return its exit status. Raises HookError."""
    command, arguments = parse(name, words)
    log.level = DEBUG if arguments.debug else INFO if arguments.verbose else log.level
    try:
        return command.run(arguments, settings)
    except KeyStoreError as error:
        raise HookError(str(error)) from None


def version() -> str:
    """Return the line that tells the version."""
    return f"ssh_hook {VERSION}"


def usage() -> str:
    """Return the text that lists all commands."""
    width = max(map(len, SUMMARIES))
    commands = "".join(f"  {name:{width}}  {summary}\n" for name, summary in SUMMARIES.items())
    return (
        "usage: ssh_hook COMMAND [ARGUMENTS] | --help | --version\n\n"
        f"SSH into containers. The commands:\n{commands}\n"
        "'ssh_hook COMMAND --help' tells more, with an example.\n"
        "OCI runtimes call 'ssh_hook start-ssh-daemon', with the container's state on standard input."
    )
