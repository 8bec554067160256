"""The audit of a generator's uncertainty on made-up scores: what was planted is found, and nothing else."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from medaudit.audits.generative.design import Design, plan
from medaudit.audits.generative.settings import Settings as VaeSettings
from medaudit.audits.generative.trainings import chunks
from medaudit.audits.generative_uncertainty.findings import cards, findings
from medaudit.audits.generative_uncertainty.scoring import edited, sources
from medaudit.audits.generative_uncertainty.settings import Settings
from medaudit.audits.generative_uncertainty.study import Scored, Study, study
from medaudit.cohort import Cohort
from medaudit.errors import UsageError

SEEDS, EDITED = 3, 40


def design() -> Design:
    rng = np.random.default_rng(0)
    table = pl.DataFrame({"case_id": [f"c{i:04d}" for i in range(1_000)], "tone": rng.choice(["light", "dark"], 1_000)})
    return plan(Cohort("x", table, None, {}), VaeSettings(group="tone", minority="dark"))  # type: ignore[arg-type]


def made(seed: int = 0) -> tuple[Design, Scored]:
    """Return scores: ``slug`` follows error, flags dark, notices ink and shows where; the encoder does nothing."""
    here, rng = design(), np.random.default_rng(seed)
    n = len(here.test)
    dark = here.code[here.test] == 1
    places = sources(here, Settings(edited_images=EDITED))
    base = rng.normal(0, 0.5, n) + 1.2 * dark
    error = np.exp(base + 0.02 * rng.normal(size=(2, SEEDS, 1)) + 0.1 * rng.normal(size=(2, SEEDS, n)))
    slug = error * np.exp(0.1 * rng.normal(size=error.shape))
    noise = rng.normal(size=error.shape)
    ink = slug[:, :, None, places] * np.exp(np.asarray([2.0, 0.0])[:, None])
    plain = rng.normal(size=(2, SEEDS, 2, EDITED))
    pixels = np.clip(rng.normal(0.9, 0.03, (2, SEEDS, 2, EDITED, 3)), 0, 1)
    pixels[:, :, 0, 3] = np.nan  # an edit that fell outside of its image
    scored = Scored(
        here.test, (0.0, 0.5), ("ink", "control"), places, {"slug": slug, "encoder_variance": noise},
        {"slug": ink, "encoder_variance": plain}, {"slug": pixels}, error, rng.random(n),
    )  # fmt: skip
    return here, scored


def judged(scored: Scored, here: Design, **options: object) -> Study:
    real = (here.code[here.test] == 1).astype(int)
    real[:5] = -1
    return study(here, scored, Settings(resamples=300, **options), "squared_error", {"ruler": real})  # type: ignore


def test_what_was_planted_is_found() -> None:
    here, scored = made()
    found = findings(judged(scored, here))
    said = {finding.id: finding.verdict for finding in found}
    assert said["encoder_is_enough"] == "refuted"
    assert said["unrelated:slug"] == "refuted"
    assert said["unrelated:encoder_variance"] == "supported"
    assert said["silent:tone:slug"] == "refuted"
    assert said["silent:tone:encoder_variance"] == "supported"
    assert said["unseen:ink:slug"] == "refuted"
    assert said["unseen:ink:encoder_variance"] == "supported"
    assert said["misplaced:ink:slug"] == "refuted"
    assert said["false_alarm:slug"] == "refuted"
    assert said["unseen:ruler:slug"] == "refuted"  # the real artefact, planted where the score is high
    assert said["brightness:slug"] == "refuted"
    assert {card.id for card in cards(found)} <= set(said)


def test_a_score_that_flags_any_edit_raises_a_false_alarm() -> None:
    here, scored = made()
    loud = {"slug": scored.edited["slug"] * np.asarray([1.0, 20.0])[:, None], "encoder_variance":
            scored.edited["encoder_variance"]}  # fmt: skip
    changed = Scored(**{**scored.__dict__, "edited": loud})
    said = {finding.id: finding.verdict for finding in findings(judged(changed, here))}
    assert said["false_alarm:slug"] == "supported"


def test_nothing_is_silent_where_nothing_was_lost() -> None:
    here, scored = made()
    equal = np.random.default_rng(5).lognormal(size=scored.errors.shape)
    changed = Scored(**{**scored.__dict__, "errors": equal})
    said = {finding.id: finding for finding in findings(judged(changed, here))}
    assert said["silent:tone:slug"].verdict == "insufficient"
    assert "nothing to warn of" in said["silent:tone:slug"].claim


def test_few_patients_cannot_tell() -> None:
    here, scored = made()
    assert [f.verdict for f in findings(judged(scored, here, min_patients=10_000))] == ["insufficient"]


@pytest.mark.parametrize("channels", [1, 3])
def test_an_edit_is_where_its_mask_is_and_comes_again_with_its_seed(channels: int) -> None:
    image = np.full((channels, 32, 32), 0.6, dtype=np.float32) + np.linspace(0, 0.2, 32, dtype=np.float32)
    painted, mask = edited(image, "patch", (0, 1))
    again, _ = edited(image, "patch", (0, 1))
    np.testing.assert_array_equal(painted, again)
    changed = np.abs(painted - image).max(axis=0) > 0.1
    assert mask.any()
    assert changed[mask].mean() > 0.8
    assert changed[~mask].mean() < 0.2
    assert painted.shape == image.shape


def test_edited_images_are_of_the_majority_and_a_patient_each_as_far_as_it_goes() -> None:
    here = design()
    places = sources(here, Settings(edited_images=30))
    assert len(places) == 30
    assert (here.code[here.test[places]] == 0).all()
    assert len(np.unique(here.clusters[here.test[places]])) == 30


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"edits": ("paint",)}, "no edit"),
        ({"edits": ("ink", "ink")}, "twice"),
        ({"params": ("encoder",)}, "all"),
        ({"weights": "x"}, "eigenvalue"),
        ({"probes": 2}, "4 or more"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Settings(**options)


def test_test_images_come_in_pieces_that_are_all_of_them_in_order() -> None:
    images = np.arange(70, dtype=np.float16).reshape(70, 1, 1, 1)
    rows = np.random.default_rng(0).permutation(70)[:45]
    pieces = list(chunks(images, rows, size=20))
    assert [len(piece) for piece in pieces] == [20, 20, 5]
    np.testing.assert_array_equal(np.concatenate(pieces).ravel(), rows)
