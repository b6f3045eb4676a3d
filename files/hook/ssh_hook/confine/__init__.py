# SPDX-License-Identifier: GPL-3.0-or-later
"""The confinement of sessions: that of the container's own process."""
