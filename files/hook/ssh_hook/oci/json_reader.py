# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the JSON documents that a runtime passes to the hook, and check their types."""

from __future__ import annotations

from ..errors import CONFIG_WRONG, HookError
from ..fast_stdlib import TYPE_CHECKING, fsdecode, fsencode, load_json, read_all

if TYPE_CHECKING:
    from typing import Any


def read_document(descriptor: int, limit: int, what: str) -> bytes:
    """Read `descriptor` to its end, at most `limit` bytes. Raises HookError, which names `what`."""
    try:
        data = read_all(descriptor, limit)
    except OSError as error:
        raise HookError(CONFIG_WRONG, f"cannot read {what}: {error.strerror}") from None
    if len(data) > limit:
        raise HookError(CONFIG_WRONG, f"{what} is larger than {limit} bytes")
    return data


def parse(data: bytes, what: str) -> dict[str, Any]:
    """Parse `data`, which must be a JSON object. Raises HookError, which names `what`.

    Bytes that are not UTF-8 become lone surrogates (``surrogateescape``), so that the container's environment reaches
    sessions unchanged.
    """
    try:
        value = load_json(fsdecode(data))
    except StopIteration as end:
        raise HookError(CONFIG_WRONG, f"{what} is not JSON: a value is missing at character {end.value}") from None
    except RecursionError:
        raise HookError(CONFIG_WRONG, f"{what} is nested too deeply") from None
    except ValueError as error:
        raise HookError(CONFIG_WRONG, f"{what} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise HookError(CONFIG_WRONG, f"{what} is not a JSON object")
    return value


class Node:
    """A JSON object in a document. All methods raise HookError, with the place, for a value of the wrong type.

    Attributes:
        value: its members.
        where: its place in the document, for messages.
    """

    def __init__(self, value: dict[str, Any], where: str) -> None:
        self.value = value
        self.where = where

    def _get(self, name: str, kind: type, kind_name: str) -> Any:
        if name not in self.value:
            raise HookError(CONFIG_WRONG, f"{self.where}: '{name}' is missing")
        value = self.value[name]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise HookError(CONFIG_WRONG, f"{self.where}: '{name}' is not {kind_name}")
        return value

    def has(self, name: str) -> bool:
        """Return whether the object has a member `name` that is not null."""
        return self.value.get(name) is not None

    def node(self, name: str) -> Node:
        """Return the object at `name`; an empty one if it is absent."""
        value = self._get(name, dict, "an object") if self.has(name) else {}
        return Node(value, f"{self.where}: {name}")

    def nodes(self, name: str) -> list[Node]:
        """Return the list of objects at `name`; an empty one if it is absent."""
        values = self._get(name, list, "a list") if self.has(name) else []
        if not all(isinstance(value, dict) for value in values):
            raise HookError(CONFIG_WRONG, f"{self.where}: '{name}' is not a list of objects")
        return [Node(value, f"{self.where}: {name}[{index}]") for index, value in enumerate(values)]

    def text(self, name: str) -> str:
        """Return the string at `name`, which must be present, encodable and without NUL."""
        value: str = self._get(name, str, "a string")
        return self._checked_text(name, value)

    def texts(self, name: str) -> list[str]:
        """Return the list of strings at `name`; an empty one if it is absent."""
        values = self._get(name, list, "a list") if self.has(name) else []
        if not all(isinstance(value, str) for value in values):
            raise HookError(CONFIG_WRONG, f"{self.where}: '{name}' is not a list of strings")
        return [self._checked_text(name, value) for value in values]

    def _checked_text(self, name: str, value: str) -> str:
        if "\0" in value:
            raise HookError(CONFIG_WRONG, f"{self.where}: '{name}' contains a NUL character")
        try:
            fsencode(value)
        except UnicodeEncodeError:
            raise HookError(
                CONFIG_WRONG, f"{self.where}: '{name}' contains half a surrogate pair (\\ud800 to \\udfff)"
            ) from None
        return value

    def integer(self, name: str, low: int, high: int) -> int:
        """Return the integer at `name`, which must be present and between `low` and `high`, inclusive."""
        value: int = self._get(name, int, "an integer")
        return self._checked_integer(name, value, low, high)

    def integers(self, name: str, low: int, high: int) -> list[int]:
        """Return the list of integers at `name`, each between `low` and `high`; an empty one if it is absent."""
        values = self._get(name, list, "a list") if self.has(name) else []
        if not all(isinstance(value, int) and not isinstance(value, bool) for value in values):
            raise HookError(CONFIG_WRONG, f"{self.where}: '{name}' is not a list of integers")
        return [self._checked_integer(name, value, low, high) for value in values]

    def _checked_integer(self, name: str, value: int, low: int, high: int) -> int:
        if not low <= value <= high:
            raise HookError(CONFIG_WRONG, f"{self.where}: '{name}' is {value}, which is not between {low} and {high}")
        return value

    def boolean(self, name: str) -> bool:
        """Return the boolean at `name`; False if it is absent."""
        return bool(self._get(name, bool, "a boolean")) if self.has(name) else False
