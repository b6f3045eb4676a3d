"""A release of Dropbear is installed whole, found damaged, and removed when nobody needs it. Needs root."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils import _dropbear as dropbear
from ansible_collections.ocihooks.ssh.plugins.plugin_utils import _release

SAYING = "#!/bin/sh\necho {}\n"
CONTENTS = {
    "dropbearmulti": SAYING.format("Dropbear v1"),
    "ssh": SAYING.format("OpenSSH_2p1"),
    "sftp-server": SAYING.format("posix-rename"),
    "sbom": "{}",
}
VERSIONS = {"dropbear": "1", "openssh": "2p1"}


def builds(directory: Path, contents: dict[str, str]) -> dict[str, Any]:
    """What the role dropbear says of these programs, which are written into a directory under their digests."""
    directory.mkdir(exist_ok=True)
    answer: dict[str, Any] = {"files": [], "sboms": []}
    for name, text in contents.items():
        digest = hashlib.sha256(text.encode()).hexdigest()
        (directory / digest).write_text(text, encoding="utf-8")
        file = {"architecture": "x86_64", "path": str(directory / digest), "sha256": digest}
        answer["sboms" if name == "sbom" else "files"].append(file if name == "sbom" else {**file, "program": name})
    answer["files"].append({"architecture": "aarch64", "program": "ssh", "path": "/none", "sha256": "0"})
    return answer


def release_of(tmp_path: Path, contents: dict[str, str], version: str = "1") -> tuple[dropbear.Release, Path]:
    """A release and its archive."""
    found = _release.find_release(builds(tmp_path / "built", contents), "x86_64", version, "")
    assert found == _release.find_release(
        builds(tmp_path / "built", contents), "x86_64", version, str(tmp_path / "built")
    )
    archive = tmp_path / f"{found.name}.tar"
    for _twice in range(2):
        _release.pack(found, archive)
    files = [dropbear.File(*file) for file in found.files]
    return dropbear.Release(str(tmp_path / "prefix"), found.name, files), archive


def installed(release: dropbear.Release, archive: Path) -> dropbear.State:
    """Install a release; return what was not as it should be."""
    state = dropbear.compare(release)
    assert dropbear.install(release, state, str(archive), lambda _path: False) == []
    return state


@pytest.mark.parametrize(("key", "value"), [("program", "../../etc/cron.d/x"), ("sha256", "../" * 22), ("sha256", "0")])
def test_a_build_host_names_no_file_of_its_own(tmp_path: Path, key: str, value: str) -> None:
    answer = builds(tmp_path, CONTENTS)
    answer["files"][0][key] = value
    with pytest.raises(ValueError, match=r"^the build host names a file that no build has: "):
        _release.find_release(answer, "x86_64", "1", "")


def test_a_release_is_installed_whole_and_repaired(tmp_path: Path) -> None:
    release, archive = release_of(tmp_path, CONTENTS)
    assert len(installed(release, archive).paths(release)) == 3 + 4 + 2 + 1
    assert dropbear.compare(release).paths(release) == []
    directory = Path(release.directory)
    assert os.readlink(tmp_path / "prefix/dropbear") == release.name
    modes = {path.name: path.stat().st_mode & 0o7777 for path in [*(directory / "bin").iterdir(), *directory.iterdir()]}
    assert modes["dropbearmulti"] == 0o111
    assert (modes["ssh"], modes["sbom.cdx.json"], modes["bin"]) == (0o755, 0o644, 0o755)
    dropbear.verify(release.prefix, VERSIONS)

    (directory / "bin/ssh").write_text("damaged", encoding="utf-8")
    (directory / "bin/sftp-server").chmod(0o775)
    (directory / "bin/dropbear").unlink()
    os.chown(directory, 4711, 4711)
    harmed = {str(directory), *(f"{directory}/bin/{name}" for name in ("ssh", "sftp-server", "dropbear"))}
    assert set(dropbear.compare(release).paths(release)) == harmed
    installed(release, archive)
    assert dropbear.compare(release).paths(release) == []


def test_a_release_is_intact_only_as_its_name_says(tmp_path: Path) -> None:
    release, archive = release_of(tmp_path, {**CONTENTS, "scp": "", "sftp": ""})
    directory, link = Path(release.directory), Path(dropbear.link_path(release.prefix))

    def intact(dropbear_version: str = "1", openssh_version: str = "2p1", wrong_label: str = "") -> str:
        versions = {"dropbear": dropbear_version, "openssh": openssh_version}
        return dropbear.intact(release.prefix, versions, lambda path: path == wrong_label)

    assert intact() == ""
    installed(release, archive)
    assert intact() == release.name
    assert intact(wrong_label=f"{directory}/bin/ssh") == ""
    assert intact(dropbear_version="2") == intact(openssh_version="3p1") == ""
    for harm in (
        "echo damaged >bin/scp",
        "rm sbom.cdx.json",
        "chmod 775 bin/ssh",
        "rm bin/dropbear",
        "chmod 775 bin",
        "chown 4711 .",
        "rm ../dropbear",
    ):
        subprocess.run(["sh", "-c", harm], cwd=directory, check=True)
        assert intact() == "", harm
        installed(release, archive)
        assert intact() == release.name
    link.unlink()
    link.mkdir()  # another installation's
    assert intact() == ""


def test_a_damaged_program_is_not_run(tmp_path: Path) -> None:
    release, archive = release_of(tmp_path, {**CONTENTS, "scp": "", "sftp": ""})
    installed(release, archive)
    ran = tmp_path / "ran"
    (Path(release.directory) / "bin/ssh").write_text(f"#!/bin/sh\ntouch {ran}\necho OpenSSH_2p1\n", encoding="utf-8")
    assert dropbear.intact(release.prefix, VERSIONS, lambda _path: False) == ""
    assert not ran.exists()


def test_files_have_the_nodes_selinux_labels_before_containers_can_run_them(tmp_path: Path) -> None:
    release, archive = release_of(tmp_path, CONTENTS)
    link, labelled = Path(dropbear.link_path(release.prefix)), []

    def relabel(path: str) -> bool:
        assert os.path.lexists(path)
        assert not link.is_symlink()
        labelled.append(path)
        return path.endswith("/ssh")

    state = dropbear.compare(release)
    assert dropbear.install(release, state, str(archive), relabel) == [f"{release.directory}/bin/ssh"]
    there = [release.directory, *(str(path) for path in Path(release.directory).rglob("*"))]
    assert sorted(labelled) == sorted(there)
    assert link.is_symlink()


def test_what_was_damaged_on_its_way_is_not_installed(tmp_path: Path) -> None:
    release, archive = release_of(tmp_path, CONTENTS)
    content = archive.read_bytes()
    archive.write_bytes(content.replace(b"OpenSSH_2p1", b"OpenSSH_2p2"))
    with pytest.raises(dropbear.NotInstalled, match=r"^bin/ssh was damaged in transit to the node: run the play again"):
        installed(release, archive)
    archive.write_bytes(b"none")
    with pytest.raises(dropbear.NotInstalled, match=r"^the archive that was sent is damaged: "):
        installed(release, archive)
    assert not (tmp_path / "prefix/dropbear").is_symlink()


def test_another_installation_is_left_alone(tmp_path: Path) -> None:
    release, _archive = release_of(tmp_path, CONTENTS)
    (tmp_path / "prefix/dropbear/bin").mkdir(parents=True)
    for attempt in (lambda: dropbear.compare(release), lambda: dropbear.uninstall(release.prefix, check=False)):
        with pytest.raises(dropbear.NotInstalled, match="is not a link made by this role: move away what another"):
            attempt()
    assert [path.name for path in (tmp_path / "prefix").iterdir()] == ["dropbear"]


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("dropbearmulti", "dropbear should be 1, but reports the version 'something else'."),
        ("ssh", "ssh should be 2p1, but reports the version 'something else'."),
        ("sftp-server", "sftp-server should report which requests it supports, but reports 'something else'."),
    ],
)
def test_a_program_that_is_another_is_named(tmp_path: Path, program: str, sentence: str) -> None:
    release, archive = release_of(tmp_path, {**CONTENTS, program: SAYING.format("something else")})
    installed(release, archive)
    with pytest.raises(dropbear.NotInstalled) as refused:
        dropbear.verify(release.prefix, VERSIONS)
    assert str(refused.value) == f"{release.prefix}/dropbear/bin/{sentence}"


def test_a_link_of_the_sites_own_is_left_alone(tmp_path: Path) -> None:
    release, _archive = release_of(tmp_path, CONTENTS)
    (tmp_path / "prefix/dropbear-2022.83").mkdir(parents=True)
    link = tmp_path / "prefix/dropbear"
    link.symlink_to("dropbear-2022.83")
    for act in (lambda: dropbear.compare(release), lambda: dropbear.uninstall(release.prefix, check=False)):
        with pytest.raises(dropbear.NotInstalled, match=f"^{link} is not a link made by this role: move away"):
            act()
    assert link.is_symlink()


def test_a_prefix_may_be_a_link_to_a_directory(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir(mode=0o755)
    (tmp_path / "prefix").symlink_to("shared")
    release, archive = release_of(tmp_path, CONTENTS)
    installed(release, archive)
    assert (tmp_path / "prefix").is_symlink()
    assert (tmp_path / "shared" / release.name / "bin").is_dir()
    assert dropbear.compare(release).paths(release) == []


def test_old_releases_are_removed_unless_a_process_runs_them(tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    first, archive = release_of(tmp_path, CONTENTS)
    installed(first, archive)
    unused, busy = "dropbear-0-00000000000a", "dropbear-0-00000000000b"
    others = {"dropbear-2022.83", "dropbear-2022.83-sources", "dropbear-2022.83-0000000000000"}
    for name in (unused, busy, *others):
        (prefix / name / "bin").mkdir(parents=True)
        shutil.copy("/bin/sleep", prefix / name / "bin/dropbearmulti")
    assert dropbear.prune(first, first.name, check=False) == []
    second, archive = release_of(tmp_path, {**CONTENTS, "sbom": "[]"}, "1.1")
    state = installed(second, archive)
    process = subprocess.Popen(["sleep", "60"], executable=prefix / busy / "bin/dropbearmulti")
    try:
        for check in (True, False):
            assert dropbear.prune(second, state.current, check) == [f"{prefix}/{unused}"]
    finally:
        process.kill()
        process.wait()
    left = {path.name for path in prefix.iterdir()}
    assert left == {"dropbear", busy, first.name, second.name, *others}
    assert len(dropbear.uninstall(str(prefix), check=True)) == len(dropbear.uninstall(str(prefix), check=False)) == 4
    assert dropbear.uninstall(str(prefix), check=False) == []
    assert {path.name for path in prefix.iterdir()} == others


def test_an_inspection_returns_versions_and_what_is_wrong(tmp_path: Path) -> None:
    prefix = tmp_path / "opt"
    programs = prefix / "dropbear/bin"
    nothing = {"dropbear": None, "openssh": None}
    assert dropbear.inspect(str(prefix), VERSIONS) == (nothing, f"{programs}/dropbear does not exist.")
    programs.mkdir(parents=True)
    for name, said in (("dropbear", "Dropbear v1"), ("ssh", "OpenSSH_2p1, OpenSSL 3"), ("sftp-server", "posix-rename")):
        (programs / name).write_text(SAYING.format(said), encoding="utf-8")
        (programs / name).chmod(0o755)
    assert dropbear.inspect(str(prefix), VERSIONS) == ({"dropbear": "1", "openssh": "2p1"}, None)
    found, problem = dropbear.inspect(str(prefix), {"dropbear": "1", "openssh": "2"})
    assert found == {"dropbear": "1", "openssh": "2p1"}
    assert problem == f"{programs}/ssh should be 2, but reports the version 'OpenSSH_2p1, OpenSSL 3'."


def test_a_program_that_was_replaced_is_named_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropbear._secure_path, "violations_of", lambda _path: [])  # all below /tmp is everyone's
    programs = {**CONTENTS, "scp": "", "sftp": ""}
    components = [
        {"name": f"bin/{name}", "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(text.encode()).hexdigest()}]}
        for name, text in programs.items()
        if name != "sbom"
    ]
    release, archive = release_of(tmp_path, {**programs, "sbom": json.dumps({"components": components}, indent=2)})
    assert dropbear.altered(release.prefix) is None  # nothing is installed
    installed(release, archive)
    directory, ran = Path(release.directory), tmp_path / "ran"
    assert dropbear.report(release.prefix, VERSIONS) == ({"dropbear": "1", "openssh": "2p1"}, None)
    for name, harm in (
        ("bin/dropbearmulti", "printf '#' >>bin/dropbearmulti"),
        ("bin/ssh", f"printf '#!/bin/sh\\ntouch {ran}\\necho OpenSSH_2p1\\n' >bin/ssh"),
        ("bin/scp", "rm bin/scp"),
        ("bin/sftp-server", "chmod 4755 bin/sftp-server"),
        ("bin/dropbear", "ln -sf ssh bin/dropbear"),
        ("sbom.cdx.json", "echo >>sbom.cdx.json"),
    ):
        subprocess.run(["sh", "-c", harm], cwd=directory, check=True)
        found = dropbear.report(release.prefix, VERSIONS)
        assert found == (
            {"dropbear": None, "openssh": None},
            f"{directory}/{name} is not the file that was installed, so Dropbear was not run.",
        )
        installed(release, archive)
    assert not ran.exists()
    assert dropbear.altered(release.prefix) is None


def test_programs_that_others_can_change_are_not_run(tmp_path: Path) -> None:
    """The directory of a test is below one that everyone can write to."""
    prefix = tmp_path / "prefix"
    programs = prefix / "dropbear/bin"
    programs.mkdir(parents=True)
    (programs / "dropbear").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n", encoding="utf-8")
    (programs / "dropbear").chmod(0o755)
    found, problem = dropbear.report(str(prefix), VERSIONS)
    assert found == {"dropbear": None, "openssh": None}
    assert str(problem).endswith(" and must not be, so Dropbear was not run.")
    assert not (tmp_path / "ran").exists()
