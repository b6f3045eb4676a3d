# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands for users, schedulers and timers: each module implements `Command`."""

from __future__ import annotations

from ..fast_stdlib import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Protocol

    class Command(Protocol):
        """The module of a command. If all of its arguments are flags, it has FLAGS instead of `add_arguments`.

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


# Flags of every command, with their help.
COMMON_FLAGS = {"verbose": "print what the command does", "debug": "print details for debugging"}


def flags_of(command: Command) -> dict[str, str] | None:
    """Return the command's own flags with their help; None if it has arguments of other kinds."""
    flags: dict[str, str] | None = getattr(command, "FLAGS", None)
    return flags
