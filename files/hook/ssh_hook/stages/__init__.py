# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages that an OCI runtime calls, createRuntime and poststop, and the processes of a start."""
