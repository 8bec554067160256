"""Maps of layers, relevance, DeepLIFT, the audit of networks and concepts: against captum, by hand, and by planting."""

import copy

import numpy as np
import pytest
import torch
from captum.attr import LRP, Deconvolution, DeepLift, GuidedBackprop, LayerGradCam
from torch import nn
from torch.nn import functional as F

from medaudit.errors import DataError, UsageError
from medaudit.explanation.attributions import audit, concepts, layers
from medaudit.explanation.attributions.explananda import Explanandum
from medaudit.explanation.attributions.gradients import gradient, input_times_gradient
from medaudit.explanation.attributions.lrp import Rule, composite, lrp, refused
from medaudit.explanation.attributions.paths import integrated_gradients
from medaudit.explanation.attributions.rescale import deep_lift
from medaudit.explanation.attributions.steps import read


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(24, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3),
    ).eval()  # fmt: skip


class Halves(nn.Module):
    """The same without a module that flattens, which captum has no rule for."""

    def __init__(self, net):
        super().__init__()
        net = copy.deepcopy(net)
        self.body, self.head = net[:6], net[7:]

    def forward(self, x):
        return self.head(self.body(x).flatten(1))


class Residual(nn.Module):
    """Everything at once: batch normalisation before and after, a functional and a reused ReLU, in place, a skip."""

    def __init__(self, dims=2):
        super().__init__()
        torch.manual_seed(1)
        conv, norm = (
            (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1],
            (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims - 1],
        )
        self.first, self.norm = conv(2, 4, 3, padding=1, bias=False), norm(4)
        self.before, self.second = norm(4), conv(4, 4, 3, padding=1)
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(4, 3)
        for one in (self.norm, self.before):
            nn.init.uniform_(one.weight, 0.5, 1.5)
            nn.init.normal_(one.bias, std=0.3)
            one.running_mean.normal_(std=0.3)
            one.running_var.uniform_(0.5, 1.5)
        self.eval()

    def forward(self, x):
        x = self.relu(self.norm(self.first(x)))
        y = self.second(F.relu(self.before(x)))
        y += x
        x = self.relu(y)
        x = x.flatten(2).mean(2).view(x.size(0), -1)
        return self.head(F.dropout(x, training=self.training))


