# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install the hook on a node: its Python package, and the launcher that names it.

Each version of the package has a directory of its own, <prefix>/lib/ssh_hook-<digest>, and the launcher names one of
them: a container that starts during an upgrade loads all modules from the old one or all from the new one.
"""

from __future__ import annotations

import base64
import glob
import hashlib
import inspect
import json
import os
import re
import stat
import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from . import _bytecode, _files, _nobody, _run_state, _timers

if TYPE_CHECKING:
    from pathlib import Path

DIGESTS = "digests"  # next to the bytecode, written last: a JSON object, path of each of its files -> SHA-256
RECORDS = "/var/lib/ocihooks-ssh"
# The hook's mount point in containers (files/hook/ssh_hook/oci/container_paths.py). It is created on the node too, so
# that it exists in containers that bind mount the node's /opt.
MOUNT_POINT = "/opt/oci-hooks/ssh"
PACKAGE_FOLDER = "package/"  # in the names of `Sources`
_SOURCE_SUFFIXES = (".py", ".sh")  # of the package's files: modules, and files for containers
COMPLETION = "completion"
SECONDS = 120  # for the interpreter to compile the package, or to run the launcher once
CACHE_TAG = "import sys; print(sys.implementation.cache_tag)"
EARLIER_SCRIPT = b'"""Refresh a passwd file from the node\'s name service'  # the first versions had it in libexec
VERSION = re.compile(r"ssh_hook-[0-9a-f]{12}")  # name of a version's directory

LAUNCHER = """\
#!{python} -BISXutf8
# Written by the role ocihooks.ssh.ssh_hook: changes here do not last.
import sys
from marshal import loads

directory = {directory}
settings = {{
{settings}}}
bytecode = f"{{directory}}/{{sys.implementation.cache_tag}}"
sys.path += [bytecode, directory]
try:
    program = open(f"{{bytecode}}/program", "rb").read()
except FileNotFoundError:  # the interpreter was upgraded: it compiles the sources until the next deployment
    from ssh_hook.cli import main

    sys.exit(main(sys.argv[1:], settings))
exec(loads(program))
"""


def package_sources(top: Path) -> dict[str, str]:
    """Return the texts of the package in the directory `top`, keyed by name as in `Hook.digests`. Raises OSError."""
    paths = sorted(path for path in top.rglob("*") if path.suffix in _SOURCE_SUFFIXES)
    return {PACKAGE_FOLDER + str(path.relative_to(top)): path.read_text(encoding="utf-8") for path in paths}


class NotInstalled(Exception):
    """The hook cannot be installed; str() is the message for the admin."""


class SourcesMissing(Exception):
    """The node lacks files of the hook, so their texts are needed."""


class Hook(NamedTuple):
    """The hook as it should be installed on a node.

    Attributes:
        prefix: directory of the installation
        python: the interpreter that runs the hook
        settings: the settings that the launcher passes to the hook, in this order
        digests: path of each file below PACKAGE_FOLDER, or COMPLETION -> its SHA-256
    """

    prefix: str
    python: str
    settings: Mapping[str, str]
    digests: Mapping[str, str]

    @property
    def launcher(self) -> str:
        """Return the path of the launcher."""
        return f"{self.prefix}/bin/ssh_hook"

    @property
    def completion(self) -> str:
        """Return the path of the completion for bash, which bash-completion derives from the launcher's."""
        return f"{self.prefix}/share/bash-completion/completions/ssh_hook"

    @property
    def directory(self) -> str:
        """Return the directory of this version of the package."""
        return f"{self.prefix}/lib/ssh_hook-{_bytecode.digest(below(self.digests, PACKAGE_FOLDER))[:12]}"


class Change(NamedTuple):
    """What differed on a node.

    Attributes:
        files: paths of files and directories of the package that were written or removed
        launcher: text of the launcher before and after, or None if it was up to date
        removed: directories of old versions, and of scripts that they had
    """

    files: list[str]
    launcher: tuple[str, str] | None
    removed: list[str]


def below(names: Mapping[str, str], folder: str) -> dict[str, str]:
    """Return the entries below a folder, with names relative to it."""
    return {name[len(folder) :]: value for name, value in names.items() if name.startswith(folder)}


