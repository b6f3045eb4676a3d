"""Compares the options in each role's meta/argument_specs.yml with the variables in its defaults/main.yml.

An option with a default must be there with the same value, one without a default (required, or unset) must not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]


def load(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, empty when the file is."""
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def differences(role: Path) -> Iterator[str]:
    """Yield one line for each option or variable of a role that the two files do not agree on."""
    missing = [path for path in (role / "meta/argument_specs.yml", role / "defaults/main.yml") if not path.is_file()]
    if missing:
        yield from (f"{path.relative_to(ROOT)}: missing" for path in missing)
        return
    specs = load(role / "meta" / "argument_specs.yml")["argument_specs"]
    variables = load(role / "defaults" / "main.yml")
    options = {name: option for entry in specs.values() for name, option in entry.get("options", {}).items()}
    for name in variables.keys() - options.keys():
        yield f"{role.name}: {name} is in defaults/main.yml, not in meta/argument_specs.yml"
    for name, option in options.items():
        if "default" not in option:
            if name in variables:
                yield f"{role.name}: {name} has a value in defaults/main.yml, but no default in meta/argument_specs.yml"
        elif name not in variables:
            yield f"{role.name}: {name} has a default in meta/argument_specs.yml, but is not in defaults/main.yml"
        elif variables[name] != option["default"]:
            values = f"{variables[name]!r} in defaults/main.yml, {option['default']!r} in meta/argument_specs.yml"
            yield f"{role.name}: {name} is {values}"


def main() -> int:
    """Print every difference; the exit status is 0 when there is none, and 1 also when there is no role."""
    roles = sorted(path for path in (ROOT / "roles").glob("*") if path.is_dir())
    found = [difference for role in roles for difference in differences(role)]
    if not roles:
        found = ["roles: there is no role"]
    print("\n".join(sorted(found)))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
