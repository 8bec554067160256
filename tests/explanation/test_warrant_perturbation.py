"""Curves and perturbations against brute force, captum with the same noise, sparse solutions and closed forms."""

import itertools

import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import sensitivity_max
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve
from torch import nn

from medaudit.errors import DataError, UsageError
from medaudit.explanation.warrants import curves as cv
from medaudit.explanation.warrants import perturbation as pt
from medaudit.explanation.warrants.imputation import impute
from medaudit.explanation.warrants.intervention import intervention


def linear(w):
    return lambda x: (x * w).flatten(1).sum(1)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Softplus(), nn.Flatten(), nn.Linear(4 * 64, 3)).eval()


def gradient(model, x, targets):
    x = x.detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(model(x).gather(1, targets[:, None]).sum(), x)
    return found


def test_the_order_of_contributions_is_the_best_of_all_orders():
    """For a linear score no permutation has a smaller area of deletion, or a larger one of insertion (6.1.1)."""
    torch.manual_seed(0)
    w, x, absent = torch.randn(6).double(), torch.randn(3, 6).double(), torch.randn(6).double()
    contribution = w * (x - absent)
    gone = cv.deletion(linear(w), x, contribution, absent=absent, steps=6, controls=("random",), at_once=5)
    come = cv.insertion(linear(w), x, contribution, absent=absent, steps=6, controls=())
    orders = torch.tensor(list(itertools.permutations(range(6))))
    for k in range(3):
        every = x[k : k + 1].expand(len(orders), -1)
        for found, of, best in ((gone, cv.deletion, min), (come, cv.insertion, max)):
            areas = of(
                linear(w), every, -torch.argsort(orders, dim=1).double(), absent=absent, steps=6, controls=()
            ).area
            assert found.area[k] == pytest.approx(best(areas))
    assert (gone.gain() >= 0).all()
    np.testing.assert_allclose(gone.scores[:, 0], linear(w)(x))
    np.testing.assert_allclose(gone.scores[:, -1], linear(w)(absent.expand(3, -1)))
    with pytest.raises(UsageError, match="no control 'edges'"):
        gone.gain("edges")


def test_curves_by_hand_and_in_parts():
    torch.manual_seed(1)
    model, x, maps = net(), torch.rand(3, 2, 8, 8), torch.randn(3, 8, 8)
    targets = torch.tensor([0, 2, 1])

    def f(images, rows):
        return model(images).gather(1, targets[rows][:, None])[:, 0]

    found = cv.pixel_flipping(f, x, maps, absent=0.25, each=10, at_once=7)
    wanted = np.empty((3, 7))
    with torch.no_grad():
        for i in range(3):
            order = np.argsort(-maps[i].numpy().ravel())
            for k in range(7):
                image = x[i].clone().reshape(2, -1)
                image[:, order[: 10 * (k + 1)].copy()] = 0.25
                wanted[i, k] = model(image.reshape(1, 2, 8, 8))[0, targets[i]]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    # Units that labels paint: columns, in the order of their own numbers.
    labels = torch.arange(8).expand(1, 8, 8)
    units = torch.randn(3, 8)
    painted = units[:, None, :].expand(3, 8, 8)
    a = cv.deletion(f, x, units, absent=0.0, labels=labels, steps=8)
    b = cv.deletion(f, x, painted, absent=0.0, steps=8, controls=())
    np.testing.assert_allclose(a.scores[:, [0, 8]], b.scores[:, [0, 8]], atol=1e-6)
    image = x[0].clone()
    image[:, :, units[0].argmax()] = 0
    assert a.scores[0, 1] == pytest.approx(float(model(image[None])[0, 0].detach()), abs=1e-6)
    assert set(a.controls) == {"random", "edges"}
    sobel = [np.sqrt(sum(ndimage.sobel(c, k, mode="nearest") ** 2 for k in (0, 1))) for c in x[0].numpy()]
    np.testing.assert_allclose(cv.edges(x)[0], sum(sobel), rtol=1e-4, atol=1e-5)
    for wrong, what in (
        (lambda: cv.deletion(f, x, maps[:, :4], absent=0.0), "a number a place"),
        (lambda: cv.deletion(f, x, units, absent=0.0, labels=labels + 1), "expected 0 to 7"),
        (lambda: cv.deletion(lambda z: model(z), x, maps, absent=0.0), "expected a number each"),
    ):
        with pytest.raises(DataError, match=what):
            wrong()
    with pytest.raises(UsageError, match="absence"):
        cv.curves(f, x, maps, absent=None)


