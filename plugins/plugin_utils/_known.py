# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a node is known to be as it should be, so that it need not be asked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

_TEXTS = ("hooks", "cdi")  # options of files with mode 0644, of which node_facts gives the digests
_OTHERS = ("absent", "docker_json", "enroot_hooks", "podman_hpc_modules")


def engine_files_are_right(arguments: Mapping[str, Any]) -> bool:
    """Return whether a node is known to be as the arguments of the module engine_files say."""
    known = arguments.get("known")
    if not isinstance(known, Mapping) or any(arguments.get(option) for option in _OTHERS):
        return False  # what is known is a node's answer, which may be anything
    texts = {path: str(text) for option in _TEXTS for path, text in (arguments.get(option) or {}).items()}
    return bool(texts) and all(
        known.get(path) == hashlib.sha256(text.encode()).hexdigest() for path, text in texts.items()
    )
