# SPDX-License-Identifier: GPL-3.0-or-later
"""What a start consists of: its plan, by whatever asks for it, and its processes."""
