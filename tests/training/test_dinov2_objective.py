"""DINOv2's losses: what is known of them exactly, the spec's equations written out, and lightly's numbers."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from medaudit.networks.vit import ViTShape
from medaudit.training.dinov2.crops import CropLaw
from medaudit.training.dinov2.cross_entropy import soft_cross_entropy
from medaudit.training.dinov2.model import DinoV2
from medaudit.training.dinov2.recipe import Recipe
from medaudit.training.dinov2.targets import koleo, mean_logits, sinkhorn_bias

RECIPE = Recipe(
    shape=ViTShape(24, 2, 2, patch=8, side=32, registers=1, layer_scale=1.0),
    crops=CropLaw(32, 16, 2),
    prototypes=20,
    hidden=16,
    bottleneck=12,
    precision="32-true",
)
PAIRS = {
    "views": torch.tensor([[0.0, 1], [1, 0], [1, 1], [1, 1], [1, 1]]),
    "patches": torch.ones(1, 1),
    "weighted": torch.tensor([[0.3, 0.0, 2.0], [0.0, 0.0, 0.0]]),
}


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.from_numpy(np.random.default_rng((seed, *shape)).normal(size=shape)).to(dtype)


def net(recipe=RECIPE, spread=0.3):
    """A student and a teacher that differ, with centres that are not zero, and prototypes of several lengths."""
    torch.manual_seed(0)
    model = DinoV2(recipe)
    with torch.no_grad():
        for value in (*model.student.parameters(), *model.teacher.parameters(), model.centre):
            value.add_(spread * torch.randn_like(value))
    return model


def batch(images=3, locals_=2, masked=(0, 2, 3)):
    masks = torch.zeros(2 * images, 16, dtype=torch.bool)
    for row, some in zip(masked, ([1, 2, 3, 4, 5], [7], [0, 15]), strict=False):
        masks[row, some] = True
    make = lambda *shape: drawn(*shape, dtype=torch.float32)
    return make(2 * images, 1, 32, 32), make(locals_ * images, 1, 16, 16), masks


# What is known exactly


def fused(student, prototypes, weights, teacher, theirs, bias, pairs, **more):
    temperatures = {"student_temperature": 0.1, "teacher_temperature": 0.05}
    return soft_cross_entropy(student, prototypes, weights, teacher, theirs, bias, pairs, **{**temperatures, **more})


@pytest.mark.parametrize("locals_", [0, 1, 4])
def test_uniform_teacher_and_student_cost_ln_k_and_patches_that_times_the_share_of_masked_crops(locals_):
    model = net()
    with torch.no_grad():
        model.centre.zero_()
        for part in (model.student, model.teacher):
            part.head.last_layer.weight_g.zero_()
    wide, narrow, masks = batch(4, locals_)
    found = model(wide, narrow, masks, 0.04)
    plateau = math.log(RECIPE.prototypes)
    assert float(found["dino"]) == pytest.approx(plateau, rel=1e-6)
    assert float(found["ibot"]) == pytest.approx(plateau * 3 / 8, rel=1e-6)
    assert float(found["teacher_entropy"]) == pytest.approx(plateau, rel=1e-6)
    assert float(found["teacher_patch_entropy"]) == pytest.approx(plateau, rel=1e-6)


def test_a_loss_of_two_prototypes_by_hand():
    # Teacher: logits (ln 3, 0) at temperature 1, so (3/4, 1/4); student: (ln 4, 0) at 1/2, so (16/17, 1/17).
    axes = torch.eye(2, dtype=torch.float64)
    student = torch.tensor([[[math.log(4), 0.0]]], dtype=torch.float64)
    teacher = torch.tensor([[[math.log(3), 0.0]]], dtype=torch.float64)
    weights, bias = torch.full((1,), 2.0, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    loss, entropy = soft_cross_entropy(
        student, axes, weights, teacher, axes, bias, torch.ones(1, 1).double(),
        student_temperature=0.5, teacher_temperature=1.0,
    )  # fmt: skip
    assert float(loss) == pytest.approx(2 * (math.log(17) - 0.75 * math.log(16)), abs=1e-12)
    assert float(entropy) == pytest.approx(2 * math.log(2) - 0.75 * math.log(3), abs=1e-12)


def test_a_certain_teacher_costs_minus_the_log_of_its_choice_and_has_no_entropy():
    axes = torch.eye(3, dtype=torch.float64)
    student, teacher = drawn(1, 1, 3), 100 * axes[1].view(1, 1, 3)
    one = torch.ones(1, 1, dtype=torch.float64)
    loss, entropy = fused(student, axes, one[0], teacher, axes, torch.zeros(3).double(), one)
    assert float(loss) == pytest.approx(-float(F.log_softmax(student[0, 0] / 0.1, 0)[1]), abs=1e-12)
    assert float(entropy) == pytest.approx(0, abs=1e-12)


# The spec's equations, written out


def told_apart(model, wide, narrow, masks, temperature):
    """The losses with all logits held, pair by pair, and the gradient of their sum."""
    r, n = model.recipe, len(wide) // 2
    locals_ = len(narrow) // n
    with torch.no_grad():
        seen = model.teacher.backbone(wide)
        theirs = model.teacher.head.prototypes()
        cls = (model.teacher.head(seen.cls) @ theirs.T).chunk(2)
        patches = model.teacher.head(seen.patches) @ theirs.T
        p = [torch.softmax((logits - model.centre[0]) / temperature, -1) for logits in cls]
        p_patches = torch.softmax((patches - model.centre[1]) / temperature, -1)
    ours = model.student.head.prototypes()

    def log_q(tokens):
        return torch.log_softmax(model.student.head(tokens) @ ours.T / r.student_temperature, -1)

    tokens = model.student.backbone(wide, masks)
    swapped = torch.cat([p[1], p[0]])
    dino = 2 / (2 + 2 * locals_) * -(swapped * log_q(tokens.cls)).sum(-1).mean()
    for crop in narrow.split(n) if locals_ else ():
        q = log_q(model.student.backbone(crop).cls)
        for g in range(2):
            dino = dino + 1 / (2 + 2 * locals_) * -(p[g] * q).sum(-1).mean()
    q_patches, ibot = log_q(tokens.patches), 0.0
    for i in range(2 * n):
        for j in torch.nonzero(masks[i])[:, 0]:
            ibot = ibot - (p_patches[i, j] * q_patches[i, j]).sum() / (2 * n * masks[i].sum())
    spread = torch.zeros(())
    for crop in tokens.cls.split(n):
        z = F.normalize(crop, dim=-1)
        for b in range(n):
            least = min((z[b] - z[c]).norm() for c in range(n) if c != b)
            spread = spread - torch.log(least + 1e-8) / n
    return {"dino": dino, "ibot": torch.as_tensor(ibot), "koleo": spread, "loss": dino + ibot + 0.1 * spread}


@pytest.mark.parametrize(("locals_", "masked"), [(1, (0, 2, 3)), (0, (1,)), (3, (4, 5)), (2, ())])
def test_each_part_and_the_gradient_are_those_of_the_equations_written_out(locals_, masked):
    wide, narrow, masks = batch(3, locals_, masked)
    model = net().eval()
    naive = told_apart(model, wide, narrow, masks, 0.05)
    found = model(wide, narrow, masks, 0.05)
    for name, value in naive.items():
        assert float(found[name].detach()) == pytest.approx(float(value.detach()), rel=2e-5, abs=1e-6), name
    weights = list(model.student.parameters())
    gradients = [torch.autograd.grad(some["loss"], weights, allow_unused=True) for some in (found, naive)]
    for one, other in zip(*gradients, strict=True):
        if other is not None:
            torch.testing.assert_close(one, other, atol=2e-5 * float(other.abs().max()) + 1e-7, rtol=1e-3)


def test_a_crop_is_not_its_own_teacher():
    wide, narrow, masks = batch(3, 0, ())
    model = net().eval()
    first = torch.arange(6) < 3
    asked, taught = model.teacher.backbone.asked, {}
    for name, rows in (("none", first & ~first), ("first", first)):
        changed = torch.where(rows[:, None, None, None], wide + 1, wide)
        model.teacher.backbone.asked = lambda images, *rest, x=changed: asked([x], *rest)
        student = wide.clone().requires_grad_()
        taught[name] = torch.autograd.grad(model(student, narrow, masks, 0.05)["loss"], student)[0]
    assert torch.equal(taught["first"][:3], taught["none"][:3])  # the teacher's first crops do not teach these
    assert not torch.allclose(taught["first"][3:], taught["none"][3:])


def test_swapping_the_global_crops_changes_no_loss():
    wide, narrow, masks = batch(3, 2)
    one = net().eval()(wide, narrow, masks, 0.05)
    other = net().eval()(torch.cat(wide.chunk(2)[::-1]), narrow, torch.cat(masks.chunk(2)[::-1]), 0.05)
    for name in ("loss", "dino", "ibot", "koleo"):
        assert float(other[name].detach()) == pytest.approx(float(one[name].detach()), rel=1e-5), name


def test_patches_of_a_head_with_batch_norm_have_statistics_of_their_own():
    model = net(replace(RECIPE, batch_norm=True)).eval()
    wide, narrow, masks = batch(3, 1)
    naive = told_apart(model, wide, narrow, masks, 0.05)  # its batches differ, the class tokens of the teacher do not
    assert torch.isfinite(model(wide, narrow, masks, 0.05)["loss"])
    cls = model.teacher.backbone(wide).cls
    alone, _ = model._projected(model.teacher.head, cls, drawn(7, 24, dtype=torch.float32))
    torch.testing.assert_close(alone, model.teacher.head(cls))
    assert torch.isfinite(naive["dino"])
    for n in (0, 1):
        _, patches = model._projected(model.student.head, cls, drawn(n, 24, dtype=torch.float32))
        assert patches.shape == (n, 12)
        assert torch.isfinite(patches).all()


# The fused cross-entropy


def naive_cross_entropy(student, prototypes, weights, teacher, theirs, bias, pairs, ts=0.1, tt=0.05):
    p = torch.softmax(teacher @ theirs.T / tt + bias, -1)
    log_q = torch.log_softmax(student @ prototypes.T / ts, -1)
    each = -torch.einsum("itk,isk,st->i", p, log_q, pairs)
    return (weights * each).sum(), torch.special.entr(p).sum()


def problem(pairs, n=5, k=11, d=4, dtype=torch.float64):
    s, t = pairs.shape
    student, teacher = (F.normalize(drawn(n, m, d, seed=m, dtype=dtype), dim=-1) for m in (s, t))
    prototypes, theirs = (F.normalize(drawn(k, d, seed=9 + i, dtype=dtype), dim=-1) for i in range(2))
    weights, bias = drawn(n, seed=3, dtype=dtype).abs(), drawn(k, seed=4, dtype=dtype)
    return [student.requires_grad_(), prototypes.requires_grad_(), weights, teacher, theirs, bias, pairs.to(dtype)]


@pytest.mark.parametrize("room", [1, 11 * 7 * 2, 1 << 24])
@pytest.mark.parametrize("pairs", PAIRS.values(), ids=PAIRS)
def test_the_fused_cross_entropy_is_the_naive_one_to_1e_9_in_value_and_gradients(pairs, room):
    given = problem(pairs)
    (loss, entropy), (plain, plain_entropy) = fused(*given, room=room), naive_cross_entropy(*given)
    assert float(loss.detach()) == pytest.approx(float(plain.detach()), abs=1e-9)
    assert float(entropy) == pytest.approx(float(plain_entropy), abs=1e-9)
    assert not entropy.requires_grad
    for one, other in zip(
        torch.autograd.grad(3 * loss, given[:2]), torch.autograd.grad(3 * plain, given[:2]), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=0)


@pytest.mark.parametrize("pairs", PAIRS.values(), ids=PAIRS)
def test_the_fused_cross_entropy_passes_gradcheck(pairs):
    student, prototypes, *rest = problem(pairs, n=2, k=5, d=3)
    assert torch.autograd.gradcheck(lambda z, w: fused(z, w, *rest, room=1)[0], (student, prototypes))


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_the_fused_cross_entropy_in_other_precisions_keeps_their_dtypes(dtype, close):
    given = problem(PAIRS["views"])
    plain = naive_cross_entropy(*given)[0]
    slopes = torch.autograd.grad(plain, given[:2])
    student, prototypes, weights, teacher, theirs, bias, pairs = (x.detach().float() for x in given)
    z = student.to(dtype).requires_grad_()
    w = prototypes.requires_grad_()
    loss, _ = fused(z, w, weights, teacher.to(dtype), theirs, bias, pairs)
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(plain.detach()), rel=close)
    for one, x, other in zip(torch.autograd.grad(loss, [z, w]), (z, w), slopes, strict=True):
        assert one.dtype == x.dtype
        assert float((one.double() - other).norm()) < 2 * close * float(other.norm())


def test_extreme_logits_give_finite_losses_and_gradients():
    given = problem(PAIRS["views"], dtype=torch.float32)
    given[1] = (500 * given[1].detach()).requires_grad_()
    given[4] = 500 * given[4]
    loss, entropy = fused(*given)
    assert all(torch.isfinite(x).all() for x in (loss, entropy, *torch.autograd.grad(loss, given[:2])))


class _Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation returns, in bytes of its storage."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for x in made if isinstance(made, tuple | list) else (made,):
            if isinstance(x, torch.Tensor):
                self.most = max(self.most, x.untyped_storage().nbytes())
        return made


def test_no_tensor_of_65536_prototypes_is_larger_than_a_piece_of_the_logits():
    rows, k, d, room = 512, 65_536, 2, 1 << 20
    z = F.normalize(drawn(rows, 1, d, dtype=torch.float32), dim=-1).requires_grad_()
    w = F.normalize(drawn(k, d, dtype=torch.float32), dim=-1).requires_grad_()
    one = torch.ones(1, 1)
    with _Largest() as largest:
        loss, _ = fused(z, w, one[0].expand(rows), z.detach(), w.detach(), torch.zeros(k), one, room=room)
        loss.backward()
    assert room < largest.most <= max(4 * room, w.nbytes)
    assert largest.most < rows * k * 4 / 20
    assert torch.isfinite(z.grad).all()
    assert torch.isfinite(w.grad).all()


# KoLeo


def test_koleo_of_two_antipodal_points_is_minus_ln_2():
    assert float(koleo(torch.tensor([[1.0, 0.0], [-3.0, 0.0]]))) == pytest.approx(-math.log(2), abs=1e-6)
    # The first of an opposite pair is no neighbour of itself.
    assert float(koleo(torch.tensor([[0.0, 2.0, 0.0], [0.0, -0.1, 0.0]]))) == pytest.approx(-math.log(2), abs=1e-6)


@pytest.mark.parametrize("n", [3, 4, 7])
def test_koleo_of_a_simplex_is_minus_the_log_of_its_edge(n):
    corners = torch.eye(n) - 1 / n
    assert float(koleo(5 * corners)) == pytest.approx(-math.log(math.sqrt(2 * n / (n - 1))), abs=1e-6)


def test_koleo_of_copies_is_finite_and_so_is_its_gradient():
    x = torch.ones(4, 9).requires_grad_()
    loss = koleo(x)
    loss.backward()
    assert 0 < float(loss.detach()) < -math.log(1e-8)
    assert torch.isfinite(x.grad).all()


def test_koleo_knows_no_length_and_no_rotation():
    x = drawn(20, 6, dtype=torch.float32)
    turned = x @ torch.linalg.qr(drawn(6, 6, dtype=torch.float32)).Q
    lengths = torch.linspace(0.1, 9, 20)[:, None]
    assert float(koleo(turned * lengths)) == pytest.approx(float(koleo(x)), abs=1e-5)


# Sinkhorn-Knopp and the centre


def sinkhorn_knopp(logits, temperature, iterations):
    """DINOv2's, on the whole K x B matrix."""
    q = torch.exp((logits.double() - logits.max()) / temperature).T
    k, b = q.shape
    q /= q.sum()
    for _ in range(iterations):
        q /= q.sum(1, keepdim=True)
        q /= k
        q /= q.sum(0, keepdim=True)
        q /= b
    return (q * b).T


