"""The plots of a run: plots.py RESULTS.json FOLDER; prints the names of what it drew.

SVG with a fixed hash salt and no date, so that equal figures give equal files. Needs
matplotlib (benchmarks/requirements.txt).
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from typing import Any, Optional

from growing import grows_as

PEER, OURS, PACK = "#c44e52", "#4c72b0", "#55a868"


def setup() -> Any:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {"svg.hashsalt": "pannier", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False,
         "axes.spines.right": False, "figure.constrained_layout.use": True}
    )  # fmt: skip
    import matplotlib.pyplot as plt

    return plt


def save(figure: Any, folder: str, name: str) -> None:
    path = os.path.join(folder, f"{name}.svg")
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    with open(path, encoding="utf-8") as f:
        lines = [line.rstrip() for line in f]
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")


def series(sizes: dict[str, Any], side: str) -> tuple[list[int], list[float], list[float], list[float]]:
    points = [(int(n), entry[side]) for n, entry in sizes.items() if entry.get(side)]
    return (
        [n for n, _ in points],
        [p["median"] for _, p in points],
        [p["low"] for _, p in points],
        [p["high"] for _, p in points],
    )


def draw_line(axes: Any, sizes: dict[str, Any], side: str, color: str, label: str) -> None:
    n, middle, low, high = series(sizes, side)
    if n:
        axes.plot(n, middle, "o-", color=color, label=f"{label}: {grows_as(sizes, side)}".rstrip(": "), markersize=3, linewidth=1.4)
        axes.fill_between(n, low, high, color=color, alpha=0.15, linewidth=0)


def growth(data: dict[str, Any], folder: str) -> Optional[str]:
    """A panel for each growth row, both axes logarithmic; the legend says how each grows."""
    rows = {name: sizes for name, sizes in data["summary"].items() if name.startswith("grow_")}
    packed = rows.pop("grow_pack", None)
    if not rows:
        return None
    plt = setup()
    figure, panels = plt.subplots(2, 3, figsize=(9, 5), squeeze=False)
    flat = list(panels.flat)
    for axes, (name, sizes) in zip(flat, rows.items()):
        draw_line(axes, sizes, "peer", PEER, "LlamaIndex")
        draw_line(axes, sizes, "pannier", OURS, "pannier")
        if name == "grow_persist" and packed:
            draw_line(axes, packed, "pannier", PACK, "pannier, pack")
        axes.set_title(data["titles"][name], fontsize=9)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("nodes already there")
        axes.set_ylabel("seconds")
        axes.grid(True, which="major", alpha=0.25, linewidth=0.5)
        axes.legend(frameon=False, fontsize=8)
    for axes in flat[len(rows) :]:
        axes.remove()
    save(figure, folder, "growth")
    plt.close(figure)
    return "growth"


def speedup(data: dict[str, Any], folder: str) -> Optional[str]:
    """How many times the peer, every row at the largest size up to 10,000."""
    sizes = [n for n in data["settings"]["sizes"] if n <= 10_000] or data["settings"]["sizes"][:1]
    if not sizes:
        return None
    n = max(sizes)
    found = [
        (data["titles"][name], entries[str(n)]["times_without_fsync"])
        for name, entries in data["summary"].items()
        if not name.startswith("grow_") and str(n) in entries and entries[str(n)]["times_without_fsync"]
    ]
    if not found:
        return None
    found.sort(key=lambda pair: pair[1])
    plt = setup()
    figure, axes = plt.subplots(figsize=(8, 0.16 * len(found) + 1))
    colors = [OURS if value >= 1 else PEER for _, value in found]
    axes.barh(range(len(found)), [v - 1 for _, v in found], left=1, color=colors, height=0.7)
    axes.set_yticks(range(len(found)), [title for title, _ in found], fontsize=7)
    axes.set_ylim(-0.6, len(found) - 0.4)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel(f"times LlamaIndex, {n:,} nodes × {data['settings']['dim']}, fsync left out")
    axes.grid(True, axis="x", alpha=0.25, linewidth=0.5)
    save(figure, folder, "speedup")
    plt.close(figure)
    return "speedup"


def main() -> int:
    with open(sys.argv[1], encoding="utf-8") as f:
        data = json.load(f)
    if importlib.util.find_spec("matplotlib") is None:
        print(json.dumps({"skipped": "no matplotlib"}))
        return 0
    print(json.dumps({"plots": [p for p in (speedup(data, sys.argv[2]), growth(data, sys.argv[2])) if p]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