def launcher_text(hook: Hook) -> str:
    """Return the launcher: a program that runs the package with these settings."""
    return LAUNCHER.format(
        python=hook.python,
        directory=json.dumps(hook.directory),
        settings="".join(f"    {json.dumps(name)}: {json.dumps(value)},\n" for name, value in hook.settings.items()),
    )


def found_settings(hook: Hook) -> dict[str, str] | None:
    """Return the launcher's settings for the hook; None if anything except the settings differs from `hook`."""
    text = _files.read(hook.launcher).decode(errors="replace")
    lines = re.findall(r'^    (".*"): (".*"),$', text, re.MULTILINE)
    try:
        settings: dict[str, str] = {json.loads(name): json.loads(value) for name, value in lines}
        change = install(hook._replace(settings=settings), None, check=True)
    except (NotInstalled, OSError, ValueError):
        return None
    return None if any(change) else settings


def launched(prefix: str) -> str:
    """Return the directory of the launcher's version; empty if there is none."""
    text = _files.read(os.path.join(prefix, "bin/ssh_hook")).decode(errors="replace")
    named = re.search(r'^directory = "(.*)"$', text, re.MULTILINE)
    return named.group(1) if named else ""


def launched_version(prefix: str) -> str | None:
    """Return the version, such as 1.0.0, of the launcher's hook; None if there is none."""
    directory = launched(prefix)
    text = _files.read(os.path.join(directory, _bytecode.PACKAGE, "__init__.py")) if directory else b""
    named = re.search(r'^VERSION = "([0-9A-Za-z.+-]{1,40})"', text.decode(errors="replace"), re.MULTILINE)
    return named[1] if named else None


def versions(prefix: str) -> list[str]:
    """Return the directories of the hook's versions: the launcher's, then the others, newest first."""
    found = [
        path
        for path in glob.glob(os.path.join(glob.escape(prefix), "lib/ssh_hook-*"))
        if VERSION.fullmatch(os.path.basename(path))
    ]
    current = launched(prefix)
    return sorted(found, key=lambda path: (path == current, os.stat(path).st_mtime), reverse=True)


def compiled(python: str, package: Mapping[str, str], directory: str) -> tuple[str, dict[str, bytes]]:
    """Compile a package, path -> text, with the hook's interpreter, isolated.

    Return its cache tag, and the files, path -> content, for the directory of that name below `directory`.

    No one but root may influence the result, so it runs as root; the interpreter must have been verified.

    Raises:
        NotInstalled: it fails.
    """
    request = json.dumps({"package": package, "directory": directory}).encode()
    command = [python, "-I", "-S", "-c", inspect.getsource(_bytecode)]
    try:
        answer = subprocess.run(command, input=request, capture_output=True, env={}, timeout=SECONDS, check=False)
    except OSError as error:
        raise NotInstalled(f"{python} cannot compile the hook: {error}") from error
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"{python} did not compile the hook within {SECONDS} seconds") from None
    if answer.returncode != 0:
        raise NotInstalled(f"{python} cannot compile the hook: {last_line(answer)}")
    made = json.loads(answer.stdout)
    return made["cache_tag"], {path: base64.b64decode(content) for path, content in made["files"].items()}


def cache_tag(python: str) -> str:
    """Return an interpreter's cache tag; empty if it reports none."""
    try:
        return _nobody.run([python, "-I", "-S", "-c", CACHE_TAG], seconds=SECONDS).stdout.decode().strip()
    except (OSError, UnicodeDecodeError, subprocess.TimeoutExpired):
        return ""


def last_line(answer: subprocess.CompletedProcess[bytes]) -> str:
    """Return the last line of a failed program's standard error, or its exit status."""
    said = answer.stderr.decode(errors="replace").strip().splitlines()
    return said[-1] if said else f"exit status {answer.returncode}"


def compare_tree(
    directory: str, digests: Mapping[str, str], others: set[str]
) -> tuple[list[str], list[str], list[str]]:
    """Return what is out of date in a tree: directories, names of files, and superfluous paths.

    Args:
        digests: path of each file below the directory -> its SHA-256
        others: paths of other allowed files below the directory
    """
    folders = sorted({"", *(os.path.dirname(name) for name in digests)})
    places = {folder: os.path.join(directory, folder).rstrip("/") for folder in folders}
    wrong = [place for place in places.values() if not _files.is_as(place, stat.S_IFDIR | 0o755)]
    stale = [name for name, wanted in digests.items() if not is_file(os.path.join(directory, name), wanted)]
    superfluous = []
    for folder, place in places.items():
        names = {name for path in (*digests, *others, *folders) for name in [child(path, folder)] if name}
        superfluous += _files.remove_others(place, names, check=True)
    return wrong, stale, superfluous


