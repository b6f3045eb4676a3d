# SPDX-License-Identifier: GPL-3.0-or-later
"""What users, admins and monitoring learn about containers, hook and node: checks, remedies, metrics."""
