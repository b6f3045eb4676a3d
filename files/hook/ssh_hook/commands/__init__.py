# SPDX-License-Identifier: GPL-3.0-or-later
"""What people and timers call: each file is a command of ``ssh_hook``."""
