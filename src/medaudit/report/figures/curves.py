"""Charts over a continuous axis: a measure over age, and success over every threshold."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from medaudit.report import numerals, theme
from medaudit.report.figures.svg import (
    WIDE,
    Row,
    data,
    domain,
    finite,
    horizontal,
    interval,
    to_svg,
    vertical,
)


def curve(line: Sequence[Row], bins: Sequence[Row], *, title: str, x: str, y: str) -> str:
    """Return a measure over a continuous attribute with its band, and the groups' means on it, as SVG.

    ``line``: ``x``, ``value``, ``low``, ``high``, rising in ``x``. ``bins``: ``x`` (the group's mean), ``x_low``,
    ``x_high`` (how far it reaches), ``value``, ``low``, ``high``, ``label``, ``n``. ``x``, ``y``: the axes'
    titles with their units.
    """
    smooth = [{**interval(row), "x": row["x"]} for row in line]
    means = []
    for row in bins:
        mean = {**interval(row), "x": row["x"], "from": finite(row["x_low"]), "to": finite(row["x_high"])}
        top = mean["value"] if mean["high"] is None else mean["high"]
        means.append({**mean, "top": top, "words": [str(row["label"]), numerals.sample(row["n"])]})
    low, high = domain([*means, *smooth])
    room = 0.18 * (high - low)  # for the groups' names above their intervals
    up = alt.Scale(domain=[low, high + room], nice=False, zero=False)
    across = alt.X("x:Q", title=x, scale=alt.Scale(zero=False, nice=False), axis=alt.Axis(grid=False, tickCount=7))
    y_axis = alt.Y("value:Q", title=y, axis=alt.Axis(tickCount=6), scale=up)
    curves, points = data(smooth), data(means)
    layers = [
        curves.mark_area(color=theme.BAND, opacity=0.75).encode(x=across, y=alt.Y("low:Q", scale=up), y2="high:Q"),
        curves.mark_line(color=theme.INK, strokeWidth=2.2).encode(x=across, y=y_axis),
        points.mark_rule(color=theme.BLUE, strokeWidth=1.2, strokeDash=[2, 2]).encode(
            x=alt.X("from:Q"), x2="to:Q", y=y_axis
        ),
        points.mark_rule(color=theme.BLUE, strokeWidth=2.2).encode(x=across, y=alt.Y("low:Q", scale=up), y2="high:Q"),
        points.mark_point(color=theme.BLUE, filled=True, size=80, opacity=1).encode(x=across, y=y_axis),
        points.mark_text(dy=-22, fontSize=12, color=theme.BLUE, lineHeight=14).encode(
            x=across, y=alt.Y("top:Q", scale=up), text="words:N"
        ),
    ]
    note = "Black: a smooth curve through all cases, with its band. Blue: the groups' means."
    return to_svg(alt.layer(*layers).properties(width=WIDE, height=250), title, note)


def threshold_sweep(
    rates: Sequence[Row],
    ratios: Sequence[Row],
    *,
    title: str,
    threshold: str,
    chosen: float | None = None,
    rule: float = 0.8,
) -> str:
    """Return the groups' success rates over every threshold, above the disparate-impact ratio, as SVG.

    ``rates``: ``group``, ``threshold``, ``rate``. ``ratios``: ``threshold``, ``value``, ``low``, ``high``, the
    lowest rate over the highest. ``threshold`` is the axis' title, ``chosen`` the study's own threshold, ``rule``
    the four-fifths line.
    """
    groups = list(dict.fromkeys(str(row["group"]) for row in rates))
    lines = data({"at": row["threshold"], "rate": finite(row["rate"]), "group": str(row["group"])} for row in rates)
    ratio = data({**interval(row), "at": row["threshold"]} for row in ratios)
    ends = [row["threshold"] for row in (*rates, *ratios)]
    span = alt.Scale(domain=[min(ends), max(ends)], nice=False, zero=False)
    unit = alt.Scale(domain=[0, 1], clamp=True)

    x = alt.X("at:Q", title=None, scale=span, axis=alt.Axis(labels=False, ticks=False, grid=False))
    # Long names would run into each other side by side.
    columns = 3 if max(map(len, groups), default=0) <= 14 else 1
    legend = alt.Legend(orient="top", columns=columns, labelLimit=420, symbolSize=400, symbolType="stroke")
    colours = [theme.GROUPS[i % len(theme.GROUPS)] for i in range(len(groups))]
    dashes = [list(theme.DASHES[i % len(theme.DASHES)]) for i in range(len(groups))]
    upper = lines.mark_line(strokeWidth=2.4).encode(
        x=x,
        y=alt.Y("rate:Q", title="success rate", scale=unit, axis=alt.Axis(format="%", tickCount=5)),
        color=alt.Color("group:N", title=None, sort=groups, legend=legend).scale(domain=groups, range=colours),
        strokeDash=alt.StrokeDash("group:N", title=None, sort=groups, legend=legend).scale(domain=groups, range=dashes),
    )

    x = alt.X("at:Q", title=threshold, scale=span, axis=alt.Axis(grid=False, tickCount=6))
    y = alt.Y("value:Q", title="lowest / highest", scale=unit, axis=alt.Axis(tickCount=5))
    lower = [
        ratio.mark_area(color=theme.BAND, opacity=0.75).encode(x=x, y=alt.Y("low:Q", scale=unit), y2="high:Q"),
        horizontal(rule, theme.ACCENT),
        ratio.mark_line(color=theme.INK, strokeWidth=2.2).encode(x=x, y=y),
    ]
    note = f"Below: the lowest rate over the highest, and in orange the four-fifths rule ({rule:g})."
    marks = []
    if chosen is not None:
        marks = [vertical(chosen, dash=(4, 3))]
        note += f" Dashed: the study's threshold, {chosen:g}."
    panels = (
        alt.layer(upper, *marks).properties(width=WIDE, height=190),
        alt.layer(*lower, *marks).properties(width=WIDE, height=130),
    )
    return to_svg(alt.vconcat(*panels, spacing=14), title, note)
