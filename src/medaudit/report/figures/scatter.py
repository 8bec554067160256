"""Points in a plane, told apart by group: a map of a latent space."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from medaudit.report import theme
from medaudit.report.figures.svg import WIDE, Row, data, to_svg

_MARKS = ("circle", "diamond", "triangle-up", "square", "cross", "triangle-down")


def scatter(rows: Sequence[Row], *, title: str, groups: Sequence[str], note: str = "") -> str:
    """Return points as SVG. ``rows``: ``x``, ``y``, ``group``; the axes have no numbers, for a map has no units.

    ``groups`` in their order; a group differs by shape as well as by colour, as far as there are shapes.
    """
    colours = [theme.GROUPS[i % len(theme.GROUPS)] for i in range(len(groups))]
    marks = [_MARKS[i % len(_MARKS)] for i in range(len(groups))]
    bare = alt.Axis(labels=False, ticks=False, domain=False, grid=False, title=None)
    legend = alt.Legend(orient="top", columns=2, symbolSize=110, title=None)
    points = data(rows).mark_point(filled=True, size=42, opacity=0.75)
    chart = points.encode(
        x=alt.X("x:Q", axis=bare, scale=alt.Scale(zero=False)),
        y=alt.Y("y:Q", axis=bare, scale=alt.Scale(zero=False)),
        color=alt.Color(
            "group:N", sort=list(groups), scale=alt.Scale(domain=list(groups), range=colours), legend=legend
        ),
        shape=alt.Shape("group:N", sort=list(groups), scale=alt.Scale(domain=list(groups), range=marks), legend=legend),
    )
    return to_svg(chart.properties(width=WIDE, height=WIDE * 0.75), title, note)
