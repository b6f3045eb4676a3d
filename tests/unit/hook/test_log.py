"""A message is one printable line of bounded length, wherever it goes and whatever it quotes."""

from __future__ import annotations

import pytest
from ssh_hook import system_log
from ssh_hook.errors import SYSTEM
from ssh_hook.log import ERROR, WARNING, Log

HOSTILE = "a\nssh_hook: error: b\r\x1b]0;x\x07\u202e\udc80\t" + "x" * 10_000
SHOWN = "a\\nssh_hook: error: b\\r\\x1b]0;x\\x07\\u202e\\udc80\\t"


def is_short_line(text: str) -> bool:
    return text.isprintable() and SHOWN in text and text.endswith("x...") and len(text) < 1200


def test_what_is_kept_for_the_user() -> None:
    log = Log()
    log.keep(WARNING, HOSTILE, SYSTEM)
    ((level, kind, text),) = log.kept
    assert (level, kind) == (WARNING, SYSTEM)
    assert is_short_line(text)


def test_what_is_logged(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    sent: list[str] = []
    monkeypatch.setattr(system_log, "send", lambda _severity, text, _fields: sent.append(text))
    log = Log()
    log.to_syslog = True
    log(ERROR, HOSTILE)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("ssh_hook: error: a")
    assert is_short_line(line)
    assert [is_short_line(text) for text in sent] == [True]
    assert [is_short_line(text) for _level, _kind, text in log.kept] == [True]
