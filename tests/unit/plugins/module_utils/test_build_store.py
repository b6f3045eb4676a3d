"""Builds are kept under keys of all that shapes them."""

from __future__ import annotations

import dataclasses
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


def test_another_play_is_waited_for_and_then_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LOCK_SECONDS", 0.1)
    with store.locked(tmp_path):
        with pytest.raises(errors.BuildError, match=f"another play has been building in {tmp_path} for 0.1 s: end it"):
            with store.locked(tmp_path):
                pass
    with store.locked(tmp_path):
        pass
