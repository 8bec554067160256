"""Planted shortcuts: as strong as was said, seen where the masks say and nowhere else, and each case its own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medaudit import datasets
from medaudit.cohort import read_image, read_mask
from medaudit.datasets.shortcut_scenes import SCENES, scene
from medaudit.datasets.simulate_shortcuts import (
    CHEST_PLANTS,
    LESION_PLANTS,
    ShortcutPlant,
    _drawn,
    scenes,
    simulate_shortcuts,
)
from medaudit.errors import UsageError

PLANTED = [(kind, shortcut) for kind, known in SCENES.items() for shortcut in known.shortcuts]
every_plant = pytest.mark.parametrize(("kind", "shortcut"), PLANTED)


def pictured(kind: str, shown: dict[str, bool], size: int, seed: int):
    return scene(kind, shown, size, np.random.default_rng(seed))


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def flat(images: np.ndarray) -> np.ndarray:
    """Return (N, S * S, channels) float."""
    return images.reshape(len(images), images.shape[1] * images.shape[2], -1).astype(float)


@pytest.mark.parametrize("strength", [0.0, 0.5, 0.9, -0.6])
def test_the_shortcut_is_correlated_as_was_said_and_the_control_with_nothing(strength):
    n = 20_000
    shown = np.stack([labels for _, labels in _drawn(ShortcutPlant("ruler", strength), n, 7, 0)])
    phi = np.corrcoef(shown.T)
    assert abs(phi[0, 1] - strength) < 3 * (1 - strength**2) / np.sqrt(n)  # the SE of a correlation
    assert abs(phi[0, 2]) < 3 / np.sqrt(n)
    assert abs(phi[1, 2]) < 3 / np.sqrt(n)
    np.testing.assert_allclose(shown.mean(axis=0), 0.5, atol=3 * 0.5 / np.sqrt(n))
    # Nor does the control go with both at once: agreement of sign and shortcut tells nothing of it.
    assert abs((shown[:, 2] == (shown[:, 0] == shown[:, 1])).mean() - 0.5) < 3 * 0.5 / np.sqrt(n)


def test_a_strength_of_one_is_a_copy_and_of_minus_one_its_opposite():
    alike, against = (scenes("chest", n=50, seed=1, plant=ShortcutPlant("marker", s), size=16) for s in (1.0, -1.0))
    assert np.array_equal(alike.labels[:, 0], alike.labels[:, 1])
    assert np.array_equal(against.labels[:, 0], ~against.labels[:, 1])


@every_plant
@pytest.mark.parametrize("size", [16, 32, 64])
def test_an_attribute_changes_the_picture_where_its_mask_says_and_nowhere_else(kind, shortcut, size):
    names = [SCENES[kind].sign, shortcut, SCENES[kind].control]
    for seed in range(15):
        for attribute in names:
            others = [name for name in names if name != attribute]
            for rest in (False, True):
                with_it = pictured(kind, {attribute: True, **dict.fromkeys(others, rest)}, size, seed)
                without = pictured(kind, {attribute: False, **dict.fromkeys(others, rest)}, size, seed)
                change = np.abs(with_it.image.astype(int) - without.image)
                changed = (change.max(axis=-1) if change.ndim == 3 else change) > 0
                assert np.array_equal(changed, with_it.masks[attribute]), (seed, attribute, rest)
                assert changed.any()
                assert not without.masks[attribute].any()
                for other in others:  # and hides no other one
                    assert np.array_equal(with_it.masks[other], without.masks[other])
                    assert not (with_it.masks[other] & changed).any()


def places(kind: str, attribute: str, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Return y and x, from 0 to 1, of an attribute's pixels in 30 scenes."""
    masks = [pictured(kind, {attribute: True}, size, seed).masks[attribute] for seed in range(30)]
    _, rows, columns = np.nonzero(masks)
    return (rows + 0.5) / size, (columns + 0.5) / size


