"""Checks that no file which the roles and the playbooks load can be found anywhere but in its role.

Ansible looks for a relative name in the directory of the play too, in some cases first. A site's own tasks/install.yml
would run there in place of the role's. So every name has to be absolute: it begins with the role's path or a slash.
Roles, modules and plugins are named with their collection, so no directory of a site's has them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
BUILTIN = "ansible.builtin."
# Key of a task or a play -> the argument that names the file; a text alone is the name.
LOADS = {
    f"{BUILTIN}import_tasks": "file",
    f"{BUILTIN}include_tasks": "file",
    f"{BUILTIN}include_vars": "file",
    f"{BUILTIN}assemble": "src",
    f"{BUILTIN}copy": "src",
    f"{BUILTIN}patch": "src",
    f"{BUILTIN}script": "cmd",
    f"{BUILTIN}template": "src",
    f"{BUILTIN}unarchive": "src",
}
RUNS = "ocihooks.ssh.without_facts"  # a module that runs another, with that one's arguments
ROLE_KEYS = (f"{BUILTIN}import_role", f"{BUILTIN}include_role")
FORBIDDEN_KEYS = ("vars_files", "roles", "collections", "module_defaults", "action", "local_action")
ABSOLUTE = re.compile(r"/|\{\{ role_path \}\}/")
# Of lookups those that read a file of a name, and how such a name begins.
LOOKUP = re.compile(r"\b(?:lookup|query|q)\(\s*'([^']*)'\s*,?\s*([^)]*)")
WITHOUT_FILES = (f"{BUILTIN}env", f"{BUILTIN}vars", "ocihooks.ssh.nodes")
READS = (f"{BUILTIN}file", f"{BUILTIN}fileglob", f"{BUILTIN}template")
ABSOLUTE_TERM = re.compile(r"role_path ~ '/")
# A list of names in a variable of the role: all of them begin with the role's path.
LIST_TERM = re.compile(r"\*(\w+)")
ABSOLUTE_LIST = re.compile(
    rf"\{{\{{ (query\('{re.escape(BUILTIN)}fileglob', role_path ~ '/|\[role_path ~ '/[^']*'\] \| product\()"
)
SEARCHES = re.compile(r"_find_needle|find_file_in_search_path|path_dwim|get_basedir")  # in plugins


def mappings(value: object) -> Iterator[Mapping[str, object]]:
    """Yield each mapping in a document, the outer ones first."""
    if isinstance(value, Mapping):
        yield value
        for item in value.values():
            yield from mappings(item)
    elif isinstance(value, list):
        for item in value:
            yield from mappings(item)


def strings(value: object) -> Iterator[str]:
    """Yield each text in a document that is no key."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (Mapping, list)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from strings(item)


def task_complaints(task: Mapping[str, object]) -> Iterator[str]:
    """Yield one line for each name in a task or a play that a site's file could have."""
    runs = task.get(RUNS)
    if isinstance(runs, Mapping):
        task = {**task, str(runs.get("module")): runs.get("arguments", {})}
    for key, argument in LOADS.items():
        if key not in task:
            continue
        arguments = task[key]
        name = arguments.get(argument, "") if isinstance(arguments, Mapping) else arguments
        if not ABSOLUTE.match(str(name)):
            yield f"{key} of {name or arguments}: begin with {{{{ role_path }}}}/"
    for key in ROLE_KEYS:
        arguments = task.get(key, {})
        name = arguments.get("name") if isinstance(arguments, Mapping) else arguments
        if key in task and not str(name).startswith("ocihooks.ssh."):
            yield f"{key} of {name}: name a role of this collection"
    yield from (f"{key}: its names could be those of a site's files" for key in FORBIDDEN_KEYS if key in task)


def lookup_complaints(text: str, variables: Mapping[str, object]) -> Iterator[str]:
    """Yield one line for each lookup in a text that could find a site's file."""
    for name, term in LOOKUP.findall(text):
        if name in WITHOUT_FILES:
            continue
        listed = LIST_TERM.match(term)
        is_absolute = ABSOLUTE_TERM.match(term) or (listed and ABSOLUTE_LIST.match(str(variables.get(listed[1], ""))))
        if name not in READS or not is_absolute:
            yield f"lookup {name} of {term}: let the name begin with role_path ~ '/'"


def complaints(path: Path, variables: Mapping[str, object]) -> Iterator[str]:
    """Yield one line for each name in a file of a role or of the playbooks that a site's file could have."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    found = [line for task in mappings(document) for line in task_complaints(task)]
    found += [line for text in strings(document) for line in lookup_complaints(text, variables)]
    yield from (f"{path.relative_to(ROOT)}: {line}" for line in found)


def main() -> int:
    """Print every complaint; the exit status is 0 when there is none."""
    found: list[str] = []
    seen = 0
    for place in [ROOT / "playbooks", *sorted((ROOT / "roles").iterdir())]:
        variables = place / "vars" / "main.yml"
        known = yaml.safe_load(variables.read_text(encoding="utf-8")) if variables.exists() else {}
        for path in sorted(place.rglob("*.yml")):
            if path.parent.name != "meta":
                found += complaints(path, known)
                seen += 1
    for path in sorted((ROOT / "plugins").rglob("*.py")):
        names = SEARCHES.findall(path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(ROOT)}: {name} finds a site's files" for name in names]
    if not seen:
        found = ["no file was found"]
    print("\n".join(found))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