@pytest.fixture(scope="module")
def images():
    return torch.rand(4, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def test_activation_maps_by_hand_and_captums(net, images):
    f = Explanandum("logit").of(net, images)
    layer = net[3]
    theirs = LayerGradCam(net, layer).attribute(images, f.target)[:, 0]
    ours = layers.activation_map(f, images, layer, relu=False, at_once=3)
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert torch.allclose(layers.activation_map(f, images, layer), ours.clamp(min=0), atol=1e-7)
    active, slope = layers.layer_gradients(f, images, layer)
    assert torch.allclose(active, net[:4](images))
    assert torch.allclose(layers.activation_map(f, images, layer, "hires-cam", relu=False), (active * slope).sum(1))
    assert torch.allclose(layers.activation_map(f, images, layer, "layer-cam", relu=False),
                          (active * slope.clamp(min=0)).sum(1))  # fmt: skip
    eigen = layers.activation_map(f, images, layer, "eigen-cam", relu=False)
    flat = active[1].detach().flatten(1).T.numpy()  # places x channels
    _, vector = np.linalg.eigh(flat.T @ flat)
    assert np.allclose(np.abs(flat @ vector[:, -1]).reshape(4, 4), eigen[1].abs().numpy(), atol=1e-5)
    changed = Residual()  # what follows works in place, on its own copy
    assert float(layers.layer_gradients(Explanandum().of(changed, images), images, changed.norm)[0].min()) < 0
    # Gradients of the last convolution, averaged, are those of a head that averages: CAM = HiResCAM (Draelos & Carin).
    pooled = nn.Sequential(nn.Conv2d(2, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)).eval()
    g = Explanandum("logit").of(pooled, images)
    cam, hires = (layers.activation_map(g, images, pooled[0], how, relu=False) for how in ("grad-cam", "hires-cam"))
    assert torch.allclose(cam, hires, atol=1e-6)
    assert torch.allclose(cam.flatten(1).sum(1) + pooled[3].bias[g.target], g(images), atol=1e-5)
    assert layers.upsampled(ours, (8, 8)).shape == (4, 8, 8)
    with pytest.raises(UsageError, match="asked 0 times"):
        layers.activation_map(f, images, nn.Conv2d(2, 2, 1))
    twice = Residual()
    with pytest.raises(UsageError, match="asked 2 times"):
        layers.activation_map(Explanandum().of(twice, images), images, twice.relu)


def test_guided_backpropagation_and_deconvolution_are_captums_and_leave_no_hooks(net, images):
    f = Explanandum("logit").of(net, images)
    before = gradient(f, images)
    for how, theirs in (("guided", GuidedBackprop), ("deconvolution", Deconvolution)):
        ours = layers.guided(f, images, net, how)
        assert torch.allclose(ours, theirs(net).attribute(images, f.target), atol=1e-6), how
    with pytest.raises(RuntimeError), layers.changed_relus(net, "guided"):
        raise RuntimeError
    assert torch.equal(gradient(f, images), before)
    assert not any(module._backward_hooks for module in net.modules())
    with pytest.raises(UsageError, match="no ReLU module"):
        layers.guided(f, images, nn.Sequential(nn.Linear(2, 2)))


def test_relevance_by_epsilon_is_captums_and_the_input_times_the_gradient(net, images):
    f = Explanandum("logit").of(net, images)
    ours = lrp(f, images, Rule("epsilon", epsilon=1e-9))
    theirs = LRP(Halves(net)).attribute(images, f.target)
    assert torch.allclose(ours, theirs.detach(), atol=1e-5)
    assert torch.allclose(ours, input_times_gradient(f, images), atol=1e-5)
    strong = lrp(f, images, Rule("epsilon", epsilon=0.1))
    assert not torch.allclose(strong, ours, atol=1e-3)
    margin = Explanandum("margin", 0, against=2).of(net, images)
    assert torch.allclose(lrp(margin, images), input_times_gradient(margin, images), atol=1e-4)
    assert torch.allclose(lrp(f, images, at_once=3), lrp(f, images), atol=1e-6)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_relevance_through_skips_normalisation_and_steps_in_place(dims):
    model, x = Residual(dims), torch.randn(3, 2, *[6] * dims, generator=torch.Generator().manual_seed(2))
    f = Explanandum("logit").of(model, x)
    assert torch.allclose(lrp(f, x, Rule(epsilon=1e-9)), input_times_gradient(f, x), atol=1e-4)
    assert read(model).refused == ()
    assert torch.equal(model(x), f.model(x))


def test_rules_of_relevance_by_hand():
    torch.manual_seed(0)
    w, b = torch.randn(3, 4), torch.randn(3)
    a = torch.tensor([0.5, 1.0, -0.3, 2.0])
    layer = nn.Linear(4, 3)
    layer.weight.data, layer.bias.data = w, b
    f = Explanandum("logit", 1).of(layer.eval(), a[None])
    total = float(w[1] @ a + b[1])
    part = w[1] * a
    up, down = part.clamp(min=0), part.clamp(max=0)
    low, high = -1.0, 3.0
    box = part - low * w[1].clamp(min=0) - high * w[1].clamp(max=0)
    b_up, b_down = b[1].clamp(min=0), b[1].clamp(max=0)
    side, b_side = (up, b_up) if total > 0 else (down, b_down)
    for rule, expected in (
        (Rule("epsilon", epsilon=0.5), part / (total + np.sign(total) * 0.5)),
        (Rule("flat"), torch.full((4,), 0.25)),
        (Rule("z-plus"), up / (up.sum() + b_up)),
        (Rule("z-plus", bias=False), up / up.sum()),
        (Rule("alpha-beta", alpha=2), 2 * up / (up.sum() + b_up) - down / (down.sum() + b_down)),
        (Rule("gamma", gamma=0.5), (part + 0.5 * side) / (total + 0.5 * (side.sum() + b_side))),
        (Rule("box", low=low, high=high), box / box.sum()),
    ):  # fmt: skip
        found = lrp(f, a[None], rule)[0]
        assert torch.allclose(found, total * expected, atol=1e-4), rule.name


def test_composites_share_out_all_there_is(images):
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, bias=False),
        nn.ReLU(), nn.Flatten(), nn.Linear(16, 3, bias=False),
    ).eval()  # fmt: skip
    f = Explanandum("logit").of(plain, images)
    total = f(images)
    maps = {name: lrp(f, images, composite(name)) for name in ("epsilon-plus", "epsilon-plus-flat", "epsilon-gamma-box",
                                                              "epsilon-alpha2-beta1-flat")}  # fmt: skip
    for name, found in maps.items():
        assert torch.allclose(found.flatten(1).sum(1), total, rtol=1e-3, atol=1e-4), name
    # Flat: all channels of a place have as much, and the picture itself has no part in it.
    assert torch.allclose(maps["epsilon-plus-flat"][:, 0], maps["epsilon-plus-flat"][:, 1], atol=1e-6)
    with pytest.raises(UsageError, match="expected one of epsilon-plus"):
        composite("best")


