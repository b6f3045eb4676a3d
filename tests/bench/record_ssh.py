"""Run ssh as Ansible asks, and keep what a node has answered: PLAYBACK_ANSWERS/HOST/NUMBER.json."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

done = subprocess.run(["ssh", *sys.argv[1:]], input=sys.stdin.buffer.read(), capture_output=True, check=False)
directory = Path(os.environ["PLAYBACK_ANSWERS"], sys.argv[-2])
directory.mkdir(parents=True, exist_ok=True)
answer = {"status": done.returncode, "out": done.stdout.decode(), "err": done.stderr.decode()}
number = len(list(directory.iterdir()))
(directory / f"{number}.json").write_text(json.dumps(answer), encoding="utf-8")
sys.stdout.buffer.write(done.stdout)
sys.stderr.buffer.write(done.stderr)
sys.exit(done.returncode)
