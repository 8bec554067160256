"""`medaudit demo`: one dataset through the loop; each step is a run, and what it found warns whoever asks next."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_cohorts import Said

from medaudit.audits.demonstration import steps, walk
from medaudit.training import classification, segmentation
from medaudit.training.classification import ClassifierRecipe
from medaudit.training.segmentation import Recipe

VERBS = {"labels": "labels", "diagnosis": "diagnose", "uncertainty": "ood", "explanation": "explain-audit"}
"""Steps, and the verbs that their runs name."""
SLUG = "simulated-breast-mri-"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps of training and little statistics: these tests ask how the walk goes, not what it finds."""
    monkeypatch.setitem(segmentation.RECIPES, "fast", {3: Recipe("cpu-3d", longest=16, steps=4, epochs=2)})
    monkeypatch.setitem(classification.CLASSIFIERS, "fast", ClassifierRecipe("cpu", side=32, steps=8, epochs=2))
    for name, value in {
        "RESAMPLES": 100,
        "FEWER": 100,
        "CLASSIFIER_STEPS": 4,
        "MIN_PATIENTS": 5,
        "EXPLAINED": ("ig-black",),
    }.items():
        monkeypatch.setattr(steps, name, value)


def warned(medaudit, out: Path) -> Said:
    return medaudit("review", "check", "simulated-breast-mri", "--db", out / "review.sqlite")


@pytest.mark.usefixtures("short")
def test_the_whole_loop_ends_with_findings_that_warn_the_next_person_and_is_not_walked_twice(medaudit, tmp_path):
    out = tmp_path / "demo"
    call = ["demo", "--out", out, "--size", "40", "--jobs", "1"]
    said = medaudit(*call)
    assert (said.code, said.err) == (0, "")
    page = (out / "index.html").read_text()
    places = [said.out.index(f"{name}: {walk.STEPS[name].title}") for name in VERBS]
    assert places == sorted(places)
    for name in VERBS:
        assert json.loads((out / name / "findings.json").read_text())
        assert f'href="{name}/report.html"' in page
    assert not re.search(r'(src|href)="(https?:|//)', page)  # nothing is loaded from elsewhere

    then = warned(medaudit, out).out
    for name in VERBS:
        findings = json.loads((out / name / "findings.json").read_text())
        published = next(line for line in said.out.splitlines() if line.startswith(f"published: {SLUG}{VERBS[name]}-"))
        assert "accepted by reviewer" in published
        claims = [one["claim"] for one in findings if one["verdict"] == "supported"]
        assert not claims or any(" ".join(claim.split())[:480] in then for claim in claims)

    before = {path: path.stat().st_mtime_ns for name in VERBS for path in (out / name).rglob("*") if path.is_file()}
    again = medaudit(*call)
    assert again.code == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    known = re.search(r"known before\n(.*?)\n\n", again.out, re.DOTALL)
    assert known is not None
    assert (
        known[1] == re.search(r"known before\n(.*?)\n\n", said.out, re.DOTALL)[1]
    )  # our own findings are not of before
    assert known[1].count("\n") == 0


@pytest.mark.usefixtures("short")
def test_a_walk_that_was_stopped_goes_on_and_does_not_repeat_what_is_done(medaudit, tmp_path, monkeypatch):
    out = tmp_path / "demo"
    asked, real = [], walk.STEPS["labels"].ask

    def ask(name: str, stop: bool):

        def asking(cohort, folder, *rest):
            asked.append(name)
            if stop:
                raise KeyboardInterrupt
            return real(cohort, folder, *rest)

        return asking

    made = {
        name: steps.Step(name, name, name, ask(name, stop), lambda cohort, found: iter(()))
        for name, stop in (("labels", False), ("diagnosis", True))
    }
    monkeypatch.setattr(walk, "STEPS", made)
    call = ["demo", "--out", out, "--size", "30", "--jobs", "1", "--step", "labels", "--step", "diagnosis", "--json"]
    assert medaudit(*call).code == 130
    made["diagnosis"] = steps.Step("diagnosis", "", "", ask("diagnosis", False), lambda cohort, found: iter(()))
    said = medaudit(*call)
    assert said.code == 0
    assert asked == ["labels", "diagnosis", "diagnosis"]
    assert [one["step"] for one in said.json] == ["labels", "diagnosis"]
    medaudit("demo", "--out", out, "--step", "labels", "--size", "31").refuses(
        2, "other settings", "size was 30, now 31"
    )