def child(path: str, folder: str) -> str:
    """Return the first component of a path below a folder; empty if it is not below it."""
    rest = path if not folder else path[len(folder) + 1 :] if path.startswith(f"{folder}/") else ""
    return rest.partition("/")[0]


def is_file(path: str, sha256: str) -> bool:
    """Return whether a path is root's file with mode 0644 and this content."""
    return _files.digest(path) == sha256


def is_compiled(tree: str) -> bool:
    """Return whether the bytecode in a directory is complete, and only root's."""
    try:
        digests: dict[str, str] = json.loads(_files.read(os.path.join(tree, DIGESTS)))
        return not any(
            compare_tree(tree, {**digests, DIGESTS: _files.digest(os.path.join(tree, DIGESTS)) or ""}, set())
        )
    except (AttributeError, TypeError, ValueError):
        return False


def write_bytecode(tree: str, files: Mapping[str, bytes]) -> None:
    """Update a directory of bytecode to these files, path -> content.

    Raises:
        OSError: a file cannot be written.
    """
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    write_tree(tree, files, *compare_tree(tree, digests, {DIGESTS}))
    _files.write(os.path.join(tree, DIGESTS), json.dumps(digests).encode())


def install(hook: Hook, texts: Mapping[str, str] | None, check: bool) -> Change:
    """Install or update `hook` on a node. The launcher comes last, so that a container never starts half a version.

    Args:
        texts: of the files, keyed by the names in `hook.digests`; None if not available
        check: change nothing

    Raises:
        NotInstalled: the launcher would not run, or is another program.
        OSError: a file cannot be written.
        SourcesMissing: `texts` is None and needed; nothing was changed.
    """
    refuse_others(hook)
    package = os.path.join(hook.directory, _bytecode.PACKAGE)
    wrong, stale, superfluous = compare_tree(package, below(hook.digests, PACKAGE_FOLDER), set())
    changed = [*wrong, *(os.path.join(package, name) for name in stale), *superfluous]
    is_whole = not changed
    tree = os.path.join(hook.directory, cache_tag(hook.python) or "unknown")
    is_current = is_whole and is_compiled(tree)
    if not is_current:
        changed.append(tree)
    is_completed = COMPLETION not in hook.digests or is_file(hook.completion, hook.digests[COMPLETION])
    if not is_completed:
        changed.append(hook.completion)
    if changed and not check and texts is None:
        raise SourcesMissing
    if not check and texts is not None:
        if not is_whole:
            _files.make_missing(hook.directory)
            contents = {name: text.encode() for name, text in below(texts, PACKAGE_FOLDER).items()}
            write_tree(package, contents, wrong, stale, superfluous)
        if not is_current:
            tag, files = compiled(hook.python, below(texts, PACKAGE_FOLDER), hook.directory)
            tree = os.path.join(hook.directory, tag)
            write_bytecode(tree, files)
        if not is_completed:
            _files.make_missing(os.path.dirname(hook.completion))
            _files.write(hook.completion, texts[COMPLETION].encode())
    changed += [hook.launcher] * _files.make_missing(os.path.dirname(hook.launcher), check)
    for directory in (hook.directory, MOUNT_POINT):
        _files.make_missing(os.path.dirname(directory), check)
        changed += [directory] * _files.update_directory(directory, check)
    changed += _files.remove_others(hook.directory, {_bytecode.PACKAGE, os.path.basename(tree)}, check)
    old = [path for path in versions(hook.prefix) if path != hook.directory]
    launcher = install_launcher(hook, check)
    # The previous version stays: a starting container may be loading it.
    removed = [path for path in [*old[1:], *earlier_scripts(hook.prefix)] if _files.remove(path, check)]
    return Change(list(dict.fromkeys(changed)), launcher, removed)


