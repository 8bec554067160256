"""Charts of how a group's cases are spread: over a measure, and over ordered categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from medaudit.report import numerals, theme
from medaudit.report.figures.svg import ROW, WIDE, WIDTH, Row, axis_title, data, rows_axis, to_svg

_BINS = 25


def distribution(
    values: Mapping[str, Sequence[float] | np.ndarray],
    *,
    title: str,
    measure: str,
    unit: str = "",
    worst: str | None = None,
) -> str:
    """Return the per-case values of each group as histograms with their atoms drawn apart, as SVG.

    ``values``: a group's name to its cases' values. An atom is one value that at least 2 % of a group's cases
    (and at least three) have, such as a Dice of exactly 0 or 1; in a bin it would look like a spread. Values
    that are not finite are counted in the group's title.
    """
    cases = {str(group): np.asarray(v, float) for group, v in values.items()}
    groups = list(cases)
    finite = np.concatenate([v[np.isfinite(v)] for v in (*cases.values(), np.empty(0))])
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    bins = {group: _bins(v, edges) for group, v in cases.items()}
    atoms = {group: _atoms(v) for group, v in cases.items()}
    top = max((bar["share"] for g in groups for bar in (*bins[g], *atoms[g])), default=1.0)
    room = 0.03 * (edges[-1] - edges[0])
    across = alt.Scale(domain=[edges[0] - room, edges[-1] + room], nice=False, zero=False)
    panels = []
    for group in groups:
        last = group == groups[-1]
        colour = theme.ACCENT if group == worst else theme.BLUE
        axis = alt.Axis(labels=last, ticks=last, grid=False, tickCount=6)
        x = alt.X("from:Q", title=axis_title(measure, unit) if last else None, scale=across, axis=axis)
        y = alt.Y("share:Q", title=None, scale=alt.Scale(domain=[0, 1.25 * top]), axis=None)
        floor = alt.Y2Datum(0)
        panel = alt.layer(
            data(bins[group]).mark_bar(color=colour, opacity=0.4).encode(x=x, x2="to:Q", y=y, y2=floor),
            data(atoms[group]).mark_rule(color=colour, strokeWidth=5).encode(x=x, y=y, y2=floor),
            data(atoms[group]).mark_text(dy=-8, fontSize=12).encode(x=x, y=y, text="said:N"),
        )
        heading = alt.Title(_heading(group, cases[group], unit), fontSize=13, offset=2, frame="group")
        panels.append(panel.properties(width=WIDE, height=62, title=heading))
    note = "Height: share of the group's cases. Solid bars: cases that share one exact value."
    return to_svg(alt.vconcat(*panels, spacing=6), title, note)


def bars(rows: Sequence[Row], *, title: str, categories: Sequence[str], measure: str = "share of cases") -> str:
    """Return how each group divides into ordered categories (ratings, tiers), as shares of one, as SVG.

    ``rows``: ``group``, ``category``, ``n``; several rows of one group and category add up. ``categories`` in
    their order, best first.
    """
    groups = list(dict.fromkeys(str(row["group"]) for row in rows))
    shades = _shades(len(categories))
    drawn = []
    for group in groups:
        n = {c: sum(r["n"] for r in rows if str(r["group"]) == group and r["category"] == c) for c in categories}
        total = sum(n.values())
        start = 0.0
        for category, shade in zip(categories, shades, strict=True):
            share = n[category] / total if total else 0.0
            drawn.append(
                {
                    "label": group,
                    "below": numerals.sample(total),
                    "category": category,
                    "from": start,
                    "to": start + share,
                    "middle": start + share / 2,
                    "said": f"{100 * share:.0f}" if share >= 0.055 else "",
                    "ink": theme.INK if _is_light(shade) else "#ffffff",
                }
            )
            start += share
    x = alt.X("from:Q", title=measure, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=5))
    y = rows_axis(drawn)
    legend = alt.Legend(orient="top", columns=4, symbolType="square", symbolSize=170)
    colour = alt.Color("category:N", title=None, sort=list(categories), legend=legend)
    segments = data(drawn).mark_bar(height=30, stroke="white", strokeWidth=1).encode(
        x=x, x2="to:Q", y=y, color=colour.scale(domain=list(categories), range=shades)
    )  # fmt: skip
    words = data(drawn).mark_text().encode(
        x=alt.X("middle:Q"), y=y, text="said:N", color=alt.Color("ink:N", scale=None, legend=None)
    )  # fmt: skip
    chart = alt.layer(segments, words).resolve_scale(color="independent")
    chart = chart.properties(width=WIDTH, height=ROW * max(1, len(groups)))
    return to_svg(chart, title, "Numbers in the bars: per cent of the group.")


def _bins(values: np.ndarray, edges: np.ndarray) -> list[dict[str, Any]]:
    spread = values[np.isfinite(values) & ~np.isin(values, [atom["from"] for atom in _atoms(values)])]
    shares = np.histogram(spread, edges)[0] / max(1, values.size)
    sides = zip(edges.tolist(), edges[1:].tolist(), shares.tolist(), strict=False)
    return [{"from": a, "to": b, "share": share} for a, b, share in sides if share > 0]


def _atoms(values: np.ndarray) -> list[dict[str, Any]]:
    unique, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    many = (counts >= 3) & (counts >= 0.02 * values.size)
    shares = (counts[many] / max(1, values.size)).tolist()
    return [
        {"from": at, "share": share, "said": numerals.percent(share, 0)}
        for at, share in zip(unique[many].tolist(), shares, strict=True)
    ]


def _heading(group: str, values: np.ndarray, unit: str) -> str:
    finite = values[np.isfinite(values)]
    parts = [group, numerals.sample(values.size)]
    if finite.size:
        parts.append(f"median {numerals.with_unit(float(np.median(values[~np.isnan(values)])), unit)}")
    if finite.size < values.size:
        parts.append(f"{values.size - finite.size} not finite")
    return " · ".join(parts)


def _shades(n: int) -> list[str]:
    picks = np.linspace(0, len(theme.ORDERED) - 1, max(n, 2)).round().astype(int)
    return [theme.ORDERED[i] for i in picks[:n]]


def _is_light(colour: str) -> bool:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue > 140
