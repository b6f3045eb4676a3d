# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the collection has the hook's sources on the controller."""

from __future__ import annotations

import re
from pathlib import Path

COLLECTION = Path(__file__).parents[2]
HOOK = COLLECTION / "files" / "hook" / "ssh_hook"


def missing_sources(hook: Path = HOOK) -> list[str]:
    """Return a sentence where the directory `hook` is not whole, as in an archive that was built without files/."""
    if (hook / "cli.py").is_file() and (hook / "importer.py").is_file():
        return []
    return [
        f"The collection on the controller has no hook in {hook}, so it was built without all of its files: build it "
        "from a whole checkout of its repository, and install that archive."
    ]


def version(hook: Path = HOOK) -> str:
    """Return the version of the collection, which the hook names too; empty if it is not there."""
    found = re.search(r'^VERSION = "(.*?)"', (hook / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else ""
