"""Nothing on a node is replaced or removed that the collection did not write: of each path in the table of
docs/architecture.md.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from node import LAUNCHER, PASSWD, PREFIX, ROOT, listing, play

sys.path.insert(0, str(ROOT / "tests/lint"))
from written import rows

SITE = Path("/etc/role-test-site")  # the directories that other programs would have made
DIRECTORIES = {
    f"ssh_hook_{name}": str(SITE / name)
    for name in (
        *("enroot_hooks_dir", "podman_hpc_modules_dir", "slurm_prolog_dir", "slurm_epilog_dir", "metrics_dir"),
    )
}
VARIABLES: dict[str, object] = {**DIRECTORIES, "ssh_hook_cdi": True}
VALUES = {
    "prefix": str(PREFIX),
    "dropbear_dir": str(PREFIX / "dropbear"),
    "passwd_file": str(PASSWD),
    "hooks_dirs": "/usr/share/containers/oci/hooks.d",
    "json_name": "07-ssh-hook.json",
    **{name.removeprefix("ssh_hook_"): path for name, path in DIRECTORIES.items()},
}


def paths() -> list[Path]:
    """The paths of the table at which something else is refused, and not those on the controller."""
    found = [
        row[0].strip("`")
        for row in rows()
        if re.match("mark|content|kind", row[2]) and row[0].count("`") == 2 and row[0].endswith("`")
    ]
    return [Path(re.sub("<(.*?)>", lambda match: VALUES[match[1]], path)) for path in found]


@pytest.fixture
def foreign() -> Iterator[list[Path]]:
    """Another program's file at each path."""
    made: list[Path] = []

    def make(directory: Path) -> None:
        if not directory.exists():
            make(directory.parent)
            directory.mkdir()
            made.append(directory)

    for directory in DIRECTORIES.values():
        make(Path(directory))
    there = paths()
    for path in there:
        make(path.parent)
        path.write_text("of another program\n", encoding="utf-8")
    yield there
    for path in there:
        path.unlink()
    for directory in reversed(made):
        directory.rmdir()


def test_what_another_program_wrote_is_refused_at_each_path(foreign: list[Path]) -> None:
    assert len(foreign) == 17
    before = listing("/etc", "/opt", "/usr/share/containers")
    for playbook, *arguments in (("deploy", "--check"), ("deploy",), ("remove", "--check"), ("remove",)):
        refused = play(playbook, *arguments, variables=VARIABLES)
        assert (refused.status != 0, refused.changed) == (True, 0)
        silent = [path for path in foreign if f"{path} on node was not written by this collection" not in refused.said]
        assert silent == [], refused.said
        assert listing("/etc", "/opt", "/usr/share/containers") == before


@pytest.mark.parametrize("tree", ["shadow", "own"])
def test_no_passwd_file_of_the_site_is_replaced_or_removed(tree: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = SITE / "etc"
    directory.mkdir(parents=True)
    own = directory / "passwd"
    shutil.copy("/etc/passwd", own)
    path = Path("/etc/shadow") if tree == "shadow" else own
    before = listing()
    try:
        for playbook, *arguments in (("deploy", "--check"), ("deploy",), ("audit",), ("remove",)):
            refused = play(playbook, *arguments, variables={"ssh_hook_passwd_file": str(path)})
            assert refused.status != 0
            assert f"{path} on node was not written by this collection" in refused.said
            assert "set ssh_hook_passwd_source to 'file' if the site provides this file" in refused.said
            assert listing() == before
    finally:
        shutil.rmtree(SITE)


@pytest.fixture
def deployed() -> Iterator[None]:
    done = play("deploy")
    assert done.status == 0, done.said
    yield
    removed = play("remove")
    assert removed.status == 0, removed.said


def unmark() -> str:
    """Make the passwd file and the installed version those of a version without a mark. Return the marked content."""
    marked = PASSWD.read_text(encoding="utf-8")
    PASSWD.write_text(marked.partition("\n")[2], encoding="utf-8")
    [version] = (PREFIX / "lib").iterdir()
    older = version.with_name("ssh_hook-000000000000")
    shutil.copytree(version, older)
    source = older / "ssh_hook/keys/name_service.py"
    source.write_text(source.read_text(encoding="utf-8").replace("# Written by", "# By"), encoding="utf-8")
    return marked


def test_the_passwd_file_of_an_earlier_version_is_recognised(deployed: None, as_on_systemd: tuple[str, ...]) -> None:
    marked = unmark()
    assert play("deploy", "--check").status == 0
    done = play("deploy")
    assert done.status == 0, done.said
    assert PASSWD.read_text(encoding="utf-8") == marked
    for older in (PREFIX / "lib").glob("ssh_hook-000000000000"):
        shutil.rmtree(older)
    PASSWD.write_text(marked.partition("\n")[2], encoding="utf-8")
    refused = play("deploy")  # as a site that provides it, and forgot to say so
    assert f"{PASSWD} on node was not written by this collection" in refused.said
    PASSWD.write_text(marked, encoding="utf-8")
    assert play("converge", before=as_on_systemd).status == 0
    PASSWD.write_text(marked.partition("\n")[2], encoding="utf-8")  # its unit names it
    refreshed = subprocess.run([LAUNCHER, "refresh-passwd", PASSWD], capture_output=True, text=True, check=False)
    assert (refreshed.stdout, refreshed.stderr) == ("changed\n", "")
    assert PASSWD.read_text(encoding="utf-8") == marked
    PASSWD.write_text(marked.partition("\n")[2], encoding="utf-8")
    removed = play("remove", before=as_on_systemd)
    assert removed.status == 0, removed.said
    assert not os.path.lexists(PASSWD)
