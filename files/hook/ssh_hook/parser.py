# SPDX-License-Identifier: GPL-3.0-or-later
"""The argparse parser of a command's arguments."""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import TYPE_CHECKING, NoReturn

from . import VERSION
from .commands import COMMON_FLAGS, flags_of
from .errors import ARGUMENTS_WRONG, HookError, printable

if TYPE_CHECKING:
    from .commands import Command


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise HookError(ARGUMENTS_WRONG, f"{printable(message)}: see '{self.prog} --help'")


def parser_of(name: str, command: Command) -> ArgumentParser:
    """Return the parser of the command `name`. It raises HookErrors."""
    parser = _Parser(
        prog=f"ssh_hook {name}",
        description=command.DESCRIPTION,
        epilog=f"example:\n  {command.EXAMPLE}",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    flags = flags_of(command)
    if flags is None:
        command.add_arguments(parser)
        flags = {}
    for flag, words in {**flags, **COMMON_FLAGS}.items():
        parser.add_argument(f"--{flag}", action="store_true", help=words)
    parser.add_argument("--version", action="version", version=f"ssh_hook {VERSION}", help="print the version")
    return parser
