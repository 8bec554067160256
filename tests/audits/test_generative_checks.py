"""What a study of generators says of scores that say nothing, of shares that cross, and of numbers it does not have."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from medaudit.audits.generative import judge
from medaudit.audits.generative.design import Design, plan
from medaudit.audits.generative.findings import findings
from medaudit.audits.generative.settings import Settings
from medaudit.audits.generative.study import Measured, judged, study
from medaudit.cohort import Cohort
from medaudit.errors import DataError
from medaudit.statistics import patient_weights

SHARES = (0.0, 0.25, 0.5, 1.0)


def design(n: int = 300) -> tuple[Design, Settings]:
    rng = np.random.default_rng(0)
    table = pl.DataFrame({"case_id": [f"c{i:04d}" for i in range(n)], "tone": rng.choice(["light", "dark"], n)})
    settings = Settings(group="tone", minority="dark", shares=SHARES, seeds=3, resamples=200, rank=0)
    return plan(Cohort("made up", table, None, {}), settings), settings  # type: ignore[arg-type]


def errors(here: Design, dark: list[float], light: list[float]) -> np.ndarray:
    """Return errors (K, 3, n) that are the same for everybody in a group at a share."""
    minority = here.code[here.test] == 1
    return np.stack([np.tile(np.where(minority, a, b), (3, 1)) for a, b in zip(dark, light, strict=True)])


@pytest.mark.parametrize(
    ("dark", "light", "at"),
    [
        # The log ratio falls from log 4 to log 1/4 between 25 and 50 %: it is 0 half-way.
        ([8.0, 4.0, 1.0, 1.0], [1.0, 1.0, 4.0, 8.0], 0.375),
        # From log 2 at 50 % to log 1/8 at 100 %: a quarter of the way.
        ([8.0, 4.0, 2.0, 1.0], [1.0, 1.0, 1.0, 8.0], 0.5 + 0.5 / 4),
        ([8.0, 4.0, 2.0, 1.5], [1.0, 1.0, 1.0, 1.0], float("nan")),
        # Worse, better, worse, better: no one share.
        ([2.0, 1.0, 2.0, 1.0], [1.0, 2.0, 1.0, 2.0], float("nan")),
    ],
)
def test_the_share_of_equal_errors_lies_on_straight_lines_between_shares(
    dark: list[float], light: list[float], at: float
) -> None:
    here, settings = design()
    made = errors(here, dark, light)
    found = study(here, Measured(here.test, {"normalised_error": made, "squared_error": made}, {},
                                 np.zeros(len(here.test))), settings).crossing["normalised_error"]  # fmt: skip
    np.testing.assert_allclose(found.value, at)
    np.testing.assert_allclose([found.low, found.high], at)  # nobody differs, so no resample does


def test_ratios_and_representation_are_those_of_the_group_means() -> None:
    here, settings = design()
    made = errors(here, [8.0, 4.0, 2.0, 1.0], [1.0, 1.0, 1.5, 3.0])
    result = study(here, Measured(here.test, {"normalised_error": made, "squared_error": made}, {},
                                  np.zeros(len(here.test))), settings)  # fmt: skip
    found = [entry.estimate.value for entry in result.ratios["normalised_error"]]
    np.testing.assert_allclose(found, np.log([8, 4, 2 / 1.5, 1 / 3]))
    light, dark = (estimate.value for estimate in result.representation["normalised_error"])
    assert light == pytest.approx(np.log(3.0))  # at 100 % dark over at 0 %
    assert dark == pytest.approx(np.log(8.0))
    assert result.ratios["normalised_error"][2].means == pytest.approx((1.5, 2.0))


def test_a_main_metric_that_is_nan_of_one_image_is_refused_and_another_is_left_out() -> None:
    here, settings = design()
    good = errors(here, [2.0] * 4, [1.0] * 4)
    bad = good.copy()
    bad[..., 3] = np.nan
    dark = np.zeros(len(here.test))
    with pytest.raises(DataError, match="normalised_error of 1 test image is not a number"):
        study(here, Measured(here.test, {"normalised_error": bad, "squared_error": good}, {}, dark), settings)
    every = {"normalised_error": good, "squared_error": good, "one_minus_ssim": bad}
    asked = {finding.id for finding in findings(study(here, Measured(here.test, every, {}, dark), settings))}
    assert {"gap:tone:normalised_error", "gap:tone:squared_error"} <= asked
    assert "gap:tone:one_minus_ssim" not in asked


def test_noise_follows_brightness_no_more_than_error_however_many_trainings() -> None:
    """Scores by lot, 100 times: that they follow brightness more than error is said in 5 % of them, not in 20."""
    n, seeds, said = 120, 10, 0
    for run in range(100):
        rng = np.random.default_rng((11, run))
        clusters, weights = patient_weights(np.arange(n), 150, 0)
        error = rng.lognormal(size=(1, 1, n)) * np.exp(0.1 * rng.normal(size=(1, seeds, n)))
        found = judged(
            rng.normal(size=(1, seeds, n)), error, rng.random(n), rng.random(n) < 0.4, clusters, weights
        ).follows_brightness[0]
        said += found.low > 0 and found.p < 0.05
    assert said <= 10


class Black:
    """A model that draws nothing."""

    def reconstruct(self, images):  # type: ignore[no-untyped-def]
        return 0 * images


def test_the_residual_variance_is_that_of_both_groups() -> None:
    images = np.concatenate([np.full((600, 1, 4, 4), 0.2), np.full((600, 1, 4, 4), 0.8)]).astype(np.float32)
    # As Design.training_rows gives them at one half: the majority, then the minority.
    found = judge.residual_variance(Black(), images, np.arange(1_200))  # type: ignore[arg-type]
    assert found == pytest.approx((0.2**2 + 0.8**2) / 2, rel=0.1)
