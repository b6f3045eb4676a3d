# SPDX-License-Identifier: GPL-3.0-or-later
"""What an OCI runtime calls: the stages createRuntime and poststop, and the processes of a start."""
