"""The sketch against its matrix written out, and the sketched score against the projector that it stands for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medaudit.errors import UsageError
from medaudit.networks.vae import MeanEncoder, Vae, VaeShape
from medaudit.uncertainty import slug
from medaudit.uncertainty.slug.sketch import Sketch


def tiny(dtype: torch.dtype = torch.float64) -> tuple[tuple[nn.Module, nn.Module], Tensor, Tensor]:
    model = Vae(VaeShape(channels=3, side=8, widths=(8, 8), latent=4), seed=0).eval().to(dtype)
    generator = torch.Generator().manual_seed(0)
    images, new = (torch.rand(n, 3, 8, 8, generator=generator).to(dtype) for n in (14, 4))
    return (MeanEncoder(model.encoder), model.decoder), images, new


def fitted(images: Tensor, parts: tuple[nn.Module, nn.Module], **options: object) -> slug.SlugState:
    chosen = {"rank": 9, "weights": "projector", "prior_precision": 1.0, "trace_probes": 2, **options}
    return slug.fit(*parts, images, **chosen)  # type: ignore[arg-type]


def scored(state: slug.SlugState, images: Tensor, probes: int = 32) -> np.ndarray:
    """Return scores by the estimator that both modes have; its probes are the same for both."""
    return slug.score(state, images, estimator="vjp", relative_error=None, max_probes=probes).score


@pytest.mark.parametrize(("size", "rows"), [(16, 5), (101, 40), (127, 127)])
def test_a_sketch_is_the_hartley_matrix_with_signs_and_some_of_its_rows(size: int, rows: int) -> None:
    sketch = Sketch.draw(size, rows, seed=3)
    angle = 2 * np.pi * np.outer(sketch.rows.numpy(), np.arange(size)) / size
    wanted = (np.cos(angle) + np.sin(angle)) * sketch.signs.numpy() / rows**0.5
    made = sketch(torch.eye(size, dtype=torch.float64)).T
    np.testing.assert_allclose(made, wanted, atol=1e-12)
    assert len(set(sketch.rows.tolist())) == rows
    assert set(sketch.signs.tolist()) == {-1, 1}


def test_lengths_are_kept_on_average_whatever_the_vector() -> None:
    spike = torch.zeros(60, dtype=torch.float64)
    spike[7] = 2.0
    wave = torch.cos(torch.arange(60, dtype=torch.float64))
    for v in (spike, wave, torch.ones(60, dtype=torch.float64)):
        lengths = np.asarray([float(Sketch.draw(60, 12, seed)(v[None]).square().sum()) for seed in range(1_000)])
        z = (lengths.mean() - float(v.square().sum())) / (lengths.std(ddof=1) / len(lengths) ** 0.5)
        assert abs(z) < 3.5
        assert lengths.std() > 0


def test_signs_and_rows_do_not_follow_from_one_another() -> None:
    # One stream for both would make the rows that are drawn depend on the signs: over seeds they must be unrelated.
    drawn = [Sketch.draw(400, 40, seed) for seed in range(300)]
    first_row = np.asarray([int(sketch.rows[0]) for sketch in drawn])
    plus = np.asarray([int((sketch.signs == 1).sum()) for sketch in drawn])
    assert abs(np.corrcoef(first_row, plus)[0, 1]) < 0.2
    assert len({tuple(sketch.rows.tolist()) for sketch in drawn}) == 300
    assert len({tuple(sketch.signs.tolist()) for sketch in drawn}) == 300


def test_a_sketch_of_two_million_parameters_is_never_a_matrix() -> None:
    v = torch.randn(1, 2_000_003, generator=torch.Generator().manual_seed(0))  # dense it would take 40 GB
    made = Sketch.draw(2_000_003, 5_000, seed=0)(v)
    assert float(made.square().sum()) == pytest.approx(float(v.square().sum()), rel=0.1)


def test_the_sketched_score_nears_the_projectors_as_the_sketch_grows() -> None:
    parts, images, new = tiny()
    wanted = scored(fitted(images, parts, block=3, depth=3), new)
    size = fitted(images, parts, block=3, depth=3).model.size
    gaps = [
        np.mean([
            np.abs(scored(fitted(images, parts, block=3, depth=3, sketch=s, seed=seed), new)
                   / scored(fitted(images, parts, block=3, depth=3, seed=seed), new) - 1).mean()
            for seed in range(2)
        ])
        for s in (40, 300, size)
    ]  # fmt: skip
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-9
    np.testing.assert_allclose(scored(fitted(images, parts, block=3, depth=3, sketch=size), new), wanted, rtol=1e-9)


def test_a_space_larger_than_the_rank_keeps_the_leading_eigenvectors_as_the_projector_does() -> None:
    parts, images, new = tiny()
    whole = fitted(images, parts, rank=8, tolerance=0.0)  # of the default space: four blocks of three
    sketched = fitted(images, parts, rank=8, sketch=whole.model.size)
    np.testing.assert_allclose(scored(sketched, new), scored(whole, new), rtol=1e-2)


def test_ghosts_of_a_long_recurrence_are_subtracted_once() -> None:
    # Single precision and far more steps than the GGN of two images has directions: the recurrence comes back to
    # what it had found. Were each copy subtracted, scores would be negative. All numbers are kept, so that no noise of
    # the sketch is mistaken for it.
    parts, images, new = tiny(torch.float32)
    size = fitted(images[:2], parts, rank=2).model.size
    state = fitted(images[:2], parts, rank=60, block=2, depth=60, sketch=size)
    assert state.fitted.products > 60  # more than the rank: copies among them
    assert state.basis is not None
    basis = state.basis.double()
    np.testing.assert_allclose(basis @ basis.T, torch.eye(len(basis)), atol=1e-4)
    every = slug.score(state, torch.cat([images, new]), estimator="vjp", relative_error=None, max_probes=32)
    scale = every.jacobian.max() * state.fitted.prior_precision
    assert float(np.nanmin(every.each)) >= -1e-6 * scale
    assert every.rho.max() <= 1


@pytest.mark.parametrize(("rank", "numbers"), [(8, 5), (12, 12)])
def test_a_sketch_without_room_for_its_vectors_is_refused(rank: int, numbers: int) -> None:
    parts, images, _ = tiny()
    with pytest.raises(UsageError, match="sketch"):
        fitted(images, parts, rank=rank, sketch=numbers)


def test_too_few_blocks_for_the_rank_are_refused_with_a_sketch_too() -> None:
    parts, images, _ = tiny()
    with pytest.raises(UsageError, match="at least rank"):
        fitted(images, parts, rank=8, block=2, depth=1, sketch=200)
