"""Stands where ansible-test keeps pip's bootstrap script, which it would fetch: the pip that Python brings installs the wanted one."""

from __future__ import annotations

import subprocess
import sys

WANTED = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]

subprocess.run([sys.executable, "-m", "ensurepip", "--default-pip"], stdout=subprocess.DEVNULL, check=True)
sys.exit(subprocess.run([sys.executable, "-m", "pip", "install", *WANTED], check=False).returncode)
