"""The report: Markdown tables made from a run's JSON, and their places in the documents."""

from __future__ import annotations

from typing import Any, Iterator, Optional

from growing import grows_as
from machine import describe
from results import ROWS, Entry, slower, slower_by_fsync
from targets import CEILINGS, FSYNC_ASIDE, TARGETS

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
README_SIZE = 10_000
README_ROWS = (
    "persist", "load", "pack_after_ten", "pack_open", "query", "query_filtered", "docstore_add",
    "get_nodes_loaded", "get_nodes", "index_insert", "one_document_delete", "kv_get", "memory",
)  # fmt: skip
SCANNED, SCAN_MOST = 64e6, 1.5  # a matrix that no cache holds; the floor of its scan
FSYNC_SHARE = 0.05  # of pannier's time, above which it is shown


def seconds(value: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}" if value * factor < 1000 else f"{value * factor:,.0f} {unit}"
    return f"{value * 1e9:.3g} ns"


def amount(value: float, unit: str) -> str:
    if unit == "s":
        return seconds(value)
    return f"{value:,.0f} {unit}" if value >= 10 else f"{value:.3g} {unit}"


def ratio(value: Optional[float]) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def figure(found: Optional[dict[str, float]], unit: str, spread: bool = True) -> str:
    """A median with its spread, or nothing."""
    if found is None:
        return ""
    text = amount(found["median"], unit)
    if not spread or found["samples"] < 2:
        return text
    return f"{text} ({amount(found['low'], unit)} – {amount(found['high'], unit)})"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table; all columns but the first are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def times(entry: dict[str, Any]) -> str:
    """The ratio; where syncing is a part of pannier's time, the one without it behind."""
    text = ratio(entry["times"])
    if text and entry["pannier"]["fsync"] > FSYNC_SHARE * entry["pannier"]["median"]:
        text += f" ({ratio(entry['times_without_fsync'])})"
    return ("≈ " if entry["bounded"] and text else "") + text


def machine_table(limits: list[dict[str, Any]]) -> list[str]:
    rows = []
    for found in limits:
        values = [found["median"], min(found["values"]), max(found["values"])]
        cells = [f"{v:,.0f}" if v >= 100 else f"{v:.3g}" for v in values]
        rows.append([found["title"], f"{cells[0]} {found['unit']}", f"{cells[1]} – {cells[2]}"])
    return table(["limit", "median", "spread"], rows)


def targets_section(data: dict[str, Any]) -> list[str]:
    """The floors that this run can judge, and the names of the others."""
    rows, missing = [], []
    for name, sizes, floor in TARGETS:
        for n in sizes:
            entry = data["summary"].get(name, {}).get(str(n), {})
            value = entry.get("times_without_fsync" if (name, n) in FSYNC_ASIDE else "times")
            title = f"{ROWS[name].title}, {n:,}"
            if value is None:
                missing.append(title)
            else:
                rows.append([title, ratio(floor), ratio(value), "reached" if value >= floor else "**below**"])
    for name, most in CEILINGS.items():
        for n, entry in data["summary"].get(name, {}).items():
            value = entry["pannier"]["median"]
            verdict = "reached" if value <= most else "**above**"
            rows.append([f"{ROWS[name].title}, {int(n):,}", f"≤ {most:g} MB", f"{value:.3g} MB", verdict])
    rows += bandwidth_rows(data)
    out = table(["operation, nodes", "floor", "measured", ""], rows)
    return [*out, "", f"Not measured in this run: {'; '.join(missing)}."] if missing else out


def bandwidth_rows(data: dict[str, Any]) -> list[list[str]]:
    """Large scans beside the time that the memory takes to deliver the matrix."""
    best = max([f["median"] for f in data["limits"] if f["name"] in ("read_one", "read_all")], default=0.0)
    rows = []
    for n, entry in data["summary"].get("query", {}).items():
        size = int(n) * data["settings"]["dim"] * 4
        if best and size >= SCANNED:
            value = entry["pannier"]["median"] / (size / best / 1e9)
            verdict = "reached" if value <= SCAN_MOST else "**above**"
            title = f"{ROWS['query'].title}, {int(n):,}: times reading the matrix once"
            rows.append([title, f"≤ {SCAN_MOST}", ratio(value), verdict])
    return rows


