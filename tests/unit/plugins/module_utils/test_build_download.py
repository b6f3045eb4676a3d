"""A release archive comes from the first origin that has it, verified."""

from __future__ import annotations

import hashlib
import http.server
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils._build import download, errors
from patience import within

ARCHIVE = b"the release archive"
NAME = "dropbear-2026.94.tar.bz2"
DIGEST = hashlib.sha256(ARCHIVE).hexdigest()
OTHER = hashlib.sha256(b"another file").hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    answers: ClassVar[dict[str, bytes]] = {"/good": ARCHIVE, "/bad": b"another file"}

    def do_GET(self) -> None:
        body = self.answers.get(self.path)
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{made.server_address[1]}"
        made.shutdown()
        thread.join()


@pytest.fixture
def no_mirrors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "apt_urls", lambda archive: [])


def fetch(*urls: str) -> bytes:
    return download.find(download.Request(NAME, DIGEST, urls))


def refusal(*urls: str) -> str:
    with pytest.raises(errors.BuildError) as error:
        fetch(*urls)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.usefixtures("no_mirrors")
def test_the_first_origin_that_has_it_gives_it(server: str) -> None:
    assert fetch(f"{server}/missing", f"{server}/good", f"{server}/bad") == ARCHIVE


@pytest.mark.usefixtures("no_mirrors")
def test_a_wrong_digest_ends_the_search(server: str) -> None:
    expected = f"{server}/bad provides a file with sha256 {OTHER}, and not with {DIGEST}: refused"
    assert refusal(f"{server}/bad", f"{server}/good") == expected


@pytest.mark.usefixtures("no_mirrors")
def test_the_error_lists_what_was_tried(server: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        refusing = f"http://127.0.0.1:{unused.getsockname()[1]}/x"
        error = refusal(f"{server}/missing", refusing, "http://host.invalid/x", "no url")
    reason = f"no origin provides {NAME} (sha256 {DIGEST}): add one to urls that does, or put a copy at dest. Tried: "
    assert error.startswith(reason)
    for tried in (
        f"{server}/missing (Not Found)",
        f"{refusing} ([Errno 111] Connection refused)",
        "http://host.invalid/x (",
        "no url (",
    ):
        assert tried in error


@pytest.mark.usefixtures("no_mirrors")
def test_an_origin_that_says_nothing_is_given_up(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    download_from = download.download

    def download_in_time(url: str) -> bytes:
        monkeypatch.setattr(download, "IDLE_TIMEOUT", 60.0 if url.endswith("/good") else 0.5)
        content: bytes = download_from(url)
        return content

    monkeypatch.setattr(download, "download", download_in_time)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        assert fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/x", f"{server}/good") == ARCHIVE
    assert time.monotonic() - start < within(20)


@pytest.mark.usefixtures("no_mirrors")
def test_an_origin_that_sends_too_much_is_given_up(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "LIMIT", 4)
    assert "sends more than 4 bytes" in refusal(f"{server}/good")


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An apt with one mirror, which is a directory: the text of `targets` is what it lists."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "apt-get").write_text(f"#!/bin/sh\ncat {tools}/targets\n")
    (tools / "apt-helper").write_text(
        '#!/bin/sh\nwhile [ "$1" != download-file ]; do shift; done\n'
        'cp "${2#test:}" "$3" && exit\necho "E: no such file"\nexit 1\n'
    )
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setattr(download, "APT_HELPER", str(tools / "apt-helper"))
    return tools


def test_debians_archive_comes_last(apt: Path, server: str, tmp_path: Path) -> None:
    pool = tmp_path / "mirror" / "pool" / "main" / "d" / "dropbear"
    pool.mkdir(parents=True)
    (pool / "dropbear_2026.94.orig.tar.bz2").write_bytes(ARCHIVE)
    (apt / "targets").write_text(f"main test:{tmp_path}/other/\nmain test:{tmp_path}/mirror/\n")
    assert fetch(f"{server}/missing") == ARCHIVE


def test_a_wrong_digest_from_a_mirror_is_refused(apt: Path, tmp_path: Path) -> None:
    pool = tmp_path / "mirror" / "pool" / "main" / "d" / "dropbear"
    pool.mkdir(parents=True)
    (pool / "dropbear_2026.94.orig.tar.bz2").write_bytes(b"another file")
    (apt / "targets").write_text(f"main test:{tmp_path}/mirror/\n")
    error = refusal()
    assert DIGEST in error
    assert OTHER in error


def test_mirrors_are_asked_once_and_only_where_dropbear_can_be(apt: Path, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# comment\n\nhttp://one.test/debian/\nhttp://two.test/debian\tpriority:2\n")
    (apt / "targets").write_text(
        "main http://a.test/debian/\nmain http://a.test/debian/\nnon-free http://a.test/debian/\n"
        f"universe http://b.test/ubuntu/\nmain mirror+file:{tmp_path}/list/\n$(COMPONENT) file:/srv/flat/\n"
    )
    assert download.apt_urls(NAME) == [
        "http://a.test/debian/pool/main/d/dropbear/dropbear_2026.94.orig.tar.bz2",
        "http://b.test/ubuntu/pool/universe/d/dropbear/dropbear_2026.94.orig.tar.bz2",
        "http://one.test/debian/pool/main/d/dropbear/dropbear_2026.94.orig.tar.bz2",
        "http://two.test/debian/pool/main/d/dropbear/dropbear_2026.94.orig.tar.bz2",
    ]


def test_a_mirror_keeps_each_release_under_its_own_name() -> None:
    assert download.pool_path("openssh-10.3p1.tar.gz") == "o/openssh/openssh_10.3p1.orig.tar.gz"


def test_a_mirror_keeps_libraries_under_their_first_four_letters() -> None:
    assert download.pool_path("libsodium-1.0.22.tar.gz") == "libs/libsodium/libsodium_1.0.22.orig.tar.gz"


def test_a_mirror_without_it_is_named_with_apts_reason(apt: Path, tmp_path: Path) -> None:
    (apt / "targets").write_text(f"main test:{tmp_path}/mirror/\n")
    tried = f"test:{tmp_path}/mirror/pool/main/d/dropbear/dropbear_2026.94.orig.tar.bz2 (no such file)"
    assert tried in refusal()


def test_without_apt_there_are_no_mirrors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert download.apt_urls(NAME) == []
