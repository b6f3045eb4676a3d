# SPDX-License-Identifier: GPL-3.0-or-later
"""Start a daemon: the plan of a start, for each way to request one, and its processes."""
