"""Lets unit tests import the hook's package and the collection's own modules from the checkout, without Ansible."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

from hypothesis import settings

# How long an example takes says something of the machine, which may be busy.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

ROOT = Path(__file__).resolve().parents[2]

sys.path.insert(0, str(ROOT / "files" / "hook"))
sys.path.insert(0, str(ROOT / "plugins" / "module_utils"))
sys.path.insert(0, str(ROOT / "tests" / "fuzz"))
sys.path.insert(0, str(ROOT / "tests" / "mutants"))
sys.path.insert(0, str(ROOT / "tests" / "lint"))

# What Ansible's own loader gives: ansible_collections.ocihooks.ssh is the checkout, whatever its directory is called.
for name, places in (
    ("ansible_collections", []),
    ("ansible_collections.ocihooks", []),
    ("ansible_collections.ocihooks.ssh", [str(ROOT)]),
):
    package = types.ModuleType(name)
    package.__path__ = places
    sys.modules[name] = package

LATE = float(os.environ.get("LATE", "0"))  # seconds by which each process that a test forks begins late
if LATE:
    from late import delay_children

    delay_children(LATE)