@pytest.mark.parametrize("room", [1, 50, 1 << 24])
@pytest.mark.parametrize("iterations", [1, 3])
def test_the_bias_makes_a_softmax_sinkhorn_knopps_assignment(iterations, room):
    points = F.normalize(drawn(13, 5, dtype=torch.float32), dim=-1)
    prototypes = 1.7 * F.normalize(drawn(9, 5, dtype=torch.float32), dim=-1)
    bias = sinkhorn_bias(points, prototypes, 0.06, iterations, room)
    found = torch.softmax(points @ prototypes.T / 0.06 + bias, -1)
    explicit = sinkhorn_knopp(points @ prototypes.T, 0.06, iterations)
    torch.testing.assert_close(found.double(), explicit, atol=1e-5, rtol=0)


def test_many_rounds_give_each_prototype_the_same_weight():
    points, prototypes = (F.normalize(drawn(n, 6, dtype=torch.float32), dim=-1) for n in (40, 8))
    found = torch.softmax(points @ prototypes.T / 0.1 + sinkhorn_bias(points, prototypes, 0.1, 300), -1)
    torch.testing.assert_close(found.sum(1), torch.ones(40))
    torch.testing.assert_close(found.sum(0), torch.full((8,), 5.0), atol=1e-3, rtol=0)