def slower_table(found: list[Entry]) -> list[str]:
    """A line for each row, a column for each size: ratio, LlamaIndex's time, pannier's."""
    sizes = sorted({n for _, n, _ in found})
    cells: dict[str, dict[int, str]] = {}
    for name, n, entry in found:
        unit = ROWS[name].unit
        pair = " / ".join(figure(entry[side], unit, spread=False) for side in ("peer", "pannier"))
        cells.setdefault(name, {})[n] = f"{times(entry)}: {pair}"
    rows = [[ROWS[name].title, *(row.get(n, "") for n in sizes)] for name, row in cells.items()]
    return table(["operation, at nodes", *(f"{n:,}" for n in sizes)], rows)


def slower_section(summary: dict[str, Any]) -> Iterator[str]:
    yield "### Rows where the peer is faster"
    yield ""
    found, synced = slower(summary), slower_by_fsync(summary)
    if found:
        yield "LlamaIndex takes less time here: how many times faster pannier is, LlamaIndex's time / pannier's. "
        yield "In brackets without fsync, by which a row is judged; ratios above 0.97 count as a draw."
        yield ""
        yield from slower_table(found)
    else:
        yield "None (pannier's fsync left out; ratios above 0.97 count as a draw)."
    if synced:
        yield ""
        yield "And here only because pannier waits for the disk, which LlamaIndex never does:"
        yield ""
        yield from slower_table(synced)


def sizes_of(summary: dict[str, Any], names: list[str]) -> list[int]:
    return sorted({int(n) for name in names for n in summary[name]})


def matrix(summary: dict[str, Any], names: list[str]) -> list[str]:
    """Ratios of all rows at all sizes."""
    sizes = sizes_of(summary, names)
    rows = []
    for name in names:
        cells = [times(summary[name][str(n)]) if str(n) in summary[name] else "" for n in sizes]
        if any(cells):
            rows.append([ROWS[name].title, *cells])
    return table(["times LlamaIndex, at nodes", *(f"{n:,}" for n in sizes)], rows)


def full_table(summary: dict[str, Any], names: list[str], n: int) -> list[str]:
    """Everything about one size."""
    rows = []
    for name in names:
        entry = summary[name].get(str(n))
        if entry is None:
            continue
        row = ROWS[name]
        fsync = entry["pannier"]["fsync"]
        peer = ("≈ " if entry["bounded"] else "") + figure(entry["peer"], row.unit)
        rows.append(
            [row.title, peer, figure(entry["pannier"], row.unit), seconds(fsync) if fsync else "",
             times(entry), figure(entry["limit"], row.unit, spread=False), row.limit if entry["limit"] else ""]
        )  # fmt: skip
    head = ["operation", "LlamaIndex", "pannier", "of which fsync", "times", "limit", "what the limit does"]
    return table(head, rows)


def growth_table(summary: dict[str, Any], names: list[str]) -> list[str]:
    sizes = sizes_of(summary, names)
    rows = []
    for name in names:
        for side, label in (("peer", "LlamaIndex"), ("pannier", "pannier")):
            if ROWS[name].against and side == "peer":
                continue
            cells = [figure(summary[name].get(str(n), {}).get(side), ROWS[name].unit, spread=False) for n in sizes]
            rows.append([f"{ROWS[name].title}: {label}", *cells, grows_as(summary[name], side)])
    return table(["already there", *(f"{n:,}" for n in sizes), "grows"], rows)


KINDS = {
    "kv": ("Key-value stores", (("put", "put, an entry, durable"), ("get", "get"), ("open", "open and a first get"))),
    "vectors": (
        "Vector stores",
        (("add", "add all"), ("query", "top-10 query"), ("save", "save"), ("load", "load and a first query")),
    ),
}


