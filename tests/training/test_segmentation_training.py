"""One segmentation training: its loss against another's, what it learns, and that labels alone make the difference."""

import numpy as np
import pytest
import torch
from monai.losses import DiceLoss

from medaudit.training.prepared import Prepared
from medaudit.training.segmentation import Recipe, dice_and_cross_entropy, fit, predict, restored


def discs(n=24, side=32, seed=0):
    """Discs in noise: the right masks as one role, masks shifted by five pixels as another."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    at = rng.uniform(9, side - 9, (n, 2))
    masks = np.stack([(rows - r) ** 2 + (columns - c) ** 2 <= 36 for r, c in at])
    images = masks + rng.normal(0, 0.5, masks.shape)
    masks = (masks * 255).astype(np.uint8)
    shrunk = np.stack([(rows - r) ** 2 + (columns - c) ** 2 <= 9 for r, c in at]).astype(np.uint8) * 255
    ids = tuple(f"d{i}" for i in range(n))
    return Prepared(ids, images[:, None].astype(np.float16), {"reference": masks, "labels": shrunk})


def dice(model, prepared, rows, role="reference"):
    scores = []
    for row, logits, _ in predict(model, prepared, rows):
        found, wanted = logits > 0, prepared.masks[role][row] > 127
        scores.append(2 * (found & wanted).sum() / (found.sum() + wanted.sum()))
    return float(np.mean(scores))


RECIPE = Recipe("cpu-2d", longest=32, steps=80, batch_size=4)


def test_the_loss_is_monais_soft_dice_of_each_case_plus_torchs_cross_entropy():
    logits, wanted = torch.randn(3, 1, 8, 9), torch.rand(3, 1, 8, 9).round()
    losses = dice_and_cross_entropy(logits, wanted)
    theirs = DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)(logits, wanted)
    torch.testing.assert_close(losses["dice_loss"], theirs)
    entropy = torch.nn.BCEWithLogitsLoss()(logits, wanted)
    torch.testing.assert_close(losses["loss"], theirs + entropy)


def test_the_loss_is_a_mean_over_cases():
    logits, wanted = torch.randn(4, 1, 6, 6), torch.rand(4, 1, 6, 6)
    whole = dice_and_cross_entropy(logits, wanted)["loss"]
    halves = [dice_and_cross_entropy(logits[part], wanted[part])["loss"] for part in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(whole, sum(halves) / 2)


def test_an_empty_mask_that_is_left_empty_costs_nearly_nothing():
    losses = dice_and_cross_entropy(torch.full((1, 1, 8, 8), -20.0), torch.zeros(1, 1, 8, 8))
    assert float(losses["loss"]) < 1e-3


def test_a_net_learns_discs_that_it_has_not_seen_and_small_labels_make_small_discs(tmp_path):
    prepared, rows = discs(), range(16)
    models = {
        role: fit(prepared, rows, dict.fromkeys(rows, role), RECIPE, tmp_path / role, seed=0)
        for role in ("reference", "labels")
    }
    unseen = range(16, 24)
    assert dice(models["reference"], prepared, unseen) > 0.85
    assert dice(models["labels"], prepared, unseen, "labels") > dice(models["labels"], prepared, unseen)
    sizes = {
        role: np.mean([(logits > 0).sum() for _, logits, _ in predict(model, prepared, unseen)])
        for role, model in models.items()
    }
    assert sizes["labels"] < 0.5 * sizes["reference"]


def test_the_same_training_gives_the_same_bits_and_can_be_read_back(tmp_path):
    prepared, rows = discs(8), range(6)
    short = Recipe("cpu-2d", longest=32, steps=10, batch_size=2)
    labels = dict.fromkeys(rows, "reference")
    first, second = (fit(prepared, rows, labels, short, tmp_path / name, seed=1) for name in ("a", "b"))
    read = restored(short, 2, tmp_path / "a" / "weights.pt")
    for model in (second, read):
        found = [logits for _, logits, _ in predict(model, prepared, [6, 7])]
        assert all(
            np.array_equal(logits, other)
            for (_, logits, _), other in zip(predict(first, prepared, [6, 7]), found, strict=True)
        )


def test_predictions_come_case_by_case_with_the_bottleneck(tmp_path):
    prepared, rows = discs(8), range(4)
    short = Recipe("cpu-2d", longest=32, steps=5, batch_size=2)
    model = fit(prepared, rows, dict.fromkeys(rows, "reference"), short, tmp_path, seed=0)
    made = list(predict(model, prepared, [5, 7, 6], batch_size=2))
    assert [row for row, _, _ in made] == [5, 7, 6]
    assert {logits.shape for _, logits, _ in made} == {(32, 32)}
    assert {features.shape for _, _, features in made} == {(192,)}


@pytest.mark.parametrize("role", ["reference", "labels"])
def test_labels_change_nothing_but_the_labels(tmp_path, role):
    """First weights and order of cases are the same whatever the labels: the first step's images are."""
    from medaudit.training import segmentation

    prepared, rows = discs(8), range(8)
    seen = []
    real = segmentation.dice_and_cross_entropy

    def watch(logits, wanted):
        seen.append(logits.detach().clone())
        return real(logits, wanted)

    short = Recipe("cpu-2d", longest=32, steps=2, batch_size=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmentation, "dice_and_cross_entropy", watch)
        fit(prepared, rows, dict.fromkeys(rows, "reference"), short, tmp_path / "gold", seed=0)
        first = seen[0]
        seen.clear()
        fit(prepared, rows, dict.fromkeys(rows, role), short, tmp_path / role / "again", seed=0)
    assert torch.equal(first, seen[0])
