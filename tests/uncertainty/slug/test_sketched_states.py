"""The sketched fit: what it keeps, how near its score is, and that ghosts of the recurrence do no harm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medaudit.errors import UsageError
from medaudit.uncertainty import slug
from medaudit.uncertainty.slug.sketch import Sketch

CODE = 6


class Code(nn.Module):
    """The first numbers of an image: an encoder without parameters."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :CODE]


def small(dtype: torch.dtype = torch.float64, seen: int = 3) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    decode = nn.Sequential(nn.Linear(CODE, 12), nn.Tanh(), nn.Linear(12, 48), nn.Unflatten(1, (3, 4, 4))).to(dtype)
    return decode, torch.randn(seen, 3, 4, 4).to(dtype), torch.randn(4, 3, 4, 4).to(dtype)


def fitted(decode: nn.Module, images: Tensor, rank: int, **options: object) -> slug.SlugState:
    chosen = {"params": "decoder", "weights": "projector", "prior_precision": 1.0, "block": 3, "trace_probes": 40}
    return slug.fit(Code(), decode, images, rank, **{**chosen, **options})  # type: ignore[arg-type]


def scored(state: slug.SlugState, images: Tensor, seed: int = 0) -> slug.Scores:
    return slug.score(state, images, estimator="vjp", relative_error=None, max_probes=64, seed=seed)


@pytest.mark.parametrize("size", [64, 97, 100, 1_009])
def test_a_sketch_of_any_length_has_orthogonal_rows_and_keeps_lengths_on_average(size: int) -> None:
    dense = Sketch.draw(size, size // 4, 5)(torch.eye(size, dtype=torch.float64)).T
    np.testing.assert_allclose(dense @ dense.T, size / (size // 4) * torch.eye(size // 4), atol=1e-9)
    v = torch.sin(torch.arange(size, dtype=torch.float64))[None]
    lengths = np.asarray([float(Sketch.draw(size, size // 4, seed)(v).square().sum()) for seed in range(400)])
    z = (lengths.mean() - float(v.square().sum())) / (lengths.std(ddof=1) / 400**0.5)
    assert abs(z) < 3.3
    assert len(Sketch.draw(size, size, 1).rows.unique()) == size


def test_a_sketch_is_as_linear_as_a_matrix_and_keeps_angles_the_better_the_longer_it_is() -> None:
    v = torch.randn(2, 2_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    true = float(v[0] @ v[1] / v.norm(dim=1).prod())
    wrong = []
    for length in (50, 500, 2_000):
        off = []
        for seed in range(40):
            sketch = Sketch.draw(2_000, length, seed)
            s = sketch(v)
            np.testing.assert_allclose(sketch(v[:1] - 2 * v[1:]), s[:1] - 2 * s[1:], atol=1e-9)
            off.append(float(s[0] @ s[1] / s.norm(dim=1).prod()) - true)
        wrong.append(float(np.sqrt(np.mean(np.square(off)))))
    assert wrong[0] > 2 * wrong[1] > 100 * wrong[2]


def test_a_sketched_score_nears_the_projectors_as_the_sketch_grows() -> None:
    decode, images, new = small()
    size = sum(p.numel() for p in decode.parameters())
    wrong = []
    for length in (96, 250, size):
        off = []
        for seed in range(3):
            wanted = scored(fitted(decode, images, 24, depth=8, seed=seed, tolerance=0.0), new).score
            off.append(scored(fitted(decode, images, 24, depth=8, sketch=length, seed=seed), new).score / wanted - 1)
        wrong.append(float(np.abs(off).mean()))
    assert wrong[0] > wrong[1] > wrong[2]
    assert wrong[2] < 1e-8


def everything(sketch: int | None, seed: int) -> tuple[slug.SlugState, Tensor]:
    """Return a fit that finds all 96 eigenvectors of two images' 96 outputs, and these images and four new ones."""
    decode, images, new = small(seen=2)
    return fitted(decode, images, 96, block=48, depth=4, sketch=sketch, seed=seed), torch.cat([images, new])


@pytest.mark.parametrize("sketch", [384, 500])
def test_a_sketched_score_is_never_negative_not_even_where_training_left_nothing(sketch: int) -> None:
    for seed in range(3):
        state, images = everything(sketch, seed)
        said = scored(state, images, seed)
        assert (said.score >= -1e-9 * said.jacobian).all()
        assert np.nanmin(said.each) >= -1e-9 * said.jacobian.max()


def test_what_a_sketched_fit_saw_is_certain_whatever_part_of_its_space_the_rank_is() -> None:
    # Four blocks of 48 span more than the 96 directions that are kept, which must be those that were seen.
    for seed in range(2):
        state, images = everything(600, seed)
        said = scored(state, images, seed)
        assert (said.score[:2] < 0.02 * said.jacobian[:2]).all()
        exact, _ = everything(None, seed)
        truth = slug.score(exact, images, estimator="exact").score
        assert (truth[:2] < 1e-9).all()
        np.testing.assert_allclose(said.score[2:], truth[2:], rtol=0.12)


@pytest.mark.parametrize("sketch", [160, 250])
def test_a_short_sketch_does_not_make_new_images_certain(sketch: int) -> None:
    # The k sketched vectors hold k / s of any other vector by chance; it must not be taken for what training saw.
    decode, images, new = small(seen=12)
    truth = slug.score(fitted(decode, images, 40), new, estimator="exact").score
    ratios = [
        scored(fitted(decode, images, 40, sketch=sketch, seed=seed), new, seed).score / truth for seed in range(4)
    ]
    assert np.mean(ratios) == pytest.approx(1, abs=0.1)


def test_ghosts_of_the_recurrence_do_not_count_twice() -> None:
    # Far more blocks than there are distinct large eigenvalues: without reorthogonalisation they come back.
    decode, images, new = small(torch.float32, seen=12)
    kept = fitted(decode, images, 40, block=1, depth=120)
    state = fitted(decode, images, 40, block=1, depth=120, sketch=400)
    assert (scored(state, torch.cat([images[:2], new])).score > 0).all()
    np.testing.assert_allclose(state.basis @ state.basis.T, torch.eye(len(state.basis)), atol=1e-4)  # type: ignore
    assert state.fitted.captured < 1.1 * kept.fitted.captured
    assert bool((state.values[:8] < 1.1 * kept.values[:8]).all())


def test_a_sketched_state_gives_the_global_score_only_and_comes_back_from_its_file(tmp_path: Path) -> None:
    decode, images, new = small()
    state = fitted(decode, images, 9, sketch=120)
    assert state.vectors is None
    for options in ({}, {"estimator": "exact"}, {"estimator": "xtrace"}, {"estimator": "vjp", "pixel_map": True}):
        with pytest.raises(UsageError, match="sketch"):
            slug.score(state, new, **options)  # type: ignore[arg-type]
    state.save(tmp_path / "sketched.pt")
    again = slug.load(tmp_path / "sketched.pt", Code(), decode, images)
    np.testing.assert_array_equal(scored(again, new).score, scored(state, new).score)
    assert (tmp_path / "sketched.pt").stat().st_size < 9 * 120 * 8 + 50_000
