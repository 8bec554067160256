"""The charts show the numbers that went in, whatever they are, and in grey too."""

import math
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest

from medaudit.report import figures, theme

GROUPS = [
    {"group": "<=40", "value": 0.70, "low": 0.66, "high": 0.74, "n": 349},
    {"group": "(40, 55]", "value": 0.75, "low": 0.73, "high": 0.77, "n": 1754},
    {"group": ">55", "value": 0.90, "low": 0.88, "high": 0.92, "n": 400},
]
GAPS = [
    {
        "label": "age",
        "value": 0.05,
        "low": 0.02,
        "high": 0.08,
        "verdict": "supported",
        "null_low": 0.0,
        "null_high": 0.04,
    },
    {"label": "sex", "value": 0.01, "low": 0.0, "high": 0.02, "verdict": "refuted", "null_low": 0.0, "null_high": 0.03},
    {"label": "site", "value": 0.04, "low": -0.1, "high": 0.2, "verdict": "insufficient"},
]
SOURCES = [
    {"source": "B", "value": -0.05, "low": -0.1, "high": 0.0, "n": 60},
    {"source": "all sources", "value": 0.05, "low": 0.0, "high": 0.1, "n": 260},
    {"source": "A", "value": 0.15, "low": 0.1, "high": 0.2, "n": 200},
]
LINE = [{"x": x, "value": x / 100, "low": x / 100 - 0.05, "high": x / 100 + 0.05} for x in range(20, 81)]
BINS = [
    {**row, "label": row["group"], "x": x, "x_low": x - 9, "x_high": x + 9}
    for row, x in zip(GROUPS, (30, 48, 66), strict=True)
]
RATES = [
    {"group": g, "threshold": t / 10, "rate": 1 - t / 10 * k} for g, k in (("a", 0.5), ("b", 0.9)) for t in range(1, 10)
]
RATIOS = [{"threshold": t / 10, "value": 0.9, "low": 0.8, "high": 1.0} for t in range(1, 10)]
RATINGS = [
    {"group": g, "category": c, "n": n}
    for g, ns in (("a", (60, 40)), ("b", (30, 90)))
    for c, n in zip(("Good", "Poor"), ns, strict=True)
]

EVERY = {
    "forest": lambda: figures.forest(GROUPS, title="T", measure="Dice", null_band=(0.7, 0.8), worst="<=40"),
    "gaps": lambda: figures.gaps(GAPS, title="T", measure="gap"),
    "pooled_against_within": lambda: figures.pooled_against_within(SOURCES, title="T", measure="gap"),
    "curve": lambda: figures.curve(LINE, BINS, title="T", x="age [years]", y="Dice"),
    "threshold_sweep": lambda: figures.threshold_sweep(RATES, RATIOS, title="T", threshold="Dice above", chosen=0.5),
    "distribution": lambda: figures.distribution(
        {"a": [0, 0, 0, 0.4, 0.7], "b": [1.0, 0.5, math.nan]}, title="T", measure="Dice"
    ),
    "bars": lambda: figures.bars(RATINGS, title="T", categories=("Good", "Poor")),
}  # fmt: skip


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def marks(svg: str, kind: str) -> list[dict[str, str]]:
    """Return the marks of one kind (``symbol``, ``rect``, ``rule``) as their attributes."""
    found = []
    for group in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}g"):
        if f"mark-{kind} role-mark" in group.get("class", ""):
            found += [dict(child.attrib) for child in group]
    return found


def at(mark: dict[str, str]) -> tuple[float, float]:
    x, y = re.match(r"translate\(([-\d.]+),([-\d.]+)\)", mark["transform"]).groups()  # type: ignore[union-attr]
    return float(x), float(y)


@pytest.mark.parametrize("name", EVERY)
def test_every_chart_is_well_formed_and_loads_nothing(name):
    svg = EVERY[name]()
    root = ET.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "T" in texts(svg)
    assert not re.search(r"(href|src)\s*=|@import|url\((?!['\"]?#)", svg)


@pytest.mark.parametrize("name", EVERY)
def test_the_same_rows_give_the_same_bytes(name):
    assert EVERY[name]() == EVERY[name]()


@pytest.mark.parametrize("name", EVERY)
def test_every_chart_fits_a_page_s_column(name):
    assert 470 <= float(ET.fromstring(EVERY[name]()).get("width")) <= 540


def test_a_forest_prints_each_group_with_its_n_value_and_interval():
    said = " ".join(texts(EVERY["forest"]()))
    for row in GROUPS:
        assert row["group"] in said
    assert "n = 349" in said
    assert "n = 1,754" in said
    assert "0.700 (0.660 to 0.740)" in said or "0.70 (0.66 to 0.74)" in said


def test_points_of_a_forest_lie_in_proportion_to_the_values():
    x = [at(mark)[0] for mark in marks(EVERY["forest"](), "symbol")]
    assert len(x) == 3
    assert (x[2] - x[1]) / (x[1] - x[0]) == pytest.approx((0.90 - 0.75) / (0.75 - 0.70), rel=1e-3)


def test_only_the_worst_group_wears_the_accent_and_has_another_shape():
    first, *others = marks(EVERY["forest"](), "symbol")
    assert first["fill"] == theme.ACCENT
    assert {mark["fill"] for mark in others} == {theme.BLUE}
    assert first["d"] not in {mark["d"] for mark in others}


