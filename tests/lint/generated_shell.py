"""Writes the shell text that the hook generates in containers to the directory given."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "files" / "hook"))

from ssh_hook.provision import texts


def main() -> None:
    """Write the file."""
    directory = Path(sys.argv[1])
    directory.joinpath("ssh-hook.sh").write_bytes(texts.profile_module())


if __name__ == "__main__":
    main()
