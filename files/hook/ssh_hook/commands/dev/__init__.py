# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook dev`` and ``ssh dev-NAME``: containers in Slurm jobs that a connection submits."""
