# SPDX-License-Identifier: GPL-3.0-or-later
"""Confine sessions like the container's own process."""
