# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Download a release archive from the first origin that answers.

The origins are the URLs in order, and then, if the host has apt, Debian's archive of the same release (the same file,
byte for byte) from the host's mirrors. An origin that does not answer is skipped. An origin with a different file
(digest) ends the search with an error, because someone should investigate.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import BuildError

IDLE_TIMEOUT = 10.0  # seconds without a byte, after which an origin is skipped
DEADLINE = 600.0  # seconds for one whole download
LIMIT = 96 * 1024 * 1024  # bytes; the largest archive is OpenSSL's, 53 million

APT_HELPER = "/usr/lib/apt/apt-helper"
# Components of the distribution that may contain the archive: Debian's main, Ubuntu's universe.
COMPONENTS = ("main", "universe")


class OriginError(Exception):
    """This origin does not have the archive; the next one may."""


@dataclass(frozen=True)
class Request:
    """What to download.

    Attributes:
        archive: the file's name, such as dropbear-2026.94.tar.bz2
        sha256: its digest
        urls: where it may be, in the order to try them
    """

    archive: str
    sha256: str
    urls: Sequence[str]


def download(url: str) -> bytes:
    """Return the content of `url`; raises OriginError. Uses the proxies in the environment."""
    end = time.monotonic() + DEADLINE
    data = bytearray()
    try:
        with urllib.request.build_opener().open(url, timeout=IDLE_TIMEOUT) as response:
            while chunk := response.read1(65536):
                data += chunk
                if len(data) > LIMIT:
                    raise OriginError(f"sends more than {LIMIT} bytes")
                if time.monotonic() > end:
                    raise OriginError(f"not done after {DEADLINE:.0f} s")
    except urllib.error.URLError as error:
        raise OriginError(str(error.reason)) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise OriginError(str(error) or type(error).__name__) from None
    return bytes(data)


def apt_download(url: str) -> bytes:
    """Return the content of `url`, downloaded by apt with the host's proxy and credentials."""
    options = [f"Acquire::{method}::Timeout={IDLE_TIMEOUT:.0f}" for method in ("http", "https")] + ["Acquire::Retries=0"]
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "archive")
        command = [APT_HELPER, *(f"-o{option}" for option in options), "download-file", url, str(file)]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
        except subprocess.TimeoutExpired:
            raise OriginError(f"not done after {DEADLINE:.0f} s") from None
        if result.returncode != 0:
            lines = [line[3:] for line in (result.stdout + result.stderr).splitlines() if line.startswith("E: ")]
            raise OriginError("; ".join(lines) or f"{APT_HELPER} exited with status {result.returncode}")
        return file.read_bytes()


def mirror_addresses(uri: str) -> list[str]:
    """Return the addresses for a URI of apt: a mirror list (`mirror+file:`) is replaced by its entries."""
    prefix = "mirror+file:"
    if not uri.startswith(prefix):
        return [uri]
    entries = Path(uri[len(prefix) :].rstrip("/")).read_text().splitlines()
    return [entry.split()[0] for entry in entries if entry.strip() and not entry.startswith("#")]


def pool_path(archive: str) -> str:
    """Return the path of a release archive on a mirror, below a component in its pool."""
    release, _dot, suffix = archive.partition(".tar.")
    name, _dash, version = release.partition("-")
    section = name[:4] if name.startswith("lib") else name[0]
    return f"{section}/{name}/{name}_{version}.orig.tar.{suffix}"


def apt_urls(archive: str) -> list[str]:
    """Return the possible URLs of the archive on this host's mirrors; empty without apt or its package lists."""
    if shutil.which("apt-get") is None or not os.access(APT_HELPER, os.X_OK):
        return []
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(COMPONENT) $(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    urls: dict[str, None] = {}  # ordered, without duplicates
    for line in targets.splitlines():
        component, _blank, uri = line.partition(" ")
        if component not in COMPONENTS:
            continue
        for address in mirror_addresses(uri):
            urls[f"{address.rstrip('/')}/pool/{component}/{pool_path(archive)}"] = None
    return list(urls)


def find(request: Request) -> bytes:
    """Return the verified archive; raises BuildError if an origin has a wrong one, or none has it."""
    origins: list[tuple[str, Callable[[str], bytes]]] = [(url, download) for url in request.urls]
    origins += [(url, apt_download) for url in apt_urls(request.archive)]
    failures = []
    for url, get in origins:
        try:
            data = get(url)
        except OriginError as error:
            failures.append(f"{url} ({error})")
            continue
        digest = hashlib.sha256(data).hexdigest()
        if digest != request.sha256:
            raise BuildError(f"{url} provides a file with sha256 {digest}, and not with {request.sha256}: refused")
        return data
    raise BuildError(
        f"no origin provides {request.archive} (sha256 {request.sha256}): add one to urls that does, or put a copy at "
        "dest."
        f" Tried: {'; '.join(failures) or 'none'}"
    )
