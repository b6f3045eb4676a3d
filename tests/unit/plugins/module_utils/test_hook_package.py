"""The installer of the hook repairs what somebody has changed, follows no link, and changes nothing else. Needs
root."""

from __future__ import annotations

import marshal
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils import _bytecode as bytecode
from ansible_collections.ocihooks.ssh.plugins.module_utils import _hook_package as hook_package
from ansible_collections.ocihooks.ssh.plugins.module_utils import _run_state as run_state
from ansible_collections.ocihooks.ssh.plugins.module_utils._keys import name_service
from ssh_hook.node.places import ROOT_COPIES
from ssh_hook.oci import container_paths

HOOK = Path(container_paths.__file__).parents[1]
PACKAGE = {
    "__init__.py": "# the package\n",
    "cli.py": "from .oci.settings import PORT\n",
    "commands/__init__.py": "",
    "commands/keygen.py": "from ..oci.settings import PORT\n",
    "dispatch.py": "from .oci.settings import PORT\n",
    "program.sh": '#!/bin/sh\necho "is no module"\n',
    "oci/__init__.py": "# a room\n",
    "oci/settings.py": "PORT = 22\n",
    "start/__init__.py": "# another\n",
    "start/from_runtime.py": "from ..oci.settings import PORT\nfrom ..stop import poststop\n",
    "start/from_enroot.py": "from . import from_runtime\n",
    "stop/__init__.py": "",
    "stop/poststop.py": "def poststop():\n    from ..oci import late\n    return late\n",
    "oci/late.py": "",
}


def test_places_are_those_of_the_hook() -> None:
    """The modules cannot import the hook."""
    assert f"{hook_package.RECORDS}/daemons" == ROOT_COPIES
    assert hook_package.MOUNT_POINT == container_paths.BASE


def replace_by_link(folder: Path, victim: Path) -> None:
    folder.rename(folder.with_name("moved"))
    folder.symlink_to(victim)


def replace_by_file(folder: Path, _victim: Path) -> None:
    folder.rename(folder.with_name("moved"))
    folder.touch()


def give_away(folder: Path, _victim: Path) -> None:
    os.chown(folder, 4711, 4711)
    folder.chmod(0o777)
    (folder / "planted").mkdir()
    (folder / "settings.py").unlink()
    (folder / "settings.py").symlink_to("/etc/passwd")


def listing(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path.relative_to(directory)): (
            path.lstat().st_mode,
            path.lstat().st_uid,
            path.read_bytes() if path.is_file() and not path.is_symlink() else b"",
        )
        for path in sorted(directory.rglob("*"))
    }


SOURCES = {
    **{f"package/{name}": text for name, text in PACKAGE.items()},
    "completion": "# bash completion for ssh_hook: and more\n",
}


@pytest.fixture
def hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> hook_package.Hook:
    os.umask(0o022)
    monkeypatch.setattr(hook_package, "LAUNCHER", "#{python}\n# {settings}\ndirectory = {directory}\n")
    monkeypatch.setattr(hook_package, "RECORDS", str(tmp_path / "records"))
    monkeypatch.setattr(run_state, "PLACE", str(tmp_path / "run"))
    monkeypatch.setattr(hook_package, "MOUNT_POINT", str(tmp_path / "containers/ssh"))
    monkeypatch.setattr(hook_package, "install_launcher", lambda hook, check: None)
    monkeypatch.setattr(hook_package._nobody, "rights", dict)  # nobody may not run each interpreter of the unit tests
    return hook_package.Hook(str(tmp_path / "hook"), sys.executable, {}, bytecode.digests(SOURCES))


def installed(hook: hook_package.Hook, *, check: bool = False, sources: dict[str, str] | None = SOURCES) -> bool:
    """Return whether anything differed."""
    change = hook_package.install(hook, sources, check)
    return bool(change.files or change.launcher or change.removed)