def test_imputed_pixels_are_the_means_of_their_neighbours():
    rng = np.random.default_rng(0)
    for shape in ((40,), (9, 11), (5, 6, 4)):
        x = torch.from_numpy(rng.random((2, 2, *shape)))
        gone = torch.from_numpy(rng.random((2, *shape)) < 0.6)
        gone[1] = True
        gone[1].view(-1)[3] = False  # a single pixel is left
        found = impute(x, gone, tolerance=1e-10).numpy()
        place = np.arange(np.prod(shape)).reshape(shape)
        rows, columns, weights = [], [], []
        for step in itertools.product((-1, 0, 1), repeat=len(shape)):
            if any(step):
                here = tuple(slice(max(-s, 0), n - max(s, 0)) for s, n in zip(step, shape, strict=True))
                there = tuple(slice(max(s, 0), n - max(-s, 0)) for s, n in zip(step, shape, strict=True))
                rows.append(place[here].ravel())
                columns.append(place[there].ravel())
                weights.append(np.full(rows[-1].size, 2.0 ** (len(shape) - sum(map(abs, step)))))
        w = sparse.csr_matrix((np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))))
        for i in range(2):
            u = gone[i].numpy().ravel()
            laplacian = sparse.diags(np.asarray(w.sum(1)).ravel()) - w
            for c in range(2):
                known = x[i, c].numpy().ravel().copy()
                known[u] = spsolve(laplacian[u][:, u].tocsc(), w[u][:, ~u] @ known[~u])
                np.testing.assert_allclose(found[i, c].ravel(), known, atol=1e-6)
    nothing = impute(x, torch.ones_like(gone))
    np.testing.assert_allclose(nothing[0, 0], float(x[0, 0].mean()), rtol=1e-6)


def test_road_prefers_what_carries_the_score():
    """The score is the brightness of a corner over a flat image: only removal of the corner, imputed, lowers it."""
    torch.manual_seed(2)
    x = 0.5 + 0.01 * torch.randn(4, 1, 12, 12)
    x[:, :, :3, :3] += 2
    maps = torch.zeros(4, 12, 12)
    maps[:, :3, :3] = 1
    f = linear(maps[:1, None] / 9)
    most, least = (cv.road(f, x, maps, least_first=way) for way in (False, True))
    assert (most.gain() > 0.3).all()
    assert (least.gain() > 0).all()
    assert most.scores[:, 1:].max() < 0.7  # 10 % are all of the corner, and nothing of it comes back
    assert least.scores[:, :-1].min() > 2


def test_infidelity_and_max_sensitivity_are_those_of_captum():
    torch.manual_seed(3)
    model, x, targets = net(), torch.rand(4, 2, 8, 8), torch.tensor([0, 1, 2, 0])
    maps = gradient(model, x, targets)
    shared = torch.randn(5, 4, 2, 8, 8) * 0.3

    def f(images, rows):
        return model(images).gather(1, targets[rows][:, None])[:, 0]

    ours = pt.infidelity(f, x, maps, lambda z, g: shared.flatten(0, 1)[: len(z)], draws=5, at_once=100)
    theirs = captum_infidelity(
        model, lambda z: (shared.transpose(0, 1).flatten(0, 1), z - shared.transpose(0, 1).flatten(0, 1)), x, maps,
        target=targets, n_perturb_samples=5,
    )  # fmt: skip
    np.testing.assert_allclose(ours.value, theirs, rtol=1e-4, atol=1e-7)
    scaled = captum_infidelity(
        model, lambda z: (shared.transpose(0, 1).flatten(0, 1), z - shared.transpose(0, 1).flatten(0, 1)), x, maps,
        target=targets, n_perturb_samples=5, normalize=True,
    )  # fmt: skip
    np.testing.assert_allclose(ours.scaled, scaled, rtol=1e-3, atol=1e-6)
    stable = pt.stability(
        gradient, model, x, targets, draws=5, perturb=lambda z, g: 0.1 * shared.flatten(0, 1), at_once=100
    )
    steps = 0.1 * shared.transpose(0, 1).flatten(0, 1)

    @torch.enable_grad()
    def explained(inputs, target):
        return (gradient(model, inputs[0], target),)

    theirs = sensitivity_max(
        explained, (x,), target=targets, n_perturb_samples=5, perturb_func=lambda inputs: (inputs + steps,)
    )
    np.testing.assert_allclose(stable.max_sensitivity, theirs, rtol=1e-4)
    length, step = maps.flatten(1).norm(dim=1), 0.1 * shared.flatten(2).norm(dim=2)
    assert (stable.lipschitz >= stable.max_sensitivity * (length / step.max(0).values).numpy() * 0.999).all()


