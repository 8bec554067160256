"""Lines over a number, one a group; and points over two numbers, told apart by group."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from medaudit.report import theme
from medaudit.report.figures.scatter import _MARKS
from medaudit.report.figures.svg import WIDE, Row, data, horizontal, to_svg


def lines(
    rows: Sequence[Row], *, title: str, x: str, y: str, groups: Sequence[str], level: float | None = None,
    note: str = "", domain: tuple[float, float] | None = None, points: bool = False,
) -> str:  # fmt: skip
    """Return lines as SVG. ``rows``: ``x``, ``y``, ``group``, rising in ``x``; ``groups`` in their order.

    ``level`` draws a horizontal line (chance), ``points`` marks each place, ``domain`` is the vertical axis'.
    """
    colours = [theme.GROUPS[i % len(theme.GROUPS)] for i in range(len(groups))]
    dashes = [list(theme.DASHES[i % len(theme.DASHES)]) for i in range(len(groups))]
    legend = alt.Legend(orient="top", columns=1, labelLimit=420, symbolSize=400, symbolType="stroke")
    scale = alt.Scale(domain=list(domain), clamp=True) if domain else alt.Scale(zero=False)
    chart = data(rows).mark_line(strokeWidth=2.2, point=alt.OverlayMarkDef(size=50) if points else False)
    drawn = chart.encode(
        x=alt.X("x:Q", title=x, scale=alt.Scale(zero=False, nice=False), axis=alt.Axis(grid=False, tickCount=6)),
        y=alt.Y("y:Q", title=y, scale=scale, axis=alt.Axis(tickCount=6)),
        color=alt.Color("group:N", title=None, sort=list(groups), legend=legend).scale(
            domain=list(groups), range=colours
        ),
        strokeDash=alt.StrokeDash("group:N", title=None, sort=list(groups), legend=legend).scale(
            domain=list(groups), range=dashes
        ),
    )
    behind = [horizontal(level, theme.QUIET)] if level is not None else []
    return to_svg(alt.layer(*behind, drawn).properties(width=WIDE, height=250), title, note)


def pairs(rows: Sequence[Row], *, title: str, x: str, y: str, groups: Sequence[str], note: str = "") -> str:
    """Return points over two axes with numbers, as SVG. ``rows``: ``x``, ``y``, ``group``."""
    colours = [theme.GROUPS[i % len(theme.GROUPS)] for i in range(len(groups))]
    marks = [_MARKS[i % len(_MARKS)] for i in range(len(groups))]
    legend = alt.Legend(orient="top", columns=2, symbolSize=110, title=None)
    chart = data(rows).mark_point(filled=True, size=80, opacity=0.85)
    drawn = chart.encode(
        x=alt.X("x:Q", title=x, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=6)),
        y=alt.Y("y:Q", title=y, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=6)),
        color=alt.Color(
            "group:N", sort=list(groups), scale=alt.Scale(domain=list(groups), range=colours), legend=legend
        ),
        shape=alt.Shape("group:N", sort=list(groups), scale=alt.Scale(domain=list(groups), range=marks), legend=legend),
    )
    return to_svg(drawn.properties(width=WIDE, height=260), title, note)
