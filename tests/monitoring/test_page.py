"""The page of an audit of a hundred nodes in a browser: read, sorted, filtered, printed, on a desk and on a phone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made_up
import pytest
from browser import Page, browser

SEEN = Path(__file__).parents[2] / ".cache/monitoring"
WIDE, PHONE, NARROW = (1280, 800), (390, 844), (320, 640)
COLUMNS = {
    name: i for i, name in enumerate(["Node", "State", "Hook", "Dropbear", "OpenSSH", "Port", "Daemons", "Wrong"])
}

# What sticks out of the window to the right.
STICKING_OUT = """
[...document.body.querySelectorAll("*")].filter((e) => e.getClientRects().length
  && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map((e) => e.outerHTML.slice(0, 200))
"""
# The contrast of each element's own text with what is behind it, by WCAG 2.
FAINT = """
(() => {
  const numbers = (color) => color.match(/[0-9.]+/g).map(Number);
  const light = (color) => numbers(color).slice(0, 3)
    .map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor;
      if ((numbers(color)[3] ?? 1) > 0) return color;
    }
  };
  const faint = [];
  for (const e of document.body.querySelectorAll("*")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.getClientRects().length) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) faint.push(e.outerHTML.slice(0, 100));
  }
  return faint;
})()
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "audit.html"
    path.write_text(made_up.page(), encoding="utf-8")
    os.utime(path, (0, 1_700_000_000))
    return path


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(shared: Page, file: Path) -> Iterator[Page]:
    """The page as a reader with a wide window and a light system opens it."""
    shared.size(*WIDE)
    shared.media()
    shared.open(file)
    shared.complaints.clear()
    yield shared
    assert shared.complaints == []


def shown(page: Page, column: str = "Node") -> list[str]:
    """The texts of a column, of rows that are to be seen."""
    rows = "[...document.querySelectorAll('tbody tr')].filter((r) => r.getClientRects().length)"
    texts: list[str] = page.ask(f"{rows}.map((r) => r.cells[{COLUMNS[column]}].textContent.trim())")
    return texts


def click(page: Page, selector: str) -> None:
    page.ask(f"document.querySelector({selector!r}).click()")


def sort_by(page: Page, column: str) -> str:
    click(page, f"thead th:nth-child({COLUMNS[column] + 1}) button")
    order: str = page.ask("document.querySelector('[aria-sort]').getAttribute('aria-sort')")
    return order


