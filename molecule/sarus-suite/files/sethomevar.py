"""A precreate hook with the effect of the Sarus Suite's sethomevar: HOME is the home that the node knows of the uid."""

from __future__ import annotations

import json
import pwd
import sys


def main() -> None:
    """Print the config.json that stdin has, with the variable."""
    config = json.load(sys.stdin)
    process = config["process"]
    home = pwd.getpwuid(process["user"]["uid"]).pw_dir
    process["env"] = [each for each in process.get("env", []) if not each.startswith("HOME=")] + [f"HOME={home}"]
    json.dump(config, sys.stdout)


if __name__ == "__main__":
    main()
