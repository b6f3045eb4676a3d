# SPDX-License-Identifier: GPL-3.0-or-later
"""Provision the container: mounts, files and the user's account."""
