"""Stands where ansible-test keeps the bootstrap script of pip, so that it fetches none.

The pip that every Python brings installs the wanted one.
"""

from __future__ import annotations

import subprocess
import sys

WANTED = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]

subprocess.run([sys.executable, "-m", "ensurepip", "--default-pip"], stdout=subprocess.DEVNULL, check=True)
sys.exit(subprocess.run([sys.executable, "-m", "pip", "install", *WANTED], check=False).returncode)
