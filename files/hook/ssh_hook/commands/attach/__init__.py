# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook attach`` and ``ssh_hook detach``, and the supervisor process, which runs from one to the other."""