def earlier_scripts(prefix: str) -> list[str]:
    """Return the directory of scripts that the first versions had, if it is theirs."""
    directory = f"{prefix}/libexec/ssh_hook"
    is_ours = _files.read(f"{directory}/refresh_passwd.py").startswith(EARLIER_SCRIPT)
    return [directory] * is_ours


def foreign(hook: Hook) -> list[str]:
    """Return the paths at which there is something else, such as the launcher of Sarus's hook.

    If a version of ours is installed, the launcher is ours, even if it is damaged.
    """
    launcher = [] if versions(hook.prefix) else [hook.launcher]
    files = [path for path in [*launcher, hook.completion] if _files.is_foreign(path)]
    is_directory = os.path.isdir(MOUNT_POINT) and not os.path.islink(MOUNT_POINT)
    return files + [MOUNT_POINT] * (os.path.lexists(MOUNT_POINT) and not is_directory)


def refuse_others(hook: Hook) -> None:
    """Reject a prefix in which another program's files have the names of ours.

    Raises:
        NotInstalled: there is such a file.
    """
    for path in foreign(hook):
        raise NotInstalled(f"{path} was not written by this role: move it away, or set another ssh_hook_prefix")


def wrote_passwd_file(prefix: str, path: str) -> bool:
    """Return whether an installed version that sets no mark wrote a passwd file on a node without systemd.

    Its launcher names the file, and the file has the form that it writes. With systemd its unit tells.
    """
    from ._keys import name_service  # here, as in _files.is_ours

    content, named = _files.read(path), f'"PASSWD_FILE": {json.dumps(path)},\n'
    accounts = name_service.entries(content)
    sources = [_files.read(f"{version}/{_bytecode.PACKAGE}/keys/name_service.py") for version in versions(prefix)]
    return (
        not _timers.uses_systemd()
        and any(name_service.MARK not in source for source in sources)  # the first versions lack this module
        and named.encode() in _files.read(f"{prefix}/bin/ssh_hook")
        and _files.is_as(path, stat.S_IFREG | 0o644)
        and b"root" in accounts
        and content == b"".join(line + b"\n" for line in accounts.values())
    )


def write_tree(
    top: str, contents: Mapping[str, bytes], wrong: list[str], stale: list[str], superfluous: list[str]
) -> None:
    """Fix what `compare_tree` found.

    Raises:
        OSError: a file cannot be written.
    """
    for directory in wrong:
        _files.update_directory(directory)
    for name in stale:
        path = os.path.join(top, name)
        if os.path.isdir(path) and not os.path.islink(path):
            _files.remove(path)
        _files.write(path, contents[name])
    for path in superfluous:
        _files.remove(path)


def install_launcher(hook: Hook, check: bool) -> tuple[str, str] | None:
    """Replace the launcher if it is out of date, after checking that the new one runs.

    Returns: its text before and after, or None if it was up to date.

    Raises:
        NotInstalled: the new one does not run.
        OSError: it cannot be written.
    """
    before, after = _files.read(hook.launcher), launcher_text(hook)
    if before == after.encode() and _files.is_as(hook.launcher, stat.S_IFREG | 0o755):
        return None
    if not check:
        command = [hook.python, "-ISXutf8", "-", "--help"]
        try:
            trial = subprocess.run(command, input=after.encode(), capture_output=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise NotInstalled(f"{hook.launcher} did not end within {SECONDS} seconds, and is not replaced") from None
        if trial.returncode != 0:
            raise NotInstalled(f"{hook.launcher} would not run, and stays as it is: {last_line(trial)}")
        _files.write(hook.launcher, after.encode(), 0o755)
    return before.decode(errors="replace"), after


def uninstall(prefix: str, check: bool) -> list[str]:
    """Remove the launcher first, then all versions, and what the hook has kept on the node. Return the removed paths.

    Raises:
        NotInstalled: the launcher is another program, or a user holds up the removal.
        OSError: a file cannot be removed.
    """
    own = Hook(prefix, "", {}, {})
    refuse_others(own)
    paths = [own.launcher, own.completion, *versions(prefix), *earlier_scripts(prefix), RECORDS]
    removed = [path for path in paths if _files.remove(path, check)]
    try:
        return removed + _run_state.remove(check)
    except _run_state.HeldUp as error:
        raise NotInstalled(str(error)) from None
