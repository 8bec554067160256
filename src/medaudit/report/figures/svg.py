"""From a chart to SVG, and the few marks and words that all charts share."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt
import vl_convert

from medaudit.report import numerals, theme

Row = Mapping[str, Any]

WIDTH = 340
"""Of a plot beside row labels, in pixels."""

WIDE = 400
"""Of a plot with a number axis on its left."""

ROW = 50
_LABELS = 84
_PAGE = 470
_TITLE, _NOTE = 58, 66  # letters a line


def to_svg(chart: Any, title: str, note: str = "") -> str:
    """Return the chart under its title and note, in the common theme, as SVG text."""
    heading = alt.Title(_lines(title, _TITLE), subtitle=_lines(note, _NOTE) or alt.Undefined)
    spec = _printable(chart.properties(title=heading).to_dict(validate=False))
    spec["config"] = theme.config()
    spec["padding"] = {"left": 1, "top": 4, "right": 8, "bottom": 4}
    return _widened(str(vl_convert.vegalite_to_svg(spec)))


def data(rows: Iterable[Row]) -> alt.Chart:
    """Return an unmarked chart of rows."""
    return alt.Chart(alt.InlineData(values=[_printable(dict(row)) for row in rows]))


def interval(row: Row) -> dict[str, Any]:
    """Return a row's ``value``, ``low`` and ``high`` as Vega can hold them, and as ``said`` in words."""
    given = (row.get(key) for key in ("value", "low", "high"))
    value, low, high = (math.nan if number is None else float(number) for number in given)
    return {"value": finite(value), "low": finite(low), "high": finite(high), "said": _said(value, low, high)}


def finite(value: Any) -> float | None:
    """Return a number that can be drawn; NaN and the infinities are drawn as nothing."""
    return float(value) if value is not None and math.isfinite(value) else None


def domain(rows: Iterable[Row], keys: Sequence[str] = ("value", "low", "high")) -> tuple[float, float]:
    """Return the range of an axis: all that is drawn, with a little room on either side."""
    seen = [row[key] for row in rows for key in keys if row.get(key) is not None] or [0.0, 1.0]
    low, high = min(seen), max(seen)
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return low - room, high + room


def axis_title(measure: str, unit: str) -> str:
    """Return ``HD95 [mm]``."""
    return f"{measure} [{unit}]" if measure and unit else measure or unit


def rows_axis(rows: Sequence[Row]) -> alt.Y:
    """Return the axis of a chart with a row a group: the ``label``, and under it the line ``below``."""
    lines = {row["label"]: [*textwrap.wrap(row["label"], 18)[:2], row["below"]] for row in map(_printable, rows)}
    # An axis label is one text of the data; only an expression can break it into lines.
    lookup = "{" + ", ".join(f"{json.dumps(label)}: {json.dumps(text)}" for label, text in lines.items()) + "}"
    axis = alt.Axis(
        domain=False,
        ticks=False,
        grid=False,
        labelExpr=f"{lookup}[datum.value]",
        labelLineHeight=16,
        labelOffset=-8,  # centres the usual two lines on the row
        minExtent=_LABELS,
    )
    return alt.Y("label:N", title=None, sort=list(lines), axis=axis)


def vertical(at: float, dash: Sequence[int] = (1, 0)) -> alt.Chart:
    """Return a line from the bottom to the top at ``at``."""
    line = data([{"at": at}]).mark_rule(color=theme.QUIET, strokeWidth=1.2, strokeDash=list(dash))
    return line.encode(x=alt.X("at:Q"))


def horizontal(at: float, colour: str) -> alt.Chart:
    """Return a line from the left to the right at ``at``."""
    return data([{"at": at}]).mark_rule(color=colour, strokeWidth=1.6).encode(y=alt.Y("at:Q"))


_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
"""What XML cannot hold or no text of a chart may: the program that draws ends the process where a name has one."""


def _printable(value: Any) -> Any:
    """Return plain values whose texts hold nothing that cannot be drawn; U+FFFD stands in its place."""
    if isinstance(value, str):
        return _UNPRINTABLE.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {_printable(key): _printable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(one) for one in value]
    return value


def _widened(svg: str) -> str:
    """Return the SVG at least ``_PAGE`` wide, so that type is of one size in all figures of a page."""
    size = re.search(r'width="([\d.]+)" height="([\d.]+)" viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    if size is None or float(size[1]) >= _PAGE:
        return svg
    wider = f'width="{_PAGE}" height="{size[2]}" viewBox="0 0 {_PAGE} {size[4]}"'
    return svg.replace(size[0], wider, 1)


def _lines(text: str, letters: int) -> list[str]:
    return textwrap.wrap(text, letters, break_on_hyphens=False)


def _said(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return "not estimable"
    return numerals.with_interval(value, low, high)
