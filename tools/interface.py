"""Print the interface that docs/compatibility.md promises to keep: python tools/interface.py >docs/interface.txt

A line for each annotation, variable, setting, command, option, kind of error, metric, role variable, module option, tag
and file format. A unit test compares the file with the code. So a change of the interface is a change of this file: a
line may be added at any time; only a major version may change or remove one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENROOT = "roles/ssh_hook/templates/enroot.sh.j2"
sys.path.insert(0, str(ROOT / "files" / "hook"))

from ssh_hook import dispatch
from ssh_hook.errors import KINDS
from ssh_hook.parser import parser_of


def found(pattern: str, *paths: str) -> list[str]:
    """Return what the pattern finds in these files of the repository, each once, sorted."""
    files = [path for name in paths for path in sorted(ROOT.glob(name))]
    texts = [path.read_text(encoding="utf-8") for path in files]
    return sorted({name for text in texts for name in re.findall(pattern, text, re.MULTILINE)})


def commands() -> Iterator[str]:
    """Yield the commands of `ssh_hook`, each with its options."""
    for name in sorted(dispatch.SUMMARIES):
        yield f"command {name}"
        options = parser_of(name, dispatch._load(name))._option_string_actions
        yield from sorted(f"command {name} {option}" for option in options if option.startswith("--"))


def defaults(role: str) -> Iterator[str]:
    """Yield the variables of a role with their defaults, where these are in one line."""
    text = (ROOT / "roles" / role / "defaults" / "main.yml").read_text(encoding="utf-8")
    for name, default in re.findall(rf"^({role}_[a-z_]+):(.*)$", text, re.MULTILINE):
        yield f"role {role} {name}:{default}"


def module_options() -> Iterator[str]:
    """Yield the options of the modules that users call."""
    for name in ("secure_path", "user_keys"):
        text = (ROOT / "plugins" / "modules" / f"{name}.py").read_text(encoding="utf-8")
        section = text.partition("\noptions:\n")[2]
        for option in re.findall(
            r"^  ([a-z_]+):$", re.split(r"^\S", section, maxsplit=1, flags=re.MULTILINE)[0], re.MULTILINE
        ):
            yield f"module {name} {option}"


def tags() -> list[str]:
    """Return the tags of the playbook deploy."""
    return sorted({name for line in found(r"tags: \[(.*)\]", "playbooks/deploy.yml") for name in line.split(", ")})


def interface() -> list[str]:
    """Return all lines."""
    hook = "files/hook/ssh_hook"
    return [
        *(f"annotation {name}" for name in found(r'"(com\.hooks\.\w+\.\w+)"', f"{hook}/oci/annotations.py")),
        *(f"variable {name}" for name in found(r"\b(OCIHOOKS_SSH\w*)", f"{hook}/oci/requests.py", ENROOT)),
        *(f"setting {name}" for name in found(r'"([A-Z]+_[A-Z_]+)"', f"{hook}/oci/settings.py")),
        *commands(),
        *(f"error {kind}" for kind in KINDS),
        *(
            f"metric {name}"
            for name in found(
                r'"(ssh_hook_(?:[a-z]+_)*(?:total|seconds|daemons|sessions))"', f"{hook}/health/metrics.py"
            )
        ),
        *defaults("ssh_hook"),
        *defaults("dropbear"),
        *module_options(),
        *(f"tag {name}" for name in tags()),
        *(f"playbook {path.stem}" for path in sorted((ROOT / "playbooks").iterdir())),
        *(f"format {name}" for name in found(r'"(ssh_hook(?: job)? [0-9]+)"', f"{hook}/node/*.py")),
    ]


if __name__ == "__main__":
    print(*interface(), sep="\n")
