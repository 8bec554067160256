"""A table of numbers as shades: methods against tasks."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from medaudit.report import theme
from medaudit.report.figures.svg import Row, data, to_svg


def heatmap(
    rows: Sequence[Row], *, title: str, columns: Sequence[str], lines: Sequence[str], low: float, high: float,
    note: str = "", format: str = ".2f",
) -> str:  # fmt: skip
    """Return cells as SVG. ``rows``: ``column``, ``line``, ``value``; ``columns`` and ``lines`` in their order.

    The shade runs from ``low`` (light) to ``high`` (dark); each cell says its number, so that nothing hangs on colour.
    """
    middle = low + 0.6 * (high - low)
    cells = data({**row, "light": row["value"] > middle} for row in rows)
    x = alt.X(
        "column:N", sort=list(columns), title=None, axis=alt.Axis(orient="top", labelAngle=0, domain=False, ticks=False)
    )
    y = alt.Y("line:N", sort=list(lines), title=None, axis=alt.Axis(domain=False, ticks=False))
    shade = alt.Color(
        "value:Q",
        scale=alt.Scale(domain=[low, high], range=[theme.ORDERED[0], theme.ORDERED[3]], clamp=True, interpolate="rgb"),
        legend=None,
    )
    boxes = cells.mark_rect(stroke=theme.GRID).encode(x=x, y=y, color=shade)
    ink = alt.condition("datum.light", alt.value("white"), alt.value(theme.INK))
    words = cells.mark_text(fontSize=13).encode(x=x, y=y, text=alt.Text("value:Q", format=format), color=ink)
    width, height = max(70, 330 // max(1, len(columns))) * len(columns), 30 * len(lines)
    return to_svg(alt.layer(boxes, words).properties(width=width, height=height), title, note)
