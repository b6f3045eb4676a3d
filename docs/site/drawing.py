"""Draws a sequence of events as SVG, from text: python drawing.py [--standalone] FILE.seq >FILE.svg

A line of the text is one of:

    title TEXT               what the drawing shows, for those who cannot see it
    lane NAME TEXT           a column, from left to right
    group FIRST [LAST] TEXT  a frame over neighbouring columns; only before the first event
    FROM -> TO | TEXT        an event: an arrow
    NAME | TEXT              an event: what the lane does by itself
    end NAME                 nothing follows in this lane

Empty lines and lines that begin with # mean nothing. Colours are the page's CSS variables, so that the drawing is light
or dark as the page is; with --standalone they are in the file, for a README. It is narrow, so that it can be read on a
phone.
"""

from __future__ import annotations

import re
import sys
import textwrap
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

# All in units of the drawing, which are pixels at its full width.
LANE = 92  # distance of two lanes
LETTER = 6  # mean width of a letter, generously
LINE = 15  # height of a line of text
GAP = 16  # between two events
PAD = 7  # between a box and its text
MARGIN = 6
STYLE = """<style>
text { font: 11.5px system-ui, sans-serif; text-anchor: middle; fill: #1f2328; }
.strong { font-weight: 600; }
.lane, .act { fill: #f3f5f7; stroke: #b8bfc7; }
.group { fill: none; stroke: #1f6feb; stroke-dasharray: 4 3; }
.page, .behind { fill: #ffffff; }
.life { stroke: #b8bfc7; stroke-dasharray: 2 3; }
.end { stroke: #59636e; stroke-width: 2; }
.arrow { stroke: #1f6feb; stroke-width: 1.5; }
.tip { fill: #1f6feb; }
</style>
<rect class="page" width="100%" height="100%" rx="6"/>
"""


class Mistake(Exception):
    """A line of the text that cannot be read; the message names it."""


@dataclass
class Lane:
    """A column: its title, and the heights at which its line begins and ends."""

    title: str
    place: int
    top: float | None = None
    bottom: float | None = None

    @property
    def x(self) -> float:
        """Return where its line is."""
        return MARGIN + LANE * (self.place + 0.5)


@dataclass
class Drawing:
    """What was read, and the SVG elements that were made of it; height grows with each event."""

    title: str = ""
    lanes: dict[str, Lane] = field(default_factory=dict)
    groups: list[tuple[Lane, Lane, str]] = field(default_factory=list)
    elements: list[str] = field(default_factory=list)
    height: float = 0

    @property
    def width(self) -> float:
        """Return the width of the whole drawing."""
        return 2 * MARGIN + LANE * len(self.lanes)

    def text(self, lines: list[str], x: float, top: float, kind: str) -> None:
        """Write lines, centred at x, the first below top."""
        spans = "".join(
            f'<tspan x="{x:g}" y="{top + LINE * (number + 0.75):g}">{escape(line)}</tspan>'
            for number, line in enumerate(lines)
        )
        self.elements.append(f'<text class="{kind}">{spans}</text>')

    def box(self, x: float, top: float, width: float, height: float, kind: str) -> None:
        """Draw a box whose upper edge is centred at x."""
        self.elements.append(
            f'<rect class="{kind}" x="{x - width / 2:g}" y="{top:g}" width="{width:g}" height="{height:g}" rx="4"/>'
        )

    def head(self) -> None:
        """Draw the frames of the groups and the titles of the lanes."""
        top = float(MARGIN)
        if self.groups:
            rows = [wrap(title, (last.place - first.place + 1) * LANE - 2 * PAD) for first, last, title in self.groups]
            tall = max(map(len, rows)) * LINE + 2 * PAD
            for (first, last, _title), row in zip(self.groups, rows):
                middle = (first.x + last.x) / 2
                self.box(middle, top, last.x - first.x + LANE - 8, tall, "group")
                self.text(row, middle, top + (tall - len(row) * LINE) / 2, "strong")
            top += tall + 6
        titles = {name: wrap(lane.title, LANE - 2 * PAD - 10) for name, lane in self.lanes.items()}
        tall = max(map(len, titles.values())) * LINE + 2 * PAD
        for name, lane in self.lanes.items():
            self.box(lane.x, top, LANE - 10, tall, "lane")
            self.text(titles[name], lane.x, top + (tall - len(titles[name]) * LINE) / 2, "strong")
            lane.top = top + tall
        self.height = top + tall + GAP

    def act(self, lane: Lane, text: str) -> None:
        """Draw what a lane does by itself: a box on its line, wider than the lane where there is room."""
        left, right = lane.x - MARGIN, self.width - MARGIN - lane.x
        width = 2 * min(left, right, LANE * 0.95)
        lines = wrap(text, width - 2 * PAD)
        width = min(width, max(map(len, lines)) * LETTER + 2 * PAD)
        tall = len(lines) * LINE + 2 * PAD
        self.box(lane.x, self.height, width, tall, "act")
        self.text(lines, lane.x, self.height + PAD, "plain")
        self.height += tall + GAP

    def arrow(self, start: Lane, end: Lane, text: str) -> None:
        """Draw an arrow between two lanes, its text above it."""
        middle = (start.x + end.x) / 2
        room = 2 * min(middle - MARGIN, self.width - MARGIN - middle, max(abs(start.x - end.x), LANE * 1.5) / 2)
        lines = wrap(text, room)
        widest = max(map(len, lines)) * LETTER
        self.box(middle, self.height, widest, len(lines) * LINE, "behind")
        self.text(lines, middle, self.height, "plain")
        self.height += len(lines) * LINE + 5
        tip = -1 if end.x > start.x else 1
        self.elements.append(
            f'<path class="arrow" d="M{start.x:g} {self.height:g}H{end.x:g}"/>'
            f'<path class="tip" d="M{end.x:g} {self.height:g}l{tip * 9} -4.5v9z"/>'
        )
        self.height += GAP

    def svg(self) -> str:
        """Return the drawing."""
        lines = []
        for lane in self.lanes.values():
            bottom = self.height if lane.bottom is None else lane.bottom
            lines.append(f'<path class="life" d="M{lane.x:g} {lane.top:g}V{bottom:g}"/>')
            if lane.bottom is not None:
                lines.append(f'<path class="end" d="M{lane.x - 8:g} {bottom:g}h16"/>')
        return "\n".join(
            (
                f'<svg class="drawing" xmlns="http://www.w3.org/2000/svg" role="img" '
                f'viewBox="0 0 {self.width:g} {self.height + MARGIN:g}" style="max-width: {self.width:g}px">',
                f"<title>{escape(self.title)}</title>",
                *lines,
                *self.elements,
                "</svg>\n",
            )
        )


