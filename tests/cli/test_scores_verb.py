"""`medaudit scores` on tables as people have them, and on tables that nobody should have."""

import json

import polars as pl
import pytest
from small_cohorts import scores

QUICK = ("--resamples", "100", "--min-patients", "5")
N = 60


@pytest.fixture
def audit(medaudit, tmp_path):
    """Return a function that audits a table with these columns, as JSON and with its report."""

    def call(*more, by="age:40,55", **columns):
        table = scores(tmp_path / "scores.csv", N, **columns)
        arguments = ["scores", table, "--by", by, *QUICK, *more]
        said = medaudit(*arguments, "--json")
        if said.code == 0:
            run = tmp_path / "run"
            written = medaudit(*arguments, "--quiet", "--out", run)
            assert (written.code, written.out, written.err) == (0, "", "")
            assert (run / "report.html").exists()
            assert json.loads((run / "findings.json").read_text()) == said.json
        return said

    return call


def found(said):
    assert (said.code, said.err) == (0, "")
    return {finding["id"]: finding for finding in said.json}


def test_the_call_of_the_manual_answers_with_findings(medaudit, tmp_path):
    table = scores(tmp_path / "scores.csv", 120)
    more = ["--score", "dice", "--by", "age:40,55", "--within", "source", "--cluster", "patient_id"]
    findings = found(medaudit("scores", table, *more, "--seed", "0", "--json"))
    assert list(findings)[:5] == [
        f"{kind}:age:dice" for kind in ("gap", "trend", "confounding", "masking", "interaction")
    ]
    assert {"dpd:age:dice>0.8", "dir:age:dice>0.8", "dpd:age:top25", "dir:age:top25"} < set(findings)
    assert findings["gap:age:dice"]["groups"]["<=40"]["patients"] < findings["gap:age:dice"]["groups"]["<=40"]["n"]


def test_a_run_without_out_writes_nothing(medaudit, tmp_path, monkeypatch):
    table = scores(tmp_path / "scores.csv")
    monkeypatch.chdir(tmp_path)
    assert medaudit("scores", table, "--by", "age:50", *QUICK).code == 0
    assert list(tmp_path.iterdir()) == [table]


@pytest.mark.parametrize("size", [100, 300])
@pytest.mark.parametrize("plant", ["none", "confounded"])
def test_simulated_scores_are_audited(medaudit, plant, size):
    call = [
        "scores",
        "--simulate",
        "mama-mia-scores",
        "--plant",
        plant,
        "--size",
        size,
        "--by",
        "age:40,55",
        "--within",
        "source",
        *QUICK,
        "--json",
    ]
    first = medaudit(*call)
    assert "confounding:age:dice" in found(first)
    assert medaudit(*call).out == first.out
    assert medaudit(*call, "--seed", "1").out != first.out
    medaudit(*call, "--cluster", "hospital").refuses(2, "no column 'hospital'")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ("TABLE", "--simulate")),
        (["scores.csv", "--simulate", "mama-mia-scores"], ("TABLE", "--simulate")),
        (["--simulate", "nosuch"], ("nosuch", "mama-mia-scores")),
        (["--simulate", "mama-mia-scores", "--plant", "nosuch"], ("nosuch", "none, intrinsic, confounded")),
    ],
)
def test_scores_come_from_one_place(medaudit, arguments, words):
    medaudit("scores", *arguments, "--by", "age:50").refuses(2, *words)


# Scores that cannot be --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([""] * N, ("dice is missing for all 60 cases",)),
        (["nan"] * N, ("dice is missing for all 60 cases",)),
        (["good"] + ["0.5"] * (N - 1), ("case c0 (row 1)", "dice is 'good'", "expected a number")),
        ([0.5] * 7 + ["inf"] + [0.5] * (N - 8), ("case c7", "dice is inf", "0 to 1")),
        (["-inf"] * 2 + [0.5] * (N - 2), ("case c0 (and 1 more)", "dice is -inf")),
        ([85.2] * N, ("case c0 (and 59 more)", "dice is 85.2", "divide percentages by 100")),
        ([-0.1] + [0.5] * (N - 1), ("case c0:", "dice is -0.1", "0 to 1")),
    ],
    ids=["empty", "NaN", "text", "infinite", "minus infinite", "percent", "negative"],
)
def test_a_score_that_cannot_be_one_names_its_first_case(audit, tmp_path, column, words):
    audit(dice=column).refuses(1, *words)
    assert not (tmp_path / "run").exists()