@pytest.mark.parametrize("harm", [replace_by_link, replace_by_file, give_away])
def test_what_was_harmed_is_repaired(
    tmp_path: Path, hook: hook_package.Hook, harm: Callable[[Path, Path], None]
) -> None:
    directory, victim = Path(hook.directory), tmp_path / "victim"
    (victim / "inner").mkdir(parents=True)
    (victim / "file").write_text("theirs", encoding="utf-8")
    victim.chmod(0o700)
    os.chown(victim, 4711, 4711)
    assert installed(hook)
    right, theirs = listing(directory), (listing(victim), victim.stat().st_mode, victim.stat().st_uid)
    assert {f"ssh_hook/{name}" for name in PACKAGE} <= set(right)

    harm(directory / "ssh_hook" / "oci", victim)
    assert installed(hook, check=True)
    assert installed(hook)
    assert listing(directory) == right
    assert (listing(victim), victim.stat().st_mode, victim.stat().st_uid) == theirs
    assert not installed(hook, check=True)
    assert not installed(hook, sources=None)


def test_nothing_is_changed_until_the_sources_are_at_hand(hook: hook_package.Hook) -> None:
    assert installed(hook, check=True, sources=None)
    with pytest.raises(hook_package.SourcesMissing):
        hook_package.install(hook, None, check=False)
    assert not Path(hook.prefix).exists()
    assert installed(hook)
    folder = Path(hook.directory, "ssh_hook/oci")
    before = listing(folder)
    (folder / "settings.py").write_text("# another\n", encoding="utf-8")
    Path(hook.completion).chmod(0o666)
    Path(hook.completion).with_name("of_another").touch()
    (folder / "planted.py").touch()
    with pytest.raises(hook_package.SourcesMissing):
        hook_package.install(hook, None, check=False)
    assert installed(hook)
    assert listing(folder) == before
    assert Path(hook.completion).stat().st_mode == 0o100644
    assert Path(hook.completion).with_name("of_another").exists()


def compiled_tree(hook: hook_package.Hook) -> Path:
    return Path(hook.directory, str(sys.implementation.cache_tag))


def test_bytecode_of_another_interpreter_is_removed_when_there_is_ours(hook: hook_package.Hook) -> None:
    installed(hook)
    tree = compiled_tree(hook)
    right = listing(tree)
    tree.rename(tree.with_name("cpython-27"))
    changed = hook_package.install(hook, SOURCES, check=False).files
    assert changed == [str(tree), f"{hook.directory}/cpython-27"]
    assert listing(tree) == right
    assert not installed(hook, check=True)


@pytest.mark.parametrize("name", ["create_runtime", "ssh_hook/cli.pyc", "digests"])
@pytest.mark.parametrize(
    "harm",
    [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1]), lambda path: path.chmod(0o666)],
    ids=["missing", "cut", "mode"],
)
def test_bytecode_that_was_harmed_is_made_anew(
    hook: hook_package.Hook, name: str, harm: Callable[[Path], None]
) -> None:
    installed(hook)
    tree = compiled_tree(hook)
    right = listing(tree)
    harm(tree / name)
    assert hook_package.install(hook, SOURCES, check=False).files == [str(tree)]
    assert listing(tree) == right


def parts(data: bytes) -> list[list[bytecode.Entry]]:
    """Return the parts of a stage's file."""
    found = []
    while data:
        size = int.from_bytes(data[:4], "big")
        found.append(marshal.loads(data[4 : 4 + size]))
        data = data[4 + size :]
    return found


def test_a_module_finds_another_file_of_the_package_beside_its_own() -> None:
    files = bytecode.bytecode(PACKAGE, "/opt/hook")
    assert files["ssh_hook/program.sh"].decode() == PACKAGE["program.sh"]
    assert "ssh_hook/cli.pyc" in files


