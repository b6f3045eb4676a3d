"""Builds are kept under keys of all that shapes them."""

from __future__ import annotations

import dataclasses
import grp
import os
import pwd
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils._build import errors, store
from ansible_collections.ocihooks.ssh.plugins.module_utils._build.files import sha256
from build_jobs import LIBRARY, job, kept, made, wish


@pytest.mark.parametrize(
    "change",
    [
        {"name": "openssh"},
        {"archive": "dropbear-2025.89.tar.bz2"},
        {"sha256": "1" * 64},
        {"architectures": ["ppc64le"]},
        {"files": {"a.h": "another text"}},
        {"files": {"b.h": "text"}},
        {"patches": {"01-a.patch": "text"}},
        {"zig_requirement": "ziglang==1\n"},
    ],
)
def test_all_that_shapes_a_build_is_in_its_key(tmp_path: Path, change: dict[str, Any]) -> None:
    key = wish(job(tmp_path)).directory.name
    other = wish(job(tmp_path, **change)).directory.name
    assert key.rpartition("-")[2] != other.rpartition("-")[2]


def test_the_key_does_not_depend_on_the_place(tmp_path: Path) -> None:
    names = {wish(job(directory)).directory.name for directory in (tmp_path, tmp_path / "elsewhere")}
    assert len(names) == 1


@pytest.mark.parametrize(
    ("module", "constant"),
    [
        (store, "PROCEDURE"),
        (store.compilers, "CFLAGS"),
        (store.compilers, "LDFLAGS"),
        (store.compilers, "NEWER_CFLAGS"),
    ],
)
def test_so_are_the_flags_and_the_number_of_the_procedure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, constant: str
) -> None:
    before = wish(job(tmp_path)).directory
    monkeypatch.setattr(module, constant, "7")
    assert wish(job(tmp_path)).directory != before


@pytest.mark.parametrize("field", ["configure", "make", "kept", "variables", "left_out"])
def test_so_is_every_part_of_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    before = wish(job(tmp_path)).directory
    recipe = store.RECIPES["dropbear"]
    values = {"make": (("all",),), "kept": (("other", ""),), "variables": {"LIBS": "-lm"}}
    other = dataclasses.replace(recipe, **{field: values.get(field, ("./other",))})
    monkeypatch.setitem(store.RECIPES, "dropbear", other)
    assert wish(job(tmp_path)).directory != before


def test_a_recipe_of_another_architecture_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = wish(job(tmp_path, name="openssh")).libraries[0]
    recipe = store.RECIPES["openssl"]
    assert recipe.targets is not None
    other = dataclasses.replace(recipe, targets={**recipe.targets, "s390x": "linux64-s390x"})
    monkeypatch.setitem(store.RECIPES, "openssl", other)
    assert wish(job(tmp_path, name="openssh")).libraries[0] == before


def test_a_build_is_found_again_and_a_damaged_one_is_not(tmp_path: Path) -> None:
    names = ["scp", "ssh"]
    fields = job(tmp_path, name="openssh")
    missing = wish(fields)
    found = kept(tmp_path, missing, *names)
    assert [file["program"] for file in found.files()] == names
    assert missing.directory is not None
    for file in found.files():
        path = Path(file["path"])
        assert path.read_text() == path.name
        assert file["sha256"] == sha256(path)
        assert path.stat().st_mode & 0o777 == 0o755
    for name in names:
        assert store.look(made(fields)) == [found]
        (missing.directory / name).write_text("something else")
        assert wish(fields) == missing
        assert kept(tmp_path, missing, *names) == found
        (missing.directory / name).unlink()
        assert wish(fields) == missing
        assert kept(tmp_path, missing, *names) == found
    (missing.directory / store.DIGESTS).write_text("")
    assert wish(fields) == missing


def test_a_library_is_a_build_of_its_own_and_part_of_the_key_of_what_is_linked_with_it(tmp_path: Path) -> None:
    fields = job(tmp_path, name="openssh")
    before = wish(fields)
    (library,) = before.libraries
    assert (library.source, library.architecture, library.digests) == ("openssl", "riscv64", None)
    kept(tmp_path, library, "lib/libcrypto.a", "include/openssl/evp.h")
    (library,) = wish(fields).libraries
    assert sorted(library.digests) == ["include/openssl/evp.h", "lib/libcrypto.a"]

    other = wish(job(tmp_path, name="openssh", sha256="1" * 64))
    assert other.directory != before.directory
    assert other.libraries == (library,)

    fields["sources"] = {**fields["sources"], "openssl": {**LIBRARY, "sha256": "3" * 64}}
    changed = wish(fields)
    assert changed.directory != before.directory
    assert changed.libraries[0].directory != library.directory
    assert changed.libraries[0].digests is None


def test_a_build_directory_that_others_can_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o775)
    with pytest.raises(errors.BuildError) as refusal:
        store.check_build_directory(tmp_path)
    assert str(refusal.value) == f"the build directory {tmp_path} is writable by others: run 'chmod go-w {tmp_path}'"


