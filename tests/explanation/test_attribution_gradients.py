"""Gradients, paths and explananda against closed forms and captum."""

import math

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients, NoiseTunnel, Saliency
from scipy import ndimage, stats
from torch import nn

from medaudit.errors import DataError, UsageError
from medaudit.explanation.attributions import absence as absences
from medaudit.explanation.attributions.batching import generator, rows_at_once, slopes
from medaudit.explanation.attributions.explananda import Explanandum
from medaudit.explanation.attributions.gradients import gradient, gradient_bank, input_times_gradient
from medaudit.explanation.attributions.intensity import Intensity
from medaudit.explanation.attributions.masks import occlusion
from medaudit.explanation.attributions.paths import expected_gradients, integrated_gradients
from medaudit.explanation.attributions.shown import clipped, over_channels, shown, smoothed


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(16, 3),
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def images():
    return torch.rand(5, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def test_a_linear_model_has_one_answer_from_every_method():
    w = torch.tensor([1.0, -2.0, 0.5])
    f = lambda x: x @ w + 3
    x = torch.tensor([[1.0, 2.0, 3.0], [0.0, -1.0, 1.0]])
    base = torch.tensor([[0.5, 0.0, -1.0]])
    assert torch.allclose(gradient(f, x), w.expand(2, 3))
    assert torch.allclose(input_times_gradient(f, x), w * x)
    found = integrated_gradients(f, x, base[None], nodes=1, most=1)
    assert torch.allclose(found.mean, w * (x - base), atol=1e-6)
    assert found.complete.all()
    pool = torch.randn(40, 3)
    means = expected_gradients(f, x, absences.dataset(pool, 40), nodes=1, most=1)
    assert torch.allclose(means.mean, w * (x - pool.mean(0)), atol=1e-5)
    assert torch.allclose(means.standard_error, (w * pool).std(0).expand(2, 3) / math.sqrt(40), atol=1e-5)
    bank = gradient_bank(f, x, 0.7, 8)
    assert torch.allclose(bank.smooth, w.expand(2, 3))
    assert bank.variance.abs().max() < 1e-12


def test_closed_forms_of_paths():
    product = lambda x: x[:, 0] ** 2 * x[:, 1]
    x = torch.tensor([[2.0, 3.0]])
    found = integrated_gradients(product, x, torch.zeros(1, 1, 2), nodes=2, most=2)
    assert found.mean[0].tolist() == pytest.approx([8, 4], abs=1e-5)  # degree 3: two nodes are exact
    assert float(found.gap.abs().max()) < 1e-5
    flat = lambda x: 1 - torch.relu(1 - x[:, 0])
    two = torch.tensor([[2.0]])
    assert float(gradient(flat, two)) == 0
    saturated = integrated_gradients(flat, two, torch.zeros(1, 1, 1), nodes=4)
    assert float(saturated.mean) == pytest.approx(1, abs=0.01)
    assert int(saturated.nodes) >= 4
    assert bool(saturated.complete)
    # x to the 20th: exact from 10 nodes on (degree 2 n), and not from 9.
    high = lambda x: x[:, 0].double() ** 20
    gaps = [abs(float(integrated_gradients(high, two.double(), torch.zeros(1, 1, 1).double(), nodes=n, most=n).gap))
            for n in (9, 10)]  # fmt: skip
    assert gaps[1] < 1e-8 < 1e-3 < gaps[0]
    rough = integrated_gradients(high, two, torch.zeros(1, 1, 1), nodes=2, most=4)
    assert not rough.complete.any()
    assert rough.nodes.tolist() == [[4]]


def test_expected_gradients_of_a_quadratic_form_against_gaussian_references():
    # f = x'Ax / 2, references N(0, S): the mean path integral is x * Ax / 2 - diag(A S) / 2.
    torch.manual_seed(3)
    a = torch.tensor([[2.0, 0.5], [0.5, -1.0]])
    root = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    pool = torch.randn(4000, 2) @ root.T
    x = torch.tensor([[1.0, 2.0]])
    found = expected_gradients(lambda x: ((x @ a) * x).sum(1) / 2, x, absences.dataset(pool, 4000), nodes=1, most=1)
    expected = x[0] * (x[0] @ a) / 2 - (a @ root @ root.T).diagonal() / 2
    assert ((found.mean[0] - expected).abs() < 4 * found.standard_error[0]).all()
    assert (found.standard_error < 0.1).all()


def test_closed_forms_of_smoothing():
    ramp = gradient_bank(lambda x: x[:, 0].relu(), torch.full((1, 1), 0.3), 1.0, 20_000)
    assert abs(float(ramp.smooth) - stats.norm.cdf(0.3)) < 4 * float(ramp.smooth_error)
    square = gradient_bank(lambda x: x[:, 0] ** 2, torch.full((1, 1), 1.5), 0.5, 20_000, seed=2)
    assert abs(float(square.squared) - 10) < 4 * float(square.squared_error)
    assert abs(float(square.variance) - 1) < 4 * float(square.variance_error)
    # The gradient is N(3, 1): its squares have variance 2 + 4 * 9, its sample variances 2.
    assert float(square.squared_error) == pytest.approx(math.sqrt(38 / 20_000), rel=0.05)
    assert float(square.variance_error) == pytest.approx(math.sqrt(2 / 20_000), rel=0.05)
    ball = gradient_bank(lambda x: (x**2).sum(1) / 2, torch.zeros(1, 3), 2.0, 4000, law="ball")
    assert float(ball.squared.sum()) == pytest.approx(4 * 3 / 5, rel=0.05)  # E r^2 = R^2 d / (d + 2)


def test_moments_of_one_pass_are_those_of_all_draws(net, images):
    f = Explanandum("logit").of(net, images)
    whole = gradient_bank(f, images, 0.1, 7, at_once=100)
    parts = [gradient_bank(f, images, 0.1, 7, at_once=n) for n in (1, 3, 11)]
    for name in ("smooth", "squared", "variance", "smooth_error", "squared_error", "variance_error"):
        for part in parts:
            assert torch.allclose(getattr(part, name), getattr(whole, name), atol=1e-6), name
    alone = gradient_bank(f, images[3:4], 0.1, 7, rows=torch.tensor([3]))
    assert torch.allclose(alone.smooth, whole.smooth[3:4], atol=1e-6)
    # By hand: the gradients of the draws of image 3.
    stream = generator(0, 3)
    points = torch.stack([images[3] + 0.1 * torch.randn(images[3].shape, generator=stream) for _ in range(7)])
    slope = slopes(f, points, torch.full((7,), 3)).double()
    assert torch.allclose(whole.smooth[3], slope.mean(0).float(), atol=1e-6)
    assert torch.allclose(whole.squared[3], (slope**2).mean(0).float(), atol=1e-6)
    assert torch.allclose(whole.variance[3], slope.var(0).float(), atol=1e-6)


def test_captum_by_number(net, images):
    f = Explanandum("logit").of(net, images)
    assert torch.allclose(gradient(f, images), Saliency(net).attribute(images, f.target, abs=False), atol=1e-7)
    base = torch.rand(images.shape, generator=torch.Generator().manual_seed(5))
    theirs, gap = IntegratedGradients(net).attribute(
        images, base, f.target, n_steps=20, method="gausslegendre", return_convergence_delta=True
    )
    ours = integrated_gradients(f, images, base[None], nodes=20, most=20)
    assert torch.allclose(ours.mean, theirs, atol=1e-6)
    assert torch.allclose(ours.gap[0].float(), gap.float(), atol=1e-5)
    refined = integrated_gradients(f, images, base[None], nodes=8, most=512)
    assert refined.complete.all()
    assert float(refined.share.max()) < 0.01
    # NoiseTunnel draws its own: by moments.
    torch.manual_seed(0)
    bank = gradient_bank(f, images, 0.3, 400)
    tunnel = NoiseTunnel(Saliency(net))
    for name, ours, error in (
        ("smoothgrad", bank.smooth, bank.smooth_error), ("smoothgrad_sq", bank.squared, bank.squared_error),
        ("vargrad", bank.variance, bank.variance_error),
    ):  # fmt: skip
        theirs = tunnel.attribute(
            images, nt_type=name, nt_samples=400, stdevs=0.3, target=f.target, abs=False, nt_samples_batch_size=40
        )
        off = (theirs - ours) / (math.sqrt(2) * error).clamp(min=1e-9)
        assert 0.8 < float(off.std()) < 1.2, name
        assert float(off.abs().max()) < 6, name


def test_batches_and_references_change_nothing(net, images):
    f = Explanandum("margin").of(net, images)
    pool = torch.rand(6, 2, 8, 8, generator=torch.Generator().manual_seed(7))
    absence = absences.dataset(pool, 3, seed=4)
    whole = integrated_gradients(f, images, absence, nodes=8, keep=True, at_once=1000)
    for n in (1, 7, 30):
        part = integrated_gradients(f, images, absence, nodes=8, keep=True, at_once=n)
        assert torch.allclose(part.each, whole.each, atol=1e-6)
        assert torch.equal(part.nodes, whole.nodes)
    one = integrated_gradients(f, images, absence(images), nodes=8)
    assert torch.allclose(one.mean, whole.mean, atol=1e-6)
    assert torch.allclose(whole.each.mean(0), whole.mean, atol=1e-6)
    last = integrated_gradients(f, images[4:], absence, nodes=8, rows=torch.tensor([4]))
    assert torch.allclose(last.mean, whole.mean[4:], atol=1e-6)
    assert torch.allclose(gradient(f, images, at_once=2), gradient(f, images), atol=1e-7)
    assert 1 <= rows_at_once(f, images, gradients=True, megabytes=0.05) < rows_at_once(f, images, gradients=True)


def test_a_white_marker_against_white_is_invisible(net):
    """(x - reference) is 0 there: a theorem, whatever the model; by occlusion as well."""
    images = torch.rand(2, 2, 8, 8, generator=torch.Generator().manual_seed(2)) * 0.8
    images[:, :, :3, :3] = 1
    intensity = Intensity((0.4, 0.5), (0.2, 0.3))
    x = (images - torch.tensor([0.4, 0.5]).reshape(1, 2, 1, 1)) / torch.tensor([0.2, 0.3]).reshape(1, 2, 1, 1)
    assert torch.allclose(intensity.to_input(images), x)
    f = Explanandum().of(net, x)
    masses = {}
    for colour in ("white", "black", "grey"):
        absence = absences.constant(colour, intensity)
        path = over_channels(integrated_gradients(f, x, absence).mean)
        drop = occlusion(f, x, absence, 3, 3)
        masses[colour] = [float(m[:, :3, :3].abs().sum() / m.abs().sum()) for m in (path, drop)]
    assert max(masses["white"]) < 1e-6
    assert min(masses["black"] + masses["grey"]) > 0.01


def test_kinds_of_explananda_at_the_image_and_never_again():
    out = torch.tensor([[1.0, 3.0, 2.0], [0.0, -1.0, 4.0]])
    identity = lambda x: x
    found = {kind: Explanandum(kind).of(identity, out) for kind in ("logit", "log-prob", "prob", "margin", "loss")}
    assert found["logit"](out).tolist() == [3, 4]
    assert found["margin"](out).tolist() == [1, 4]
    log = out.log_softmax(1).max(1).values
    for kind, expected in (("log-prob", log), ("prob", log.exp()), ("loss", -log)):
        assert torch.allclose(found[kind](out), expected)
    turned = out.flip(1)  # targets stay: class 1, class 2
    assert found["logit"](turned).tolist() == [3, 0]
    assert found["margin"](turned, torch.tensor([0, 1])).tolist() == [2, -4]
    assert found["logit"](out[[1, 1, 0]], torch.tensor([0, 1, 1])).tolist() == [-1, 4, 2]
    assert Explanandum("logit", "runner-up").of(identity, out)(out).tolist() == [2, 0]
    assert Explanandum("margin", [0, 0], against=2).of(identity, out)(out).tolist() == [-1, -4]
    single = torch.tensor([[2.0], [-1.0]])
    both = torch.cat([-single / 2, single / 2], 1)
    for kind in ("log-prob", "prob", "loss"):
        assert torch.allclose(
            Explanandum(kind).of(identity, single)(single), Explanandum(kind).of(identity, both)(both)
        )
    assert Explanandum("logit").of(identity, single)(single).tolist() == [2, 1]
    reference = torch.tensor([1.0, 0.0, 0.0])
    near = Explanandum("embedding", reference=reference).of(identity, out)
    assert torch.allclose(near(out), out[:, 0] / out.norm(dim=1))
    maps = torch.arange(24.0).reshape(2, 3, 2, 2)
    roi = torch.tensor([[1, 0], [0, 1]])
    assert Explanandum("mask-sum", 1, mask=roi).of(identity, maps)(maps).tolist() == [4 + 7, 16 + 19]
    own = Explanandum("mask-sum", 2).of(identity, maps)
    assert own(maps).tolist() == [8 + 9 + 10 + 11, 20 + 21 + 22 + 23]
    each = Explanandum("mask-sum", torch.tensor([0, 2]), mask=torch.ones(2, 2)).of(identity, maps)
    assert each(maps).tolist() == [0 + 1 + 2 + 3, 20 + 21 + 22 + 23]
    against = Explanandum("margin", [0, 0], against=torch.tensor([1, 2])).of(identity, out)
    assert against(out).tolist() == [-2, -4]
    assert own(maps - 30).tolist() == [38 - 120, 86 - 120]  # the region is the one at the image


@pytest.mark.parametrize(
    ("explanandum", "out", "error", "words"),
    [
        (Explanandum("logit", 3), torch.zeros(2, 3), UsageError, "class 3; expected 0 to 2"),
        (Explanandum("logit", [0]), torch.zeros(2, 3), UsageError, "one for each of 2 images"),
        (Explanandum("logit"), torch.zeros(2, 3, 4, 4), DataError, "mask-sum"),
        (Explanandum("score"), torch.zeros(2, 3), DataError, "one number a row"),
        (Explanandum("margin", 1, against=1), torch.zeros(2, 3), UsageError, "expected another class"),
        (Explanandum("mask-sum"), torch.zeros(2, 3, 4, 4), UsageError, "0 to 2"),
        (Explanandum("mask-sum", 1, mask=torch.ones(3, 4)), torch.ones(2, 3, 4, 4), UsageError, r"\(4, 4\)"),
        (Explanandum("mask-sum"), -torch.ones(2, 1, 4, 4), DataError, "nowhere"),
        (Explanandum("logit"), torch.tensor([[1.0, 2.0], [0.0, math.nan]]), DataError, "image 1"),
        (Explanandum("embedding", reference=torch.ones(2)), torch.ones(2, 3), UsageError, r"expected \(3,\)"),
    ],
)
def test_what_cannot_be_explained_is_said(explanandum, out, error, words):
    with pytest.raises(error, match=words):
        explanandum.of(lambda x: x, out)


def test_models_that_change_or_answer_in_dictionaries_are_refused(net, images):
    with pytest.raises(UsageError, match="expected one of logit"):
        Explanandum("whole-model")
    with pytest.raises(UsageError, match=r"model\.eval"):
        Explanandum().of(nn.Sequential(nn.Flatten(), nn.Dropout()), images)
    with pytest.raises(DataError, match="a dict"):
        Explanandum().of(lambda x: {"out": x}, images)
    with pytest.raises(UsageError, match="only asks for outputs"):
        gradient(Explanandum().of(lambda x: net(x).detach(), images), images)
    with pytest.raises(UsageError, match="whose versions"):
        Explanandum().of(net, images)(images[:2])


def test_intensities_are_what_they_are_said_to_be():
    hounsfield = Intensity(mean=40.0, std=200.0, low=-1000.0, high=400.0)
    x = torch.zeros(1, 1, 4, 4)
    assert float(absences.constant(0, hounsfield)(x).mean()) == pytest.approx(-0.2)  # water, not black
    assert float(absences.constant("black", hounsfield)(x).mean()) == pytest.approx(-5.2)
    assert float(absences.constant("grey", hounsfield)(x).mean()) == pytest.approx((-300 - 40) / 200)
    with pytest.raises(UsageError, match="outside what intensities can be"):
        absences.constant(500, hounsfield)
    with pytest.raises(DataError, match="are mean and std those of the model"):
        hounsfield.check(x + 5)
    colour = Intensity((0.4, 0.5, 0.6), (0.2, 0.2, 0.2))
    white = absences.constant("white", colour)(torch.zeros(2, 3, 2, 2))
    assert white.shape == (1, 2, 3, 2, 2)
    assert white[0, 0, :, 0, 0].tolist() == pytest.approx([3, 2.5, 2])
    with pytest.raises(UsageError, match="of 3 channels"):
        absences.constant("white", colour)(x)


def test_absences_are_what_they_are_called(images):
    intensity = Intensity()
    pool = torch.rand(9, 2, 8, 8)
    assert torch.allclose(absences.mean_image(pool)(images)[0, 2], pool.mean(0))
    assert torch.allclose(absences.mean_colour(pool)(images)[0, 1, :, 3, 3], pool.mean((0, 2, 3)))
    assert torch.allclose(absences.mean_colour()(images)[0, 1, :, 3, 3], images[1].mean((1, 2)))
    theirs = ndimage.gaussian_filter(images.double().numpy(), (0, 0, 1.7, 1.7), mode="nearest")
    assert np.allclose(absences.blur(1.7)(images)[0].numpy(), theirs, atol=1e-6)
    volume = torch.rand(1, 1, 5, 6, 7)
    theirs = ndimage.gaussian_filter(volume.numpy(), (0, 0, 1, 1, 1), mode="nearest")
    assert np.allclose(absences.blur(1)(volume)[0].numpy(), theirs, atol=1e-6)
    noise = absences.noise(0.1, 50, intensity, seed=1)(images)
    assert noise.shape == (50, *images.shape)
    assert float(noise.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(noise.std()) == pytest.approx(0.1, abs=0.01)
    drawn = absences.dataset(pool, 4, seed=3)
    assert torch.equal(drawn(images[2:3], torch.tensor([2])), drawn(images)[:, 2:3])  # an image's own draws
    assert all(len(torch.unique(one.flatten(1), dim=0)) == 4 for one in drawn(images).movedim(1, 0))
    with pytest.raises(UsageError, match="expected 1 to 9"):
        absences.dataset(pool, 10)
    with pytest.raises(UsageError, match="removes parts"):
        absences.inpaint()(images)
    with pytest.raises(DataError, match="returns shape"):
        absences.generative(lambda x, keep: x[:, :1]).filled(images, torch.zeros(5, 8, 8) > 0, torch.arange(5))


def test_inpainting_solves_the_equations_of_neighbours():
    torch.manual_seed(1)
    x, keep = torch.rand(2, 2, 6, 7).double(), torch.rand(2, 6, 7) > 0.6
    found = absences.inpaint(tolerance=1e-10).filled(x, keep, torch.arange(2))[0]
    assert torch.equal(found.movedim(1, -1)[keep], x.movedim(1, -1)[keep])
    for n, i, j in torch.nonzero(~keep).tolist():  # each is the weighted mean of its neighbours, as in ROAD
        near = [(i + a, j + b, 2 if a == 0 or b == 0 else 1) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]
        near = [(a, b, w) for a, b, w in near if 0 <= a < 6 and 0 <= b < 7]
        mean = sum(w * found[n, :, a, b] for a, b, w in near) / sum(w for *_, w in near)
        assert torch.allclose(found[n, :, i, j], mean, atol=1e-7)
    ramp = torch.arange(9.0).reshape(1, 1, 9)  # in one dimension: a straight line between the ends
    ends = torch.tensor([[True] + [False] * 7 + [True]])
    assert torch.allclose(absences.inpaint(tolerance=1e-6).filled(ramp**2, ends, torch.zeros(1).long())[0],
                          8 * ramp, atol=1e-3)  # fmt: skip
    nothing = absences.inpaint().filled(x, torch.zeros_like(keep), torch.arange(2))[0]
    assert torch.allclose(nothing, x.mean((2, 3), keepdim=True).expand(x.shape))


def test_what_is_shown():
    maps = torch.tensor([[-2.0, 1.0, 0.0, 4.0]])
    assert shown(maps, "positive").tolist() == [[0, 1, 0, 4]]
    assert shown(maps, "squared").tolist() == [[4, 1, 0, 16]]
    assert clipped(maps, 75).tolist() == [[-2, 1, 0, 2]]
    assert over_channels(torch.ones(2, 3, 4)).tolist() == [[3.0] * 4] * 2
    point = torch.zeros(1, 9, 9)
    point[0, 4, 4] = 1
    assert np.allclose(smoothed(point, 1)[0], ndimage.gaussian_filter(point[0].numpy(), 1, mode="nearest"), atol=1e-7)
    with pytest.raises(UsageError, match="shown 'loud'"):
        shown(maps, "loud")
