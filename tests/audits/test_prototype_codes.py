"""What a code tells, where its carriers lie, and whether it decides what is painted: on answers known beforehand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from painted_worlds import world

from medaudit.audits.prototypes.codes import components, distances, more, told
from medaudit.audits.prototypes.findings import findings
from medaudit.audits.prototypes.study import study
from medaudit.audits.prototypes.where import Pointed, pointed
from medaudit.explanation.prototypes.painter import Painter
from medaudit.networks.prototypes.encoder import EncoderShape, PrototypeEncoder


def verdict(result, name):
    return {finding.id: finding.verdict for finding in findings(result)}[name]


def test_components_are_those_of_a_singular_value_decomposition():
    rng = np.random.default_rng(0)
    images = (rng.standard_normal((300, 4)) * [9, 5, 3, 0.1]) @ rng.standard_normal((4, 64))
    found = components(images.reshape(300, 1, 8, 8), images[:50].reshape(50, 1, 8, 8), 3)
    centred = images - images.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:3]
    np.testing.assert_allclose(np.abs(found), np.abs(centred[:50] @ axes.T), rtol=1e-3, atol=1e-3)


def test_a_code_is_no_better_than_itself_and_better_than_noise():
    rng = np.random.default_rng(1)
    labels = (rng.random((400, 2)) < 0.5).astype(float)
    knows = labels + 0.3 * rng.standard_normal((400, 2))
    found = told({"knows": knows, "again": knows, "noise": rng.standard_normal((400, 2))}, labels, np.arange(400),
                 resamples=200, seed=0)  # fmt: skip
    np.testing.assert_array_equal(more(found["knows"].readout, found["again"].readout), 0)
    value, low, high = more(found["knows"].readout, found["noise"].readout)
    assert (low > 0.3).all()
    assert ((low < value) & (value < high)).all()
    assert found["knows"].tad.attributes == 2
    assert found["noise"].tad.attributes == 0


def test_drawn_images_are_as_near_as_training_images_only_where_they_are_alike():
    rng = np.random.default_rng(2)
    real, training, alike = (rng.standard_normal((400, 8)) for _ in range(3))
    who = np.arange(400)
    found = distances(real, training, alike, (who, who), "a test", 0)
    assert found["drawn"].low < 0 < found["drawn"].high
    assert found["training"].low < 0 < found["training"].high
    assert distances(real, training, alike + 1, (who, who), "a test", 0)["drawn"].low > found["training"].high
    assert distances(real[:30], training, alike, (who[:30], who), "a test", 0) == {}


@pytest.mark.parametrize(("agrees", "said"), [(1.0, "supported"), (0.5, "refuted")])
def test_whether_activations_decide_is_asked_of_paintings_from_fresh_noise(agrees, said):
    known = world(0.0, seed=5).material
    rows = np.arange(300)
    rng = np.random.default_rng(3)
    same = rng.random((300, 3)) < agrees
    judged = np.where(same, known.labels[rows], 1 - known.labels[rows]) * 0.8 + 0.1
    result = study(replace(known, repainted=rows, judged_repainted=judged), world(0.0, seed=5).settings)
    assert {verdict(result, f"decided:{name}") for name in known.attributes} == {said}
    # A judge that says yes or no with a share of p right has an AUROC of p.
    assert result.decided[0].value == pytest.approx(same[:, 0].mean(), abs=0.01)


@pytest.mark.parametrize(("inside", "said"), [(0.9, "supported"), (0.2, "refuted")])
def test_a_carrier_lies_where_its_attribute_is_or_does_not(inside, said):
    at = world(0.0, seed=6)
    n = 80
    spread = np.random.default_rng(4).uniform(-0.1, 0.1, n)
    one = Pointed(np.full(n, True), np.full(n, 0.5), inside + spread, np.full(n, 0.4), np.arange(n))
    result = study(replace(at.material, pointed={1: one}), at.settings)
    assert verdict(result, "located:shortcut") == said
    assert result.located[1].value == pytest.approx(inside - 0.4, abs=0.02)


def test_the_nearest_cell_is_found_and_its_box_measured():
    # One convolution of 3 x 3 that adds nine pixels up, and a prototype of nine bright ones.
    shape = EncoderShape(features=(1,), kernels=(3,), strides=(1,), paddings=(0,), prototypes=2)
    encoder = PrototypeEncoder(shape)
    with torch.no_grad():
        encoder.convolutions[0].weight.fill_(1.0)
        encoder.convolutions[0].bias.fill_(9.0)
        encoder.prototypes.copy_(torch.tensor([18.0, 0.0]).view(2, 1, 1, 1))
    model = SimpleNamespace(encoder=encoder)
    painter = Painter(SimpleNamespace(model=model, recipe=SimpleNamespace(encoder=shape, side=8)))  # type: ignore[arg-type]
    images, masks = np.zeros((2, 1, 8, 8), dtype=np.float32), np.zeros((2, 8, 8), dtype=bool)
    images[0, 0, 2:5, 3:6] = 1
    masks[0, 2:5, 3:6] = True
    images[1, 0, 0:3, 0:3] = 1
    masks[1, 0:3, 2:5] = True  # a third of it is in the box
    found = pointed(painter, images, masks, 0, np.arange(2))
    np.testing.assert_allclose(found.inside, [1, 1 / 3])
    assert found.hit.all()
    # Of 36 boxes of 3 x 3, those whose corner is within two of the mask's meet it.
    np.testing.assert_allclose(found.hit_by_chance, [25 / 36, 15 / 36])
    everywhere = sum(max(0, 3 - abs(r - 2)) * max(0, 3 - abs(c - 3)) / 9 for r in range(6) for c in range(6)) / 36
    np.testing.assert_allclose(found.inside_by_chance[0], everywhere, rtol=1e-6)
