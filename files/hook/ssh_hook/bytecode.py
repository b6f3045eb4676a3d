# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports the hook's modules from one file of bytecode: as a file each they would take 3 ms more of every start.

The file is made at install (the role's files/place_package.py). Its first 128 bytes are a line, filled up with blanks, of
the interpreter, as sys.implementation.cache_tag names it, a digest of the sources, and position and size of the index.
That is, as marshal writes it, the code of this module, which the launcher runs, and a dict: module name -> position and
size of its group. A group is a list, which marshal has written too, of pairs of name and code: the module, and before it
what that imports at once, and what these do. Written as a whole it is read faster than as parts. There are groups of the
command line and of what functions import; all but the former lack what the command line's has.
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

    def __init__(self, file: int, index: dict[str, tuple[int, int]]) -> None:
        """`file` is a descriptor of the file."""
        self._file = file
        self._index = index

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> ModuleSpec | None:
        """As importlib.abc.MetaPathFinder says."""
        if name not in self._index:
            return None
        module_spec: type[ModuleSpec] = type(sys.__spec__)
        return module_spec(name, self, is_package=name == PACKAGE)

    def create_module(self, _spec: ModuleSpec) -> None:
        """As importlib.abc.Loader says: the module is made as usual."""

    def exec_module(self, module: ModuleType) -> None:
        """As importlib.abc.Loader says; the import system would take longer for each of the group."""
        position, size = self._index[module.__name__]
        for name, code in loads(posix.pread(self._file, size, position)):
            if name == module.__name__:
                exec(code, module.__dict__)
            elif name not in sys.modules:
                _load(name, code)


def _load(name: str, code: CodeType) -> None:
    module = type(sys)(name)
    module.__package__ = PACKAGE
    sys.modules[name] = module
    exec(code, module.__dict__)
    setattr(sys.modules[PACKAGE], name[len(PACKAGE) + 1 :], module)
