"""The GGN of a convolutional autoencoder against curvlinops and against Jacobians that are written out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import jacrev

from medaudit.errors import DataError
from medaudit.uncertainty import slug
from medaudit.uncertainty.slug.ggn import Gaussian, Perceptual, ggn_products, ggn_trace, look_at
from medaudit.uncertainty.slug.model import Reconstruction, reconstruction

# curvlinops 3.0.1, torch 2.13: GGNLinearOperator(net, MSELoss(reduction="sum"), weights, two batches of 4 and 2), whose
# loss makes it 2 J'J, divided by 2. The eight largest eigenvalues and the trace of the dense matrix, and the product
# with cos(0.9 i): its first numbers and its norm. For the decoder its inputs are the codes. Two eigenvalues are nearly
# equal: those of the last layer's channels.
CURVLINOPS = {
    "all": {
        "size": 398,
        "values": [1538.3225351637584, 448.2089987232888, 133.12467951014708, 133.09604427673668, 117.57487815271897,
                   50.84550028155587, 23.146384697076957, 8.143388257770397],
        "trace": 2499.7684266371934,
        "first": [0.4390853452573443, 1.6665723512253454, 2.213891641413018, 0.31360047091519017],
        "norm": 636.54517427849,
    },
    "decoder": {
        "size": 227,
        "values": [1450.4414741633173, 436.88842180805204, 133.12423682857465, 133.0960442767367, 117.50324584635739,
                   50.81721119364536, 23.109320248790112, 8.143388257770376],
        "trace": 2399.582170883024,
        "first": [97.7440216531563, 77.16906734076704, -3.919678904366381, 121.52863096217314],
        "norm": 620.5610341296633,
    },
}  # fmt: skip


def by_formula() -> tuple[nn.Module, nn.Module, Tensor]:
    """Return a convolutional encoder, a decoder and images whose numbers are sines: no generator to depend on."""
    encode = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.GroupNorm(2, 4), nn.SiLU(), nn.Flatten(),
                           nn.Linear(16, 3))  # fmt: skip
    decode = nn.Sequential(nn.Linear(3, 8), nn.Unflatten(1, (2, 2, 2)), nn.Conv2d(2, 4, 3, padding=1),
                           nn.GroupNorm(2, 4), nn.SiLU(), nn.Upsample(scale_factor=2),
                           nn.Conv2d(4, 3, 3, padding=1))  # fmt: skip
    at = 0
    for part in (encode, decode):
        for p in part.parameters():
            p.data = (0.4 * torch.sin(0.7 * torch.arange(at, at + p.numel(), dtype=torch.float64))).view(p.shape)
            at += p.numel()
    return encode, decode, (0.5 + 0.5 * torch.sin(1.3 * torch.arange(288, dtype=torch.float64))).view(6, 3, 4, 4)


def written_out(f: Reconstruction, images: Tensor) -> Tensor:
    """Return J of every image, (N, O, P)."""
    found = jacrev(f.function(images))(dict(f.parameters))
    return f.flat({name: value.flatten(4).flatten(0, 3) for name, value in found.items()}, batched=True).view(
        len(images), f.outputs, f.size
    )


@pytest.mark.parametrize("over", ["all", "decoder"])
def test_products_and_eigenvalues_are_curvlinops(over: str) -> None:
    encode, decode, images = by_formula()
    wanted = CURVLINOPS[over]
    f = reconstruction(encode, decode, images, over)
    assert f.size == wanted["size"]
    v = torch.cos(0.9 * torch.arange(f.size, dtype=torch.float64))[None]
    made = ggn_products(f, images.split(4), v, likelihood=Gaussian(), variance=1.0)[0]
    np.testing.assert_allclose(made[:4], wanted["first"], rtol=1e-8)
    assert float(made.norm()) == pytest.approx(wanted["norm"], rel=1e-10)
    state = slug.fit(encode, decode, images, rank=8, params=over, block=4, depth=12, tolerance=1e-10,
                     residual_variance=1.0, trace_probes=400)  # fmt: skip
    np.testing.assert_allclose(state.values, wanted["values"], rtol=1e-7)
    assert abs(state.fitted.trace - wanted["trace"]) < 4 * state.fitted.trace_error  # type: ignore[operator]
    assert state.fitted.captured == pytest.approx(sum(wanted["values"]) / wanted["trace"], rel=0.05)  # type: ignore


@pytest.mark.parametrize("over", ["all", "decoder"])
def test_products_forward_backward_and_image_by_image_are_those_of_the_jacobian(over: str) -> None:
    encode, decode, images = by_formula()
    f = reconstruction(encode, decode, images, over)
    j = written_out(f, images)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(3, f.size, generator=generator, dtype=torch.float64)
    outputs = torch.randn(2, *images.shape, generator=generator, dtype=torch.float64)
    close = {"rtol": 1e-9, "atol": 1e-9}
    for at_once in (1, 2):
        np.testing.assert_allclose(
            f.push(images, rows, at_once).flatten(2), torch.einsum("nop,bp->bno", j, rows), **close
        )
        pulled = torch.einsum("nop,bno->bp", j, outputs.flatten(2))
        np.testing.assert_allclose(f.pull(images, outputs, at_once), pulled, **close)
    each = f.pull_each(images[:2], outputs[0, :2])
    np.testing.assert_allclose(each, torch.einsum("nop,no->np", j[:2], outputs[0, :2].flatten(1)), **close)
    apart = f.push_each(images[:2], rows[:2])
    np.testing.assert_allclose(apart.flatten(1), torch.einsum("nop,np->no", j[:2], rows[:2]), **close)


def test_a_pass_is_a_sum_over_images_however_they_are_batched_and_stops_at_its_limit() -> None:
    encode, decode, images = by_formula()
    f = reconstruction(encode, decode, images)
    j = written_out(f, images)
    v = torch.randn(2, f.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for limit, seen in ((None, 6), (5, 5), (1, 1), (60, 6)):
        g = torch.einsum("nop,noq->pq", j[:seen], j[:seen]) / 0.2
        for batch in (1, 4, 6):
            loader = [{"image": part, "case": "x"} for part in images.split(batch)]
            made = ggn_products(f, loader, v, likelihood=Gaussian(), variance=0.2, limit=limit)
            np.testing.assert_allclose(made, v @ g, rtol=1e-9, atol=1e-9)
        assert look_at(f, loader, limit).images == seen
    with pytest.raises(DataError, match=r"gave 6 images, the first one 7; it must give the same ones"):
        ggn_products(
            f, images, v, likelihood=Gaussian(), variance=0.2, expected=replace(look_at(f, images, None), images=7)
        )


def test_the_residual_variance_is_the_mean_squared_residual() -> None:
    encode, decode, images = by_formula()
    f = reconstruction(encode, decode, images)
    with torch.no_grad():
        wanted = float((images - decode(encode(images))).square().mean())
    assert look_at(f, images.split(4), None).residual_variance == pytest.approx(wanted, rel=1e-12)


def features(images: Tensor) -> Tensor:
    """Return features that are no linear function of the images, with a shape of their own."""
    weight = torch.sin(1.1 * torch.arange(5 * 27, dtype=torch.float64)).view(5, 3, 3, 3)
    return torch.tanh(nn.functional.conv2d(images, weight, stride=2, padding=1))


def test_a_perceptual_likelihood_is_the_gauss_newton_matrix_of_both_distances() -> None:
    encode, decode, images = by_formula()
    f = reconstruction(encode, decode, images)
    j = written_out(f, images)
    v = torch.randn(2, f.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    plain = torch.einsum("nop,noq->pq", j, j)
    same = ggn_products(f, images.split(4), v, likelihood=Perceptual(lambda x: x, 0.35), variance=0.2)
    np.testing.assert_allclose(same, (1 / 0.2 + 2 * 0.35) * v @ plain, rtol=1e-9, atol=1e-9)
    made = f.reconstruct(images)
    inner = torch.stack([jacrev(features)(one[None]).reshape(-1, 48) for one in made])
    chained = torch.einsum("nfo,nop->nfp", inner, j)
    dense = plain / 0.2 + 2 * 0.35 * torch.einsum("nfp,nfq->pq", chained, chained)
    with_features = ggn_products(f, images.split(4), v, likelihood=Perceptual(features, 0.35), variance=0.2)
    np.testing.assert_allclose(with_features, v @ dense, rtol=1e-9, atol=1e-9)
    trace, error = ggn_trace(f, images, likelihood=Perceptual(features, 0.35), variance=0.2, probes=300, seed=3)
    assert abs(trace - float(torch.trace(dense))) < 4 * error
    assert error < 0.1 * trace
    nothing = ggn_products(f, images, v, likelihood=Perceptual(features, 0.0), variance=0.2)
    np.testing.assert_allclose(nothing, v @ plain / 0.2, rtol=1e-9, atol=1e-9)


def test_the_error_of_the_trace_is_the_spread_over_seeds() -> None:
    encode, decode, images = by_formula()
    f = reconstruction(encode, decode, images)
    runs = np.asarray(
        [ggn_trace(f, images, likelihood=Gaussian(), variance=1.0, probes=8, seed=seed) for seed in range(120)]
    )
    truth = CURVLINOPS["all"]["trace"]
    z = (runs[:, 0].mean() - truth) / (runs[:, 0].std(ddof=1) / len(runs) ** 0.5)  # type: ignore[operator]
    assert abs(z) < 3.5
    assert np.sqrt((runs[:, 1] ** 2).mean()) == pytest.approx(runs[:, 0].std(ddof=1), rel=0.2)


def test_images_that_change_from_pass_to_pass_are_refused_even_if_their_number_stays() -> None:
    encode, decode, _ = by_formula()

    class Augmented:
        passes = 0

        def __iter__(self) -> Iterator[Tensor]:
            self.passes += 1
            yield torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(self.passes), dtype=torch.float64)

    with pytest.raises(DataError, match="same"):
        slug.fit(encode, decode, Augmented(), rank=4)
