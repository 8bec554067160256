"""Cases acquired anew carry their patient and their classes; two datasets become one without losing a file."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from medaudit.audits.ood.design import plan
from medaudit.audits.ood.images import acquisitions, grey, merged, montage, trivial_cues, with_acquired
from medaudit.audits.ood.settings import Settings
from medaudit.cohort import Cohort, Role, Source
from medaudit.errors import DataError, UsageError


def cohort(root: Path, name: str = "one", n: int = 40, side: int = 40) -> Cohort:
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(name))
    for i in range(n):
        Image.fromarray(rng.integers(30, 220, (side, side + 8), dtype=np.uint8)).save(root / f"{i}.png")
    table = pl.DataFrame(
        {
            "case_id": [f"c{i}" for i in range(n)],
            "patient_id": [i // 2 for i in range(n)],
            "view": ["ab"[i // 2 % 2] for i in range(n)],
            "file": [f"{i}.png" for i in range(n)],
        }
    )
    return Cohort(name, table, root, {"image": Role("file")})


def test_acquired_cases_are_the_test_cases_of_the_same_patients(tmp_path: Path) -> None:
    people = cohort(tmp_path / "one")
    settings = Settings(tasks=("view",), acquire=("gain:1,4", "shadow:2"))
    design = plan(people, settings)
    whole, larger = with_acquired(people, design, settings.acquire, tmp_path / "out", seed=0, jobs=1, progress=False)
    assert [part.name for part in larger.sets] == ["gain 1", "gain 4", "shadow 2"]
    assert len(whole) == len(people) + 3 * len(design.test)
    cases = list(whole.cases("image"))
    for part in larger.sets:
        assert part.paired
        np.testing.assert_array_equal(larger.clusters[part.rows], design.clusters[design.test])
        np.testing.assert_array_equal(larger.tasks[0].codes[part.rows], design.tasks[0].codes[design.test])
        for row, source in zip(part.rows, design.test, strict=True):
            assert cases[row].case_id == f"{people.case_ids[source]}@{part.name.replace(' ', '-')}"
    source = grey(cases[design.test[0]])
    weak, strong = (grey(cases[larger.sets[k].rows[0]]) for k in (0, 1))
    assert 0 < np.abs(weak - source).mean() < np.abs(strong - source).mean()
    file = cases[larger.sets[0].rows[0]].files["image"]
    before = file.read_bytes()
    file.unlink()
    with_acquired(people, design, settings.acquire, tmp_path / "out", seed=0, jobs=1, progress=False)
    assert file.read_bytes() == before
    # An image that was replaced since is acquired again.
    source_file = cases[design.test[0]].files["image"]
    Image.fromarray(np.full((40, 48), 90, dtype=np.uint8)).save(source_file)
    with_acquired(people, design, settings.acquire, tmp_path / "out", seed=0, jobs=1, progress=False)
    assert file.read_bytes() != before
    names, values = trivial_cues(whole, larger.scored, jobs=1, progress=False)
    assert values.shape == (len(larger.scored), len(names))
    assert np.isfinite(values).all()
    assert Image.open(io.BytesIO(montage(whole, design.test))).size[1] == 120


def test_two_datasets_become_one(tmp_path: Path) -> None:
    ours, theirs = cohort(tmp_path / "a", "ours"), cohort(tmp_path / "b", "theirs", n=6, side=30)
    whole, expression = merged(ours, theirs)
    assert expression == 'dataset == "theirs"'
    assert len(whole) == 46
    assert whole.table["patient_id"].n_unique() == 23
    for case, row in zip(whole.cases("image"), whole.table.iter_rows(named=True), strict=True):
        assert grey(case).shape[0] == (30 if row["dataset"] == "theirs" else 40)
    owed = replace(theirs, source=Source("B", "CC BY 4.0", "Bee et al. 2020"))
    assert "theirs: Bee et al. 2020" in merged(ours, owed)[0].notes
    with pytest.raises(UsageError, match="both datasets are called"):
        merged(ours, ours)


@pytest.mark.parametrize(
    ("text", "says"), [("fog", "no acquisition"), ("gain:0", "1 to 5"), ("gain:x", "1 to 5"), ("gain:6", "1 to 5")]
)
def test_refuses_unknown_acquisitions(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        acquisitions((text,))
    assert acquisitions(("gain", "jpeg:2", "gain:3")) == [*(("gain", k) for k in range(1, 6)), ("jpeg", 2)]


def test_a_volume_and_a_missing_file_are_named(tmp_path: Path) -> None:
    people = cohort(tmp_path / "one", n=4)
    np.save(tmp_path / "one" / "v.npy", np.zeros((4, 5, 6), dtype=np.float32))
    table = people.table.with_columns(file=pl.Series(["v.npy", None, "2.png", "3.png"]))
    cases = list(Cohort("x", table, people.root, people.roles).cases("image"))
    with pytest.raises(DataError, match=r"case c0.*3 dimensions"):
        grey(cases[0])
    with pytest.raises(DataError, match="case c1"):
        grey(cases[1])
