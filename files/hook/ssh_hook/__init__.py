# SPDX-License-Identifier: GPL-3.0-or-later
"""The OCI hook that brings an SSH server into containers."""

VERSION = "1.0.0"  # the collection's, in galaxy.yml