def test_what_was_planted_is_said_beside_what_was_found():
    causes = {"age": "label+confounded", "ethnicity": "none", "source": "none"}
    cohort = SimpleNamespace(truth={"causes": causes})
    found = {"gap:age:dice": "supported", "gap:ethnicity:dice": "supported", "label_bias": "insufficient",
             "representation": "refuted", "source_confounding": "refuted"}  # fmt: skip
    said = {c.finding: c.said for name in ("labels", "diagnosis") for c in walk.STEPS[name].checks(cohort, found)}
    assert said == {
        "gap:age:dice": "as planted", "gap:ethnicity:dice": "not as planted", "label_bias": "cannot tell",
        "representation": "as planted", "difficulty_imbalance": "cannot tell", "source_confounding": "not as planted",
    }  # fmt: skip


def test_the_demonstration_writes_into_nothing_that_is_not_its_own(medaudit, tmp_path):
    (tmp_path / "file").write_text("precious")
    medaudit("demo", "--out", tmp_path / "file").refuses(2, "file is a file; --out needs a folder")
    medaudit("demo", "--out", tmp_path).refuses(2, "not the folder of a demonstration")
    medaudit("demo", "--out", "/").refuses(2, "not the folder of a demonstration")
    medaudit("demo", "--out", tmp_path / "new", "--size", "60").refuses(2, "diagnosis needs 100 patients", "--step")
    medaudit("demo", "--out", tmp_path / "new", "--step", "nosuch").refuses(2, "nosuch", *VERBS)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_every_step_that_help_names_is_one(medaudit):
    from medaudit.cli import demo

    assert tuple(walk.STEPS) == demo.STEPS


def test_pictures_hold_what_the_volumes_hold(tmp_path):
    import nibabel as nib
    import numpy as np
    from PIL import Image

    from medaudit.audits.demonstration.slices import slices
    from medaudit.datasets import simulated_images

    cohort = simulated_images("breast-mri", tmp_path / "cohort", plant="label", size=12, seed=3)
    shown = slices(cohort, tmp_path / "slices")
    rows = {row["case_id"]: row for row in shown.table.iter_rows(named=True)}
    assert {row["finding"] for row in rows.values()} == {"tumour", "healthy"}
    volumes = dict(zip(cohort.case_ids, cohort.cases("reference"), strict=True))
    sources = dict(zip(cohort.case_ids, cohort.table["source"], strict=True))
    for name, row in rows.items():
        case = name.rsplit("-", 1)[0]
        assert row["plane"] == ("axial" if sources[case] in ("ISPY2", "DUKE") else "sagittal")
        if row["finding"] == "healthy":
            assert row["mask_path"] is None
            continue
        mask = np.asarray(Image.open(tmp_path / "slices" / row["mask_path"])) > 0
        areas = (nib.load(volumes[case].files["reference"]).get_fdata() > 0).sum(
            axis=(0, 1) if row["plane"] == "axial" else (1, 2)
        )
        assert mask.sum() == areas.max()
        image = np.asarray(Image.open(tmp_path / "slices" / row["image_path"]), dtype=float)
        around = image[(image > 0) & ~mask]
        assert image[mask].mean() > around.mean()  # a tumour takes up contrast
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "slices/images").iterdir()}
    slices(cohort, tmp_path / "slices")
    assert {path: path.stat().st_mtime_ns for path in made} == made
