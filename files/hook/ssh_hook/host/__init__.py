# SPDX-License-Identifier: GPL-3.0-or-later
"""The node's side: the engine, the container's owner, the owner's files, and the daemon's record."""
