"""Makes the pictures of the documentation's site: the demo's end, and the page of an audit."""

from __future__ import annotations

import html
import tempfile
from pathlib import Path

import made_up
from browser import browser

SITE = Path(__file__).parents[2] / "docs/site"
TERMINAL = (
    "body { margin: 0; background: #15181d; } pre { margin: 0; padding: 1rem 1.2rem; color: #d7dae0; "
    "font: 15px/1.4 'DejaVu Sans Mono', monospace; } b { color: #86d99c; }"
)


def demo() -> str:
    """Return a page that looks as a terminal does at the end of the demo."""
    text = (SITE / "demo.txt").read_text(encoding="utf-8")
    shown = html.escape("# make demo\n[…]\n" + text[text.index("== Checking") :].rstrip())
    return (
        f"<!DOCTYPE html><meta charset=utf-8><style>{TERMINAL}</style><pre>{shown.replace('PASS', '<b>PASS</b>')}</pre>"
    )


def main() -> None:
    """Write the pictures into docs/site."""
    with tempfile.TemporaryDirectory() as directory, browser(Path(directory, "profile")) as page:
        file = Path(directory, "page.html")
        page.media()
        page.size(1120, 600)
        file.write_text(made_up.page(strangers=False), encoding="utf-8")
        page.open(file)
        page.ask("document.getElementById('time').textContent = ''")
        page.picture(SITE / "audit.png")
        page.size(800, 540)
        file.write_text(demo(), encoding="utf-8")
        page.open(file)
        page.size(800, page.ask("document.documentElement.scrollHeight"))
        page.picture(SITE / "demo.png")


if __name__ == "__main__":
    main()
