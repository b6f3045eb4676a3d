# SPDX-License-Identifier: GPL-3.0-or-later
"""PYTHON_PACKAGES, which is no setting of the OCI hook's environment: the site sets it, and no caller can (cli.py)."""

from __future__ import annotations

from ..linux.fast_stdlib import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def python_packages(environment: Mapping[str, str]) -> list[str]:
    """Return the site's directories of Python packages."""
    return [path for path in environment.get("PYTHON_PACKAGES", "").split(":") if path.startswith("/")]
