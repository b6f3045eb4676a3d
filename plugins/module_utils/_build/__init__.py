# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build Dropbear and OpenSSH's client programs as static, position-independent programs, once per architecture.

Bottom up: `errors`, `files`; `recipes` and `job`, what to build; `compilers`; `unpack`, from a release archive to
patched source; `elf`, `symbols` and `canaries`, checks of built programs; `store`, cached builds and their keys;
`compile`, one build; `plan`, all missing builds; `sbom`; `archive`, programs for sites without a compiler. `download`
gets a release archive.
"""