def test_relevance_refuses_what_it_has_no_rule_for(net, images):
    with pytest.raises(UsageError, match="log-prob is none"):
        lrp(Explanandum("log-prob").of(net, images), images)
    odd = nn.Sequential(nn.Flatten(), nn.LayerNorm(128), nn.GELU(), nn.Linear(128, 3)).eval()
    with pytest.raises(UsageError, match=r"for 1: LayerNorm is none of convolutions"):
        lrp(Explanandum().of(odd, images), images)
    assert [name for name, _ in refused(read(odd))] == ["1", "2"]

    class Choice(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :3] if x.sum() > 0 else x.flatten(1)[:, 3:6]

    assert "torch.fx cannot read" in read(Choice()).refused[0][1]
    wide = nn.Sequential(nn.Conv2d(2, 3, 3, padding_mode="reflect", padding=1), nn.Flatten())
    assert "pads by reflect" in read(wide).refused[0][1]


@pytest.mark.filterwarnings("ignore")
def test_deep_lift_is_captums_where_captum_is_right_and_complete_where_it_is_not(net, images):
    references = torch.rand(3, 1, 2, 8, 8, generator=torch.Generator().manual_seed(3))
    # captum 0.9 is not complete where an activation follows another, as max pooling a ReLU: there is none here
    smooth = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.Tanh(),
                           nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))  # fmt: skip
    smooth.eval()
    f = Explanandum("logit").of(smooth, images)
    found = deep_lift(f, images, references, at_once=3)
    for k in range(3):
        base = references[k].expand(images.shape).contiguous()
        theirs = DeepLift(copy.deepcopy(smooth)).attribute(images, base, target=f.target)
        assert torch.allclose(found.each[k], theirs.detach(), atol=1e-6)
    for model in (net, Residual()):  # max pooling; ReLUs that are functional, used twice, in place
        g = Explanandum("margin").of(model, images)
        found = deep_lift(g, images, references)
        assert found.complete.all()
        assert float(found.gap.abs().max()) < 1e-4
        assert found.standard_error.shape == images.shape
    flat = nn.Sequential(nn.Flatten(), nn.Linear(128, 2)).eval()
    g = Explanandum("logit", [0, 1, 1, 0]).of(flat, images)  # targets row by row
    assert torch.allclose(deep_lift(g, images, references).mean,
                          integrated_gradients(g, images, references, nodes=1).mean, atol=1e-5)  # fmt: skip
    one = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))
    for layer, weight, bias in ((one[0], -1.0, 1.0), (one[2], -1.0, 1.0)):  # 1 - relu(1 - x), at 2: gradient 0
        nn.init.constant_(layer.weight, weight)
        nn.init.constant_(layer.bias, bias)
    two = torch.full((1, 1), 2.0)
    assert float(deep_lift(Explanandum("score").of(one.eval(), two), two, torch.zeros(1, 1, 1)).mean) == pytest.approx(
        1
    )
    with pytest.raises(UsageError, match="prob is none"):
        deep_lift(Explanandum("prob").of(net, images), images, references)


def test_the_same_function_written_otherwise(images):
    """Paths do not see how a network is written; hooks on modules do, and the audit names what they would miss."""
    model = Residual()

    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.utils.fuse_conv_bn_eval(model.first, model.norm)
            self.relus = nn.ModuleList(nn.ReLU() for _ in range(3))
            self.before, self.second, self.head = model.before, model.second, model.head
            self.split = nn.Linear(4, 4)
            nn.init.eye_(self.split.weight)
            nn.init.zeros_(self.split.bias)
            self.eval()

        def forward(self, x):
            x = self.relus[0](self.first(x))
            x = self.relus[2](self.second(self.relus[1](self.before(x))) + x)
            return self.head(self.split(x.flatten(2).mean(2)))

    other = Other()
    black = torch.zeros(1, 1, 2, 8, 8)
    maps = [
        integrated_gradients(Explanandum("margin", 0, against=1).of(m, images), images, black, nodes=32, most=32).mean
        for m in (model, other)
    ]
    assert torch.allclose(*maps, atol=1e-5)
    assert [r.where for r in audit.refusals(other, images)] == []
    broken = audit.refusals(model, images)
    told = {(r.where, r.reason.split(" ")[0]) for r in broken if r.concerns("hooks")}
    assert told == {("relu", "ReLU"), ("Residual", "relu"), ("Residual", "add_")}
    assert any("is used 2 times" in r.reason for r in broken)
    assert not any(r.concerns("path-integral") or r.concerns("epsilon-rule") for r in broken)
    audit.refuse(model, images, "path-integral")
    with pytest.raises(UsageError, match=r"guided is refused: relu: ReLU works in place.*inplace=False"):
        audit.refuse(model, images, "guided")


