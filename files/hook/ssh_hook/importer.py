# SPDX-License-Identifier: GPL-3.0-or-later
"""The importer of the bundle: one file with the bytecode of all modules, which starts 3 ms faster than a file each.

The module hook_package makes the bundle at install. The first 128 bytes are a header line, padded with
blanks: the interpreter's tag (sys.implementation.cache_tag), a digest of the sources, and offset and size of the
index. The index is a marshalled pair: the code of this module, which the launcher runs, and a dict from name to
(offset, size, whether it is a package).

The dict has an entry for the command line and for each module that a function imports. Such an entry is a group: a
marshalled list of (name, code) pairs with the modules that it imports at once, theirs in turn, and the module itself
last, since one large read is faster than many. Groups leave out what the command line's group has.
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


class Finder(Loader):
    """The package's finder and loader on `sys.meta_path`."""

    def __init__(self, file: int, index: dict[str, tuple[int, int, bool]]) -> None:
        """Serve the bundle that is open as `file`; `index` maps names to (offset, size, whether it is a package)."""
        self._file = file
        self._index = index

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> ModuleSpec | None:
        """Implement importlib.abc.MetaPathFinder."""
        if name not in self._index:
            return None
        module_spec: type[ModuleSpec] = type(sys.__spec__)
        return module_spec(name, self, is_package=self._index[name][2])

    def create_module(self, _spec: ModuleSpec) -> None:
        """Implement importlib.abc.Loader: return None, so that Python creates the module as usual."""

    def exec_module(self, module: ModuleType) -> None:
        """Implement importlib.abc.Loader: load the module's whole group, without the import system's cost for each."""
        for name, code in loads(self._read(module.__name__)):
            if name == module.__name__:
                module.__file__ = code.co_filename
                exec(code, module.__dict__)
            elif name not in sys.modules:
                self._load(name, code)

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
