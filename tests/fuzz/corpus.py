"""The inputs that are kept for each target, in corpus/TARGET.json: texts in which each character is one byte.

As a program it adds what the fuzzer found since, in .cache/fuzz/found, as far as it covers more, up to MOST_KEPT:

    python tests/fuzz/corpus.py [TARGET FILE]    # or the input in FILE, which made TARGET fail
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import c_targets

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "fuzz"
FOUND = CACHE / "found"
PYTHON = CACHE / "venv" / "bin" / "python"
MOST_KEPT = 16384  # bytes for each target


def names() -> list[str]:
    """The targets in Python that have kept inputs."""
    return sorted(path.stem for path in (HERE / "corpus").glob("*.json"))


def command(target: str) -> list[str | Path]:
    """Return the command that fuzzes a target; libFuzzer's arguments follow."""
    if target in c_targets.NAMES:
        return [c_targets.programs(CACHE) / target]
    return [PYTHON, "-B", HERE / "fuzz.py", target]


def kept(target: str) -> list[bytes]:
    """The inputs that are kept for a target."""
    texts: list[str] = json.loads((HERE / "corpus" / f"{target}.json").read_text(encoding="ascii"))
    return [text.encode("latin-1") for text in texts]


def keep(target: str, inputs: Iterable[bytes]) -> None:
    """Replace the inputs that are kept for a target."""
    texts = [data.decode("latin-1") for data in sorted(set(inputs), key=lambda data: (len(data), data))]
    path = HERE / "corpus" / f"{target}.json"
    path.write_text(json.dumps(texts, indent=0) + "\n", encoding="ascii")


def unpack(inputs: Iterable[bytes], directory: Path) -> None:
    """Write each input into a file of its own, as the fuzzer wants them."""
    directory.mkdir(parents=True, exist_ok=True)
    for data in inputs:
        (directory / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def merge(target: str) -> None:
    """Add to a target's kept inputs those that were found and cover more."""
    merged, present = CACHE / "merged" / target, CACHE / "kept" / target
    for directory in (merged, present):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
    unpack(kept(target), present)
    unpack((), FOUND / target)
    arguments: list[str | Path] = ["-merge=1", merged, present, FOUND / target]
    subprocess.run([*command(target), *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    keep(target, within_limit(kept(target), [path.read_bytes() for path in merged.iterdir()]))


def within_limit(present: list[bytes], found: list[bytes]) -> list[bytes]:
    """Return all kept inputs, and of those that were found the shortest ones until there are MOST_KEPT bytes."""
    chosen = list(present)
    for data in sorted(set(found) - set(present), key=lambda data: (len(data), data)):
        if sum(map(len, chosen)) + len(data) > MOST_KEPT:
            break
        chosen.append(data)
    return chosen


def main(arguments: list[str]) -> int:
    """Add to the kept inputs."""
    if arguments:
        target, path = arguments
        keep(target, [*kept(target), Path(path).read_bytes()])
        return 0
    for target in (*names(), *c_targets.NAMES):
        merge(target)
        print(f"{target:<14} {len(kept(target)):>5} inputs")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