@pytest.mark.parametrize("path", sorted(HOOK.rglob("*.py")), ids=lambda path: str(path.relative_to(HOOK)))
def test_each_module_of_the_hook_runs_without_its_annotations(path: Path) -> None:
    name = bytecode.module_name(str(path.relative_to(HOOK)))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    code, _tree = bytecode.compile_source(path.read_text(encoding="utf-8"), str(path))
    try:
        exec(code, {"__name__": name, "__package__": package, "__file__": str(path)})
    except Exception as error:  # whose traceback has no line numbers, which pytest needs
        failure = f"{type(error).__name__}: {error}"
    else:
        return
    pytest.fail(failure, pytrace=False)


def test_a_stage_has_each_module_once_and_those_it_imports_before_it() -> None:
    files = bytecode.bytecode(PACKAGE, "/opt/hook")
    names = {stage: [entry[0] for part in parts(files[stage]) for entry in part] for stage in bytecode.STAGES}
    assert names["cli"] == ["ssh_hook", "ssh_hook.oci", "ssh_hook.oci.settings", "ssh_hook.cli"]
    stop = ["ssh_hook.stop", "ssh_hook.stop.poststop"]
    stages = ["ssh_hook.start", *stop, "ssh_hook.start.from_runtime"]
    assert names["create_runtime"] == stages
    assert names["poststop"] == stop
    assert names["enroot"] == [*stages, "ssh_hook.start.from_enroot"]
    assert names["keygen"] == ["ssh_hook.dispatch", "ssh_hook.commands", "ssh_hook.commands.keygen"]


def test_a_part_of_a_stage_is_small_but_has_more_than_one_module() -> None:
    package = {path: text + f"TEXT = {path * 100!r}\n" for path, text in PACKAGE.items() if path.endswith(".py")}
    package["oci/settings.py"] += f"LONG = {'x' * 2 * bytecode.PART!r}\n"
    modules = {f"start/m{number}.py": f"TEXT = {str(number) * 1000!r}\n" for number in range(100)}
    package["start/from_runtime.py"] = "".join(f"from . import m{number}\n" for number in range(100))
    files = bytecode.bytecode({**package, **modules}, "/opt/hook")
    found = parts(files["create_runtime"])
    assert sum(map(len, found)) == 102  # with the package and from_runtime.py
    assert 3 < len(found) < 20
    assert all(len(marshal.dumps(part)) <= bytecode.PART for part in found)
    assert [len(part) for part in parts(files["cli"])] == [2, 1, 1]  # the one with the long text is alone


