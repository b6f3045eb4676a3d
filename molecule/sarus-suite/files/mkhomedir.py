"""A createRuntime hook with the effect of the Sarus Suite's mkhomedir, in every container.

In the image's /etc/passwd, which it has to have, the user's home becomes that of the container's variable HOME. Where
this directory is missing it is made, with the image's /etc/skel.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path


def home_of(config: dict, lines: list[list[str]], uid: str) -> str:
    """Return the home that the container's process has by its variables, or by the image's file."""
    for variable in config["process"].get("env", []):
        if variable.startswith("HOME="):
            return variable.partition("=")[2]
    return next(line[5] for line in lines if line[2] == uid)


def main() -> None:
    """Act on the state that the runtime gives; fail with the variables of a job, which the suite gives to no podman."""
    if "SLURM_JOB_ID" in os.environ:
        raise SystemExit("mkhomedir: podman was called with the variables of a job")
    state = json.load(sys.stdin)
    root = Path(state["root"])
    config = json.loads(Path(state["bundle"], "config.json").read_text(encoding="utf-8"))
    uid = str(config["process"]["user"]["uid"])
    passwd = root / "etc/passwd"
    lines = [line.split(":") for line in passwd.read_text(encoding="utf-8").splitlines()]
    home = home_of(config, lines, uid)
    for line in lines:
        if line[2] == uid:
            line[5] = home
    with passwd.open("r+", encoding="utf-8") as file:  # in its place
        file.truncate()
        file.writelines(f"{':'.join(line)}\n" for line in lines)
    directory = root / home.lstrip("/")
    if not directory.exists():
        os.umask(0o077)
        directory.mkdir(parents=True)
        if (root / "etc/skel").exists():
            shutil.copytree(root / "etc/skel", directory, symlinks=True, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