def test_a_linear_score_is_explained_without_error():
    torch.manual_seed(4)
    w, x = torch.randn(3, 5, 5).double(), torch.randn(6, 3, 5, 5).double()
    f, slope = linear(w), w.expand(6, -1, -1, -1)
    noise = pt.gaussian_noise(0.5)
    assert pt.infidelity(f, x, slope, noise, draws=7, at_once=10).value.max() < 1e-20
    assert pt.infidelity(f, x, slope.sum(1), noise, draws=7).value.max() < 1e-20
    zeros = pt.infidelity(f, x, torch.zeros_like(x), pt.removal_noise(0.5))
    np.testing.assert_allclose(zeros.relative, 1)
    assert pt.infidelity(f, x, 2 * slope, noise).scaled.max() < 1e-20
    contribution = slope * (x - 0.5)
    assert pt.infidelity(f, x, contribution, noise, contribution_from=0.5).value.max() < 1e-20
    with pytest.raises(DataError, match="differs between channels"):
        pt.infidelity(f, x, slope.sum(1), pt.gaussian_noise(0.5, per_pixel=False))
    np.testing.assert_allclose(pt.sensitivity_n(f, x, contribution.sum(1), [1, 4, 20], absent=0.5, at_once=9), 1)
    np.testing.assert_allclose(pt.faithfulness_correlation(f, x, -contribution.sum(1), 4, absent=0.5), -1)
    assert np.isnan(pt.sensitivity_n(f, x, contribution.sum(1), [25], absent=0.5)).all()
    assert pt.completeness_gap(f, x, contribution, absent=0.5).max() < 1e-12
    np.testing.assert_allclose(pt.completeness_gap(f, x, 1.1 * contribution, absent=0.5), 0.1)
    assert pt.stability(lambda m, z, t: w.expand_as(z), None, x).max_sensitivity.max() == 0
    np.testing.assert_allclose(pt.convergence(0.99 * contribution, contribution), 0.01)


def test_a_marker_that_is_used_is_told_from_one_that_is_not():
    torch.manual_seed(5)
    x = torch.rand(40, 1, 8, 8)
    w = torch.zeros(1, 8, 8)
    w[:, :2, :2], w[:, 4:, 4:] = 0.5, 0.1

    def plant(corner):
        def planted(images):
            images[(..., *((slice(0, 2),) * 2 if corner else (slice(0, 2), slice(6, 8))))] = 1
            return images

        return planted

    patients = np.arange(40) // 2
    used = intervention(linear(w), x, plant(True), placebo=plant(False), patients=patients, at_once=16)
    assert (used.verdict, used.estimate.n) == ("supported", 20)
    truth = 0.5 * (1 - x[:, 0, :2, :2]).sum((1, 2))
    np.testing.assert_allclose(used.effect, truth, rtol=1e-4)
    assert used.excess.value == pytest.approx(float(truth.mean()), rel=1e-4)
    assert intervention(linear(w), x, plant(False), margin=0.01).verdict == "refuted"
    assert intervention(linear(w), x, plant(False)).verdict == "insufficient"
    assert intervention(linear(w), x[:5], plant(True)).verdict == "insufficient"
