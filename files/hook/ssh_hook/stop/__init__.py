# SPDX-License-Identifier: GPL-3.0-or-later
"""End daemons: the common rules, the stage poststop, and the sweep."""