class _Functional(nn.Module):
    def __init__(self, step):
        super().__init__()
        self.step = step
        self.head = nn.Linear(128, 2)
        self.eval()

    def forward(self, x):
        return self.step(self.head(x.flatten(1)))


@pytest.mark.parametrize(
    ("model", "method", "words"),
    [
        (nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(128, 2)), "shapley", r"1: Dropout is in training mode"),
        (nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)), "shapley", "1: BatchNorm2d is in training mode"),
        (_Functional(lambda x: F.dropout(x, 0.5)), "shapley", "answers the same images differently"),
        (_Functional(lambda x: x - x.mean(0)), "shapley", "depends on what else is in the batch"),
        (_Functional(lambda x: x / 0), "occlusion", "not finite"),
        (_Functional(lambda x: x.round().detach()), "derivative", "no gradient to the input"),
        (_Functional(lambda x: {"out": x}), "derivative", "returns a dict"),
        (_Functional(lambda x: x.reshape(7, 9)), "surrogate", "fails on these images"),
        (_Functional(F.gelu), "epsilon-rule", "gelu is no ReLU"),
        (_Functional(torch.relu), "guided", "as a function, where hooks do not reach"),
        (_Functional(lambda x: x).to("meta"), "occlusion", "weights are on meta and the images on cpu"),
    ],
)
def test_what_breaks_which_method_is_named(model, method, words, images):
    with pytest.raises(UsageError, match=words):
        audit.refuse(model, images, method)


def test_the_audit_leaves_a_model_as_it_was(net, images):
    model = nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 2)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert audit.refusals(model, images)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert audit.refusals(net, images) == ()
    assert audit.refusals(lambda x: x.flatten(1), images) == ()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_a_planted_concept_is_found_and_a_random_one_is_not():
    rng = torch.Generator().manual_seed(0)

    def tissue(n):
        return torch.randn(n, 1, 6, 6, generator=rng)

    stripe = torch.zeros(6, 6)
    stripe[2] = 2
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.Tanh(), nn.Linear(12, 2)).eval()
    torch.manual_seed(0)
    with torch.no_grad():  # class 1 is the stripe, and little else
        model[1].weight.normal_(std=0.3).mul_(0.2)
        model[1].weight[0] = stripe.flatten() / 12
        model[3].weight.normal_(std=0.2)
        model[3].weight[1, 0] += 3
    x = tissue(30)
    f = Explanandum("logit", 1).of(model, x)
    found = concepts.tcav(
        f, x, model, model[1], {"stripe": tissue(25) + stripe, "nothing": tissue(25)}, [tissue(25) for _ in range(12)]
    )
    planted, nothing = found
    assert planted.score > 0.95
    assert planted.p_holm < 0.05
    assert planted.accuracy.mean() > 0.9
    assert nothing.p_holm > 0.05
    assert 0.3 < nothing.accuracy.mean() < 0.7
    assert planted.p_holm == pytest.approx(min(1, 2 * min(planted.p, nothing.p)))
    # The derivative is that of the head along the vector: by hand.
    vector, _ = concepts.concept_vector(
        concepts.activations(model, model[1], tissue(9) + stripe), concepts.activations(model, model[1], tissue(9))
    )
    assert float(vector.norm()) == pytest.approx(1, abs=1e-5)
    active = model[:2](x).detach()
    by_hand = ((1 - active.tanh() ** 2) * model[3].weight[1]).detach() @ vector
    assert torch.allclose(concepts.directional(f, x, model[1], vector[None])[:, 0], by_hand, atol=1e-5)
    with pytest.raises(UsageError, match="3 or more"):
        concepts.tcav(f, x, model, model[1], {"stripe": x}, [x])
    with pytest.raises(DataError, match="2 or more"):
        concepts.concept_vector(active[:1], active)