def test_a_low_temperature_overflows_nothing():
    points, prototypes = (F.normalize(drawn(n, 6, dtype=torch.float32), dim=-1) for n in (7, 4))
    bias = sinkhorn_bias(points, 50 * prototypes, 0.02)
    assert torch.isfinite(torch.softmax(points @ (50 * prototypes).T / 0.02 + bias, -1)).all()


def test_the_mean_points_logits_are_the_mean_logits():
    points, prototypes = drawn(31, 6, dtype=torch.float32), drawn(9, 6, dtype=torch.float32)
    expected = (points.double() @ prototypes.double().T).mean(0).float()
    torch.testing.assert_close(mean_logits(points, prototypes), expected)
    torch.testing.assert_close(mean_logits(points[:0], prototypes), torch.zeros(9))


def test_the_centres_are_geometric_sums_of_mean_logits_used_before_they_move():
    model = net()
    first = model.centre.clone()
    wide, narrow, masks = batch()
    with torch.no_grad():
        seen, theirs = model.teacher.backbone(wide), model.teacher.head.prototypes()
        means = torch.stack([(model.teacher.head(some) @ theirs.T).mean(0) for some in (seen.cls, seen.patches[masks])])
        naive = told_apart(model, wide, narrow, masks, 0.05)["dino"]
        assert float(model(wide, narrow, masks, 0.05)["dino"]) == pytest.approx(float(naive), rel=1e-5)
        model(wide, narrow, masks, 0.05)
        model.eval()(wide, narrow, masks, 0.05)  # does not move them
    torch.testing.assert_close(model.centre, 0.9**2 * first + (1 - 0.9**2) * means, atol=1e-5, rtol=1e-5)


