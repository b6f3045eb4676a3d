# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of the modules that provide programs, by building or unpacking them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def result(
    work: Sequence[str],
    files: Sequence[dict[str, str]],
    sboms: Sequence[dict[str, str]],
    missing: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the result of a module.

    Args:
        work: a line for each thing that was done, or would be in check mode
        files: the programs, see `Build.files`
        sboms: the bills of materials, see `Sbom.file`
        missing: architectures whose programs are incomplete
    """
    return {
        "changed": bool(work),
        "diff": {"prepared": "".join(f"{line}\n" for line in work)},
        "files": files,
        "sboms": sboms,
        "missing": missing,
    }
