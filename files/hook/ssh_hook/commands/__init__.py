# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands for users and timers: each is a file with the parts that ``dispatch.Command`` names."""