def test_a_launcher_never_reads_stages_of_another_format(
    hook: hook_package.Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hook.directory
    monkeypatch.setattr(bytecode, "FORMAT", bytecode.FORMAT + 1)
    assert hook.directory != before


def test_old_versions_are_removed_but_the_previous_one(hook: hook_package.Hook) -> None:
    names = ("000000000001", "000000000002", "000000000003")
    other = Path(hook.prefix, "lib", "ssh_hook-backup")
    other.mkdir(parents=True)
    for age, name in enumerate(names):
        directory = Path(hook.prefix, "lib", f"ssh_hook-{name}")
        directory.mkdir(parents=True)
        os.utime(directory, (1000 - age, 1000 - age))  # the one that the launcher runs need not be the newest
    launcher = Path(hook.launcher)
    launcher.parent.mkdir()
    launcher.write_text(f'if True:\ndirectory = "{hook.prefix}/lib/ssh_hook-{names[2]}"\n', encoding="utf-8")
    assert hook_package.versions(hook.prefix) == [
        f"{hook.prefix}/lib/ssh_hook-{name}" for name in (names[2], *names[:2])
    ]
    change = hook_package.install(hook, SOURCES, check=False)
    assert change.removed == [f"{hook.prefix}/lib/ssh_hook-{name}" for name in names[:2]]
    assert {path.name for path in Path(hook.prefix, "lib").iterdir()} == {
        f"ssh_hook-{names[2]}",
        other.name,
        Path(hook.directory).name,
    }


@pytest.mark.parametrize(("text", "is_ours"), [("from the node's name service, and", True), ("of the site", False)])
def test_scripts_of_the_first_versions_are_removed(hook: hook_package.Hook, text: str, is_ours: bool) -> None:
    script = Path(hook.prefix, "libexec/ssh_hook/refresh_passwd.py")
    script.parent.mkdir(parents=True)
    script.write_text(f'"""Refresh a passwd file {text} ...', encoding="utf-8")
    assert hook_package.install(hook, None, check=True).removed == [str(script.parent)] * is_ours
    assert hook_package.uninstall(hook.prefix, check=True)[:1] == [str(script.parent)] * is_ours
    assert hook_package.install(hook, SOURCES, check=False).removed == [str(script.parent)] * is_ours
    assert script.exists() is not is_ours


def test_removal_leaves_nothing_and_is_idempotent(tmp_path: Path, hook: hook_package.Hook) -> None:
    installed(hook)
    for name in ("records", "run/entries/2001"):
        (tmp_path / name).mkdir(parents=True)
    expected = [hook.completion, hook.directory, str(tmp_path / "records"), str(tmp_path / "run")]
    assert hook_package.uninstall(hook.prefix, check=True) == expected
    assert hook_package.uninstall(hook.prefix, check=False) == expected
    assert hook_package.uninstall(hook.prefix, check=False) == []


def test_another_program_at_the_launchers_path_is_left_alone(hook: hook_package.Hook) -> None:
    launcher = Path(hook.launcher)
    launcher.parent.mkdir(parents=True)
    for make in (lambda: launcher.write_bytes(b"\x7fELF"), lambda: launcher.symlink_to("/bin/true")):
        make()
        for act in (
            lambda: hook_package.install(hook, None, check=True),
            lambda: hook_package.uninstall(hook.prefix, False),
        ):
            with pytest.raises(
                hook_package.NotInstalled, match=f"^{launcher} was not written by this role: move it away, or set"
            ):
                act()
        assert os.path.lexists(launcher)
        launcher.unlink()


def test_settings_are_found_only_of_a_hook_that_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook_package, "MOUNT_POINT", str(tmp_path / "containers/ssh"))
    monkeypatch.setattr(hook_package._nobody, "rights", dict)
    sources = {
        **SOURCES,
        "package/cli.py": "def main(arguments, settings, load):\n    return 0\n",
    }
    settings = {"HOOK_BASE_DIR": '/odd "home": \\', "SSH_KEY_TYPE": "ed25519"}
    hook = hook_package.Hook(str(tmp_path / "hook"), sys.executable, settings, bytecode.digests(sources))
    unset, launcher = hook._replace(settings={}), Path(hook.launcher)
    assert hook_package.found_settings(unset) is None
    assert installed(hook, sources=sources)
    assert hook_package.found_settings(unset) == settings
    assert hook_package.found_settings(unset._replace(python="/usr/bin/python3.0")) is None
    assert hook_package.found_settings(unset._replace(digests={**hook.digests, "completion": "0"})) is None
    text = launcher.read_text(encoding="utf-8")
    for harm in (
        lambda: launcher.write_text(text + "# more\n", encoding="utf-8"),
        lambda: launcher.write_text(text.replace('"SSH_KEY_TYPE"', r'"\x"'), encoding="utf-8"),
        lambda: launcher.chmod(0o775),
        launcher.unlink,
        lambda: (Path(hook.directory) / "ssh_hook/cli.py").write_text("", encoding="utf-8"),
        lambda: os.chown(hook.directory, 4711, 4711),
    ):
        harm()
        assert hook_package.found_settings(unset) is None
        assert installed(hook, sources=sources)
        assert hook_package.found_settings(unset) == settings


