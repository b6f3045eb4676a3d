"""Writes the shell texts that the hook generates in containers to the directory given, with hostile values in them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "files" / "hook"))

from ssh_hook.provision import texts

HOSTILE = {
    "PLAIN": "value",
    "QUOTES": 'it\'s "quoted"',
    "EXPANSION": "$HOME `id` $(id) \\",
    "LINES": "one\ntwo",
    "EMPTY": "",
}


def main() -> None:
    """Write one file for each text."""
    directory = Path(sys.argv[1])
    directory.joinpath("ssh-hook.sh").write_bytes(texts.profile_module())
    directory.joinpath("environment").write_bytes(b"# shellcheck shell=sh\n" + texts.environment_file(HOSTILE))


if __name__ == "__main__":
    main()
