# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands for users and timers: each module implements ``dispatch.Command``."""