def test_signs_are_where_a_reader_would_look_for_them():
    y, x = places("lesions", "disease")
    assert 0.2 < y.min() < y.max() < 0.8
    assert 0.2 < x.min() < x.max() < 0.8
    assert places("lesions", "ruler")[0].min() > 0.85
    assert places("lesions", "patch")[0].min() > 0.65
    assert places("lesions", "ink")[0].max() < 0.15
    y, x = places("chest", "pacemaker")
    assert 0.1 < y.min() < y.max() < 0.7
    assert 0.45 < x.min() < x.max() < 0.9
    y, x = places("chest", "marker")
    assert y.max() < 0.2
    assert x.max() < 0.45
    y, x = places("chest", "laterality")
    assert y.max() < 0.2
    assert x.min() > 0.8


def test_a_blob_is_blue_ink_is_purple_and_ticks_are_dark():
    for seed in range(20):
        bare = pictured("lesions", {}, 32, seed).image.astype(float)
        for attribute in ("disease", "ruler", "ink"):
            made = pictured("lesions", {attribute: True}, 32, seed)
            red, green, blue = (made.image - bare)[made.masks[attribute]].mean(axis=0)
            assert {"disease": blue > green > red, "ruler": max(red, green, blue) < -30, "ink": green < blue - 20}[
                attribute
            ]
        assert np.all(bare[..., 0] >= bare[..., 2] - 15)  # skin and lesion are brown


def test_the_phase_of_a_ruler_is_random_and_its_period_is_not():
    shown = [pictured("lesions", {"ruler": True}, 96, seed).masks["ruler"][-3] for seed in range(40)]
    assert len({tuple(row) for row in shown}) > 10
    for row in shown:
        starts = np.flatnonzero(np.diff(row.astype(int)) == 1)
        assert set(np.diff(starts)) <= {15, 16, 17}  # a sixth of 96


