"""A square of two axes with regions named in it, and boxes laid over them: where somebody stands, as ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt

from medaudit.report import theme
from medaudit.report.figures.svg import WIDE, data, to_svg

Sides = tuple[tuple[float, float], tuple[float, float]]
"""From where to where on the first axis, and on the second."""
_APART = 0.13  # of two numbers that name boxes, in the units of the axes


def plane(
    regions: Mapping[str, Sides], boxes: Sequence[tuple[str, Sides]], *, title: str, x: Sequence[str],
    y: Sequence[str],
    stance: Sides | None = None, note: str = "",
) -> str:  # fmt: skip
    """Return the square from -1 to 1 on both axes as SVG: regions filled, boxes outlined and named, the stance thick.

    ``x``, ``y``: the lines of an axis' title. ``boxes``: a short name (a number) and its sides; those that are the same
    share an outline and their names.
    """
    axis = alt.Axis(values=[-1, -0.5, 0, 0.5, 1], grid=False)
    across = alt.X("x:Q", title=list(x), scale=alt.Scale(domain=[-1, 1], nice=False), axis=axis)
    up = alt.Y("y:Q", title=list(y), scale=alt.Scale(domain=[-1, 1], nice=False), axis=axis)
    names = list(regions)
    colours = [theme.GROUPS[k % len(theme.GROUPS)] for k in range(len(names))]
    filled = data([{**_corners(regions[name]), "region": name} for name in names]).mark_rect(opacity=0.16).encode(
        x=across, y=up, x2="x2:Q", y2="y2:Q",
        color=alt.Color("region:N", sort=names, scale=alt.Scale(domain=names, range=colours), legend=None),
    )  # fmt: skip
    layers = [filled]
    for align, some in _corner_names(regions).items():
        words = data(some).mark_text(align=align, fontSize=12.5, color=theme.QUIET)  # type: ignore[arg-type]
        layers.append(words.encode(x=across, y=up, text="said:N"))
    merged: dict[Sides, list[str]] = {}
    for name, sides in boxes:
        merged.setdefault(sides, []).append(name)
    if stance is not None:
        thick = data([_corners(stance)]).mark_rect(fillOpacity=0, stroke=theme.INK, strokeWidth=3.5)
        layers.append(thick.encode(x=across, y=up, x2="x2:Q", y2="y2:Q"))
    outlines = data([_corners(sides) for sides in merged])
    drawn = outlines.mark_rect(fillOpacity=0, stroke=theme.ACCENT, strokeWidth=1.3, strokeDash=[5, 3])
    layers.append(drawn.encode(x=across, y=up, x2="x2:Q", y2="y2:Q"))
    labels = _labels(merged)
    for mark in (
        data(labels).mark_text(
            fontSize=13, fontWeight="bold", color="white", stroke="white", strokeWidth=4, strokeJoin="round"
        ),
        data(labels).mark_text(fontSize=13, fontWeight="bold", color=theme.ACCENT),
    ):
        layers.append(mark.encode(x=across, y=up, text="said:N"))
    return to_svg(alt.layer(*layers).properties(width=WIDE, height=WIDE), title, note)


def _corners(sides: Sides) -> dict[str, float]:
    (left, right), (low, high) = sides
    return {"x": left, "x2": right, "y": low, "y2": high}


def _corner_names(regions: Mapping[str, Sides]) -> dict[str, list[dict[str, object]]]:
    """Return each region's name in the corner of the square that it lies nearest to, by how it is aligned there."""
    found: dict[str, list[dict[str, object]]] = {"left": [], "right": []}
    for name, ((left, right), (low, high)) in regions.items():
        align, top = "right" if left + right >= 0 else "left", low + high >= 0
        before = sum(bool(one["top"]) == top for one in found[align])
        y = (0.94 - 0.09 * before) * (1 if top else -1)
        found[align].append({"x": 0.98 if align == "right" else -0.98, "y": y, "said": name, "top": top})
    return {align: some for align, some in found.items() if some}


def _labels(boxes: Mapping[Sides, Sequence[str]]) -> list[dict[str, object]]:
    """Return where each box's names are written: on its outline, the first place that is not taken."""
    taken: list[tuple[float, float]] = []
    found = []
    for sides, names in boxes.items():
        (left, right), (low, high) = sides
        places = [
            (left + across * (right - left), high if top else low)
            for top in (True, False) for across in (0.9, 0.1, 0.5, 0.7, 0.3)
        ]  # fmt: skip
        places += [(side, low + up * (high - low)) for side in (right, left) for up in (0.5, 0.25, 0.75)]

        def room(place: tuple[float, float]) -> float:
            return min((max(abs(place[0] - x), abs(place[1] - y)) for x, y in taken), default=2.0)

        at = next((place for place in places if room(place) >= _APART), max(places, key=room))
        taken.append(at)
        found.append({"x": at[0], "y": at[1], "said": ", ".join(names)})
    return found
