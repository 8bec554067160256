"""The set-up in which SLUG turns around, kept: raw inputs, no norm, a sigmoid. The self-check must say so.

Light skin alone is trained on. In the standard set-up the score flags dark skin, whose error is large; in the naive one
dark images make small activations and small Jacobians, and the score is surest where the model is worst.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medaudit.audits.generative.study import Judged, judged
from medaudit.datasets.skin_phantom import DIAGNOSES, draw_skin, render
from medaudit.networks.vae import MeanEncoder, Vae, VaeShape
from medaudit.statistics import patient_weights
from medaudit.training.vae import VaeRecipe, fit_vae
from medaudit.uncertainty import slug

SHAPE = VaeShape(side=32, widths=(8, 16), latent=8)
NAIVE = {"centred": False, "norm": False, "output": "sigmoid"}


def pictures(n: int, low: float, high: float, seed: int) -> np.ndarray:
    melanin = np.exp(np.random.default_rng((seed, 1)).uniform(np.log(low), np.log(high), n))
    drawn = [
        render(draw_skin(32, DIAGNOSES[i % 4], np.random.default_rng((seed, i, 2))), float(melanin[i]))
        for i in range(n)
    ]
    return np.ascontiguousarray(np.moveaxis(np.stack(drawn), -1, 1), dtype=np.float32) / 255


def said_by(options: dict, folder: Path) -> tuple[Judged, float]:
    """Return what SLUG says of light and dark test images, and the dark ones' error over the light ones'."""
    shape = replace(SHAPE, **options)
    training = pictures(160, 0.006, 0.05, 0)
    test = np.concatenate([pictures(40, 0.006, 0.05, 1), pictures(40, 0.1, 0.35, 2)])
    recipe = VaeRecipe(shape, steps=200, batch_size=16, epochs=1)
    model = fit_vae(Vae(shape, seed=0), training, list(range(160)), recipe, folder, seed=0).eval()
    state = slug.fit(MeanEncoder(model.encoder), model.decoder, torch.from_numpy(training[:40]), rank=10)
    score = slug.score(state, torch.from_numpy(test), relative_error=None, max_probes=16, rho=False).score
    with torch.no_grad():
        made = model.reconstruct(torch.from_numpy(test)).numpy()
    error = np.square(made - test).mean(axis=(1, 2, 3))
    dark = np.repeat([False, True], 40)
    clusters, weights = patient_weights(np.arange(80), 300, 0, dark.astype(int))
    found = judged(score[None, None], error[None, None], test.mean(axis=(1, 2, 3)), dark, clusters, weights)
    return found, float(error[dark].mean() / error[~dark].mean())


@pytest.mark.slow
def test_the_naive_set_up_turns_the_score_around_and_the_self_check_sees_it(tmp_path: Path) -> None:
    standard, worse = said_by({}, tmp_path / "standard")
    assert worse > 2
    assert standard.for_group[0].low > 0.8
    assert standard.with_error[0].low > 0.5
    naive, worse = said_by(NAIVE, tmp_path / "naive")
    assert worse > 2  # dark skin is reconstructed badly here too
    assert naive.for_group[0].high < 0.2
    assert naive.with_error[0].high < -0.5
    assert naive.follows_brightness[0].low > 0  # which makes the finding brightness:slug "supported"
