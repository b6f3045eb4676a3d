# SPDX-License-Identifier: GPL-3.0-or-later
"""What is put into the container: mounts, files and the user's account."""
