# SPDX-License-Identifier: GPL-3.0-or-later
"""End daemons: how each is killed, the stage poststop, and the sweep."""
