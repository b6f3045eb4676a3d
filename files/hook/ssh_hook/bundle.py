# SPDX-License-Identifier: GPL-3.0-or-later
"""The importer of the bundle: one file with the bytecode of all modules. A file each would take 3 ms more of every start.

The bundle is made at install (the role's files/place_package.py). Its first 128 bytes are a line, filled up with blanks: the
interpreter, as sys.implementation.cache_tag names it, a digest of the sources, and position and size of the index. The index
is what marshal writes of a pair: the code of this module, which the launcher runs, and a dict of triples: position, size, and
whether it is a package.

The dict has a group of modules for each module that is imported by name: the command line, and what functions import. A group
is what marshal writes of a list of pairs, name and code: the modules that this one imports at once, what these do, and itself
last. One large group is read faster than many parts. All but the command line's lack what that has. The dict also has each
file that is no module, by its path below the package's directory.
"""

from __future__ import annotations

import posix
import sys
from marshal import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType
else:  # importlib takes long to import
    Loader = object

PACKAGE = "ssh_hook"


class Finder(Loader):
    """Finds and loads the modules of the package by their code."""

    def __init__(self, file: int, index: dict[str, tuple[int, int, bool]]) -> None:
        """`file` is a descriptor of the bundle."""
        self._file = file
        self._index = index

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> ModuleSpec | None:
        """As importlib.abc.MetaPathFinder says."""
        if name not in self._index:
            return None
        module_spec: type[ModuleSpec] = type(sys.__spec__)
        return module_spec(name, self, is_package=self._index[name][2])

    def create_module(self, _spec: ModuleSpec) -> None:
        """As importlib.abc.Loader says: the module is made as usual."""

    def exec_module(self, module: ModuleType) -> None:
        """As importlib.abc.Loader says; the import system would take longer for each of the group."""
        for name, code in loads(self._read(module.__name__)):
            if name == module.__name__:
                module.__file__ = code.co_filename
                exec(code, module.__dict__)
            elif name not in sys.modules:
                self._load(name, code)

    def get_data(self, path: str) -> bytes:
        """As importlib.abc.ResourceLoader says, for a path below the directory that `__file__` of a module is in."""
        return self._read(path.rpartition(f"/{PACKAGE}/")[2])

    def _read(self, name: str) -> bytes:
        position, size, _is_package = self._index[name]
        return posix.pread(self._file, size, position)

    def _load(self, name: str, code: CodeType) -> None:
        module = type(sys)(name)
        parent, _dot, own_name = name.rpartition(".")
        module.__package__ = parent
        module.__file__ = code.co_filename
        module.__loader__ = self
        if code.co_filename.endswith("/__init__.py"):
            module.__package__ = name
            module.__path__ = []
        sys.modules[name] = module
        exec(code, module.__dict__)
        setattr(sys.modules[parent], own_name, module)
