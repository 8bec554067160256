"""Models as people write them: what is taken gives the right numbers, and what is not is refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.nn.utils import parametrizations

from medaudit.errors import UsageError
from medaudit.networks.vae import MeanEncoder, Vae, VaeShape
from medaudit.uncertainty import slug

IMAGES = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0)).double()


def encoder() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 5))


class Tokens(nn.Module):
    """A decoder that works on four tokens of twelve numbers."""

    def __init__(self, core: nn.Module) -> None:
        super().__init__()
        self.first, self.core, self.last = nn.Linear(5, 48), core, nn.Linear(12, 12)

    def forward(self, codes: Tensor) -> Tensor:
        return self.last(self.core(self.first(codes).view(-1, 4, 12))).reshape(-1, 3, 4, 4)


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 12), nn.SiLU(), nn.Linear(12, 12))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Attends(nn.Module):
    """Torch's attention over the tokens, by its module or by its function."""

    def __init__(self, by_module: bool) -> None:
        super().__init__()
        self.by_module = by_module
        self.module, self.mixed = nn.MultiheadAttention(12, 2, batch_first=True), nn.Linear(12, 36)

    def forward(self, x: Tensor) -> Tensor:
        if self.by_module:
            return x + self.module(x, x, x, need_weights=False)[0]
        q, k, v = self.mixed(x).view(len(x), 4, 3, 2, 6).permute(2, 0, 3, 1, 4)
        made = nn.functional.scaled_dot_product_attention(q, k, v)
        return x + made.transpose(1, 2).reshape(x.shape)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(12, 12, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(x)[0]


def seeded(make: Callable[[], nn.Module]) -> tuple[nn.Module, nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return encoder().double().eval(), make().double().eval()


def fitted(encode: Any, decode: Any, **options: Any) -> slug.SlugState:
    chosen = {"rank": 3, "prior_precision": 1.0, "residual_variance": 0.1, "trace_probes": 2, **options}
    return slug.fit(encode, decode, IMAGES, **chosen)


def written_out(encode: nn.Module, decode: nn.Module, state: slug.SlugState) -> np.ndarray:
    """Return Tr A of two images from the model itself, by reverse differentiation and Σ written out."""
    model = nn.Sequential(encode, decode)
    weights = {name: value.detach() for name, value in model.named_parameters()}
    jacobian = jacrev(lambda p: functional_call(model, p, (IMAGES[:2],)))(weights)
    j = torch.cat([part.flatten(4) for part in jacobian.values()], dim=-1).flatten(1, 3)
    assert state.vectors is not None
    along = (j @ state.vectors.T).square() @ state.removed
    return (j.square().sum(dim=2) - along).sum(dim=1).numpy()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Tokens(Residual()),
        lambda: Tokens(Recurrent()),
        lambda: nn.Sequential(nn.Linear(5, 48), nn.ReLU(inplace=True), nn.Linear(48, 48), nn.Unflatten(1, (3, 4, 4))),
        lambda: nn.Sequential(nn.Linear(5, 48), nn.Unflatten(1, (12, 2, 2)), nn.Conv2d(12, 12, 3, padding=1),
                              nn.PixelShuffle(2)),
        lambda: nn.Sequential(nn.Linear(5, 12), nn.Unflatten(1, (3, 2, 2)), nn.ConvTranspose2d(3, 4, 2, stride=2),
                              nn.GELU(), nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"), nn.PReLU()),
        lambda: nn.Sequential(nn.Linear(5, 12), nn.Unflatten(1, (3, 2, 2)),
                              nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(3, 3, 1), nn.GroupNorm(1, 3)),
    ],
)  # fmt: skip
def test_what_is_taken_has_the_score_of_its_jacobian_written_out(make: Callable[[], nn.Module]) -> None:
    encode, decode = seeded(make)
    state = fitted(encode, decode)
    wanted = written_out(encode, decode, state)
    exact = slug.score(state, IMAGES[:2], estimator="exact")
    np.testing.assert_allclose(exact.score, wanted, rtol=1e-8)
    pushed = slug.score(state, IMAGES[:2], relative_error=None, max_probes=300)
    assert (np.abs(pushed.score - wanted) < 4.5 * pushed.error).all()


def test_a_spectral_norm_that_is_evaluated_is_part_of_the_function() -> None:
    encode, decode = seeded(
        lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(5, 48)), nn.Unflatten(1, (3, 4, 4)))
    )
    state = fitted(encode, decode)
    np.testing.assert_allclose(
        slug.score(state, IMAGES[:2], estimator="exact").score, written_out(encode, decode, state), rtol=1e-8
    )


@pytest.mark.parametrize("by_module", [True, False])
def test_fused_attention_is_refused_with_the_operation_s_name(by_module: bool) -> None:
    encode, decode = seeded(lambda: Tokens(Attends(by_module)))
    said = "native_multi_head_attention" if by_module else "scaled_dot_product"
    with pytest.raises(UsageError, match=f"cannot be differentiated.*{said}.*without a forward derivative"):
        fitted(encode, decode)


def vae() -> Vae:
    return Vae(VaeShape(channels=3, side=4, widths=(8, 8), latent=4), seed=0).eval().double()


def test_methods_of_one_model_are_the_same_function_as_its_modules() -> None:
    model = vae()
    wanted = slug.score(fitted(MeanEncoder(model.encoder), model.decoder), IMAGES, estimator="exact").score
    for encode, decode in ((model.encode_mean, model.decoder), (model.encode_mean, model.decoder.forward)):
        said = slug.score(fitted(encode, decode), IMAGES, estimator="exact").score
        # The parameters may come in another order, and so the search from other vectors: 1 % is its tolerance.
        np.testing.assert_allclose(said, wanted, rtol=2e-2)


def test_the_encoder_s_method_and_the_decoder_s_module_can_be_fitted_over_the_decoder() -> None:
    model = vae()
    wanted = fitted(MeanEncoder(model.encoder), model.decoder, params="decoder")
    state = fitted(model.encode_mean, model.decoder, params="decoder")
    assert state.fitted.parameters == wanted.fitted.parameters
    np.testing.assert_allclose(state.values, wanted.values, rtol=1e-10)


def test_the_decoder_alone_is_the_decoder_at_codes_that_do_not_move() -> None:
    model = vae()
    state = fitted(MeanEncoder(model.encoder), model.decoder, params="decoder")
    codes = model.encode_mean(IMAGES[:2]).detach()
    weights = {name: value.detach() for name, value in model.decoder.named_parameters()}
    jacobian = jacrev(lambda p: functional_call(model.decoder, p, (codes,)))(weights)
    j = torch.cat([part.flatten(4) for part in jacobian.values()], dim=-1).flatten(1, 3)
    assert state.fitted.parameters == j.shape[2]
    assert state.vectors is not None
    wanted = (j.square().sum(dim=2) - (j @ state.vectors.T).square() @ state.removed).sum(dim=1)
    np.testing.assert_allclose(slug.score(state, IMAGES[:2], estimator="exact").score, wanted, rtol=1e-8)


def test_the_model_and_the_global_generator_are_left_as_they_were() -> None:
    model = vae()
    model.decoder.last.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    with torch.no_grad():
        state = fitted(MeanEncoder(model.encoder), model.decoder)
        inside = slug.score(state, IMAGES[:2], estimator="vjp").score
    np.testing.assert_array_equal(slug.score(state, IMAGES[:2], estimator="vjp").score, inside)
    assert torch.equal(torch.get_rng_state(), generator)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is None for p in model.parameters())
    assert not model.decoder.last.weight.requires_grad
    assert not model.training