def test_each_verdict_has_a_shape_and_a_colour_of_its_own():
    drawn = marks(EVERY["gaps"](), "symbol")
    assert len({mark["d"] for mark in drawn}) == len({mark["fill"] for mark in drawn}) == 3


def test_a_gap_whose_chance_is_unknown_has_no_grey_bar():
    assert len(marks(EVERY["gaps"](), "rect")) == 2


def test_the_pooled_gap_stands_first_and_a_reversed_source_on_the_other_side_of_zero():
    svg = EVERY["pooled_against_within"]()
    labels = [text for text in texts(svg) if "n = " in text]
    assert labels == ["all sourcesn = 260", "Bn = 60", "An = 200"]
    pooled, b, a = (at(mark) for mark in marks(svg, "symbol"))
    assert pooled[1] < b[1] < a[1]
    # Values 0.05, -0.05, 0.15: the pooled one is the middle of the two.
    assert pooled[0] == pytest.approx((a[0] + b[0]) / 2, abs=0.01)


def test_bars_are_as_wide_as_the_shares():
    widths = [float(re.search(r"h([\d.]+)", mark["d"])[1]) for mark in marks(EVERY["bars"](), "rect")]  # type: ignore[index]
    assert np.array(widths) / sum(widths[:2]) == pytest.approx([0.6, 0.4, 0.25, 0.75], abs=1e-6)
    assert {"60", "40", "25", "75"} <= set(texts(EVERY["bars"]()))


def test_an_atom_is_drawn_apart_from_the_bins_with_its_share():
    values = [1.0] * 30 + list(np.linspace(0.2, 0.8, 70))
    svg = figures.distribution({"g": values}, title="T", measure="Dice")
    assert "30\N{NO-BREAK SPACE}%" in texts(svg)
    (atom,) = marks(svg, "rule")
    heights = [float(re.search(r"v([\d.]+)", mark["d"])[1]) for mark in marks(svg, "rect")]  # type: ignore[index]
    # The bins together are the other 70 %, so that the atom is not counted twice.
    assert sum(heights) / abs(float(atom["y2"])) == pytest.approx(70 / 30, rel=1e-3)


def test_values_that_are_not_finite_are_counted_in_words():
    svg = figures.distribution({"g": [1.0, 2.0, 3.0, math.inf, math.nan]}, title="T", measure="HD95", unit="mm")
    (heading,) = (text for text in texts(svg) if "n = 5" in text)
    assert "2 not finite" in heading
    assert "median 2.50\N{NO-BREAK SPACE}mm" in heading  # the infinite one is larger than all; the unknown one is not


def test_rows_without_a_number_are_said_not_drawn():
    rows = [
        *GROUPS[:2],
        {"group": "few", "value": math.nan, "low": math.nan, "high": math.nan, "n": 1},
        {"group": "from JSON", "value": None, "low": None, "high": None, "n": 1},
        {"group": "missed", "value": math.inf, "low": 0.7, "high": math.inf, "n": 9},
    ]
    svg = figures.forest(rows, title="T", measure="HD95", unit="mm")
    assert len(marks(svg, "symbol")) == 2
    assert {"not estimable"} == {text for text in texts(svg) if "estimable" in text}
    assert any(text.startswith("∞") for text in texts(svg))


@pytest.mark.parametrize("rows", [[], [{"group": "a", "value": 0.5, "low": 0.5, "high": 0.5, "n": 1}]])
def test_no_rows_and_rows_without_width_make_a_chart(rows):
    ET.fromstring(figures.forest(rows, title="T", measure="Dice"))


HOSTILE = "</text><script>alert('1')</script>\"\\u0022' & datum.value"


def test_a_group_s_name_is_only_ever_text():
    rows = [{**GROUPS[0], "group": HOSTILE}, GROUPS[1]]
    for svg in (
        figures.forest(rows, title=HOSTILE, measure=HOSTILE, worst=HOSTILE),
        figures.bars([{**r, "group": HOSTILE} for r in RATINGS], title="T", categories=("Good", "Poor")),
        figures.distribution({HOSTILE: [1, 2, 3]}, title="T", measure="m"),
        figures.threshold_sweep([{**r, "group": HOSTILE} for r in RATES[:9]], RATIOS, title="T", threshold="t"),
    ):
        tags = {element.tag.split("}")[1] for element in ET.fromstring(svg).iter()}
        assert "script" not in tags
        assert "script" in "".join(texts(svg))


# The theme ----------------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(colour: str) -> float:
    return 1.05 / (luminance(colour) + 0.05)


def test_text_is_dark_enough_on_white():
    assert contrast(theme.INK) > 7
    assert contrast(theme.QUIET) > 4.5


def test_ordered_colours_stay_in_order_in_a_grey_print():
    greys = [luminance(colour) for colour in theme.ORDERED]
    assert all(a > 1.5 * b for a, b in pairwise(greys))


def test_lines_of_different_groups_differ_by_dash_as_well_as_colour():
    assert len(set(theme.DASHES)) >= len(theme.GROUPS) == len(set(theme.GROUPS))
    svg = EVERY["threshold_sweep"]()
    assert 'stroke-dasharray="7,3"' in svg
