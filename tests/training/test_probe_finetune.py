"""Fine-tuning: rates by depth that really reach the optimiser, mixing as timm has it, and the epoch that is kept."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medaudit.errors import DataError
from medaudit.networks.vit import ViT, ViTShape
from medaudit.training.loop import optimizer_of
from medaudit.training.probes.finetune import (
    FineTuning,
    ViTClassifier,
    fine_tune_classifier,
    fine_tuned_probabilities,
    mixed,
    smoothed,
    steering_of,
)
from medaudit.training.settings import TrainingSettings

SHAPE = ViTShape(dim=24, depth=3, heads=3, patch=8, side=24, registers=1)
SHORT = FineTuning(epochs=4, warmup_epochs=1, batch_size=8, learning_rate=2e-3, layer_decay=0.8, weight_decay=0.05)


def vit(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ViT(SHAPE)


def stripes(n=48, seed=0):
    """Images whose class is the side on which they are bright: above or below."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % 2
    images = 0.3 * rng.normal(size=(n, 1, 24, 24))
    images[codes == 0, :, :12] += 1.5
    images[codes == 1, :, 12:] += 1.5
    return images.astype(np.float32), codes


def rates_of(how):
    model = ViTClassifier(vit(), 3)
    steering = steering_of(how)
    settings = TrainingSettings(weight_decay=0.01 if how.fidelity == "paper" else how.weight_decay)
    groups = optimizer_of(model, settings, steering).param_groups
    steering.rates(groups, 1e-4, 0, 10)
    where = {id(p): group for group in groups for p in group["params"]}
    return {name: where[id(p)] for name, p in model.named_parameters() if p.requires_grad}


def test_rates_fall_with_depth_and_reach_the_optimiser():
    found = rates_of(FineTuning(layer_decay=0.5, weight_decay=0.05))
    expected = {
        "vit.patch_embed.proj.weight": 4, "vit.cls_token": 4, "vit.pos_embed": 4, "vit.blocks.0.attn.qkv.weight": 3,
        "vit.blocks.1.mlp.fc1.bias": 2, "vit.blocks.2.ls1.gamma": 1, "vit.norm.weight": 0, "head.weight": 0,
    }  # fmt: skip
    for name, after in expected.items():
        assert found[name]["lr"] == pytest.approx(1e-4 * 0.5**after), name
    decayed = {name for name, group in found.items() if group["weight_decay"]}
    assert {"vit.patch_embed.proj.weight", "vit.blocks.0.attn.qkv.weight", "head.weight"} <= decayed
    assert not decayed & {"vit.cls_token", "vit.pos_embed", "vit.register_tokens", "head.bias", "vit.norm.weight"}
    assert {found[name]["weight_decay"] for name in decayed} == {0.05}


def test_as_released_every_weight_has_one_rate_and_one_decay():
    found = rates_of(FineTuning("paper", layer_decay=0.5, weight_decay=0.0))
    assert {(group["lr"], group["weight_decay"]) for group in found.values()} == {(1e-4, 0.01)}


def test_smoothed_targets_give_torchs_label_smoothing():
    logits, codes = torch.randn(6, 5), torch.randint(0, 5, (6,))
    ours = -(smoothed(codes, 5, 0.1) * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(ours, torch.nn.functional.cross_entropy(logits, codes, label_smoothing=0.1))


def test_mixup_mixes_pixels_and_targets_by_one_share():
    torch.manual_seed(0)
    images, targets = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 6, 6), torch.eye(4)
    seen, wanted = mixed(images, targets, 0.8, 0.0)
    torch.testing.assert_close(seen[:, 0, 0, 0], wanted @ torch.arange(4.0))
    torch.testing.assert_close(wanted.sum(dim=1), torch.ones(4))


def test_cutmix_mixes_targets_by_the_pixels_that_were_replaced():
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 16, 16)
    shares = set()
    for seed in range(20):
        torch.manual_seed(seed)
        seen, wanted = mixed(images, torch.eye(4), 0.0, 1.0)
        torch.testing.assert_close(seen.mean(dim=(1, 2, 3)), wanted @ torch.arange(4.0))
        assert set(seen[0].unique().tolist()) <= {0.0, 3.0}
        shares.add(float(wanted[0, 0]))
    assert len(shares) > 10


def test_nothing_is_mixed_where_neither_is_asked_for():
    images, targets = torch.randn(2, 1, 4, 4), torch.eye(2)
    assert mixed(images, targets, 0.0, 0.0)[0] is images


@pytest.mark.parametrize("fidelity", ["paper", "fixed"])
def test_a_backbone_learns_and_keeps_the_epoch_that_its_fidelity_says(fidelity, tmp_path):
    images, codes = stripes()
    net = vit()
    before = net.blocks[0].attn.qkv.weight.detach().clone()
    how = replace(SHORT, fidelity=fidelity, epochs=8, mixup=0.2, cutmix=0.0)
    tuned = fine_tune_classifier(net, images, codes, range(32), range(32, 40), 2, how, tmp_path, seed=0)
    assert not torch.equal(before, net.blocks[0].attn.qkv.weight)
    p = fine_tuned_probabilities(tuned, images, range(40, 48))
    assert (p.argmax(axis=1) == codes[40:]).mean() == 1.0
    assert tuned.kept == (8 if fidelity == "paper" else tuned.trained.best_epoch)
    wanted = torch.load(tuned.trained.weights if fidelity == "paper" else tuned.trained.best, weights_only=False)
    torch.testing.assert_close(tuned.model.state_dict(), wanted["model"])
    assert ("as released" in " ".join(tuned.notes)) == (fidelity == "paper")


def test_the_same_fine_tuning_gives_the_same_bits_mixing_included(tmp_path):
    images, codes = stripes(24)
    tuned = [
        fine_tune_classifier(vit(), images, codes, range(16), range(16, 24), 2, SHORT, tmp_path / name, seed=1)
        for name in "ab"
    ]
    a, b = (fine_tuned_probabilities(one, images, range(24)) for one in tuned)
    np.testing.assert_array_equal(a, b)


def test_no_validation_cases_are_an_error(tmp_path):
    images, codes = stripes(8)
    with pytest.raises(DataError, match="no validation case"):
        fine_tune_classifier(vit(), images, codes, range(8), [], 2, SHORT, tmp_path, seed=0)
