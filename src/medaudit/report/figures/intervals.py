"""Charts of values with intervals, a row each: groups, gaps, and a gap pooled against within its sources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from medaudit.report import numerals, theme
from medaudit.report.figures.svg import (
    ROW,
    WIDTH,
    Row,
    axis_title,
    data,
    domain,
    finite,
    interval,
    rows_axis,
    to_svg,
    vertical,
)

_LETTER = 7.2  # pixels that a letter of the values takes, to keep them inside the plot


def forest(
    rows: Sequence[Row],
    *,
    title: str,
    measure: str,
    unit: str = "",
    null_band: tuple[float, float] | None = None,
    worst: str | None = None,
) -> str:
    """Return the groups' values with their intervals, one under the other, as SVG.

    ``rows``: ``group``, ``value``, ``low``, ``high``, ``n``; NaN or infinite where there is no number.
    ``null_band``: where the values would lie if the groups did not differ. ``worst``: the group in the accent.
    """
    drawn = []
    for row in rows:
        stands_out = row["group"] == worst
        drawn.append(
            {
                **interval(row),
                "label": str(row["group"]),
                "below": numerals.sample(row["n"]),
                "colour": theme.ACCENT if stands_out else theme.BLUE,
                "shape": "diamond" if stands_out else "circle",
            }
        )
    notes = []
    behind = []
    if null_band is not None:
        notes.append("Grey: where the groups would lie if they did not differ.")
        band = data([{"from": null_band[0], "to": null_band[1]}]).mark_rect(color=theme.BAND, opacity=0.7)
        behind.append(band.encode(x=alt.X("from:Q"), x2="to:Q"))
    if worst is not None:
        notes.append(f"Diamond: the worst group, {worst}.")
    chart = _chart(drawn, axis_title(measure, unit), behind, also=null_band or ())
    return to_svg(chart, title, " ".join(notes))


def gaps(rows: Sequence[Row], *, title: str, measure: str, unit: str = "") -> str:
    """Return gaps between groups, each against the gaps that chance alone would show, as SVG.

    ``rows``: ``label`` (one of its own each), ``value``, ``low``, ``high``, ``verdict`` and ``null_low``,
    ``null_high``, the middle 95 % of the gap if the groups did not differ (NaN where it is not known).
    """
    drawn = [
        {
            **interval(row),
            "label": str(row["label"]),
            "below": row["verdict"],
            "colour": theme.VERDICTS[row["verdict"]],
            "shape": theme.SHAPES[row["verdict"]],
            "null_low": finite(row.get("null_low")),
            "null_high": finite(row.get("null_high")),
        }
        for row in rows
    ]
    chance = data(row for row in drawn if row["null_low"] is not None and row["null_high"] is not None)
    bars = chance.mark_bar(color=theme.BAND, height=26, cornerRadius=3)
    bars = bars.encode(x=alt.X("null_low:Q"), x2="null_high:Q", y=rows_axis(drawn))
    chart = _chart(drawn, axis_title(measure, unit), [vertical(0.0), bars], also=(0.0,))
    return to_svg(chart, title, "Grey bars: the gaps that chance alone would show.")


def pooled_against_within(
    rows: Sequence[Row], *, title: str, measure: str, unit: str = "", pooled: str = "all sources"
) -> str:
    """Return the gap over all sources above the gap within each source, on one axis, as SVG.

    ``rows``: ``source``, ``value``, ``low``, ``high``, ``n``. The gaps are signed and between the same two groups,
    so that a source in which the order turns round lies on the other side of zero. ``pooled`` names the row of
    all sources.
    """
    drawn = []
    behind = [vertical(0.0)]
    for row in sorted(rows, key=lambda row: row["source"] != pooled):
        is_pooled = row["source"] == pooled
        drawn.append(
            {
                **interval(row),
                "label": str(row["source"]),
                "below": numerals.sample(row["n"]),
                "colour": theme.INK if is_pooled else theme.BLUE,
                "shape": "diamond" if is_pooled else "circle",
            }
        )
        if is_pooled and drawn[-1]["value"] is not None:
            behind.append(vertical(drawn[-1]["value"], dash=(4, 3)))
    chart = _chart(drawn, axis_title(measure, unit), behind, also=(0.0,))
    return to_svg(chart, title, f"Diamond and dashed line: {pooled}. Solid line: no gap.")


def _chart(rows: Sequence[dict[str, Any]], axis: str, behind: Sequence[alt.Chart], also: Sequence[float]) -> Any:
    """Return a row each with its interval, its point and its numbers above; ``also`` must be on the axis too."""
    drawn = [*rows, *({"value": value} for value in also)]
    low, high = domain(drawn, ("value", "low", "high", "null_low", "null_high"))
    scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    x = alt.X("value:Q", title=axis, scale=scale, axis=alt.Axis(tickCount=5))
    y = rows_axis(rows)
    colour = alt.Color("colour:N", scale=None)
    points = data(row for row in rows if row["value"] is not None)
    rules = data(row for row in rows if row["low"] is not None and row["high"] is not None)
    layers = [
        rules.mark_rule(strokeWidth=2.2).encode(x=alt.X("low:Q"), x2="high:Q", y=y, color=colour),
        points.mark_point(size=95, filled=True, opacity=1).encode(
            x=x, y=y, color=colour, shape=alt.Shape("shape:N", scale=None)
        ),
    ]
    placed = [_placed(row, low, high) for row in rows]
    for align in ("left", "center", "right"):
        words = data(row for row in placed if row["align"] == align).encode(x=alt.X("at:Q"), y=y, text="said:N")
        # A white rim first: lines and bands run behind the numbers.
        layers.append(words.mark_text(align=align, dy=-14, stroke="white", strokeWidth=4, strokeJoin="round"))
        layers.append(words.mark_text(align=align, dy=-14))
    return alt.layer(*behind, *layers).properties(width=WIDTH, height=ROW * max(1, len(rows)))


def _placed(row: dict[str, Any], low: float, high: float) -> dict[str, Any]:
    """Return the row with where its numbers stand: above its point, but inside the plot."""
    share = 0.5 if row["value"] is None else (row["value"] - low) / (high - low)
    half = _LETTER * len(row["said"]) / 2 / WIDTH
    align = "left" if share < half else "right" if share > 1 - half else "center"
    edge = 0.01 * (high - low)  # away from the row's name, which ends where the plot begins
    at = {"left": low + edge, "right": high, "center": low + share * (high - low)}[align]
    return {**row, "align": align, "at": at}
