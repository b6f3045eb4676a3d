"""Prepare a release: python tools/release.py VERSION SUMMARY

Writes VERSION wherever the collection names it, and SUMMARY, a sentence, into changelogs/fragments/VERSION.yml. Then
antsibull-changelog adds the version to changelogs/changelog.yaml, with the fragments that no release has yet, and
writes CHANGELOG.md. Run again, it writes the same version anew, until a tag says that it is released.
docs/releasing.md says what comes before and after.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

# File -> what stands before the version there. Each must be found once.
PLACES = {
    "galaxy.yml": r"^version: ",
    "docs/releases.md": r"^\$ archive=ocihooks-ssh-",
    "files/hook/ssh_hook/__init__.py": r'^VERSION = "',
}
VERSION = r"\d+\.\d+\.\d+"


class Refused(Exception):
    """The release cannot be prepared; the message is one line that says why and what to do."""


def number(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, which sort as versions do."""
    return tuple(map(int, version.split(".")))


def check(root: Path, version: str, summary: str) -> None:
    """Check that this may be the next release of the checkout in root. Raises: Refused."""
    if not re.fullmatch(VERSION, version):
        raise Refused(f"{version!r} is no version: write it as 1.2.3")
    if not summary.endswith("."):
        raise Refused(f"the summary {summary!r} is no sentence: end it with a full stop")
    tags = subprocess.run(["git", "tag", "--list"], cwd=root, capture_output=True, text=True, check=True).stdout.split()
    released = sorted(number(tag) for tag in tags if re.fullmatch(VERSION, tag))
    if released and number(version) <= released[-1]:
        newest = ".".join(map(str, released[-1]))
        raise Refused(f"{version} is not newer than {newest}, which is released: take the next version")


def write_version(root: Path, version: str) -> None:
    """Write the version into each of PLACES. Raises: Refused, before anything is written."""
    texts = {}
    for name, before in PLACES.items():
        pattern = re.compile(f"({before}){VERSION}", re.MULTILINE)
        texts[name], count = pattern.subn(rf"\g<1>{version}", (root / name).read_text(encoding="utf-8"))
        if count != 1:
            raise Refused(f"{name} has {count} places that look like '{before}VERSION', and needs one: mend it")
    for name, text in texts.items():
        (root / name).write_text(text, encoding="utf-8")


def write_changelog(root: Path, version: str, summary: str) -> None:
    """Write the fragment with the summary, and have antsibull-changelog write the rest. Raises: Refused."""
    fragment = root / "changelogs" / "fragments" / f"{version}.yml"
    fragment.parent.mkdir(exist_ok=True)  # git keeps no empty directory
    fragment.write_text(f"---\nrelease_summary: {json.dumps(summary, ensure_ascii=False)}\n", encoding="utf-8")
    changelog = root / "changelogs" / "changelog.yaml"
    text = changelog.read_text(encoding="utf-8")
    # The entry of a version that was prepared before, and not released: as far as lines are indented below it.
    others = re.sub(rf"^  {re.escape(version)}:\n(?:   .*\n)*", "", text, flags=re.MULTILINE)
    changelog.write_text(re.sub(r"^releases:\n\Z", "releases: {}\n", others, flags=re.MULTILINE), encoding="utf-8")
    done = subprocess.run(
        ["antsibull-changelog", "release", "--reload-plugins", "--version", version],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Refused(f"antsibull-changelog does not make the release:\n{done.stdout}")


def main(arguments: list[str], root: Path) -> int:
    """Prepare the release; the exit status is 1 if it is refused, and 2 for wrong arguments."""
    if len(arguments) != 2:
        print("usage: python tools/release.py VERSION SUMMARY", file=sys.stderr)
        return 2
    version, summary = arguments
    try:
        check(root, version, summary)
        write_version(root, version)
        write_changelog(root, version, summary)
    except Refused as refusal:
        print(f"release: {refusal}", file=sys.stderr)
        return 1
    print(f"{version} is prepared. Read CHANGELOG.md, then go on as docs/releasing.md says.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path(__file__).resolve().parents[1]))
