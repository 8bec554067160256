"""Mask banks against enumeration, closed forms, captum, shap and scikit-learn."""

import math
import warnings

import numpy as np
import pytest
import shap
import torch
from captum.attr import FeatureAblation, Occlusion
from captum.attr import KernelShap as CaptumKernelShap
from sklearn.linear_model import Ridge
from torch import nn

from medaudit.errors import DataError, UsageError
from medaudit.explanation.attributions import absence as absences
from medaudit.explanation.attributions import coalitions as co
from medaudit.explanation.attributions import masks as bank_of
from medaudit.explanation.attributions import units as of_units
from medaudit.explanation.attributions.explananda import Explanandum
from medaudit.explanation.attributions.intensity import Intensity

ZERO = absences.given(torch.zeros(1, 1, 1))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 16), nn.ReLU(),
        nn.Linear(16, 3),
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def black():
    return absences.constant("black", Intensity())


def game(function, units, samples=None, seed=0):
    return bank_of.bank_of(function, co.draw(units, samples, seed=seed))


def test_games_with_known_values():
    x = torch.tensor([[2.0, 3.0]])
    product = bank_of.mask_bank(lambda x: x[:, 0] ** 2 * x[:, 1], x, co.all_of(2), of_units.columns(x), ZERO)
    assert bank_of.shapley(product).values.tolist() == [[pytest.approx(6), pytest.approx(6)]]
    for name, function, shapley, banzhaf in (
        ("and", lambda m: m.all(1).double(), [1 / 3] * 3, [1 / 4] * 3),
        ("or", lambda m: m.any(1).double(), [1 / 3] * 3, [1 / 4] * 3),
        ("odd", lambda m: (m.sum(1) % 2).double(), [1 / 3] * 3, [0] * 3),
        ("dictator", lambda m: m[:, 0].double(), [1, 0, 0], [1, 0, 0]),
        # two of whom the first must be one, by hand
        ("boss", lambda m: (m[:, 0] & m[:, 1:].any(1)).double(), [2 / 3, 1 / 6, 1 / 6], [3 / 4, 1 / 4, 1 / 4]),
    ):
        bank = game(function, 3)
        for found, expected in (
            (bank_of.exact_shapley(bank), shapley), (bank_of.shapley(bank).values, shapley),
            (bank_of.exact_banzhaf(bank), banzhaf), (bank_of.banzhaf(bank).values, banzhaf),
        ):  # fmt: skip
            assert found[0].tolist() == pytest.approx(expected, abs=1e-9), name
        assert not bank_of.shapley(bank).standard_error.any()


def test_a_linear_model_is_shared_out_alike_by_all():
    w, x, base = torch.tensor([1.0, -2.0, 0.5, 3.0]), torch.randn(5, 4), torch.randn(1, 4)
    f = lambda x: x @ w + 1
    bank = bank_of.mask_bank(f, x, co.draw(4), of_units.columns(x), absences.given(base[None]))
    expected = (w * (x - base)).double()
    for found in (
        bank_of.shapley(bank), bank_of.banzhaf(bank), bank_of.lime(bank, 0.3), bank_of.without_one(bank),
        bank_of.with_one(bank),
    ):  # fmt: skip
        assert torch.allclose(found.values, expected, atol=1e-5)
    pool = torch.randn(7, 4)  # interventional: against the pool's mean
    many = bank_of.mask_bank(f, x, co.draw(4), of_units.columns(x), absences.dataset(pool, 7), at_once=5)
    assert torch.allclose(bank_of.shapley(many).values, (w * (x - pool.mean(0))).double(), atol=1e-5)


