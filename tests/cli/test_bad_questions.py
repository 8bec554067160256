"""Tables that are not right and questions that cannot be asked: one line, and the folder stays free."""

import pytest
from small_cohorts import FAST, edit, labels

COLUMNS = "it has: case_id, patient_id, age, source, ethnicity, expert_path, auto_path"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("c004,p", "c003,p", ("case_id 'c003'", "more than one row", "patient_id")),
        ("c003,p003,39", "c003,p003,41y", ("case c003 (row 4)", "age is '41y'", "expected a number")),
        ("case_id,patient_id", "id,patient", ("no column 'case_id'", "it has: id, patient")),
        ("c003,p003", ",p003", ("case_id is missing in row 4",)),
        ("c003,p003,39", "c003,p003", ("line 5 has 6 values where the header has 7",)),
        ("source,ethnicity", "source,source", ("two columns are called 'source'",)),
    ],
)
def test_a_table_that_is_not_right_is_told_where_and_how(medaudit, cases, old, new, words):
    edit(cases, old, new)
    medaudit(*labels(cases, cases.parent / "run")).refuses(1, "cases.csv", *words)
    assert not (cases.parent / "run").exists()


@pytest.mark.parametrize("file", ["none.csv", "cases.xlsx", "cases.parquet", "cases.docx", "empty.csv", "header.csv"])
def test_a_table_that_cannot_be_read_is_named(medaudit, cases, file):
    table = cases.with_name(file)
    content = {
        "cases.xlsx": b"PK\x03\x04 no workbook" * 9,
        "cases.parquet": b"PAR1 no table" * 9,
        "cases.docx": b"x",
        "empty.csv": b"",
        "header.csv": cases.read_bytes().splitlines()[0],
    }
    words = {
        "none.csv": "no such file",
        "cases.xlsx": "cannot be read as a workbook",
        "cases.parquet": "cannot be read as a Parquet file",
        "cases.docx": "expected .csv",
        "empty.csv": "the file is empty; expected a header and a row a case",
        "header.csv": "0 cases",
    }
    if file in content:
        table.write_bytes(content[file])
    medaudit(*labels(table, cases.parent / "run")).refuses(1, file, words[file])
    assert not (cases.parent / "run").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--by", "agee:50"], ("no column 'agee'", "did you mean 'age'?")),
        (["--by", "xyzzy"], ("no column 'xyzzy'", COLUMNS)),
        (["--by", "age*sauce"], ("no column 'sauce'", "'source'")),
        (["--within", "sauce"], ("no column 'sauce'", "'source'")),
        (["--cluster", "patient"], ("no column 'patient'",)),
        (["--reference", "expert"], ("no column 'expert'", "'masks/{case_id}.nii.gz'")),
        (["--labels", "auto/{case}.nii.gz"], ("no column 'case'", "'case_id'")),
        (["--labels", "auto/{}.nii.gz"], ("cannot read the path template 'auto/{}.nii.gz'", "{case_id}")),
        (["--labels", "auto/{case_id.nii.gz"], ("cannot read the path template", "{case_id}")),
        (["--labels", "auto/{case_id:d}.nii.gz"], ("cannot read the path template", "{case_id}")),
        (["--labels", "auto/{case_id!r}.nii.gz"], ("cannot read the path template", "{case_id}")),
        (["--labels", "auto/{case_id[0]}.nii.gz"], ("no column 'case_id[0]'",)),
        (["--measure", "dce"], ("no measure is called 'dce'", "did you mean 'dice'?")),
        (["--measure", "ruler"], ("no measure is called 'ruler'", "dice, iou")),
        (["--measure", "nsd_3mm"], ("no measure is called 'nsd_3mm'",)),
        (["--outcome", "dce>0.8"], ("'dce>0.8' needs the measure 'dce'", "dice, hd95_mm, ndsc")),
        (["--outcome", "assd_mm<2"], ("needs the measure 'assd_mm'",)),
        (["--outcome", "dice is good"], ("cannot read the outcome 'dice is good'", "dice>0.8", "top25")),
        (["--outcome", "top100"], ("cannot read the outcome 'top100'",)),
        (["--outcome", "top25:iou"], ("needs the measure 'iou'",)),
        (["--margin", "dice"], ("cannot read the margin 'dice'", "dice=0.05")),
        (["--margin", "dice=-1"], ("cannot read the margin",)),
        (["--margin", "Dice=0.1"], ("--margin names 'Dice'", "dice, hd95_mm, ndsc, rate")),
        (["--by", "age:55,40"], ("cannot read the grouping 'age:55,40'", "'age:40,55'")),
        (["--by", "age:forty"], ("cannot read the grouping",)),
        (["--by", ""], ("cannot read the grouping",)),
        (["--by", "age:40"], ("--by age is given twice",)),
        (["--by", "ethnicity", "--by", "ethnicity"], ("--by ethnicity is given twice",)),
        (["--empty", "zero"], ("--empty is 'zero'", "penalise")),
        (["--surface", "mesh"], ("--surface is 'mesh'", "voxel or area")),
        (["--hd95", "mean"], ("--hd95 is 'mean'", "pooled or max")),
        (["--tolerance-mm", "-1"], ("--tolerance-mm",)),
        (["--tolerance-mm", "nan"], ("--tolerance-mm",)),
        (["--cap-mm", "0"], ("--cap-mm", "above 0")),
        (["--cap-mm", "inf"], ("--cap-mm",)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_question_that_cannot_be_asked_is_refused_before_the_folder_is_taken(medaudit, cases, more, words):
    medaudit(*labels(cases, cases.parent / "run", *more)).refuses(2, *words)
    assert not (cases.parent / "run").exists()


def test_labels_needs_a_folder_for_its_run(medaudit, cases):
    masks = ("--reference", "expert_path", "--labels", "auto_path")
    medaudit("labels", "--cases", cases, *masks, "--by", "age:50", *FAST).refuses(2, "Missing option '--out'")


def test_labels_asks_for_the_masks_that_nobody_named(medaudit, cases):
    call = ["labels", "--cases", cases, "--by", "age:50", *FAST, "--out", cases.parent / "run"]
    medaudit(*call, "--reference", "expert_path").refuses(2, "--labels COLUMN or TEMPLATE")
    medaudit(*call, "--labels", "auto_path").refuses(2, "--reference COLUMN or TEMPLATE")


@pytest.mark.parametrize("unknown", ["", "unknown", "N/A"])
@pytest.mark.parametrize("by", ["age:50", "age", "source*age:50"])
def test_an_attribute_that_is_unknown_for_all_is_said_so(medaudit, cases, unknown, by):
    for i in range(14):
        edit(cases, f"p{i:03d},{30 + 3 * i % 45},", f"p{i:03d},{unknown},")
    medaudit(*labels(cases, cases.parent / "run", by=by)).refuses(1, "age is unknown for all 14 cases")
    medaudit(*labels(cases, cases.parent / "run", "--within", "age", by="source")).refuses(1, "age is unknown for all")


def test_two_attributes_that_are_never_known_together_are_said_so(medaudit, cases):
    for i in range(14):
        age = 30 + 3 * i % 45
        known, unknown = f"p{i:03d},{age},{'AB'[i % 2]}", (f"p{i:03d},{age}," if i % 2 else f"p{i:03d},,{'AB'[i % 2]}")
        edit(cases, known, unknown)
    said = medaudit(*labels(cases, cases.parent / "run", by="age:50*source"))
    said.refuses(1, "age*source is unknown for all 14 cases")


def test_the_challenge_score_asks_for_its_columns_and_numbers_first(medaudit, cases):
    run = cases.parent / "run"
    medaudit(*labels(cases, run, "--challenge-compat")).refuses(1, "challenge score", "breast_density")
    edit(cases, "c003,p003,39", "c003,p003,41y")
    medaudit(*labels(cases, run, "--challenge", by="source")).refuses(1, "case c003", "'41y'")
    edit(cases, ",age,", ",years,")
    medaudit(*labels(cases, run, "--challenge", by="source")).refuses(2, "challenge score", "age")
    assert not run.exists()


def test_a_message_stays_short_however_long_a_name_of_the_data_is(tmp_path, medaudit):
    table = tmp_path / "cases.csv"
    long = "9" * 5_000
    table.write_text(f"case_id,{long},auto\na,1,x.png\nb,2,y.png\n")
    said = medaudit(
        "labels", "--cases", table, "--reference", "nowhere", "--labels", "auto", "--by", "age", "--out", tmp_path / "o"
    )
    said.refuses(2, "cases.csv", "'nowhere'", "characters ...]")
    assert len(said.err) < 2_000
    table.write_text(f"case_id,auto\n{long},x.png\n{long},y.png\n")
    said = medaudit("labels", "--cases", table, "--reference", "auto", "--labels", "auto", "--by", "age")
    assert said.code in (1, 2)
    assert len(said.err) < 2_000
    assert said.err.count("\n") == 1