def middle(values: list[float]) -> str:
    return seconds(sorted(values)[len(values) // 2]) if values else ""


def alternatives_section(found: dict[str, Any]) -> Iterator[str]:
    """Tables of the contenders; {"n": ..., "results": {key: {...}}}."""
    for kind, (title, columns) in KINDS.items():
        rows, skipped = [], []
        for facts in found["results"].values():
            if facts["kind"] != kind:
                continue
            if "skipped" in facts:
                skipped.append(f"{facts['name']} ({facts['skipped']})")
                continue
            cells = [middle(facts["times"].get(name, [])) for name, _ in columns]
            recall = [f"{facts['recall']:.0%}"] if kind == "vectors" else []
            bounded = f"; {facts['n']:,} entries only" if facts["n"] < found["n"] else ""
            rows.append([f"{facts['name']} {facts['version']}: {facts['words']}{bounded}".replace(" :", ":"), *cells, *recall])
        yield ""
        yield f"**{title}**, {found['n']:,} entries"
        yield ""
        yield from table(["library", *(words for _, words in columns), *(["of the exact top 10"] if kind == "vectors" else [])], rows)
        if skipped:
            yield ""
            yield f"Skipped: {', '.join(skipped)}."


def skipped_section(data: dict[str, Any]) -> Iterator[str]:
    if data["skipped"]:
        yield ""
        yield "### Not measured"
        yield ""
        for why in dict.fromkeys(data["skipped"].values()):
            titles = [ROWS[name].title for name, reason in data["skipped"].items() if reason == why]
            yield f"- {'; '.join(titles)}: {why}."


def caption(data: dict[str, Any]) -> str:
    run = data["settings"]
    rounds = "one round" if run["rounds"] == 1 else f"{run['rounds']} rounds"
    return f"{run['dim']} dimensions, {rounds}, {describe(data['machine'])}."


def markdown(data: dict[str, Any], plots: list[str]) -> list[str]:
    """The whole generated part of docs/performance.md."""
    summary = data["summary"]
    grown = [name for name in summary if name.startswith("grow_")]
    names = [name for name in summary if name not in grown]
    out = [caption(data), ""]
    if data["limits"]:
        out += ["### What the machine can do", "", *machine_table(data["limits"]), ""]
    out += ["### Targets", "", "Times LlamaIndex, floors of the design.", "", *targets_section(data), ""]
    out += [*slower_section(summary), ""]
    out += [f"![{name}]({name}.svg)" for name in plots if name == "speedup"]
    out += ["", "### Every row at every size", ""]
    out += ["In brackets: pannier's fsync left out. ≈: LlamaIndex ran fewer entries, extrapolated.", "", *matrix(summary, names)]
    if grown:
        out += ["", "### Growth", "", f"The cost of a small change beside what is there ({data['settings']['growth_dim']} dimensions).", ""]
        out += [f"![{name}]({name}.svg)" for name in plots if name == "growth"]
        out += ["", *growth_table(summary, grown)]
    for n in [*data["settings"]["sizes"], *data["settings"].get("million", [])]:
        if any(str(n) in summary[name] for name in names):
            out += ["", f"### {n:,} nodes", "", *full_table(summary, names, n)]
    if data["alternatives"]:
        out += ["", "### Other libraries at this work", *alternatives_section(data["alternatives"])]
    return [*out, *skipped_section(data)]


def short_table(data: dict[str, Any], n: int) -> list[str]:
    """README's table."""
    rows = []
    for name in README_ROWS:
        entry = data["summary"].get(name, {}).get(str(n))
        if entry is not None and entry["times"] is not None:
            cells = [figure(entry[side], ROWS[name].unit, spread=False) for side in ("peer", "pannier")]
            mark = "≈ " if entry["bounded"] else ""
            rows.append([ROWS[name].title, mark + cells[0], cells[1], f"**{mark}{ratio(entry['times'])}**"])
    return [*table(["operation", "LlamaIndex", "pannier", "times"], rows), "", f"{n:,} nodes, {caption(data)}"]


def replace_block(path: str, lines: list[str]) -> None:
    """Puts lines between the file's bench markers."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    head, found, rest = text.partition(BEGIN)
    _, closed, tail = rest.partition(END)
    if not found or not closed:
        raise SystemExit(f"bench: {path} has no {BEGIN} ... {END}")
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join([head + BEGIN, *lines, END + tail]))
