"""An imitation of squeue, sbatch and scancel: jobs are files in the directory of this program, which tests change."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

PLACE = Path(__file__).resolve().parent
ENDED = {"CANCELLED", "COMPLETED", "FAILED", "TIMEOUT"}


def jobs() -> list[dict[str, str]]:
    found = [json.loads(path.read_text()) for path in PLACE.glob("job.*") if path.suffix[1:].isdigit()]
    return sorted(found, key=lambda job: int(job["number"]))


def write(job: dict[str, str]) -> None:
    """Replace the job at once: others read it."""
    new = PLACE / f"new.{os.getpid()}"
    new.write_text(json.dumps(job))
    new.rename(PLACE / f"job.{job['number']}")


def squeue(options: dict[str, str]) -> None:
    with (PLACE / "asked").open("a") as file:
        file.write(f"{os.getppid()}\n")
    for job in jobs():
        names = options.get("name")
        if names is not None and (job["name"] not in names.split(",") or job["state"] in ENDED):
            continue
        if options.get("jobs", job["number"]) != job["number"]:
            continue
        text = options["format"]
        for letter, field in zip("iUTSLNjr", "number uid state start left node name reason".split()):
            text = text.replace(f"%{letter}", job[field])
        print(text)


def sbatch(options: dict[str, str]) -> int:
    if (PLACE / "refused").exists():
        print("sbatch: error: QOSMaxSubmitJobPerUserLimit", file=sys.stderr)
        return 7
    while (PLACE / "slow").exists():
        time.sleep(0.05)
    number = 100
    while True:
        try:
            (PLACE / f"number.{number}").mkdir()
            break
        except FileExistsError:
            number += 1
    job = {"number": str(number), "uid": str(os.getuid()), "state": "PENDING", "start": "N/A", "left": "4:00:00"}
    job.update({"node": "", "reason": "Resources", "name": options["job-name"]})
    if (PLACE / "free").exists():
        job.update({"state": "RUNNING", "node": "node7"})
    write(job)
    facts = {"options": options, "script": sys.stdin.read(), "directory": os.getcwd(), "environment": dict(os.environ)}
    (PLACE / f"submitted.{number}").write_text(json.dumps(facts))
    print(number)
    return 0


def scancel(numbers: list[str]) -> None:
    for job in jobs():
        if job["number"] in numbers:
            write({**job, "state": "CANCELLED"})


def main() -> int:
    words = sys.argv[1:]
    options = {name: value for name, _equals, value in (word[2:].partition("=") for word in words if word[:2] == "--")}
    name = Path(sys.argv[0]).name
    if name == "sbatch":
        return sbatch(options)
    if name == "squeue":
        squeue(options)
    else:
        scancel([word for word in words if word[:2] != "--"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
