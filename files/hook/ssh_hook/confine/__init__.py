# SPDX-License-Identifier: GPL-3.0-or-later
"""What a session may do: no more than the container's own process."""