def test_interventional_and_observational_values_of_correlated_columns():
    """f = x1, correlation 0.8, x = (1, 2): (1, 0) true to the model, (0.2, 0.8) true to the data."""
    x, f = torch.tensor([[1.0, 2.0]]), lambda x: x[:, 0]
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]])
    own = bank_of.mask_bank(f, x, co.all_of(2), of_units.columns(x), ZERO)
    assert bank_of.shapley(own).values[0].tolist() == pytest.approx([1, 0], abs=1e-6)
    for count in (1, 6):
        given = absences.gaussian_conditional(torch.zeros(2), covariance, count)
        found = bank_of.shapley(bank_of.mask_bank(f, x, co.all_of(2), of_units.columns(x), given)).values[0]
        assert found.tolist() == pytest.approx([0.2, 0.8], abs=1e-6)
    # Not linear: f = x1^2 given x2 = 2 has mean 1.6^2 + 0.36, and 1 where nothing is known.
    many = absences.gaussian_conditional(torch.zeros(2), covariance, 4000)
    square = bank_of.mask_bank(lambda x: x[:, 0] ** 2, x, co.all_of(2), of_units.columns(x), many)
    assert square.values[:, 0].tolist() == pytest.approx([1, 1, 2.92, 1], rel=0.05)
    table = torch.randn(5000, 2, generator=torch.Generator().manual_seed(0)) @ torch.linalg.cholesky(covariance).T
    fitted = bank_of.mask_bank(f, x, co.all_of(2), of_units.columns(x), absences.conditional(table, 1))
    assert bank_of.shapley(fitted).values[0].tolist() == pytest.approx([0.2, 0.8], abs=0.05)


def test_sampled_shapley_values_come_to_the_exact_and_know_their_error():
    torch.manual_seed(0)
    head = nn.Sequential(nn.Linear(14, 24), nn.Tanh(), nn.Linear(24, 6)).double()

    def value(masks):
        with torch.no_grad():
            return 4 * head(masks.double())

    exact = bank_of.exact_shapley(game(value, 14, 2**14))
    z = []
    for seed in range(40):
        found = bank_of.shapley(game(value, 14, 300, seed))
        assert torch.allclose(found.values.sum(1), (value(torch.ones(1, 14)) - value(torch.zeros(1, 14)))[0], atol=1e-9)
        z.append((found.values - exact) / found.standard_error)
    z = torch.stack(z)
    assert abs(float(z.mean())) < 0.15
    assert 0.8 < float(z.std()) < 1.2
    assert bank_of.shapley(game(value, 14, 300)).samples == 300
    few, more = ((bank_of.shapley(game(value, 14, n)).values - exact).abs().mean() for n in (100, 1600))
    assert more < few / 3
    # Banzhaf values and LIME from the same coalitions, by importance, with the effective number said.
    bank = game(value, 14, 4000)
    told = bank_of.banzhaf(bank)
    off = (told.values - bank_of.exact_banzhaf(game(value, 14, 2**14))) / told.standard_error
    assert 0.5 < float(off.std()) < 2
    assert told.effective < 3500
    mean = bank_of.mean_mask(bank)
    every = bank_of.mean_mask(game(value, 14, 2**14))
    assert 0.4 < float(((mean.values - every.values) / mean.standard_error).std()) < 1.6
    native = bank_of.bank_of(value, co.draw(14, 4000, law="bernoulli"))
    assert bank_of.banzhaf(native).effective > 3900


def test_shap_and_captum_agree(net, images, black):
    x = images[:1]
    f = Explanandum("logit").of(net, x)
    units = of_units.grid(x, 3)
    bank = bank_of.mask_bank(f, x, co.draw(9), units, black)
    exact = bank_of.shapley(bank).values[0].numpy()

    def value(masks):
        return bank_of.evaluate(f, x, torch.from_numpy(masks > 0.5), units, black)[:, 0].numpy()

    ones, zeros = np.ones((1, 9)), np.zeros((1, 9))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kernel = shap.KernelExplainer(value, zeros, silent=True).shap_values(ones, nsamples=510, silent=True)
    assert exact == pytest.approx(kernel[0], abs=1e-5)
    assert bank_of.exact_shapley(bank)[0].numpy() == pytest.approx(exact, abs=1e-9)
    torch.manual_seed(0)
    mask = units.labels[:, None].expand(1, 2, 8, 8)
    sampled = CaptumKernelShap(net).attribute(
        x, target=f.target, feature_mask=mask, n_samples=2000, perturbations_per_eval=64
    )
    assert of_units.paint(torch.from_numpy(exact)[None], units)[0].numpy() == pytest.approx(
        sampled[0, 0].numpy(), abs=0.02
    )