def search(page: Page, text: str) -> str:
    """Filter by a text; return what the page says of how many rows are left."""
    page.ask(
        "(() => { const f = document.getElementById('filter'); f.focus(); f.value = " + repr(text) + ";"
        " f.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    said: str = page.ask("document.getElementById('shown').textContent")
    return said


def test_all_nodes_are_there_and_the_worst_are_first(page: Page) -> None:
    worst = ["node071", "node088", "node042", "node055", "node017", "node018", "node019"]
    names = [f"node{number:03}" for number in range(1, 101)]
    assert shown(page) == [*worst, *(name for name in names if name not in worst)]
    assert page.ask("document.getElementById('states').innerText").split() == [
        *("100", "nodes", "1", "unreachable", "1", "failed", "2", "unsafe", "3", "differs", "93", "ok"),
    ]
    assert "2023" in page.ask("document.getElementById('time').textContent")
    page.picture(SEEN / "light.png")


def test_columns_are_sorted_by_what_they_mean(page: Page) -> None:
    assert sort_by(page, "Node") == "ascending"
    assert sort_by(page, "Node") == "descending"
    assert shown(page)[:2] == ["node100", "node099"]
    assert sort_by(page, "State") == "ascending"
    assert shown(page, "State")[:8] == ["unreachable", "failed", "unsafe", "unsafe", *["differs"] * 3, "ok"]
    page.picture(SEEN / "sorted.png")
    sort_by(page, "Daemons")
    sort_by(page, "Daemons")
    daemons = page.ask("[...document.querySelectorAll('tbody tr')].map((r) => Number(r.cells[6].dataset.value))")
    assert daemons == sorted(daemons, reverse=True)
    assert daemons[0] == 3
    sort_by(page, "Dropbear")
    assert [text for text in shown(page, "Dropbear") if text.startswith("2")][:4] == ["2025.89"] * 3 + ["2026.94"]


def test_text_and_state_filter_the_rows(page: Page) -> None:
    assert search(page, "node04") == "10 of 100"
    assert sorted(shown(page)) == [f"node{number:03}" for number in range(40, 50)]
    assert search(page, "DROPBEAR v2025 node018") == "1 of 100"
    assert shown(page) == ["node018"]
    assert search(page, "no such text") == "0 of 100"
    assert shown(page) == []
    assert search(page, "") == ""
    click(page, "#states li.unsafe button")
    assert shown(page) == ["node042", "node055"]
    assert page.ask("document.querySelector('#states [aria-pressed=true]').textContent") == "2 unsafe"
    sort_by(page, "Node")
    sort_by(page, "Node")
    assert shown(page) == ["node055", "node042"]
    (SEEN / "filtered.html").write_text(page.ask("document.documentElement.outerHTML"), encoding="utf-8")
    click(page, "#states li button")
    assert len(shown(page)) == 100


@pytest.mark.parametrize("scripts", [True, False])
@pytest.mark.parametrize("size", [WIDE, (1040, 700), (840, 600), PHONE, NARROW])
def test_nothing_sticks_out(page: Page, file: Path, size: tuple[int, int], scripts: bool) -> None:
    page.size(*size)
    page.open(file, scripts=scripts)
    page.ask("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert page.ask(STICKING_OUT) == []
    assert page.ask("document.documentElement.scrollWidth") <= size[0]
    assert len(shown(page)) == 100


def test_a_phone_shows_cards(page: Page) -> None:
    page.size(*PHONE)
    click(page, "#states li.unsafe button")
    page.picture(SEEN / "phone.png")
    widths: list[float] = page.ask("[...document.querySelectorAll('tbody tr:not([hidden])')].map((r) => r.offsetWidth)")
    click(page, "#states li.ok button")
    page.picture(SEEN / "phone-ok.png")
    assert len(widths) == 2
    assert min(widths) > 340
    label = page.ask("getComputedStyle(document.querySelector('tbody td:nth-child(3)'), '::before').content")
    assert label.startswith('"Hook')


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read_in_light_and_in_dark(page: Page, scheme: str) -> None:
    page.media(scheme=scheme)
    colours = page.ask("getComputedStyle(document.body).backgroundColor")
    assert colours == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}[scheme]
    assert page.ask(FAINT) == []
    sort_by(page, "State")
    page.picture(SEEN / f"{scheme}.png")


def test_without_scripts_it_is_a_plain_table(page: Page, file: Path) -> None:
    page.open(file, scripts=False)
    assert len(shown(page)) == 100
    assert page.ask("document.querySelectorAll('button').length") == 0
    assert page.ask("document.getElementById('controls').getClientRects().length") == 0


def test_it_is_printed_without_its_controls(page: Page) -> None:
    page.media("print", "dark")
    assert page.ask("document.getElementById('controls').getClientRects().length") == 0
    assert page.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.ask(FAINT) == []
    printed: dict[str, Any] = page.call("Page.printToPDF", landscape=True)
    assert printed["data"].startswith("JVBERi")  # %PDF


def test_strangers_markup_is_text(page: Page) -> None:
    assert search(page, "onerror") == "1 of 100"
    assert "<img src=x onerror=alert(1)>\\u202e is owned by <b>bob</b>" in shown(page, "Wrong")[0]
    assert page.ask("document.querySelectorAll('img').length") == 0


def test_the_policy_lets_no_other_script_run(page: Page) -> None:
    page.ask(
        "{ const s = document.createElement('script'); s.textContent = 'window.ran = true'; document.body.append(s); }"
    )
    assert page.ask("window.ran") is None
    assert [complaint for complaint in page.complaints if "Content Security Policy" in complaint]
    page.complaints.clear()
