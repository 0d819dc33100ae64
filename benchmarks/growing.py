"""In words: how a time grows with the number of nodes that are there."""

from __future__ import annotations

import math
from typing import Any

FROM = 1000  # below, what every call costs hides the growth
FLAT, LINEAR = 0.2, (0.85, 1.15)


def exponent(points: dict[int, float]) -> float:
    """The slope of a line through the points, both axes logarithmic; nan for fewer than two."""
    kept = {n: t for n, t in points.items() if n >= FROM and t > 0}
    if len(kept) < 2:
        kept = {n: t for n, t in points.items() if t > 0}
    if len(kept) < 2:
        return math.nan
    x, y = [math.log(n) for n in kept], [math.log(t) for t in kept.values()]
    middle, level = sum(x) / len(x), sum(y) / len(y)
    return sum((a - middle) * (b - level) for a, b in zip(x, y)) / sum((a - middle) ** 2 for a in x)


def word(slope: float) -> str:
    """"flat", "linear", or the power of n; nothing for nan."""
    if math.isnan(slope):
        return ""
    if slope < FLAT:
        return "flat"
    return "linear" if LINEAR[0] <= slope <= LINEAR[1] else f"n^{slope:.1f}"


def grows_as(sizes: dict[str, Any], side: str) -> str:
    """The word for one side of a summary's row."""
    return word(exponent({int(n): entry[side]["median"] for n, entry in sizes.items() if entry.get(side)}))