def test_ablation_and_occlusion_are_captums(net, images, black):
    f = Explanandum("logit").of(net, images)
    units = of_units.of_labels(torch.arange(8).reshape(1, 8, 1).expand(1, 8, 8) // 3)
    assert units.count == 3
    theirs = FeatureAblation(net).attribute(
        images, target=f.target, feature_mask=units.labels[:, None].expand(1, 2, 8, 8)
    )
    ours = bank_of.ablation(f, images, units, black)
    assert torch.allclose(ours.painted(units), theirs[:, 0], atol=1e-6)
    assert torch.equal(bank_of.without_one(bank_of.mask_bank(f, images, co.draw(3), units, black)).values, ours.values)
    for window, stride in (((3, 3), (2, 2)), ((4, 2), (3, 1))):
        theirs = Occlusion(net).attribute(
            images, sliding_window_shapes=(2, *window), strides=(2, *stride), target=f.target, baselines=0
        )
        ours = bank_of.occlusion(f, images, black, window, stride, at_once=7)
        assert torch.allclose(ours, theirs[:, 0], atol=1e-6)


def test_lime_is_the_weighted_ridge_of_its_own_kernel():
    torch.manual_seed(1)
    masks = torch.rand(300, 6) > 0.5
    values = torch.randn(300, 2).double() + masks.double() @ torch.randn(6, 2).double()
    weight = torch.rand(300).double()
    bank = bank_of.MaskBank(co.of_masks(masks), values)
    ours = bank_of.surrogate(bank, weight, ridge=0.7).values
    theirs = Ridge(alpha=0.7).fit(masks.numpy(), values.numpy(), sample_weight=weight.numpy()).coef_
    assert np.allclose(ours, theirs, atol=1e-9)
    # All coalitions: the law of the sample does not matter, and the kernel is that of the cosine.
    function = lambda m: m[:, 0].double() * m[:, 1] + m[:, 2] - 0.5 * m[:, 3] * m[:, 4]
    full = game(function, 6)
    size = full.coalitions.sizes.double()
    kernel = torch.exp(-((1 - (size / 6).sqrt()) ** 2) / (2 * 0.4**2))
    theirs = Ridge(alpha=1e-9).fit(
        full.coalitions.masks.numpy(), full.values[:, 0].numpy(), sample_weight=kernel.numpy()
    ).coef_  # fmt: skip
    assert np.allclose(bank_of.lime(full, 0.4).values[0], theirs, atol=1e-6)
    # A ridge means the same whatever drew the coalitions.
    drawn = [bank_of.lime(bank_of.bank_of(function, co.draw(16, 6000, law=law)), 0.4, ridge=500).values[0, :6]
             for law in ("shapley", "bernoulli")]  # fmt: skip
    assert torch.allclose(*drawn, atol=0.05)
    assert float(drawn[0][2]) < 0.9  # it does shrink


def test_designs_of_coalitions():
    for units, samples in ((13, 200), (20, 101), (64, 300), (5, 20)):
        found = co.draw(units, samples, seed=3)
        assert len(found) == samples - samples % 2
        paired = torch.nonzero(found.partner >= 0)[:, 0]
        assert torch.equal(found.masks[paired], ~found.masks[found.partner[paired]])
        sizes = torch.bincount(found.sizes, minlength=units + 1)
        for size in torch.nonzero(found.whole)[:, 0].tolist():
            assert int(sizes[size]) == math.comb(units, size)
            assert len(torch.unique(found.masks[found.sizes == size], dim=0)) == math.comb(units, size)
        weight = co.weights(found, co.shapley_kernel(units))
        assert float(weight.sum()) == pytest.approx(1, abs=0.02 if units == 64 else 1e-9)
        # Each unit is in as often as it is out, under any law that treats complements alike.
        assert torch.allclose(weight @ found.masks.double(), weight.sum() / 2 * torch.ones(units).double())
    assert len(co.draw(12)) == 2**12
    assert len(co.draw(13)) == 26 + 2048
    assert float(co.bernoulli(9, 0.3) @ torch.arange(10).double()) == pytest.approx(2.7)
    # By Bernoulli's law with another share; sizes are as they should be.
    third = co.draw(30, 1000, law="bernoulli", share=0.3)
    assert float(third.sizes.double().mean()) == pytest.approx(9, abs=0.3)
    assert float(co.lime_kernel(4, 0.25)[4]) == pytest.approx(1 / 16)
    with pytest.raises(UsageError, match="drawn by another law"):
        co.weights(co.leave_one_out(8), co.shapley_kernel(8))
    with pytest.raises(UsageError, match="do not determine"):
        bank_of.shapley(game(lambda m: m.sum(1), 30, 40))
    with pytest.raises(UsageError, match="all but each unit"):
        bank_of.without_one(game(lambda m: m.sum(1), 30, 40))
    with pytest.raises(UsageError, match="empty coalition"):
        bank_of.shapley(bank_of.MaskBank(co.of_masks(torch.eye(3) > 0), torch.zeros(3, 1).double()))
    with pytest.raises(DataError, match="True and False"):
        co.of_masks(torch.rand(3, 3))


def test_any_function_of_masks_may_be_a_bank():
    edges = torch.tensor([2.0, 0.0, -1.0, 0.5]).double()  # a graph's edges, scored by somebody else's code
    bank = bank_of.bank_of(lambda masks: (masks.double() @ edges).numpy(), co.draw(4))
    assert bank_of.shapley(bank).values[0].tolist() == pytest.approx(edges.tolist())
    outside = lambda x: torch.from_numpy(x.numpy().sum((1, 2)))  # not of torch: no gradient, and none is asked for
    lines = torch.rand(2, 1, 6)
    found = bank_of.ablation(outside, lines, of_units.pixels(lines), absences.constant("black", Intensity()))
    assert torch.allclose(found.values.float(), lines[:, 0], atol=1e-6)
    with pytest.raises(DataError, match="expected"):
        bank_of.bank_of(lambda masks: 3.0, co.draw(4))
    with pytest.raises(DataError, match="not finite"):
        bank_of.bank_of(lambda masks: torch.full((16,), math.nan), co.draw(4))


def test_batches_change_nothing_and_targets_stay_with_their_images(net, images, black):
    f = Explanandum("prob", [0, 1, 2]).of(net, images)
    rng = np.random.default_rng(0)
    units = of_units.Units(torch.from_numpy(rng.integers(0, 5, (3, 8, 8))), 5)  # each image its own
    pool = torch.rand(4, 2, 8, 8)
    coalitions = co.draw(5)
    for absence in (black, absences.dataset(pool, 3), absences.inpaint(), absences.blur(2)):
        whole = bank_of.mask_bank(f, images, coalitions, units, absence, at_once=1000).values
        for n in (1, 2, 5, 17):
            part = bank_of.mask_bank(f, images, coalitions, units, absence, at_once=n).values
            assert torch.allclose(part, whole, atol=1e-6), absence.name
        alone = bank_of.mask_bank(
            f, images[2:], coalitions, of_units.Units(units.labels[2:], 5), absence, rows=torch.tensor([2])
        ).values
        assert torch.allclose(alone, whole[:, 2:], atol=1e-6)
        assert torch.allclose(whole[-1], f(images).detach().double(), atol=1e-6)
    # By hand: image 1 without unit 3, painted black.
    mask = ~torch.eye(5, dtype=torch.bool)[3:4]
    by_hand = images[1] * (units.labels[1] != 3)
    assert float(bank_of.evaluate(f, images, mask, units, black)[0, 1]) == pytest.approx(
        float(net(by_hand[None]).softmax(1)[0, 1].detach()), abs=1e-6
    )


def test_volumes_and_tables():
    volume = torch.rand(2, 1, 4, 6, 6)
    weight = torch.randn(4, 6, 6)
    f = lambda x: (x[:, 0] * weight).flatten(1).sum(1)
    black = absences.constant("black", Intensity())
    units = of_units.grid(volume, (2, 3, 3))
    expected = of_units.pooled(volume[:, 0] * weight, units).double()
    found = bank_of.shapley(bank_of.mask_bank(f, volume, co.draw(18, 200), units, black))
    assert torch.allclose(found.values, expected, atol=1e-4)
    assert found.painted(units).shape == (2, 4, 6, 6)
    drop = bank_of.occlusion(f, volume, black, 2)
    assert torch.allclose(drop, of_units.paint(of_units.pooled(volume[:, 0] * weight, of_units.grid(volume, (2, 3, 3))),
                                               of_units.grid(volume, (2, 3, 3))), atol=1e-4)  # fmt: skip
    with pytest.raises(UsageError, match="labelled on"):
        bank_of.ablation(f, volume[..., :5], units, black)
    with pytest.raises(UsageError, match="expected 18"):
        bank_of.mask_bank(f, volume, co.draw(3), units, black)


def test_rise_is_a_mean_of_masked_values(net, images, black):
    """f is the brightness of one place: there the map is highest; and constant where f is constant."""
    f = lambda x: x[:, :, 2, 2].sum(1)
    bright = torch.ones(1, 2, 8, 8)
    found, error = bank_of.rise(f, bright, black, cells=4, draws=2000, at_once=64)
    assert int(found[0].argmax()) == 2 * 8 + 2
    far = found[0, 7, 7]  # nothing to do with it: the mean value, 2 share
    assert abs(float(far) - 1) < 4 * float(error[0, 7, 7])
    flat, none = bank_of.rise(lambda x: x.sum((1, 2, 3)) * 0 + 3, bright, black, draws=20)
    assert torch.allclose(flat, torch.full((1, 8, 8), 3.0))
    assert float(none.max()) < 1e-5
    target = Explanandum("prob").of(net, images)
    assert torch.allclose(bank_of.rise(target, images, black, draws=30, at_once=3)[0],
                          bank_of.rise(target, images, black, draws=30, at_once=100)[0], atol=1e-6)  # fmt: skip


def test_units_cover_and_are_as_many_in_each_image():
    from skimage.data import immunohistochemistry

    tissue = torch.from_numpy(immunohistochemistry()[:128, :128].copy()).permute(2, 0, 1)[None] / 255
    two = torch.cat([tissue, tissue.flip(3)])
    found = of_units.superpixels(two, 64, 10.0, intensity=Intensity())
    assert found.labels.shape == (2, 128, 128)
    assert all(len(torch.unique(one)) == found.count for one in found.labels)
    assert 50 <= found.count <= 64
    values = torch.rand(2, found.count)
    painted = of_units.paint(values, found)
    assert torch.allclose(of_units.pooled(painted, found) / of_units.sizes(found), values, atol=1e-5)
    # Superpixels follow the picture: within them it varies less than within a grid's cells.
    cells = of_units.grid(two, 8)

    def within(units):
        mean = of_units.pooled(two[:, 0], units) / of_units.sizes(units)
        return float((two[:, 0] - of_units.paint(mean, units)).var())

    assert within(found) < within(cells)
    volume = torch.zeros(1, 1, 6, 12, 12)
    volume[..., 6:] = 1
    half = of_units.superpixels(volume, 4, 0.1)
    assert all(len(torch.unique(volume[0, 0][half.labels[0] == k])) == 1 for k in range(half.count))
    assert of_units.pixels(two[..., :3, :4]).count == 12
    assert sorted(torch.bincount(of_units.grid(two, (3, 5)).labels.flatten()).tolist())[0] >= 42 * 25
    with pytest.raises(DataError, match="no pixel in image 0"):
        of_units.Units(torch.zeros(1, 4, 4).long(), 2)
