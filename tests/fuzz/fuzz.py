"""Fuzzes one target with libFuzzer, guided by the coverage of the hook's own code: fuzz.py TARGET [LIBFUZZER
ARGUMENTS...]

A file among the arguments is an input to run once.
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "files" / "hook"))
with atheris.instrument_imports(include=["ssh_hook"]):
    from targets import JSON_TARGETS, TARGETS, document_of

VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    0.5,
    2**64,
    "",
    "\0",
    "/a\nb",
    "\ud800",
    "com.hooks.ssh.port",
    [],
    [None],
    {},
    [{}],
)


def mutate_json(data: bytes, limit: int, seed: int) -> bytes:
    """Mutate a JSON object in one of its values, so that it stays one; now and then its bytes."""
    dice = random.Random(seed)
    document = document_of(data)
    if not isinstance(document, dict) or dice.random() < 0.2:
        return bytes(atheris.Mutate(data, limit))
    places = list(_places(document))
    if places:
        parent, key = dice.choice(places)
        if isinstance(parent[key], str) and dice.random() < 0.7:
            text = atheris.Mutate(parent[key].encode("utf-8", "replace"), len(parent[key]) + 8)
            parent[key] = os.fsdecode(bytes(text))
        elif dice.random() < 0.7:
            parent[key] = dice.choice([*VALUES, dice.choice(places)[0]])
        else:
            del parent[key]
    try:
        return json.dumps(document).encode()[:limit]
    except ValueError:  # it holds itself by now
        return data


def _places(value: Any) -> Any:
    """Every (list or object, index or name) in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield value, key
        yield from _places(child)


def main(program: str, target: str, *arguments: str) -> None:
    """Run libFuzzer, which ends the process."""
    mutator = {"custom_mutator": mutate_json} if target in JSON_TARGETS else {}
    atheris.Setup([program, *arguments], TARGETS[target], **mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv)