@pytest.mark.parametrize("below", ["", "not/there"])
def test_a_build_directory_that_cannot_be_written_is_named(tmp_path: Path, below: str) -> None:
    store.check_writable(tmp_path / below)
    closed = Path("/proc/sys/kernel")  # for root, too
    assert not os.access(closed, os.W_OK)
    with pytest.raises(errors.BuildError) as refusal:
        store.check_writable(closed / below)
    assert str(refusal.value) == (
        f"the build directory {closed / below} cannot be written, since {closed} is not writable for the user who "
        "builds: set dropbear_build_dir to another directory"
    )


STRANGER = 54321  # a uid without a name


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A build directory, and one above it."""
    directory = tmp_path / "above" / "build"
    directory.mkdir(mode=0o755, parents=True)
    return directory


def refusal(directory: Path) -> str:
    with pytest.raises(errors.BuildError) as caught:
        store.check_build_directory(directory)
    return str(caught.value)


@pytest.mark.parametrize("mode", [0o775, 0o777, 0o757])
@pytest.mark.parametrize("below", ["", "not/there"])
def test_a_build_directory_that_others_can_replace_is_refused(place: Path, mode: int, below: str) -> None:
    place.parent.chmod(mode)
    assert refusal(place / below) == (
        f"the build directory {place / below} could be replaced, since {place.parent} is writable by others: "
        f"run 'chmod go-w {place.parent}', or choose another build directory"
    )
    place.parent.parent.chmod(0o777)
    assert f"since {place.parent.parent} is writable by others" in refusal(place / below)


@pytest.mark.parametrize("mode", [0o755, 0o700, 0o1777, 0o1775])
def test_nobody_replaces_the_builders_directory_in_a_sticky_one(place: Path, mode: int) -> None:
    place.parent.chmod(mode)
    store.check_build_directory(place)
    store.check_build_directory(place / "not" / "there")


@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_a_stranger_above_the_build_directory_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    place.parent.chmod(mode)
    os.chown(place.parent, STRANGER, -1)
    expected = (
        f"the build directory {place} could be replaced, since {place.parent} belongs to uid {STRANGER}: "
        f"run 'chown root {place.parent}', or choose another build directory"
    )
    assert refusal(place) == expected
    monkeypatch.setenv("SUDO_UID", str(STRANGER + 1))
    assert refusal(place) == expected
    monkeypatch.setenv("SUDO_UID", f"{STRANGER}x")
    assert refusal(place) == expected


def test_who_became_root_by_sudo_may_own_what_is_above(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(place.parent, STRANGER, -1)
    monkeypatch.setenv("SUDO_UID", str(STRANGER))
    store.check_build_directory(place)
    place.parent.chmod(0o775)
    assert "is writable by others" in refusal(place)


@pytest.mark.parametrize(
    ("group", "members", "others", "is_private"),
    [
        ("alice", [], [], True),
        ("alice", ["alice"], [], True),
        ("alice", ["alice", "bob"], [], False),
        ("alice", [], ["bob"], False),
        ("users", [], [], False),
    ],
)
def test_a_private_group_is_nobody_else(
    place: Path, monkeypatch: pytest.MonkeyPatch, group: str, members: list[str], others: list[str], is_private: bool
) -> None:
    """As of users whose umask is 0002. `members` have it as one of their groups, `others` as their first."""
    os.chown(place.parent, STRANGER, STRANGER)
    place.parent.chmod(0o775)
    monkeypatch.setenv("SUDO_UID", str(STRANGER))
    users = [
        pwd.struct_passwd((name, "x", STRANGER + number, STRANGER, "", f"/home/{name}", "/bin/sh"))
        for number, name in enumerate(["alice", *others])
    ]
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: users[0])
    monkeypatch.setattr(pwd, "getpwall", lambda: users)
    monkeypatch.setattr(grp, "getgrgid", lambda gid: grp.struct_group((group, "x", gid, members)))
    if is_private:
        store.check_build_directory(place)
    else:
        assert "is writable by others" in refusal(place)


def test_a_user_builds_below_the_own_home(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (place, place.parent):
        os.chown(path, STRANGER, STRANGER)
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER)
    store.check_build_directory(place)
    monkeypatch.setenv("SUDO_UID", str(STRANGER + 1))  # of a user who is not root it says nothing
    os.chown(place.parent, STRANGER + 1, -1)
    assert f"{place.parent} belongs to uid {STRANGER + 1}" in refusal(place)


def test_a_link_to_the_build_directory_is_followed(place: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(place.parent)
    store.check_build_directory(link / "build")
    os.chown(link, STRANGER, -1, follow_symlinks=False)
    assert f"{link} belongs to uid {STRANGER}" in refusal(link / "build")
    os.chown(link, 0, -1, follow_symlinks=False)
    place.parent.chmod(0o777)
    assert f"{place.parent} is writable by others" in refusal(link / "build")


def test_a_way_that_cannot_be_followed_is_no_build_directory(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        store.check_build_directory(tmp_path / "loop" / "build")


def test_another_play_is_waited_for_and_then_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LOCK_SECONDS", 0.1)
    with store.locked(tmp_path):
        with pytest.raises(errors.BuildError, match=f"another play has been building in {tmp_path} for 0.1 s: end it"):
            with store.locked(tmp_path):
                pass
    with store.locked(tmp_path):
        pass
