"""The page of benchmarks: each target is read from the table that was printed, and a missed one is explained."""

from __future__ import annotations

import re

import pytest
from benchmarks import targets
from benchmarks.__main__ import BENCHMARKS

PAGE = targets.PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("target", targets.TARGETS, ids=lambda target: f"{target.bench}: {target.what}")
def test_a_target_is_read_from_the_page_and_is_explained_where_it_is_missed(target):
    value = targets.measured(target, PAGE)
    assert value > 0
    assert targets.met(target, value) == (not target.why)


def test_the_first_table_says_what_the_others_say():
    place = re.search(r"<!-- targets -->\n(.*?)\n<!-- end -->", PAGE, re.DOTALL)
    assert place is not None
    assert place[1] == targets.table(PAGE)


def test_every_benchmark_has_a_place_on_the_page_and_no_place_is_empty():
    for name in BENCHMARKS:
        found = re.search(rf"<!-- bench:{name} -->(.*?)<!-- end -->", PAGE, re.DOTALL)
        assert found is not None, name
        assert re.search(r"\d", found[1]), name


def test_a_row_or_a_column_that_is_not_there_is_said():
    target = targets.TARGETS[0]
    with pytest.raises(ValueError, match="no row"):
        targets.measured(targets.Target(target.bench, "", "no such row", "x", "at least", 1), PAGE)
    with pytest.raises(ValueError, match=r"no row .* with a column"):
        targets.measured(targets.Target(target.bench, "", target.row, "no such column", "at least", 1), PAGE)
    with pytest.raises(ValueError, match="no place"):
        targets.measured(targets.Target("nothing", "", "a", "x", "at least", 1), PAGE)
