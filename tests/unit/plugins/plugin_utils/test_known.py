"""A node is not asked again only if it is known to be right."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from ansible_collections.ocihooks.ssh.plugins.plugin_utils import _known

HOOK, CDI = "/hooks.d/07.json", "/etc/cdi/x.json"
TEXTS = {HOOK: "{}\n", CDI: "[]\n"}
KNOWN = {path: hashlib.sha256(text.encode()).hexdigest() for path, text in TEXTS.items()}
RIGHT: dict[str, Any] = {"hooks": {HOOK: TEXTS[HOOK]}, "cdi": {CDI: TEXTS[CDI]}, "absent": [], "known": KNOWN}


def test_files_with_the_digests_that_were_found_are_right() -> None:
    assert _known.engine_files_are_right(RIGHT)
    assert _known.engine_files_are_right({**RIGHT, "cdi": {}})
    assert _known.engine_files_are_right({**RIGHT, "known": {**KNOWN, "/other": "x"}})


@pytest.mark.parametrize(
    "changes",
    [
        {"hooks": {HOOK: "{}"}},
        {"cdi": {CDI: "{}"}},
        {"hooks": {HOOK: TEXTS[HOOK], "/second.json": "{}"}},
        {"hooks": {}, "cdi": {}},
        {"absent": ["/old.json"]},
        {"docker_json": "/etc/docker/daemon.json"},
        {"enroot_hooks": {"/hook.sh": TEXTS[HOOK]}},
        {"podman_hpc_modules": {HOOK: TEXTS[HOOK]}},
        {"known": {}},
        {"known": {HOOK: KNOWN[HOOK]}},
        {"known": None},
        {"known": [HOOK, CDI]},
        {"known": "x"},
        {"known": {HOOK: 1, CDI: None}},
    ],
)
def test_all_else_is_asked(changes: dict[str, Any]) -> None:
    assert not _known.engine_files_are_right({**RIGHT, **changes})
