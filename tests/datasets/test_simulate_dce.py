"""The phantoms are what they say: closed forms for the errors, exact pairing of plants, the same bytes again."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage, stats

from medaudit.cohort import Cohort, Grouping
from medaudit.datasets.dce_phantom import MORPHOLOGIES, Tumour, phantom_masks
from medaudit.datasets.image_plants import IMAGE_PLANTS, USUAL_ERROR, Difficulty, ImagePlant, planted_causes
from medaudit.datasets.label_errors import LabelError, dilate, erode, shift, signed_distance, waves
from medaudit.datasets.simulate_dce import LOOKS, simulate_dce
from medaudit.errors import UsageError

SMALL = (32, 32, 32)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(bool), b.astype(bool)
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def ball(radius_mm: float, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    half = [int(np.ceil((radius_mm + 6) / step)) for step in spacing_mm]
    axes = np.meshgrid(*[np.arange(-h, h + 1) * step for h, step in zip(half, spacing_mm, strict=True)], indexing="ij")
    return sum(axis**2 for axis in axes) <= radius_mm**2


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def none(tmp_path_factory) -> Cohort:
    return simulate_dce(tmp_path_factory.mktemp("none"), n=40, seed=3, shape=SMALL)


@pytest.fixture(scope="module")
def label(tmp_path_factory) -> Cohort:
    return simulate_dce(tmp_path_factory.mktemp("label"), n=40, seed=3, shape=SMALL, plant=IMAGE_PLANTS["label"])


@pytest.fixture(scope="module")
def hard(tmp_path_factory) -> Cohort:
    plant = IMAGE_PLANTS["representation"]
    return simulate_dce(tmp_path_factory.mktemp("hard"), n=40, seed=3, shape=SMALL, plant=plant)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.7, 1.4)])
@pytest.mark.parametrize("change", [-4.0, -2.0, 1.5, 3.0])
def test_a_ball_eroded_or_dilated_is_the_ball_of_the_other_radius(spacing, change):
    expert = ball(14, spacing)
    distance = signed_distance(expert, spacing)
    changed = (dilate(distance, change) if change > 0 else erode(distance, -change)) <= 0
    radius = (3 * changed.sum() * np.prod(spacing) / (4 * np.pi)) ** (1 / 3)
    assert radius == pytest.approx(14 + change, abs=0.4)  # less than half a voxel
    assert dice(expert, changed) == pytest.approx(2 * min(radius, 14) ** 3 / (radius**3 + 14**3), abs=0.01)


def test_signed_distance_of_an_untouched_mask_gives_the_mask_back():
    mask = np.random.default_rng(0).random((9, 11, 7)) < 0.4
    assert np.array_equal(signed_distance(mask, (1.0, 0.5, 2.0)) <= 0, mask)
    assert np.array_equal(signed_distance(np.ones((4, 4, 4), bool), (1.0, 1.0, 1.0)) <= 0, np.ones((4, 4, 4), bool))
    assert not (signed_distance(np.zeros((4, 4, 4), bool), (1.0, 1.0, 1.0)) <= 0).any()


def test_a_boundary_shifted_alike_everywhere_is_a_dilation():
    distance = signed_distance(ball(10, (1.0, 1.0, 1.0)), (1.0, 1.0, 1.0))
    assert np.array_equal(shift(distance, np.full(distance.shape, 2.0)), dilate(distance, 2.0))


def test_waves_are_smooth_and_of_unit_rms():
    rms = []
    for seed in range(10):
        field = waves((60, 60, 40), (1.0, 1.0, 1.5), 20.0, np.random.default_rng(seed))
        rms.append(np.sqrt(np.mean(field**2)))
        assert np.abs(np.diff(field, axis=0)).max() < 0.25 * np.abs(field).max()
    assert np.mean(rms) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("knob", ["erode_mm", "dilate_mm", "shift_mm"])
def test_dice_falls_as_an_error_grows(knob):
    tumour = Tumour(15, "spiculated", satellites=1)
    found = [
        phantom_masks((64, 64, 64), (1.5, 1.5, 1.5), tumour, LabelError(**{knob: mm}), (5, 1)).dice
        for mm in (0.0, 1.0, 2.0, 4.0, 7.0)
    ]
    assert found[0] == 1
    assert all(later < earlier for earlier, later in pairwise(found))


@pytest.mark.parametrize("morphology", MORPHOLOGIES)
def test_a_tumour_has_the_volume_that_was_asked_for(morphology):
    spacing = (1.0, 1.0, 2.0)
    masks = phantom_masks((96, 96, 48), spacing, Tumour(8, morphology), LabelError(), (1, 2))
    assert masks.volume_ml == pytest.approx(8, abs=0.004)
    assert masks.reference.sum() * 2 / 1000 == pytest.approx(masks.volume_ml)


def test_spiculated_and_non_mass_tumours_have_more_surface_than_masses():
    surface = {}
    for morphology in MORPHOLOGIES:
        counts = []
        for seed in range(6):
            mask = phantom_masks(
                (80, 80, 80), (1.0, 1.0, 1.0), Tumour(10, morphology), LabelError(), (seed, 0)
            ).reference
            counts.append((mask.astype(bool) & ~ndimage.binary_erosion(mask)).sum())
        surface[morphology] = np.mean(counts)
    assert surface["mass"] < 0.9 * surface["spiculated"]
    assert surface["mass"] < 0.9 * surface["non-mass"]


def test_errors_of_a_whole_lesion_do_what_their_names_say():
    def masks(error: LabelError):
        return phantom_masks((64, 64, 64), (1.5, 1.5, 1.5), Tumour(6, satellites=1), error, (8, 2))

    assert masks(LabelError(missed=1)).labels.sum() == 0
    assert masks(LabelError(missed=1)).dice == 0
    assert masks(LabelError(untouched=1, erode_mm=5)).dice == 1
    assert ndimage.label(masks(LabelError()).reference)[1] == 2
    without = masks(LabelError(missed_satellites=1))
    assert ndimage.label(without.labels)[1] == 1
    assert without.labels.sum() < without.reference.sum()
    extra = masks(LabelError(false_positive=1))
    blob = extra.labels.astype(bool) & ~extra.reference.astype(bool)
    assert ndimage.distance_transform_edt(extra.reference == 0, sampling=1.5)[blob].min() > 20


def test_errors_add_up():
    total = LabelError(erode_mm=1, missed=0.1) + LabelError(erode_mm=0.5, shift_mm=2)
    assert total == LabelError(erode_mm=1.5, shift_mm=2, missed=0.1)


def test_images_and_masks_of_a_case_share_their_geometry(none):
    for case in none.cases():
        images = [nib.load(path) for path in case.files.values()]
        assert set(case.files) == {"image", "image_pre", "reference", "labels"}
        for image in images:
            assert image.shape == SMALL
            assert np.array_equal(image.affine, images[0].affine)
            assert image.header.get_zooms() == images[0].header.get_zooms()
        assert {str(image.get_data_dtype()) for image in images} == {"int16", "uint8"}


def test_axial_sources_are_thick_along_the_last_axis_and_sagittal_ones_along_the_first(none):
    thick = {"ISPY2": 2, "DUKE": 2, "ISPY1": 0, "NACT": 0}
    ratios = {}
    for case, source in zip(none.cases("image"), none.table["source"], strict=True):
        zooms = nib.load(case.files["image"]).header.get_zooms()
        assert int(np.argmax(zooms)) == thick[source]
        ratios[source] = max(zooms) / min(zooms)
    assert len(set(np.round(list(ratios.values()), 3))) == len(ratios) == 4


def test_realised_dice_is_that_of_the_files(none):
    for case in none.cases("reference", "labels"):
        found = dice(voxels(case.files["reference"]), voxels(case.files["labels"]))
        assert none.truth["dice"][case.case_id] == pytest.approx(found, abs=1e-12)


def test_usual_errors_give_a_dice_of_about_four_fifths(tmp_path):
    cohort = simulate_dce(tmp_path, n=150, seed=0, phases=0)
    assert np.mean(list(cohort.truth["dice"].values())) == pytest.approx(0.80, abs=0.04)
    assert not any((tmp_path / "images").iterdir())
    assert set(cohort.roles) == {"reference", "labels"}


def test_label_bias_harms_the_labels_of_its_group_and_touches_nothing_else(none, label):
    codes = Grouping.parse("age:40,55").apply(none).codes
    fell = []
    for a, b, code in zip(none.cases(), label.cases(), codes, strict=True):
        for role in ("image", "image_pre", "reference"):
            assert a.files[role].read_bytes() == b.files[role].read_bytes()
        if code == 0:
            fell.append(none.truth["dice"][a.case_id] - label.truth["dice"][b.case_id])
        else:
            assert a.files["labels"].read_bytes() == b.files["labels"].read_bytes()
    assert np.mean(fell) > 0.05
    young = label.truth["groups"]["age"]["<=40"]["dice_mean"]
    assert young < none.truth["groups"]["age"]["<=40"]["dice_mean"] - 0.05
    assert label.truth["causes"] == {"age": "label", "ethnicity": "none", "source": "none"}


def test_difficulty_lowers_the_contrast_of_its_group_and_touches_nothing_else(none, hard):
    def uptake(case) -> float:
        gain = voxels(case.files["image"]).astype(float) - voxels(case.files["image_pre"])
        return gain[ndimage.binary_erosion(voxels(case.files["reference"]))].mean()

    codes = Grouping.parse("age:40,55").apply(none).codes
    ratios = []
    for a, b, code in zip(none.cases(), hard.cases(), codes, strict=True):
        if code == 0:
            ratios.append(uptake(b) / uptake(a))
        elif code > 0:
            assert all(a.files[role].read_bytes() == b.files[role].read_bytes() for role in a.files)
    assert np.mean(ratios) == pytest.approx(0.35, abs=0.12)
    assert hard.truth["causes"]["age"] == "representation"


def test_tumours_enhance_and_look_like_gland_before_contrast(none):
    for case in none.cases():
        pre, post, mask = (voxels(case.files[role]) for role in ("image_pre", "image", "reference"))
        inside, around = mask > 0, ndimage.binary_dilation(mask, iterations=3) & (mask == 0)
        assert post[inside].mean() > 1.4 * post[around].mean()
        assert pre[inside].mean() < 1.9 * pre[around].mean()
        assert np.percentile(post, 2) < 0.2 * np.median(post[inside])  # there is air


def test_without_a_cause_dice_does_not_differ_by_age(tmp_path):
    p_values = []
    for seed in range(16):
        cohort = simulate_dce(tmp_path / str(seed), n=60, seed=seed, shape=SMALL, phases=0)
        codes, score = Grouping.parse("age:40,55").apply(cohort).codes, np.asarray(list(cohort.truth["dice"].values()))
        p_values.append(stats.kruskal(*[score[codes == i] for i in range(3)]).pvalue)
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert set(cohort.truth["causes"].values()) == {"none"}


def test_groups_of_the_truth_are_those_of_the_table(label):
    for by, spec in {"age": "age:40,55", "ethnicity": "ethnicity", "source": "source"}.items():
        groups = Grouping.parse(spec).apply(label)
        score = np.asarray(list(label.truth["dice"].values()))
        expected = {
            name: {"n": int((groups.codes == i).sum()), "dice_mean": pytest.approx(score[groups.codes == i].mean())}
            for i, name in enumerate(groups.labels)
            if (groups.codes == i).any()
        }
        assert label.truth["groups"][by] == expected


def test_files_are_the_same_bytes_again_and_with_more_workers(tmp_path):
    simulate_dce(tmp_path / "one", n=6, seed=11, shape=SMALL)
    simulate_dce(tmp_path / "two", n=6, seed=11, shape=SMALL, jobs=2)
    simulate_dce(tmp_path / "other", n=6, seed=12, shape=SMALL)
    one, two, other = (contents(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert all(one[name] != other[name] for name in one if name.startswith("images"))


def test_a_simulation_goes_on_where_it_was_killed(tmp_path):
    first = simulate_dce(tmp_path, n=5, seed=1, shape=SMALL)
    whole = contents(tmp_path)
    (tmp_path / "facts/DCE_0002.json").unlink()
    (tmp_path / "labels/DCE_0002.nii.gz").write_bytes(b"torn")
    (tmp_path / "reference/DCE_0002.nii.gz").unlink()
    untouched = (tmp_path / "images/DCE_0003_0000.nii.gz").stat().st_mtime_ns
    again = simulate_dce(tmp_path, n=5, seed=1, shape=SMALL)
    assert contents(tmp_path) == whole
    assert (tmp_path / "images/DCE_0003_0000.nii.gz").stat().st_mtime_ns == untouched
    assert again.truth == first.truth
    assert again.table.equals(first.table)


def test_a_folder_of_another_simulation_is_refused_and_left_alone(tmp_path):
    simulate_dce(tmp_path, n=2, seed=1, shape=SMALL, phases=0)
    before = contents(tmp_path)
    with pytest.raises(UsageError, match="other settings"):
        simulate_dce(tmp_path, n=2, seed=2, shape=SMALL, phases=0)
    assert contents(tmp_path) == before


def test_the_written_table_reads_back_as_the_cohort(none):
    again = Cohort.read(none.root / "cases.csv", roles={role: f"{role}_path" for role in none.roles})
    assert [case.files for case in again.cases()] == [case.files for case in none.cases()]
    assert again.table["age"].to_list() == none.table["age"].to_list()
    assert json.loads((none.root / "simulation.json").read_text())["seed"] == 3


def test_source_bias_confounds_age_only_where_age_goes_with_source():
    biased = (("source", "DUKE", LabelError(erode_mm=2)),)
    assert planted_causes(IMAGE_PLANTS["confounded"])["age"] == "confounded"
    assert planted_causes(ImagePlant(label_bias=biased))["age"] == "none"
    assert planted_causes(ImagePlant(label_bias=biased))["source"] == "label"
    both = ImagePlant(label_bias=biased, difficulty=(("age", ">55", Difficulty(contrast=0.5)),))
    assert planted_causes(both)["age"] == "representation"


def test_impossible_requests_are_refused(tmp_path):
    with pytest.raises(UsageError, match="age 'young'"):
        ImagePlant(label_bias=(("age", "young", USUAL_ERROR),))
    with pytest.raises(UsageError, match="0 cases"):
        simulate_dce(tmp_path, n=0, seed=0)
    assert set(LOOKS) == {"ISPY2", "DUKE", "ISPY1", "NACT"}


def test_the_mama_mia_look_has_worse_labels_in_the_young_and_better_ones_in_the_older(tmp_path):
    # Paired with the same tumours under labels that are alike for all: 80 cases are too few to see it unpaired.
    plant = IMAGE_PLANTS["mama-mia"]
    biased = simulate_dce(tmp_path / "biased", n=80, seed=4, phases=0, plant=plant)
    alike = simulate_dce(tmp_path / "alike", n=80, seed=4, phases=0, plant=replace(plant, label_bias=()))
    change = {
        group: biased.truth["groups"]["age"][group]["dice_mean"] - alike.truth["groups"]["age"][group]["dice_mean"]
        for group in ("<=40", "(40, 55]", ">55")
    }
    assert change["<=40"] < change["(40, 55]"] < 0 < change[">55"]
    assert biased.truth["causes"]["age"] == "label+representation"


def test_a_volume_factor_scales_each_tumour_of_its_group(tmp_path):
    double = ImagePlant(difficulty=(("age", "<=40", Difficulty(volume=2, volume_sd=2)),))
    planned = [
        simulate_dce(tmp_path / name, n=20, seed=0, shape=SMALL, phases=0, plant=plant).truth["planted"]
        for name, plant in (("usual", ImagePlant()), ("double", double))
    ]
    ratios = [planned[1][case]["tumour"]["volume_ml"] / planned[0][case]["tumour"]["volume_ml"] for case in planned[0]]
    ages = Cohort.read(tmp_path / "usual" / "cases.csv").table["age"]
    assert ratios == pytest.approx([2.0 if age is not None and age <= 40 else 1.0 for age in ages])
