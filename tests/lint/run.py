"""Runs every linter on the checkout, two at a time, and shows what the failing ones say.

Needs the development tools first on PATH, as `make lint` sees to.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from texts import ROOT, texts

CACHE = ROOT / ".cache" / "lint"
NAME = Path("ansible_collections/ocihooks/ssh")
ISSUE_CONFIG = ROOT / ".github/ISSUE_TEMPLATE/config.yml"


def command(*arguments: str | Path) -> str:
    """Run a command in the checkout; return what it printed when it failed, and nothing when it did not."""
    done = subprocess.run(
        arguments,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout or f"{arguments[0]}: exit status {done.returncode}"


def programs(language: str) -> list[Path]:
    """Return the files whose first line names an interpreter of the language ("python" or "sh")."""
    firsts = ((path, text.partition("\n")[0]) for path, text in texts())
    return [
        path
        for path, first in firsts
        if first.startswith("#!") and first.split()[-1].rstrip("0123456789.").endswith(language)
    ]


def ruff(*mode: str) -> str:
    """Python: the files that ruff finds by itself, and programs without .py in their name."""
    return command("ruff", *mode, "--quiet", ".", *(path for path in programs("python") if path.suffix != ".py"))


def types() -> str:
    """Types of the hook, of the plugins under the names that Ansible gives them, of the roles' programs and of our
    tools.
    """
    packages = command("mypy", "-p", "ssh_hook", "-p", "ansible_collections.ocihooks.ssh.plugins")
    roles = [path for path, _text in texts() if path.parts[0] == "roles" and path.suffix == ".py"]
    tools = (
        "run.py",
        "load.py",
        "unit/run.py",
        "sanity",
        "lint",
        "bench",
        "fuzz/campaign.py",
        "fuzz/targets.py",
        "hook",
        "mutants",
        "vm",
        "monitoring",
        "node_image",
        "real_engines",
        "testbed",
    )
    return packages + command("mypy", *roles, "tools", "docs/site/drawing.py", *(f"tests/{tool}" for tool in tools))


def shell() -> str:
    """Shell texts of the checkout, and those that the hook and the roles make."""
    generated = CACHE / "shell"
    shutil.rmtree(generated, ignore_errors=True)
    generated.mkdir(parents=True)
    problem = command(sys.executable, "-B", "tests/lint/generated_shell.py", generated)
    made = sorted(path for path in generated.rglob("*") if path.is_file())
    if not problem and not made:
        problem = "tests/lint/generated_shell.py wrote no file\n"
    # In generated text single quotes hold what must not expand, which is worth a remark in one that a person wrote.
    problem += command("shellcheck", "--severity=warning", *made)
    return problem + command("shellcheck", "--external-sources", *programs("sh"))


def documentation() -> str:
    """The collection's documentation, from a copy that has the place in the tree that antsibull-docs expects."""
    copy = CACHE / "documentation"
    return command("tests/snapshot", copy) or command(
        "antsibull-docs",
        "lint-collection-docs",
        "--plugin-docs",
        "--skip-rstcheck",
        copy / NAME,
    )


def forge() -> str:
    """What the forge and the renewal bot read: workflows, issue forms, renovate.json."""
    schemas = {
        "github-workflows": sorted(ROOT.glob(".github/workflows/*.yml")),
        "github-issue-forms": sorted(set(ROOT.glob(".github/ISSUE_TEMPLATE/*.yml")) - {ISSUE_CONFIG}),
        "github-issue-config": [ISSUE_CONFIG],
        "renovate": [ROOT / "renovate.json"],
    }
    problem = command("zizmor", "--offline", "--persona=pedantic", "--no-progress", "--quiet", ".github")
    for schema, files in schemas.items():
        problem += command("check-jsonschema", f"--builtin-schema=vendor.{schema}", *files)
    return problem


def package() -> str:
    """The collection as a site gets it: built, installed, its links kept, its playbooks found by their names."""
    site = CACHE / "package"
    problem = command("tests/archive", site)
    for link in ("_keys/store.py", "_linux/ids.py"):
        if not problem and not (site / NAME / "plugins/module_utils" / link).is_file():
            problem = f"the built collection lacks plugins/module_utils/{link}, a link to a file of the hook\n"
    environment = f"ANSIBLE_COLLECTIONS_PATH={site}"
    for playbook in ("deploy", "audit", "remove"):
        problem = problem or command(
            *("env", environment, "ansible-playbook", "--inventory", "compute_nodes,", "--syntax-check"),
            f"ocihooks.ssh.{playbook}",
        )
    return problem


CHECKS: dict[str, Callable[[], str]] = {
    "ansible-lint": lambda: command("ansible-lint", "--offline", "--strict", "--nocolor", "-q"),
    "mypy": types,
    "import-linter": lambda: command("env", f"PYTHONPATH={ROOT}/files/hook", "lint-imports", "--no-cache"),
    "antsibull-docs": documentation,
    "package": package,
    "antsibull-changelog": lambda: command("antsibull-changelog", "lint"),
    "ruff check": lambda: ruff("check"),
    "ruff format": lambda: ruff("format", "--check", "--diff"),
    "shellcheck": shell,
    "C": lambda: command("env", f"PYTHONPATH={CACHE}", sys.executable, "-B", "tests/lint/c_files.py"),
    "forge": forge,
    "reuse": lambda: command("reuse", "lint", "--lines"),
    "role files": lambda: command(sys.executable, "-B", "tests/lint/role_files.py"),
    "argument specs": lambda: command(sys.executable, "-B", "tests/lint/argument_specs.py"),
    "paths": lambda: command(sys.executable, "-B", "tests/lint/paths.py"),
    "written files": lambda: command(sys.executable, "-B", "tests/lint/written.py"),
    "plans": lambda: command(sys.executable, "-B", "tests/lint/plans.py"),
    "texts": lambda: command(sys.executable, "-B", "tests/lint/texts.py"),
}


def timed(name: str) -> tuple[str, str, float]:
    """Run one check; return its name, its complaint and its time in seconds."""
    start = time.monotonic()
    complaint = CHECKS[name]()
    return name, complaint, time.monotonic() - start


def main() -> int:
    """Run all checks; the exit status is 0 when none has anything to say."""
    collection = CACHE / "ansible_collections" / "ocihooks" / "ssh"  # where mypy and Ansible find what imports name
    collection.parent.mkdir(parents=True, exist_ok=True)
    collection.unlink(missing_ok=True)  # a copied .cache brings the link to another checkout
    collection.symlink_to(ROOT)
    os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(CACHE)
    os.environ["PATH"] = f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}"
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(timed, CHECKS))
    for name, complaint, _seconds in results:
        if complaint:
            print(f"---- {name}\n{complaint}")
    for name, complaint, seconds in results:
        print(f"{name:<20} {'FAILED' if complaint else 'ok':<7} {seconds:5.1f} s")
    failed = sum(bool(complaint) for _name, complaint, _seconds in results)
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
