"""One table for all measurements: medians of pairs taken in turn, their ratio, and the target beside."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from typing import NamedTuple

WIDTHS = (52, 12, 12, 7, 20, 4)
HEADER = ("What", "Ours", "Peer", "Ratio", "Target", "Met", "Peer is")


class Bound(NamedTuple):
    """What a row is to reach; `holds` is told our value and the peer's."""

    text: str
    holds: Callable[[float, float], bool]


def at_most(limit: float, unit: str) -> Bound:
    """Our value itself."""
    return Bound(f"≤ {limit:g} {unit}", lambda ours, _peer: ours <= limit)


def ratio_at_most(limit: float) -> Bound:
    """Our value by the peer's."""
    return Bound(f"≤ {limit:g} x", lambda ours, peer: ours <= limit * peer)


def ratio_at_least(limit: float) -> Bound:
    """Our value by the peer's."""
    return Bound(f"≥ {limit:g} x", lambda ours, peer: ours >= limit * peer)


def more_by_at_most(limit: float, unit: str) -> Bound:
    """Our value less the peer's."""
    return Bound(f"≤ +{limit:g} {unit}", lambda ours, peer: ours - peer <= limit)


class Row(NamedTuple):
    """One comparison. Without bounds it only reports."""

    what: str
    ours: float
    peer: float
    unit: str
    against: str
    bounds: tuple[Bound, ...] = ()

    def cells(self) -> tuple[str, ...]:
        """The row in words."""
        met = "-"
        if self.bounds:
            met = "yes" if all(bound.holds(self.ours, self.peer) for bound in self.bounds) else "no"
        return (
            self.what,
            f"{number(self.ours)} {self.unit}",
            f"{number(self.peer)} {self.unit}",
            number(self.ours / self.peer),
            " and ".join(bound.text for bound in self.bounds) or "-",
            met,
            self.against,
        )


def number(value: float) -> str:
    """Three digits, or all of a longer whole number."""
    decimals = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{min(max(decimals, 0), 4)}f}"


def line(cells: tuple[str, ...]) -> str:
    """One line of the table, which is one of Markdown too."""
    padded = [f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS)]
    return "| " + " | ".join([*padded, *cells[len(WIDTHS) :]]) + " |"


def header() -> str:
    """The table's first two lines."""
    return line(HEADER) + "\n" + "|---" * len(HEADER) + "|"


def medians(rounds: int, measures: Mapping[str, Callable[[], float]], warm_up: bool = True) -> dict[str, float]:
    """Take all measures in turn, in each round in the reverse order, and return the median of each."""
    values: dict[str, list[float]] = {name: [] for name in measures}
    order = list(measures)
    for turn in range(-int(warm_up), rounds):
        for name in order:
            value = measures[name]()
            if turn >= 0:
                values[name].append(value)
        order.reverse()
    return {name: statistics.median(taken) for name, taken in values.items()}
