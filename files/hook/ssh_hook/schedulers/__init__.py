# SPDX-License-Identifier: GPL-3.0-or-later
"""Slurm, PBS and LSF: the jobs that they run, the hosts of a job, and the other nodes of the cluster."""
