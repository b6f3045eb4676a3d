"""The documentation's drawings, as SVG of text."""

from __future__ import annotations

import runpy
from pathlib import Path
from xml.etree import ElementTree

import pytest

SITE = Path(__file__).resolve().parents[3] / "docs" / "site"
DRAWING = runpy.run_path(str(SITE / "drawing.py"))
SVG = "{http://www.w3.org/2000/svg}"
LANES = "title Two\nlane a First\nlane b Second & last\n"


def words(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}tspan")]


def test_an_arrow_leads_from_lane_to_lane() -> None:
    svg = DRAWING["draw"](LANES + "a -> b | asks <it>\n")
    assert words(svg) == ["First", "Second &", "last", "asks <it>"]
    assert 'class="arrow"' in svg


def test_a_lane_that_ends_has_a_shorter_line() -> None:
    svg = DRAWING["draw"](LANES + "a | works\nend a\nb | works on\n")
    lines = [path for path in ElementTree.fromstring(svg).iter(f"{SVG}path") if path.get("class") == "life"]
    ends = [float(line.get("d", "").partition("V")[2]) for line in lines]
    assert ends[0] < ends[1]


@pytest.mark.parametrize(
    ("line", "reason"),
    [("a -> c | asks", "'c'"), ("a - b", "no title, lane, group, event or end"), ("end c", "'c'")],
)
def test_a_mistake_is_named_with_its_line(line: str, reason: str) -> None:
    with pytest.raises(DRAWING["Mistake"]) as caught:
        DRAWING["draw"](LANES + line)
    assert str(caught.value) == f"line 4: {line!r}: {reason}"


@pytest.mark.parametrize("name", sorted(path.name for path in SITE.glob("*.seq")))
def test_no_text_is_wider_than_its_drawing(name: str) -> None:
    root = ElementTree.fromstring(DRAWING["draw"]((SITE / name).read_text(encoding="utf-8")))
    width = float(root.get("viewBox", "").split()[2])
    for box in root.iter(f"{SVG}rect"):
        left = float(box.get("x", ""))
        assert 0 <= left
        assert left + float(box.get("width", "")) <= width


def test_the_readmes_drawing_is_that_of_its_source() -> None:
    source = (SITE / "login.seq").read_text(encoding="utf-8")
    assert (SITE / "login.svg").read_text(encoding="utf-8") == DRAWING["draw"](source, standalone=True)