def wrap(text: str, width: float) -> list[str]:
    """Return the lines of a text that has to fit into a width."""
    return textwrap.wrap(text, max(int(width / LETTER), 8), break_long_words=False, break_on_hyphens=False)


def draw(source: str, standalone: bool = False) -> str:
    """Return the SVG of a text; `standalone`: with the colours. Raises: Mistake."""
    drawing = Drawing()
    for number, line in enumerate(source.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            read(drawing, line)
        except (KeyError, ValueError) as error:
            raise Mistake(f"line {number}: {line!r}: {error}") from error
    head, title, rest = drawing.svg().partition("</title>\n")
    return f"{head}{title}{STYLE if standalone else ''}{rest}"


def read(drawing: Drawing, line: str) -> None:
    """Take one line into the drawing. Raises: KeyError for an unknown lane, ValueError for an unknown form."""
    if match := re.fullmatch(r"title\s+(.+)", line):
        drawing.title = match[1]
    elif match := re.fullmatch(r"lane\s+(\w+)\s+(.+)", line):
        drawing.lanes[match[1]] = Lane(match[2], len(drawing.lanes))
    elif match := re.fullmatch(r"group\s+(\w+)\s+(.+)", line):
        last, _blank, title = match[2].partition(" ")
        if last not in drawing.lanes:
            last, title = match[1], match[2]
        drawing.groups.append((drawing.lanes[match[1]], drawing.lanes[last], title.strip()))
    elif match := re.fullmatch(r"end\s+(\w+)", line):
        drawing.lanes[match[1]].bottom = drawing.height
    elif match := re.fullmatch(r"(\w+)\s*(?:->\s*(\w+)\s*)?\|\s*(.+)", line):
        if not drawing.height:
            drawing.head()
        start, end, text = match.groups()
        if end:
            drawing.arrow(drawing.lanes[start], drawing.lanes[end], text)
        else:
            drawing.act(drawing.lanes[start], text)
    else:
        raise ValueError("no title, lane, group, event or end")


def main() -> int:
    """Draw the file that the last argument names on standard output."""
    *options, path = sys.argv[1:]
    try:
        sys.stdout.write(draw(Path(path).read_text(encoding="utf-8"), options == ["--standalone"]))
    except Mistake as mistake:
        print(f"{path}: {mistake}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