def test_with_sinkhorn_the_centres_rest_and_the_targets_are_its_assignments():
    model = net(replace(RECIPE, centring="sinkhorn"))
    first = model.centre.clone()
    wide, narrow, masks = batch(3, 0)
    found = model(wide, narrow, masks, 0.05)
    with torch.no_grad():
        seen, theirs = model.teacher.backbone(wide), model.teacher.head.prototypes()
        p = sinkhorn_knopp(model.teacher.head(seen.cls) @ theirs.T, 0.05, 3)
        ours = model.student.backbone(wide, masks).cls
        q = torch.log_softmax(model.student.head(ours) @ model.student.head.prototypes().T / 0.1, -1)
    assert float(found["dino"]) == pytest.approx(float(-(torch.cat([p[3:], p[:3]]) * q).sum(-1).mean()), rel=1e-5)
    assert torch.equal(model.centre, first)


@pytest.mark.parametrize("centring", ["centre", "sinkhorn"])
def test_in_bfloat16_a_step_is_that_of_float32_but_for_rounding(centring):
    wide, narrow, masks = batch()
    model, exact = (net(replace(RECIPE, centring=centring)) for _ in range(2))
    expected = exact(wide, narrow, masks, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(wide, narrow, masks, 0.1)
    found["loss"].backward()
    assert float(found["loss"].detach()) == pytest.approx(float(expected["loss"].detach()), rel=0.05)
    assert all(torch.isfinite(p.grad).all() for p in model.student.parameters() if p.grad is not None)
    assert model.centre.dtype == torch.float32
    torch.testing.assert_close(model.centre, exact.centre, atol=0.02, rtol=0)


# Numbers of lightly 1.6.0 (DINOLoss, IBOTPatchLoss, KoLeoLoss), whose inputs numpy's generator 7 draws


def test_lightlys_losses_and_centres_number_by_number():
    rng = np.random.default_rng(7)
    axes = torch.eye(5, dtype=torch.float64)

    def draw(*shape):
        return torch.from_numpy(rng.normal(size=shape)) * 0.2

    centre, pairs = torch.zeros(5, dtype=torch.float64), torch.ones(4, 2, dtype=torch.float64)
    pairs[0, 0] = pairs[1, 1] = 0
    for expected in (2.453424844342, 2.929806283186):
        teacher, student = draw(2, 3, 5), draw(4, 3, 5)
        weights = torch.full((3,), 1 / (3 * 6), dtype=torch.float64)
        loss, _ = fused(
            student.transpose(0, 1), axes, weights, teacher.transpose(0, 1), axes, -centre / 0.05, pairs
        )  # fmt: skip
        assert float(loss) == pytest.approx(expected, abs=1e-6)
        centre = 0.9 * centre + 0.1 * mean_logits(teacher.flatten(0, 1), axes).double()
    lightlys = [
        -0.007905822717962967, -0.011931831542348845, -0.007369309580622275, -0.00422464988205141,
        -0.015872789710538175,
    ]  # fmt: skip
    assert centre.tolist() == pytest.approx(lightlys, abs=1e-7)

    centre = torch.zeros(5, dtype=torch.float64)
    share = torch.tensor([1 / 3, 1 / 3, 1 / 3, 1], dtype=torch.float64) / 4  # three of the first crop, one of the third
    for expected in (1.844961608950, 0.713266485230):
        teacher, student = draw(4, 5), draw(4, 5)
        one = torch.ones(1, 1, dtype=torch.float64)
        loss, _ = fused(student[:, None], axes, share, teacher[:, None], axes, -centre / 0.05, one)
        assert float(loss) == pytest.approx(expected, abs=1e-6)
        centre = 0.9 * centre + 0.1 * mean_logits(teacher, axes).double()
    lightlys = [
        -0.009375059114424017, 0.0017412984495416475, 0.004218099844377777, -0.0031583490423551025,
        0.004174571369812994,
    ]  # fmt: skip
    assert centre.tolist() == pytest.approx(lightlys, abs=1e-7)
    assert float(koleo(draw(6, 4))) == pytest.approx(0.2336627181502561, abs=1e-6)
