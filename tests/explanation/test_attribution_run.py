"""From configurations to maps: what is shared changes nothing, and other models are asked the same question."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from medaudit.errors import UsageError
from medaudit.explanation.assumptions import configuration
from medaudit.explanation.attributions.run import Banks, Subject, attribute, refused


def net(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(36, 3),
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def subject():
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    pool = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return Subject(net(0), x, pool=pool, matched=pool[:2], others=(net(1),))


def ig(**chosen):
    return configuration("integrated-gradients", **{"nodes": 4, **chosen})


def test_what_configurations_share_changes_no_map(subject):
    kernel = {"units": "grid(4)", "locality": "coalitions(200)"}
    some = [
        ig(absence="noise", chance="one-seed"), ig(absence="noise", chance="averaged(4)"),
        ig(absence="noise(0.3)", chance="averaged(4)"), ig(absence=0.1), ig(absence=0.1000004),
        ig(absence="blur(1)"), ig(absence="blur(1.0000004)"),
        ig(absence="mean-image"), ig(absence="matched"), ig(explanandum="margin"),
        configuration("kernel-shap", absence="mean-colour", **kernel),
        configuration("kernel-shap", absence="dataset(2)", **kernel),
        configuration("kernel-shap", absence="dataset(3)", **kernel),
        configuration("kernel-shap", absence="noise", chance="averaged(3)", **kernel),
        configuration("kernel-shap", absence="noise", chance="averaged(2)", **kernel),
        configuration("occlusion", absence=0.2, units="grid(3)"),
        configuration("occlusion", absence=0.2, units="grid(2)"),
        configuration("smoothgrad"), configuration("smoothgrad", shown="squared"),
        configuration("smoothgrad", chance="averaged(3)"), configuration("smoothgrad", sigma=0.1500001),
    ]  # fmt: skip
    banks = Banks(subject)
    for seed in (0, 1):
        for one in some:
            shared, alone = (attribute(one, subject, seed=seed, banks=b).maps for b in (banks, None))
            assert torch.equal(shared, alone), one.label()
    assert banks.reused


def test_banks_are_of_one_subject(subject):
    with pytest.raises(UsageError, match="of another subject"):
        attribute(ig(), replace(subject, x=subject.x[:2]), banks=Banks(subject))


@pytest.mark.parametrize("explanandum", ["logit", "margin"])
def test_another_model_is_asked_about_the_class_of_the_first(subject, explanandum):
    with torch.no_grad():
        own, other = (model(subject.x) for model in (subject.model, *subject.others))
    assert (own.argmax(1) != other.argmax(1)).any()
    two = own.topk(2, 1).indices
    several = ig(explanandum=explanandum, plurality="set(2)", chance="distribution(2)")
    x = subject.x.clone().requires_grad_()
    maps = attribute(several, subject).maps
    # Sums of path integrals are known without any path: f(x) - f(black), of the class that the first model chose.
    wanted = 0
    for model in (subject.model, *subject.others):
        told = (model(x) - model(torch.zeros_like(x))).detach()
        mine = told.gather(1, two)
        wanted = wanted + (mine[:, 0] - (mine[:, 1] if explanandum == "margin" else 0)) / 2
    assert torch.allclose(maps.flatten(1).sum(1), wanted, rtol=0.03, atol=0.01)


def test_as_many_models_are_needed_as_are_named(subject):
    five = ig(plurality="set", chance="distribution(5)")
    assert "need 5 models, and there is 2" in refused(five, subject)
    assert refused(ig(plurality="set(2)", chance="distribution(2)"), subject) is None
    with pytest.raises(UsageError, match="need 5 models"):
        attribute(five, subject)


def test_what_is_missing_to_the_sum_is_said_of_the_map_itself_alone(subject):
    assert attribute(ig(), subject).gap.max() < 0.05
    for shown in ("signed(clip=90)", "signed(smooth=2)", "absolute"):
        assert attribute(ig(shown=shown), subject).gap is None
    error = attribute(ig(absence="noise", chance="averaged(4)"), subject).standard_error
    assert error.shape == subject.x[:, 0].shape
    # Of a pixel, and not of the cell that is shown.
    assert attribute(ig(absence="noise", chance="averaged(4)", units="grid(2)"), subject).standard_error is None
