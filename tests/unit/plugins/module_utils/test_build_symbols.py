"""Symbols are read from what is linked, and removed from what is kept."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.ocihooks.ssh.plugins.module_utils._build import elf, symbols
from build_jobs import BASE, linked

CODE = bytes(range(96))


def test_functions_are_read_with_their_addresses() -> None:
    found = symbols.read_functions(linked(CODE, {"one": 0, "two": 32}))
    assert found == [("one", BASE, 4), ("two", BASE + 32, 4)]


def test_a_stripped_program_has_its_code_and_no_symbols() -> None:
    program = linked(CODE, {"one": 0, "a_long_name_that_is_not_kept": 32})
    stripped = symbols.strip(program)
    assert symbols.read_functions(stripped) == []
    assert b"a_long_name_that_is_not_kept" not in stripped
    loaded = [section for section in symbols.read_sections(stripped) if section.flags & symbols.SHF_ALLOC]
    assert loaded == [symbols.read_sections(program)[1]]
    assert stripped[loaded[0].offset : loaded[0].offset + loaded[0].size] == CODE
    assert elf.read_elf(stripped).machine == elf.read_elf(program).machine  # which reads what program headers lead to
    assert symbols.strip(stripped) == stripped


def test_object_files_are_those_that_are_elf(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.o").write_bytes(linked(CODE, {"one": 0}))
    (tmp_path / "other.o").write_text("not compiled")
    (tmp_path / "program").write_bytes(linked(CODE, {"two": 0}))
    assert symbols.function_names(symbols.object_files(tmp_path)) == {"one"}
