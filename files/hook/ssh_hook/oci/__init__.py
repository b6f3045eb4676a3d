# SPDX-License-Identifier: GPL-3.0-or-later
"""The inputs of the hook: the site's settings, the container's state, its config.json and its annotations."""
