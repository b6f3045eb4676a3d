# SPDX-License-Identifier: GPL-3.0-or-later
"""Users' requests in environment variables, for engines without annotations.

The variables are set by the user outside the container: an image can only set variables inside.
"""

from __future__ import annotations

from ..fast_stdlib import TYPE_CHECKING
from .annotations import AUTHORIZE_SSH_KEY, HOSTS, LOG_LEVEL, PIDFILE_CONTAINER, PORT, REQUIRE_SHELL, WAIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# The variables, and the annotations that they replace.
_VARIABLES = {
    "OCIHOOKS_SSH_PORT": PORT,
    "OCIHOOKS_SSH_WAIT": WAIT,
    "OCIHOOKS_SSH_HOSTS": HOSTS,
    "OCIHOOKS_SSH_REQUIRE_SHELL": REQUIRE_SHELL,
    "OCIHOOKS_SSH_AUTHORIZE_SSH_KEY": AUTHORIZE_SSH_KEY,
    "OCIHOOKS_SSH_PIDFILE_CONTAINER": PIDFILE_CONTAINER,
    "OCIHOOKS_SSH_LOG_LEVEL": LOG_LEVEL,
}
ALL = tuple(_VARIABLES.values())


def requested(variables: Mapping[str, str], known: Iterable[str] = ALL) -> dict[str, str]:
    """Return those of the `known` annotations that are set in `variables`."""
    wanted = {name: variables.get(variable, "") for variable, name in _VARIABLES.items() if name in known}
    return {name: value for name, value in wanted.items() if value}


def named_by_variables(text: str) -> str:
    """Return a message with annotation names replaced by variable names."""
    for variable, annotation in _VARIABLES.items():
        text = text.replace(f"the annotation {annotation}", variable)
    return text
