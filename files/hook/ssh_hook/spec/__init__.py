# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hook is told: the site's settings, the container's state, its config.json and its annotations."""
