# SPDX-License-Identifier: GPL-3.0-or-later
"""The host: the engine, the container's owner, the owner's files, and the daemon's record."""
