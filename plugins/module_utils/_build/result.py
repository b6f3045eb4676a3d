# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules by which programs come return, whether they build them or unpack them."""

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
        work: a line for each thing that was done, or in check mode would be
        files: the programs, as `Build.files` describes them
        sboms: the bills of materials, as `Sbom.file` describes them
        missing: architectures whose programs are not all there
    """
    return {
        "changed": bool(work),
        "diff": {"prepared": "".join(f"{line}\n" for line in work)},
        "files": files,
        "sboms": sboms,
        "missing": missing,
    }