def test_a_launcher_that_would_not_run_never_replaces_the_old_one(tmp_path: Path) -> None:
    hook = hook_package.Hook(str(tmp_path), sys.executable, {"NAME": 'a "value"'}, {})
    launcher = Path(hook.launcher)
    launcher.parent.mkdir()
    launcher.write_text("old\n", encoding="utf-8")
    assert hook_package.install_launcher(hook, check=True) == ("old\n", hook_package.launcher_text(hook))
    with pytest.raises(
        hook_package.NotInstalled, match=f"^{launcher} would not run, and stays as it is: ModuleNotFound"
    ):
        hook_package.install_launcher(hook, check=False)
    assert launcher.read_text(encoding="utf-8") == "old\n"
    assert '    "NAME": "a \\"value\\"",\n' in hook_package.launcher_text(hook)


def test_nor_does_one_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook_package, "LAUNCHER", "import time; time.sleep(30)\n")
    monkeypatch.setattr(hook_package, "SECONDS", 1)
    hook = hook_package.Hook(str(tmp_path), sys.executable, {}, {})
    with pytest.raises(hook_package.NotInstalled, match=f"^{hook.launcher} did not end within 1 seconds, and is not"):
        hook_package.install_launcher(hook, check=False)
    assert not Path(hook.launcher).exists()


def test_another_programs_files_are_foreign(tmp_path: Path, hook: hook_package.Hook) -> None:
    assert hook_package.foreign(hook) == []
    others = [Path(hook.launcher), Path(hook.completion), Path(hook_package.MOUNT_POINT)]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("theirs", encoding="utf-8")
    assert hook_package.foreign(hook) == [str(path) for path in others]
    others[2].unlink()
    others[2].symlink_to(tmp_path)
    for act in (lambda: installed(hook), lambda: hook_package.uninstall(hook.prefix, check=False)):
        with pytest.raises(hook_package.NotInstalled, match=f"{hook.launcher} was not written by this role"):
            act()
    assert [os.path.lexists(path) for path in others] == [True] * 3
    Path(hook.directory).mkdir(parents=True)  # then the launcher is ours, though damaged
    assert hook_package.foreign(hook) == [str(path) for path in others[1:]]


def test_a_directory_of_the_site_keeps_its_mode(hook: hook_package.Hook) -> None:
    place = Path(hook.launcher).parent
    place.mkdir(parents=True)
    place.chmod(0o2775)
    assert installed(hook)
    assert place.stat().st_mode & 0o7777 == 0o2775


def test_the_passwd_file_of_an_earlier_version_is_known(
    hook: hook_package.Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no unit names it."""
    monkeypatch.setattr(hook_package._files, "ROOT", (os.getuid(), os.getgid()))
    monkeypatch.setattr(hook_package._timers, "uses_systemd", lambda: False)
    passwd, source = tmp_path / "passwd", Path(hook.directory, "ssh_hook/keys/name_service.py")
    exact = "root:x:0:0:root:/root:/bin/sh\nalice:x:2001:2001::/home/alice:/bin/sh\n"
    old, named = "# no mark\n", f'    "PASSWD_FILE": "{passwd}",\n'
    source.parent.mkdir(parents=True)
    Path(hook.launcher).parent.mkdir(parents=True)

    def known(content: str = exact, text: str = old, launcher: str = named, mode: int = 0o644) -> bool:
        passwd.write_text(content, encoding="utf-8")
        passwd.chmod(mode)
        source.write_text(text, encoding="utf-8")
        Path(hook.launcher).write_text(launcher, encoding="utf-8")
        return hook_package.wrote_passwd_file(hook.prefix, str(passwd))

    assert known()
    assert not known(content=exact.replace(":x:", ":*:"))
    assert not known(content=f"# The site's.\n{exact}")
    assert not known(content="alice:x:2001:2001::/home/alice:/bin/sh\n")
    assert known(text="")
    assert not known(text=f'MARK = b"{name_service.MARK.decode()}"\n')
    assert not known(launcher=named.replace("passwd", "other"))
    assert not known(mode=0o640)
    monkeypatch.setattr(hook_package._timers, "uses_systemd", lambda: True)
    assert not known()
