"""Environment definition files as the Sarus Suite reads them, and what it calls podman with; called by skybox.c.

edf render NAME                      print the file with its bases and variables resolved
edf environment TEXT                 print the directory of tasks and their variables, each with a NUL after it
edf find TEXT BASE CONTAINER STORE   become podman, which looks for the image
edf run TEXT BASE CONTAINER STORE    become podman, which starts the container
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import tomllib

PODMAN = "/usr/bin/podman"
MOUNT_PROGRAM = "/usr/local/lib/sarus-suite/mount-program"
SITE = "/etc/edf"
SETTINGS = Path("/etc/sarus-suite")
LEVELS = 10
VARIABLE = re.compile(r"\$(?:(\$)|([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?::-([^}]*))?\})")
DEFAULTS = {
    "workdir": "",
    "entrypoint": True,
    "writable": True,
    "mounts": [],
    "devices": [],
    "env": {},
    "annotations": {},
}
FIRST_PROCESS = ["sh", "-c", "kill -STOP $$ ; exit 0"]


def expand(text: str) -> str:
    """Replace variables, and $$ by a dollar; a variable that is not set is an error."""

    def value(match: re.Match[str]) -> str:
        name = match[2] or match[3]
        found = match[1] or os.environ.get(name, match[4])
        if found is None:
            raise SystemExit(f"[skybox] cannot expand variable {name}, environment variable not found")
        return found

    return VARIABLE.sub(value, text)


def path(name: str) -> Path:
    """Return the file of a name."""
    if name.startswith((".", "/")) or name.endswith(".toml"):
        return Path(name)
    own = os.environ.get("EDF_PATH") or f"{os.environ.get('HOME', '')}/.edf"
    for directory in (own, *SITE.split(":")):
        if (found := Path(directory, f"{name}.toml")).is_file():
            return found
    raise SystemExit(f'[skybox] environment "{name}" not found at {own},{SITE}')


def toml(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def flat(table: dict[str, Any]) -> dict[str, str]:
    """Return the annotations of nested tables: names with dots, and values as text."""
    found = {}
    for name, value in table.items():
        if isinstance(value, dict):
            found.update({f"{name}.{below}": text for below, text in flat(value).items()})
        else:
            found[name] = value if isinstance(value, str) else toml(value)
    return found


def merge(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return a base with what a file has above it: tables name by name, lists at their end."""
    merged = dict(base)
    for name, value in own.items():
        if isinstance(value, dict):
            merged[name] = {**base.get(name, {}), **value}
        elif isinstance(value, list):
            merged[name] = [*base.get(name, []), *value]
        else:
            merged[name] = value
    return merged


def load(name: str, level: int = 1) -> dict[str, Any]:
    """Read a file and its bases."""
    if level > LEVELS:
        raise SystemExit(f"[skybox] base_environment rendering has more than {LEVELS} levels")
    own = tomllib.loads(path(expand(name)).read_text(encoding="utf-8"))
    bases = own.pop("base_environment", [])
    own["annotations"] = flat(own.get("annotations", {}))
    merged: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else bases:
        merged = merge(merged, load(base, level + 1))
    merged = merge(merged, own)
    for field in ("annotations", "env"):
        merged[field] = {name: expand(value) for name, value in merged.get(field, {}).items()}
    for field in ("mounts", "devices"):
        merged[field] = [expand(value) for value in merged.get(field, [])]
    merged["workdir"] = expand(merged.get("workdir", ""))
    return merged


def render(name: str) -> None:
    """Print a file so that nodes need nothing but this text."""
    found = {**DEFAULTS, **load(name)}
    if "image" not in found:
        raise SystemExit("[skybox] missing image specification")
    for field in ("image", *(field for field in DEFAULTS if not isinstance(DEFAULTS[field], dict))):
        print(f"{field} = {toml(found[field])}")
    for field in ("env", "annotations"):
        print(f"[{field}]")
        for name, value in found[field].items():
            print(f"{toml(name)} = {toml(value)}")


def environment(edf: dict[str, Any]) -> None:
    """Print what tasks get of a file."""
    print("\0".join([edf["workdir"], *(f"{name}={value}" for name, value in edf["env"].items()), ""]), end="")


def run(edf: dict[str, Any], base: str, name: str) -> list[str]:
    """Return the arguments by which podman starts the container."""
    options = ["--rm", "--detach", *([] if edf["writable"] else ["--read-only"]), "--name", name]
    options += ["--pidfile", f"{base}/pidfile", *([] if edf["entrypoint"] else ["--entrypoint="])]
    options += ["--workdir", edf["workdir"]] if edf["workdir"] else []
    for option, values in (("--volume", edf["mounts"]), ("--device", edf["devices"])):
        options += [word for value in values for word in (option, value)]
    for option, table in (("--env", edf["env"]), ("--annotation", edf["annotations"])):
        # In any order: set() has another one in each process.
        options += [word for name in set(table) for word in (option, f"{name}={table[name]}")]
    return ["run", *options, edf["image"], *FIRST_PROCESS]


def settings() -> dict[str, Any]:
    """Return the site's settings: of several files in the order of their names, the last one counts."""
    found: dict[str, Any] = {"parallax_mp_uid": os.getuid(), "parallax_mp_gid": os.getgid(), "podman_module": "hpc"}
    for file in sorted(SETTINGS.glob("*.conf")):
        found.update(tomllib.loads(file.read_text(encoding="utf-8")))
    return found


def podman(action: str, edf: dict[str, Any], base: str, name: str, store: str) -> None:
    """Become podman, with slurmd's variables and not the step's."""
    own = settings()
    prefix = "com.sarus."
    for annotation in [each for each in edf["annotations"] if each.startswith(prefix)]:
        own[annotation.removeprefix(prefix)] = edf["annotations"].pop(annotation)
    line = [PODMAN, "--root", f"{base}/graphroot", "--runroot", f"{base}/runroot"]
    if action == "run":
        line += ["--module", own["podman_module"]]
    line += ["--storage-opt", f"additionalimagestore={store}"]
    if action == "run":
        line += ["--storage-opt", f"mount_program={MOUNT_PROGRAM}", *run(edf, base, name)]
    else:
        line += ["image", "exists", edf["image"]]
    log = f"/tmp/mount-program-{os.getuid()}.log"
    owner = {name.upper(): str(own[f"parallax_mp_{name}"]) for name in ("uid", "gid")}
    parallax = {**owner, "SQUASHFUSE_CMD": "squashfuse_ll", "LOGFILE": log}
    os.execve(PODMAN, line, {**os.environ, **{f"PARALLAX_MP_{name}": value for name, value in parallax.items()}})


def main() -> None:
    """Do what the first argument says."""
    action, text, *rest = sys.argv[1:]
    if action == "render":
        render(text)
    elif action == "environment":
        environment(tomllib.loads(text))
    else:
        podman(action, tomllib.loads(text), *rest)


if __name__ == "__main__":
    main()
