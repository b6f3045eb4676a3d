# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replacements for slow modules of the standard library: those of the package keys, which imports no other package."""

from __future__ import annotations

from ..keys.fast_stdlib import (
    MAX_LINKS,
    TYPE_CHECKING,
    basename,
    closing,
    create_file,
    dirname,
    environment,
    exists,
    fsdecode,
    fsencode,
    load_json,
    os,
    read_all,
    read_file,
    sha256,
    signal,
    split,
    stat,
    write_all,
)

__all__ = [
    "MAX_LINKS",
    "TYPE_CHECKING",
    "basename",
    "closing",
    "create_file",
    "dirname",
    "environment",
    "exists",
    "fsdecode",
    "fsencode",
    "load_json",
    "os",
    "read_all",
    "read_file",
    "sha256",
    "signal",
    "split",
    "stat",
    "write_all",
]
