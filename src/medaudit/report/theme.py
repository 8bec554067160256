"""The colours and type of every figure and page: colour-blind safe, readable on a phone and in a grey print."""

from __future__ import annotations

from typing import Any

INK = "#1a1f26"
QUIET = "#5b6672"
GRID = "#e6e9ed"
BAND = "#d5dae0"

# Okabe and Ito's palette (2008), without the yellow that white paper swallows. Vermillion is kept for one meaning.
BLUE = "#0072b2"
ORANGE = "#e69f00"
GREEN = "#009e73"
PURPLE = "#cc79a7"
SKY = "#56b4e9"
VERMILLION = "#d55e00"

ACCENT = VERMILLION
"""The worst group, the problem: one thing a figure."""

GROUPS = (BLUE, ORANGE, GREEN, PURPLE, SKY, INK)
DASHES = ((1, 0), (7, 3), (2, 2), (9, 3, 2, 3), (4, 4), (12, 4))
"""Lines differ by dash as well as by colour, since a print may be grey."""

ORDERED = ("#d7e6f2", "#94c0de", "#3f8fc4", "#0b4f7d", "#08263d")
"""Ordered categories, light to dark: the order survives a grey print."""

VERDICTS = {"supported": VERMILLION, "refuted": BLUE, "insufficient": QUIET}
SHAPES = {"supported": "diamond", "refuted": "circle", "insufficient": "square"}

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def config() -> dict[str, Any]:
    """Return the Vega-Lite config of all figures."""
    return {
        "font": FONT,
        "background": "white",
        # Each mark's own label would make a screen reader spell out every point; the figure has one description.
        "aria": False,
        "view": {"stroke": None},
        "title": {
            "anchor": "start",
            "frame": "bounds",
            "fontSize": 15,
            "fontWeight": 600,
            "color": INK,
            "subtitleFontSize": 12.5,
            "subtitleColor": QUIET,
            "subtitleLineHeight": 16,
            "lineHeight": 19,
            "offset": 14,
        },
        "axis": {
            "labelFontSize": 13,
            "titleFontSize": 13,
            "labelColor": INK,
            "titleColor": QUIET,
            "titleFontWeight": "normal",
            "gridColor": GRID,
            "domainColor": BAND,
            "tickColor": BAND,
            "labelLimit": 160,
            "labelPadding": 6,
            "titlePadding": 8,
        },
        "legend": {
            "labelFontSize": 13,
            "titleFontSize": 13,
            "labelColor": INK,
            "titleColor": QUIET,
            "titleFontWeight": "normal",
            "labelLimit": 200,
            "symbolStrokeWidth": 2.5,
        },
        "text": {"font": FONT, "fontSize": 12.5, "color": INK},
    }
