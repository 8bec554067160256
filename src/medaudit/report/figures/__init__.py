"""The charts of every report, as SVG: made from plain rows, offline, the same bytes for the same rows.

Each function takes rows (mappings of plain values) and returns one SVG as text. Each is drawn narrow, so that a phone
shows it whole with its type still readable, and tells groups apart by shape or dash as well as by colour.
"""

from medaudit.report.figures.curves import curve, threshold_sweep
from medaudit.report.figures.heatmap import heatmap
from medaudit.report.figures.intervals import forest, gaps, pooled_against_within
from medaudit.report.figures.lines import lines, pairs
from medaudit.report.figures.plane import plane
from medaudit.report.figures.scatter import scatter
from medaudit.report.figures.shares import bars, distribution

__all__ = [
    "bars",
    "curve",
    "distribution",
    "forest",
    "gaps",
    "heatmap",
    "lines",
    "pairs",
    "plane",
    "pooled_against_within",
    "scatter",
    "threshold_sweep",
]
