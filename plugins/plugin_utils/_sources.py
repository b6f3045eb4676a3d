# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook's sources on the controller."""

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.ocihooks.ssh.plugins.module_utils import _bytecode, _hook_package

COLLECTION = Path(__file__).parents[2]
HOOK = COLLECTION / "files" / "hook" / "ssh_hook"
_COMPLETION = COLLECTION / "roles" / "ssh_hook" / "files" / "completion.bash"


def hook_sources() -> dict[str, str]:
    """Return the texts of the hook's package and its completion, keyed by their names in `_hook_package.Hook`."""
    completion = {_hook_package.COMPLETION: _COMPLETION.read_text(encoding="utf-8")}
    return dict(sorted({**_hook_package.package_sources(HOOK), **completion}.items()))


# Read when a plugin is loaded, in the process that all hosts' workers are forked from.
SOURCES = hook_sources()
DIGESTS = _bytecode.digests(SOURCES)


def missing_sources(hook: Path = HOOK) -> list[str]:
    """Return a message if the directory `hook` is incomplete, as in an archive built without files/."""
    modules = [module for stage in _bytecode.STAGES.values() for module in stage]
    if all((hook / f"{module.replace('.', '/')}.py").is_file() for module in modules):
        return []
    return [
        f"The collection on the controller has no hook in {hook}, so it was built without all of its files: build it "
        "from a whole checkout of its repository, and install that archive."
    ]


def version(hook: Path = HOOK) -> str:
    """Return the version of the collection, also the hook's; empty if it is missing."""
    found = re.search(r'^VERSION = "(.*?)"', (hook / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else ""
