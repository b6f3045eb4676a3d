"""The metrics and the alert rules of docs/admin-guide.md are those of the hook."""

from __future__ import annotations

import re
from pathlib import Path

from ssh_hook.health.metrics import Metrics

ROOT = Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "docs/admin-guide.md").read_text(encoding="utf-8").partition("\n## Metrics\n")[2].partition("\n## ")[0]
SAMPLES = re.findall(r"^(ssh_hook_\w+)(?:\{kind=\"(.+)\"\})? [0-9]+$", Metrics().text(0, 0), re.MULTILINE)
NAMES = {name for name, _kind in SAMPLES}


def test_each_metric_has_a_row() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| (?:gauge|counter) \|", GUIDE, re.MULTILINE)) == NAMES


def test_the_alerts_ask_for_metrics_and_kinds_that_exist() -> None:
    conditions = re.findall(r"^ +expr: (.+)$", GUIDE, re.MULTILINE)
    assert len(conditions) == 2
    asked = {name for condition in conditions for name in re.findall(r"ssh_hook_\w+", condition)}
    choices = [choice for condition in conditions for choice in re.findall(r'kind=~"(.+?)"', condition)]
    kinds = {kind for choice in choices for kind in choice.split("|")}
    assert asked and asked <= NAMES
    assert kinds and kinds <= {kind for _name, kind in SAMPLES}
