"""What the dynamic loader reads and where it looks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils import _loader as loader


def test_what_ldconfig_reads_and_where_it_looks(tmp_path: Path) -> None:
    main, first, second, other = (tmp_path / name for name in ("ld.so.conf", "conf.d/1.conf", "conf.d/2.conf", "other"))
    first.parent.mkdir()
    main.write_text(
        f"# comment\ninclude conf.d/*.conf none.d/*.conf # and\n\n/opt/main\nhwcap 1 x\ninclude {other}\n",
        encoding="utf-8",
    )
    first.write_text("/opt/first/ # slash\n/opt/typed=libc6\n/\nrelative\n", encoding="utf-8")
    second.write_bytes(f"/opt/main\n/opt/caf\udce9\ninclude {main}\n".encode("utf-8", "surrogateescape"))
    configuration = loader.Configuration(str(main))
    assert configuration.files == [str(main), str(first), str(second)]
    assert configuration.directories == {
        "/opt/first": str(first),
        "/opt/typed": str(first),
        "/": str(first),
        "/opt/main": str(second),
        "/opt/caf\udce9": str(second),
    }
    assert configuration.searched == {str(first.parent), f"{tmp_path}/none.d", str(tmp_path)}
    assert loader.Configuration(str(tmp_path / "none")).files == []


def test_libraries_to_preload_are_those_named_by_path(tmp_path: Path) -> None:
    path = tmp_path / "ld.so.preload"
    path.write_text(
        "libfirst.so /opt/second.so:/opt/third.so\n# /opt/none.so\n\t/opt/fourth.so # last\n", encoding="utf-8"
    )
    assert loader.preloaded(str(path)) == ["/opt/second.so", "/opt/third.so", "/opt/fourth.so"]
    assert loader.preloaded(str(tmp_path / "none")) == []


def test_where_the_dynamic_loader_looked(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/b")
    debug = f"""\
       123:\tfind library=libx.so [0]; searching
       123:\t search path={tmp_path}/link/..\t\t(RUNPATH from file python)
       123:\t  trying file={tmp_path}/link/../libx.so
       123:\t search cache=/etc/ld.so.cache
       123:\t  trying file=/opt/with blank/libx.so
Traceback
"""
    assert list(loader.tried(debug)) == [f"{tmp_path}/a/libx.so", "/opt/with blank/libx.so"]


def test_what_the_dynamic_loader_loaded() -> None:
    debug = """\
       123:\tinitialize program: python3
       123:\tcalling init: /lib/x86_64-linux-gnu/libc.so.6
       123:\tcalling init: linux-vdso.so.1
       123:\tcalling init: /opt/with blank/libx.so
       123:\tcalling fini: /opt/liby.so [0]
"""
    assert list(loader.initialized(debug)) == ["/lib/x86_64-linux-gnu/libc.so.6", "/opt/with blank/libx.so"]


def test_files_are_mapped_and_devices_and_what_is_deleted_are_not(tmp_path: Path) -> None:
    library = tmp_path / "lib x.so"
    library.touch()
    maps = f"""\
7f0000000000-7f0000001000 r-xp 00000000 fe:00 1234                       {library}
7f0000001000-7f0000002000 r-xp 00000000 fe:00 1235                       {tmp_path}/ffi (deleted)
7f0000002000-7f0000003000 rw-p 00000000 00:05 1                          /dev/zero
7f0000003000-7f0000004000 rw-p 00000000 00:00 0
7ffc00000000-7ffc00001000 rw-p 00000000 00:00 0                          [stack]
"""
    assert list(loader.mapped(maps)) == [str(library)]


def test_an_interpreter_that_cannot_load_them_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader._nobody, "rights", dict)  # nobody may not run each interpreter of the unit tests
    with pytest.raises(loader.LoadError) as refused:
        loader.loaded(sys.executable, ["/no/such/directory"])
    assert str(refused.value).startswith(
        f"{sys.executable} cannot import cryptography and pyroute2 as an ordinary user: "
    )
    assert "\n" not in str(refused.value)
    with pytest.raises(loader.LoadError, match=f"^{tmp_path} cannot be run by an ordinary user: Permission denied$"):
        loader.loaded(str(tmp_path), [])
