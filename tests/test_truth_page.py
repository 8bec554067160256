"""The page of planted causes: its harness counts right, goes on after a kill, and every number on it adds up."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from benchmarks.truth import ledger, page, tally
from benchmarks.truth.ledger import Line
from benchmarks.truth.studies import STUDIES
from benchmarks.truth.studies import labels as label_worlds
from benchmarks.truth.world import Study, World
from scipy.stats import binomtest

from medaudit.datasets.simulate_scores import planted_causes, population_truth

LABELS = STUDIES["labels"]
FAST = replace(
    LABELS,
    worlds={
        name: replace(LABELS.worlds[name], made={**LABELS.worlds[name].made, "resamples": 199})
        for name in ("intrinsic", "small, none")
    },
)


def filled(work: Path, seeds: int, study: Study = FAST) -> list[Line]:
    return list(ledger.fill(study, work, seeds=seeds, jobs=1))


def test_a_planted_gap_is_counted_as_found_and_a_small_cohort_as_open(tmp_path: Path) -> None:
    assert {(line.world, line.seed) for line in filled(tmp_path, 2)} == {
        (world, seed) for world in FAST.worlds for seed in range(2)
    }
    rows = {(row.world, row.finding): row for row in tally.rows(FAST, ledger.done(FAST, tmp_path))}
    found = rows["intrinsic", "gap:age:dice"]
    assert (found.counts, found.right, found.wrong) == ((2, 0, 0), 2, 0)
    left_open = rows["small, none", "gap:age:dice"]
    assert (left_open.counts, left_open.right, left_open.wrong) == ((0, 0, 2), 2, 0)
    assert not list(tmp_path.glob("labels-*"))  # what a seed wrote is gone


def test_a_killed_run_goes_on_and_another_world_of_that_name_starts_anew(tmp_path: Path) -> None:
    calls: list[int] = []
    study = replace(
        FAST, worlds={"w": World("", {"a": 1}, {})}, run=lambda made, seed, folder: calls.append(seed) or ()
    )
    assert len(filled(tmp_path, 2, study)) == 2
    path = tmp_path / "labels.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[0][:20])  # killed while it wrote
    assert [line.seed for line in filled(tmp_path, 3, study)] == [2]
    assert calls == [0, 1, 2]
    assert [line.seed for line in ledger.done(study, tmp_path)] == [0, 1, 2]
    other = replace(study, worlds={"w": World("", {"a": 2}, {})})
    assert ledger.done(other, tmp_path) == []


def made(world: str, verdicts: dict[str, str], seed: int = 0) -> Line:
    return Line(world, seed, "", verdicts, dict.fromkeys(verdicts, "primary"), 1.0)


def test_false_findings_are_those_of_all_findings_whether_asked_or_not() -> None:
    worlds = {"n": World("", {}, {"good": "there", "bad": "absent"}, kind="null"), "p": World("", {}, {"bad": "there"})}
    study = replace(FAST, worlds=worlds)
    lines = [
        made("n", {"good": "supported", "bad": "insufficient", "unasked": "refuted"}),
        made("n", {"good": "refuted", "bad": "refuted", "unasked": "refuted"}, 1),
        made("n", {"good": "insufficient", "bad": "refuted", "unasked": "supported"}, 2),
        made("p", {"bad": "refuted"}),
    ]
    (rate,) = tally.rates(study, lines)
    assert (rate.family, rate.findings, rate.studies, rate.false) == ("primary", 3, 3, 2)
    wrong = {(row.world, row.finding): (row.right, row.wrong) for row in tally.rows(study, lines)}
    assert wrong == {("n", "good"): (1, 1), ("n", "bad"): (2, 0), ("p", "bad"): (0, 1)}


@pytest.mark.parametrize(("count", "n"), [(0, 7), (3, 200), (12, 12)])
def test_intervals_are_scipy_s_exact_ones(count: int, n: int) -> None:
    interval = binomtest(count, n).proportion_ci(method="exact")
    assert tally.exact(count, n) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize(
    ("false", "said"), [(0, "within"), (3, "within"), (4, "compatible"), (16, "compatible"), (17, "above")]
)
def test_a_level_is_kept_only_where_the_interval_says_so(false: int, said: str) -> None:
    low, high = binomtest(false, 200).proportion_ci(method="exact")
    assert said == ("above" if low > 0.05 else "within" if high <= 0.05 else "compatible")
    assert tally.within(false, 200, 0.05) == said


def test_what_the_label_worlds_call_there_is_what_the_simulator_plants() -> None:
    for name, world in label_worlds.WORLDS.items():
        plant = world.made["plant"]
        causes, truth = planted_causes(plant), population_truth(plant)
        for by in ("age", "ethnicity"):
            if said := world.truth.get(f"gap:{by}:dice"):
                assert (said == "there") == (truth["gap"][by] > 1e-6), (name, by)
            if world.truth.get(f"confounding:{by}:dice") == "there":
                assert causes[by] == "confounded"
                assert truth["gap_adjusted"][by] < 1e-6
            if said := world.truth.get(f"masking:{by}:dice"):
                assert (said == "there") == ("masked" in causes[by]), (name, by)


def tables(name: str) -> list[list[list[str]]]:
    text = page.PAGE.read_text(encoding="utf-8")
    place = re.search(rf"<!-- truth:{re.escape(name)} -->(.*?)<!-- end -->", text, re.DOTALL)
    assert place, f"the page has no place for {name}"
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()[2:]]
        for block in re.findall(r"(?:^\|.*\n?)+", place[1], re.MULTILINE)
    ]


def counted(cell: str) -> int:
    """Return the count of '3: 1.5 % (0.3 to 4.3)', after its share and limits were checked to be of one number."""
    found = re.fullmatch(r"(\d+): (\d+\.\d) % \((\d+\.\d) to (\d+\.\d)\)", cell)
    assert found, cell
    share, low, high = map(float, found.groups()[1:])
    assert low <= share <= high
    return int(found[1])


@pytest.mark.parametrize("name", STUDIES)
def test_every_number_of_the_page_adds_up(name: str) -> None:
    study = STUDIES[name]
    first, *second = tables(name) or [[]]  # a study that trains may not have been run yet
    assert first or study.trained, f"nothing was run of {name}"
    for world, seeds, finding, truth, *counts, right, wrong in first:
        supported, refuted, insufficient = map(int, counts)
        assert supported + refuted + insufficient == int(seeds)
        asked = study.worlds[world]
        assert truth.removesuffix(", too small") == asked.truth[finding.strip("`")]
        row = tally.Row(world, finding, asked.truth[finding.strip("`")], asked.kind == "small",
                        (supported, refuted, insufficient))  # fmt: skip
        assert right == tally.share(row.right, row.seeds)
        assert wrong == tally.share(row.wrong, row.seeds)
        assert counted(right) + counted(wrong) <= int(seeds)
    for world, studies, family, _, false, share, said in second[0] if second else ():
        assert study.worlds[world].kind == "null"
        assert family in ("primary", "exploratory", "interval")
        assert counted(share) == int(false) <= int(studies)
        kept = tally.within(int(false), int(studies), study.level)
        assert said == (kept if family in study.levelled else "none for all together")


def test_every_study_has_a_null_world_and_every_world_asks_something() -> None:
    for name, study in STUDIES.items():
        kinds = {world.kind for world in study.worlds.values()}
        assert "null" in kinds, name
        assert study.trained or kinds == {"null", "planted", "small"}, name
        assert all(world.truth for world in study.worlds.values()), name


def test_a_section_says_machine_date_versions_and_command(tmp_path: Path) -> None:
    file = tmp_path / "truth.md"
    file.write_text("before\n<!-- truth:labels -->\nold\n<!-- end -->\nafter\n")
    line = made("none", {"gap:age:dice": "refuted"})
    said = page.record(LABELS, [line], file)
    assert re.search(
        r"\*\d+ \w+ \d{4}, \S+, \d+ cores.*Python 3\.\d+.*medaudit .*`python -m benchmarks.truth labels`", said
    )
    assert file.read_text() == f"before\n<!-- truth:labels -->\n{said}\n<!-- end -->\nafter\n"
    with pytest.raises(ValueError, match="no place for ruler"):
        page.record(STUDIES["ruler"], [line], file)
    assert json.loads(json.dumps(asdict(line)))["verdicts"] == {"gap:age:dice": "refuted"}