def test_a_distance_may_be_infinite_and_counts_as_the_cap_never_as_nothing(audit):
    endless = ["inf" if i < 6 else 3.0 for i in range(N)]
    call = ("--score", "hd95_mm", "--cap-mm", "77")
    gap = found(audit(*call, hd95_mm=endless, age=[30] * 30 + [60] * 30))["gap:age:hd95_mm"]
    assert gap["groups"]["<=40"]["mean"] == pytest.approx((6 * 77 + 24 * 3) / 30)
    assert gap["groups"][">55"]["mean"] == pytest.approx(3)
    audit("--score", "hd95_mm", hd95_mm=["-inf", *endless[1:]]).refuses(1, "case c0:", "hd95_mm is -inf", "0 mm")


@pytest.mark.parametrize(("name", "value"), [("dice", 0.5), ("dice", 1), ("hd95_mm", 3.3), ("hd95_mm", "inf")])
def test_scores_that_are_all_alike_show_no_problem(audit, name, value):
    findings = found(audit("--score", name, "--within", "source", **{name: [value] * N}))
    assert {finding["verdict"] for finding in findings.values()} <= {"refuted", "insufficient"}
    assert findings[f"gap:age:{name}"]["estimate"]["value"] == pytest.approx(0, abs=1e-9)
    assert findings[f"trend:age:{name}"]["estimate"]["value"] == pytest.approx(0, abs=1e-9)


def test_missing_scores_are_left_out_and_counted(audit, tmp_path):
    gap = found(audit(dice=["" if i % 3 == 0 else 0.6 + i / 200 for i in range(N)]))["gap:age:dice"]
    assert sum(group["n"] for group in gap["groups"].values()) == 40
    assert "20 of 60 cases have no dice" in (tmp_path / "run/report.html").read_text()


def test_scores_that_only_one_group_has_are_insufficient(audit):
    gap = found(audit(by="source", source=["A", "B"] * 30, dice=["", 0.7] * 30))["gap:source:dice"]
    assert gap["verdict"] == "insufficient"
    assert gap["groups"]["A"] == {
        "n": 0, "patients": 0, "mean": None, "low": None, "high": None, "sd": None, "judged": False
    }  # fmt: skip


def test_scores_that_are_known_only_where_the_group_is_not_are_insufficient(audit):
    half = N // 2
    findings = found(audit(age=[""] * half + [50] * half, dice=[0.7] * half + [""] * half))
    assert findings["gap:age:dice"]["verdict"] == "insufficient"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--score", "dce"], ("no column 'dce'", "'dice'")),
        (["--outcome", "dce>1"], ("needs the measure 'dce'",)),
        (["--margin", "hd95_mm=1"], ("--margin names 'hd95_mm'", "dice, rate")),
        (["--lower-is-better", "hd95_mm"], ("--lower-is-better names 'hd95_mm'",)),
        (["--cluster", "patient"], ("no column 'patient'", "'patient_id'")),
        (["--within", "hospital"], ("no column 'hospital'",)),
    ],
    ids=" ".join,
)
def test_a_column_that_is_not_there_is_named(audit, more, words):
    audit(*more).refuses(2, *words)


# Groups as they come ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "by"),
    [
        ({"age": [30] * N}, "age:40,55"),
        ({"source": ["A"] * N}, "source"),
        ({"source": ["A"] * 59 + ["B"]}, "source"),
        ({"source": [f"s{i // 2}" for i in range(N)]}, "source"),
    ],
    ids=["one age group", "one source", "a group of one", "30 groups of one patient"],
)
def test_too_few_groups_or_patients_are_insufficient_and_no_error(audit, columns, by):
    findings = found(audit(by=by, **columns))
    assert {finding["verdict"] for finding in findings.values()} == {"insufficient"}
    name = by.partition(":")[0]
    assert findings[f"gap:{name}:dice"]["claim"].startswith(f"Too few patients to compare {name}: at least two groups")


def test_a_group_of_one_is_shown_and_not_judged_while_the_others_are(audit):
    gap = found(audit(by="source", source=["A", "B"] * 29 + ["A", "C"]))["gap:source:dice"]
    assert [group["judged"] for group in gap["groups"].values()] == [True, True, False]
    assert gap["groups"]["C"]["n"] == 1
    assert "not judged, fewer than 5 patients: C" in gap["rests_on"]


