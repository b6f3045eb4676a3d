# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel offers: system calls, processes, namespaces, mounts and files."""