@pytest.mark.parametrize("sick", [False, True])
def test_the_cardiothoracic_ratio_is_above_a_half_with_cardiomegaly_only(sick):
    """Measured in the picture: how far the heart is bright where it is widest, over how far the lungs are dark."""
    size = 96
    for seed in range(40):
        image = pictured("chest", {"cardiomegaly": sick}, size, seed).image.astype(float)
        rows = image[int(0.60 * size) : int(0.66 * size)].mean(axis=0)
        lungs = image[int(0.30 * size) : int(0.60 * size)]
        dark, bright = np.percentile(lungs[:, size // 8 : -size // 8], [10, 90])
        middle = (dark + bright) / 2
        heart = size // 2
        left = heart - np.argmax(rows[heart::-1] < middle)
        right = heart + np.argmax(rows[heart:] < middle)
        lung = np.flatnonzero((lungs[:, size // 8 : -size // 8] < middle).any(axis=0))
        ratio = (right - left) / (lung[-1] - lung[0] + 1)
        assert (0.52 < ratio < 0.75) if sick else (0.33 < ratio < 0.5), (seed, ratio)


def area(scores: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return an AUROC and the SE that it has where the scores know nothing."""
    m, k = truth.sum(), (~truth).sum()
    return float(roc_auc_score(truth, scores)), float(np.sqrt((m + k + 1) / (12 * m * k)))


@every_plant
def test_no_other_cue_tells_what_is_shown(kind, shortcut):
    """A linear classifier finds the sign in whole pictures, and cannot tell it from the pixels that no mask covers."""
    made = scenes(kind, n=3_000, seed=5, plant=ShortcutPlant(shortcut, 0.0), size=16)
    free = ~made.masks.any(axis=(0, 1)).ravel()
    assert free.mean() > 0.2
    pixels = flat(made.images)
    cut = 1_500
    for k in range(3):
        truth = made.labels[:, k]
        for where, known in ((slice(None), True), (free, False)):
            seen = pixels[:, where].reshape(len(pixels), -1)
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
            found, se = area(model.fit(seen[:cut], truth[:cut]).decision_function(seen[cut:]), truth[cut:])
            # Twelve comparisons: 3 SE would be too narrow.
            assert found > 0.9 if known else abs(found - 0.5) < 4 * se, (made.attributes[k], known, found)


@every_plant
def test_brightness_tells_nothing_where_no_mask_is(kind, shortcut):
    made = scenes(kind, n=3_000, seed=6, plant=ShortcutPlant(shortcut, 0.0), size=16)
    pixels, covered = flat(made.images).mean(axis=-1), made.masks.any(axis=1).reshape(3_000, -1)
    # Of each picture what none of its own masks covers; the average of those pixels, as all pictures without attributes
    # have it there, is taken off, so that it does not matter which pixels are left.
    bare = np.nanmean(np.where(covered, np.nan, pixels), axis=0)
    left = np.nanmean(np.where(covered, np.nan, pixels - bare), axis=1)
    for k in range(3):
        found, se = area(left, made.labels[:, k])
        assert abs(found - 0.5) < 3 * se, (made.attributes[k], found)
        assert abs(area(pixels.mean(axis=1), made.labels[:, k])[0] - 0.5) < 0.15  # nor does it tell much elsewhere


def test_a_blob_is_as_bright_as_the_lesion_that_it_replaces():
    for seed in range(20):
        on, off = (pictured("lesions", {"disease": shown}, 32, seed).image.mean() for shown in (True, False))
        assert abs(on - off) < 0.2  # of 255


@every_plant
def test_a_case_is_the_same_whatever_the_number_of_cases(kind, shortcut):
    plant = ShortcutPlant(shortcut, 0.8)
    few, many = scenes(kind, n=5, seed=3, plant=plant, size=16), scenes(kind, n=9, seed=3, plant=plant, size=16)
    late = scenes(kind, n=2, seed=3, plant=plant, size=16, start=7)
    other = scenes(kind, n=5, seed=4, plant=plant, size=16)
    for name in ("images", "labels", "masks"):
        assert np.array_equal(getattr(few, name), getattr(many, name)[:5])
        assert np.array_equal(getattr(late, name), getattr(many, name)[7:])
    assert not any(np.array_equal(a, b) for a, b in zip(few.images, other.images, strict=True))


@every_plant
def test_strengths_with_one_seed_pair_up(kind, shortcut):
    plant = ShortcutPlant(shortcut, 0.9)
    strong, probe = (scenes(kind, n=120, seed=3, plant=one, size=24) for one in (plant, replace(plant, strength=0.0)))
    assert np.array_equal(strong.labels[:, [0, 2]], probe.labels[:, [0, 2]])
    same = strong.labels[:, 1] == probe.labels[:, 1]
    assert same.any()
    assert not same.all()
    for a, b, alike, masks, others in zip(strong.images, probe.images, same, strong.masks, probe.masks, strict=True):
        change = np.abs(a.astype(int) - b).reshape(24, 24, -1).max(axis=-1) > 0
        assert np.array_equal(change, np.zeros_like(change) if alike else masks[1] | others[1])


@pytest.mark.parametrize(("kind", "plants"), [("lesions", LESION_PLANTS), ("chest", CHEST_PLANTS)])
def test_the_folder_holds_what_memory_holds(tmp_path, kind, plants):
    plant = list(plants.values())[-1]
    cohort = simulate_shortcuts(kind, tmp_path / "a", n=20, seed=2, plant=plant, size=24)
    made = scenes(kind, n=20, seed=2, plant=plant, size=24)
    assert datasets.check(cohort) == []
    assert [cohort.truth[part] for part in ("sign", "shortcut", "control")] == list(made.attributes)
    assert cohort.truth["plant"] == {"shortcut": plant.shortcut, "strength": 0.9}
    assert list(cohort.roles) == ["image", *made.attributes]
    assert cohort.table["patient_id"].n_unique() == len(cohort) == 20
    for k, name in enumerate(made.attributes):
        assert cohort.table[name].to_list() == ["yes" if shown else "no" for shown in made.labels[:, k]]
    for i, case in enumerate(cohort.cases()):
        assert np.array_equal(read_image(case.files["image"]).array, made.images[i])
        for k, name in enumerate(made.attributes):
            assert np.array_equal(read_mask(case.files[name]).array, made.masks[i, k])
    assert pl.read_csv(tmp_path / "a" / "cases.csv").equals(cohort.table)
    assert "says nothing of magnitudes in patients" in cohort.notes[0]


def test_what_was_killed_goes_on_to_the_same_bytes(tmp_path):
    def make():
        return simulate_shortcuts("lesions", tmp_path, n=12, seed=1, plant=LESION_PLANTS["ruler"], size=16)

    make()
    before = files(tmp_path)
    kept = (tmp_path / "images" / "SC_00002.png").stat().st_mtime_ns
    for gone in ("images/SC_00003.png", "ruler/SC_00004.png", "cases.csv"):
        (tmp_path / gone).unlink()
    (tmp_path / "images" / ".SC_00003.png").write_bytes(b"half")
    make()
    assert files(tmp_path) == before
    assert (tmp_path / "images" / "SC_00002.png").stat().st_mtime_ns == kept


def test_jobs_do_not_change_a_byte(tmp_path):
    for jobs in (1, 2):
        simulate_shortcuts(
            "chest", tmp_path / str(jobs), n=210, seed=1, plant=CHEST_PLANTS["marker"], size=16, jobs=jobs
        )
    assert files(tmp_path / "1") == files(tmp_path / "2")


def test_the_command_line_names_a_plant_and_its_strength(tmp_path):
    def make(plant, where, name="lesions"):
        return datasets.simulated_images(name, tmp_path / where, plant=plant, size=6, seed=1)

    assert make("ruler:0.5", "a").truth["plant"] == {"shortcut": "ruler", "strength": 0.5}
    assert make("patch", "b").truth["plant"] == {"shortcut": "patch", "strength": 0.9}
    make("none", "c")
    make("ruler:0", "d")
    assert files(tmp_path / "c") == files(tmp_path / "d")
    chest = make("marker:-0.3", "e", "chest")
    assert chest.truth["plant"] == {"shortcut": "marker", "strength": -0.3}
    assert Image.open(next(chest.cases()).files["image"]).size == (32, 32)
    with pytest.raises(UsageError, match="holds a simulation with other settings"):
        make("ruler:0.6", "a")


@pytest.mark.parametrize(
    ("name", "plant", "why"),
    [
        ("lesions", "ruler:1.2", "strength of 1.2; it is a correlation, from -1 to 1"),
        ("lesions", "ruler:nan", "strength of nan"),
        ("lesions", "ruler:", "cannot read the strength in 'ruler:'; expected a number from -1 to 1, as ruler:0.9"),
        ("chest", "marker:strong", "cannot read the strength in 'marker:strong'"),
        ("chest", "none:0.5", "the plant 'none' of chest takes no strength; write it without ':0.5'"),
        ("skin", "pairs:0.5", "the plant 'pairs' of skin takes no strength"),
        ("chest", "ruler:0.9", "no plant of chest is called 'ruler'; there are: none, pacemaker, marker"),
    ],
)
def test_a_plant_that_cannot_be_is_refused_before_a_folder_is_made(tmp_path, name, plant, why):
    with pytest.raises(UsageError, match=why):
        datasets.simulated_images(name, tmp_path / "x", plant=plant, size=2, seed=1)
    assert not (tmp_path / "x").exists()


def test_other_nonsense_is_refused(tmp_path):
    plant = LESION_PLANTS["ruler"]
    with pytest.raises(UsageError, match="15 pixels; expected 16 or more"):
        simulate_shortcuts("lesions", tmp_path / "x", n=2, seed=1, plant=plant, size=15)
    with pytest.raises(UsageError, match="cannot simulate 0 pictures; expected 1 or more"):
        scenes("lesions", n=0, seed=1, plant=plant)
    with pytest.raises(UsageError, match="chest has no shortcut 'ruler'; it has: pacemaker, marker"):
        scenes("chest", n=1, seed=1, plant=plant)
    with pytest.raises(UsageError, match="no kind of scene is called 'brain'; there are: lesions, chest"):
        pictured("brain", {}, 16, 1)
    with pytest.raises(UsageError, match="lesions cannot show 'marker'"):
        pictured("lesions", {"marker": True}, 16, 1)
    assert not (tmp_path / "x").exists()