def test_more_groups_than_can_be_compared_are_refused(audit, tmp_path, medaudit):
    audit(by="source", source=[f"s{i}" for i in range(N)]).refuses(2, "source has 60 different values", "40 groups")
    audit(by="dice").refuses(2, "dice has", "cut a number at edges, as 'dice:40,55'")
    audit(by="age*source").refuses(2, "age*source makes", "40")
    hundred = scores(tmp_path / "hundred.csv", 200, site=[f"s{i % 100}" for i in range(200)])
    medaudit("scores", hundred, "--by", "site", *QUICK).refuses(2, "site has 100 different values")


@pytest.mark.parametrize(
    "names",
    [
        ("<b>bold</b>", "<script>alert(1)</script>"),
        ("😀", "größer ≥ 3"),
        ("x" * 300, "y" * 300),
        ("[red]A[/red]", "[/]"),
        ("a\\b", "100 %"),
        ('"quoted"', "it's"),
        ("{braces}", "{}"),
        ("mean", "n"),
    ],
    ids=["html", "emoji", "long", "markup", "signs", "quotes", "braces", "words of our own"],
)
def test_groups_may_be_called_anything(audit, medaudit, tmp_path, names):
    findings = found(audit(by="source", source=list(names) * 30))
    assert set(findings["gap:source:dice"]["groups"]) == set(names)
    page = (tmp_path / "run/report.html").read_text()
    assert "<b>bold" not in page
    assert "<script>alert" not in page
    shown = medaudit("report", tmp_path / "run")
    assert (shown.code, shown.err) == (0, "")


def test_an_attribute_may_be_called_anything(audit):
    findings = found(
        audit(
            "--within",
            "Ort <b>",
            by="Alter, Jahre",
            **{"Alter, Jahre": ["jung", "alt"] * 30, "Ort <b>": ["A", "B"] * 30},
        )
    )
    assert "gap:Alter, Jahre:dice" in findings


def test_a_case_needs_no_id_in_a_table_of_scores(medaudit, tmp_path):
    table = scores(tmp_path / "scores.csv")
    frame = pl.read_csv(table).drop("case_id", "patient_id")
    for suffix in ("csv", "tsv", "parquet", "xlsx"):
        file = tmp_path / f"plain.{suffix}"
        {
            "csv": frame.write_csv,
            "tsv": lambda path: frame.write_csv(path, separator="\t"),
            "parquet": frame.write_parquet,
            "xlsx": frame.write_excel,
        }[suffix](file)
        said = medaudit("scores", file, "--by", "age:40,55", *QUICK, "--json")
        assert found(said)["gap:age:dice"]["estimate"]["n"] == N, suffix


def test_a_score_may_be_called_anything(audit):
    findings = found(audit("--score", "dice", "--score", "F1 (mean)", **{"F1 (mean)": [i / N for i in range(N)]}))
    assert {"gap:age:F1 (mean)", "dpd:age:top25:F1 (mean)"} < set(findings)


def test_a_success_rule_may_be_of_any_score(audit):
    call = ("--score", "F1 (mean)", "--outcome", "F1 (mean) >= 0.5", "--outcome", "top 10 : F1 (mean)")
    findings = found(audit(*call, **{"F1 (mean)": [i / N for i in range(N)]}))
    assert {"dpd:age:F1 (mean)>=0.5", "dpd:age:top10:F1 (mean)"} < set(findings)


@pytest.mark.parametrize("within", ["age:45", "source*sex", "source"])
def test_the_source_may_be_a_cut_or_a_crossing(audit, within):
    findings = found(audit("--within", within, by="sex", sex=["f", "m"] * 30, source=["A", "A", "B"] * 20))
    assert "confounding:sex:dice" in findings


@pytest.mark.parametrize("role", ["case_id", "patient_id", "age", "dice"])
def test_a_column_of_lists_is_named(medaudit, tmp_path, role):
    table = tmp_path / "scores.parquet"
    frame = pl.read_csv(scores(tmp_path / "scores.csv"))
    frame.with_columns(pl.concat_list(role).alias(role)).write_parquet(table)
    words = (f"the column '{role}' holds List", "expected one value a case")
    medaudit("scores", table, "--by", "age:50", *QUICK).refuses(1, "scores.parquet", *words)
