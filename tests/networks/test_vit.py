"""Vision transformers: what must hold of any of them, whatever the weights."""

from dataclasses import replace

import pytest
import torch

from medaudit.errors import UsageError
from medaudit.networks.vit import SHAPES, ViT, ViTShape, layer_of, parameters_of

SMALL = ViTShape(dim=24, depth=3, heads=3, patch=4, side=16, registers=2, layer_scale=0.5)


def net(shape: ViTShape = SMALL, spread: float = 0.2) -> ViT:
    """A net whose every weight matters: as drawn at the start, registers and class token are nearly nothing."""
    torch.manual_seed(0)
    made = ViT(shape).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    return made


def images(n: int = 2, side: int = 16, channels: int = 1) -> torch.Tensor:
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(1))


def cells(x: torch.Tensor, p: int) -> torch.Tensor:
    n, c, h, w = x.shape
    return x.view(n, c, h // p, p, w // p, p).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)


def joined(x: torch.Tensor, rows: int) -> torch.Tensor:
    n, m, c, p, _ = x.shape
    return x.view(n, rows, m // rows, c, p, p).permute(0, 3, 1, 4, 2, 5).reshape(n, c, rows * p, -1)


def test_without_positions_permuted_patches_give_permuted_features_and_the_same_class_token():
    vit, x = net(), images()
    with torch.no_grad():
        vit.pos_embed.zero_()
    order = torch.randperm(16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        plain, mixed = vit(x), vit(joined(cells(x, 4)[:, order], 4))
    torch.testing.assert_close(mixed.patches, plain.patches[:, order], atol=1e-5, rtol=0)
    torch.testing.assert_close(mixed.cls, plain.cls, atol=1e-5, rtol=0)
    torch.testing.assert_close(mixed.registers, plain.registers, atol=1e-5, rtol=0)


def test_with_positions_permuted_patches_give_another_class_token():
    vit, x = net(), images()
    with torch.no_grad():
        assert (vit(joined(cells(x, 4).flip(1), 4)).cls - vit(x).cls).abs().max() > 1e-2


def test_crops_of_two_sizes_packed_are_what_they_are_apart():
    vit, wide, narrow = net(), images(3), images(5, 8)
    masks = torch.rand(3, 16, generator=torch.Generator().manual_seed(3)) < 0.5
    with torch.no_grad():
        packed, apart = vit.several([wide, narrow], [masks, None]), [vit(wide, masks), vit(narrow)]
    for one, other in zip(packed, apart, strict=True):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    assert packed[1].patches.shape == (5, 4, 24)


def test_registers_do_not_touch_the_order_of_patches():
    # Deaf blocks: what comes out at a place is what went in there.
    vit, x = net(), images()
    with torch.no_grad():
        for block in vit.blocks:
            block.ls1.gamma.zero_()
            block.ls2.gamma.zero_()
        found = vit(x)
        wanted = vit.norm(vit.patch_embed(x) + vit.pos_embed[:, 1:])
        torch.testing.assert_close(found.patches, wanted)
        torch.testing.assert_close(found.registers, vit.norm(vit.register_tokens).expand(2, -1, -1))


def test_the_patch_embedding_is_the_strided_convolution():
    embed, x = net(ViTShape(24, 1, 3, patch=4, side=16, channels=3)).patch_embed, images(channels=3)
    with torch.no_grad():
        torch.testing.assert_close(embed(x), embed.proj(x).flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("offset", "antialias"), [(0.1, False), (0.0, True)])
def test_positions_are_untouched_at_the_native_size_and_interpolated_at_others(offset, antialias):
    vit = net(ViTShape(24, 1, 3, patch=4, side=16, offset=offset, antialias=antialias))
    assert vit.positions(4, 4) is vit.pos_embed
    with torch.no_grad():
        vit.pos_embed[:, 1:] = 0.7  # any interpolation of a constant is that constant
    for rows, columns in ((2, 2), (8, 8), (3, 5)):
        made = vit.positions(rows, columns)
        assert made.shape == (1, 1 + rows * columns, 24)
        torch.testing.assert_close(made[:, 1:], torch.full_like(made[:, 1:], 0.7))
        torch.testing.assert_close(made[:, :1], vit.pos_embed[:, :1])


def test_interpolated_positions_run_down_rows_and_along_columns():
    vit = net(ViTShape(24, 1, 3, patch=4, side=16, offset=0.0))
    with torch.no_grad():
        vit.pos_embed[:, 1:] = torch.arange(4.0).repeat_interleave(4)[None, :, None]
    made = vit.positions(8, 4)[0, 1:, 0].view(8, 4)
    assert (made.diff(dim=0)[1:-1] > 0).all()
    assert made.diff(dim=1).abs().max() < 1e-5


def test_a_mask_replaces_masked_patches_only():
    vit, x = net(), images()
    masks = torch.zeros(2, 16, dtype=torch.bool)
    masks[0, [1, 5]] = True
    seen = vit._embedded(x, masks)[:, 3:], vit._embedded(x, None)[:, 3:]
    torch.testing.assert_close(seen[0][~masks], seen[1][~masks])
    torch.testing.assert_close(seen[0][masks], (vit.mask_token + vit.pos_embed[0, 1:][[1, 5]]).expand(2, -1))
    changed = x.clone()
    changed[0, :, 0:4, 4:8] += 9  # patch 1: hidden, so nobody sees it
    with torch.no_grad():
        torch.testing.assert_close(vit(changed, masks).cls, vit(x, masks).cls)


def test_dropped_paths_leave_out_a_part_of_the_batch_and_scale_the_rest_to_the_same_mean():
    torch.manual_seed(4)
    shape = ViTShape(dim=24, depth=1, heads=3, patch=4, side=16, registers=0, drop_path=0.3, layer_scale=1.0)
    block = net(shape).blocks[0]
    block.mlp.fc2.weight.data.zero_()  # leaves attention's branch alone
    block.mlp.fc2.bias.data.zero_()
    x = torch.randn(10, 5, 24)
    with torch.no_grad():
        branch = block([x])[0] - x
        block.train()
        total = torch.zeros_like(x)
        for _ in range(400):
            added = block([x])[0] - x
            takes = added.flatten(1).abs().amax(1) > 0
            assert takes.sum() == 7
            torch.testing.assert_close(added[takes], branch[takes] * 10 / 7, atol=1e-5, rtol=1e-4)
            total += added
    # A share p of 400 draws has the SD sqrt(p (1 - p) / 400) / p = 3.3 %.
    torch.testing.assert_close(total / 400, branch, atol=1e-5, rtol=0.15)


def test_evaluation_drops_nothing_and_repeats_itself():
    vit, x = net(ViTShape(24, 3, 3, patch=4, side=16, drop_path=0.5)), images(8)
    plain = net(ViTShape(24, 3, 3, patch=4, side=16))
    with torch.no_grad():
        assert torch.equal(vit(x).cls, vit(x).cls)
        assert torch.equal(vit(x).cls, plain(x).cls)
        assert not torch.equal(vit.train()(x).cls, vit(x).cls)


def test_layers_of_the_last_block_are_what_forward_returns():
    vit, x = net(), images()
    with torch.no_grad():
        found, whole = vit.layers(x, [0, 2]), vit(x)
        raw = vit.layers(x, [2], norm=False)[0]
    assert torch.equal(found[1].cls, whole.cls)
    assert not torch.allclose(found[0].cls, whole.cls)
    torch.testing.assert_close(vit.norm(raw.patches), whole.patches)
    with pytest.raises(UsageError, match="no block 3"):
        vit.layers(x, [3])


def test_a_parameter_lies_as_deep_as_its_block():
    depths = {name: layer_of(name, 3) for name, _ in net().named_parameters()}
    assert {depths[name] for name in ("cls_token", "pos_embed", "mask_token", "register_tokens")} == {0}
    assert depths["patch_embed.proj.weight"] == 0
    assert (depths["blocks.0.attn.qkv.weight"], depths["blocks.2.ls2.gamma"], depths["norm.weight"]) == (1, 3, 4)


@pytest.mark.parametrize(("name", "channels", "number"), [
    ("small", 1, 21_480_192), ("small", 3, 21_676_800), ("base", 1, 85_427_712), ("base", 3, 85_820_928),
])  # fmt: skip
def test_parameters_are_as_many_as_dinov2s_own_code_makes(name, channels, number):
    # Counted with dinov2 at b8931f7: vit_small and vit_base, patches of 16, 4 registers. Our notes on UltraDINO say
    # 21.6 and 85.7 million, which its one-channel nets do not have; nets of three channels without positions do.
    assert parameters_of(replace(SHAPES[name], channels=channels)) == number


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"side": 50}, "whole patches"),
        ({"heads": 5}, "heads"),
        ({"ffn": "x"}, "ffn"),
        ({"drop_path": 1.0}, "drop_path"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        ViTShape(**{"dim": 24, "depth": 1, "heads": 3, "patch": 4, "side": 16, **wrong})


def test_images_of_broken_patches_are_refused():
    with pytest.raises(UsageError, match="14 x 14"):
        net()(images(side=14))


@pytest.mark.parametrize("drop_path", [0.0, 0.4])
@pytest.mark.parametrize("registers", [0, 3])
def test_tokens_asked_for_and_their_gradients_are_those_of_the_whole_pass(drop_path, registers):
    net = ViT(ViTShape(24, 3, 2, 4, 16, registers=registers, drop_path=drop_path, layer_scale=0.5)).double().train()
    rng = torch.Generator().manual_seed(1)
    wide = torch.randn(6, 1, 16, 16, generator=rng, dtype=torch.float64)
    narrow = torch.randn(5, 1, 8, 8, generator=rng, dtype=torch.float64)
    masks = torch.rand(6, 16, generator=rng) < 0.4
    masks[2] = False
    slopes = torch.randn(11 + int(masks.sum()), 24, generator=rng, dtype=torch.float64)

    def learned(tokens):
        net.zero_grad()
        (tokens * slopes).sum().backward()
        return [weight.grad.clone() for weight in net.parameters() if weight.grad is not None]

    torch.manual_seed(3)  # the images that take each branch
    whole = net.several([wide, narrow], [masks, None])
    expected = torch.cat([whole[0].cls, whole[1].cls, whole[0].patches[masks]])
    torch.manual_seed(3)
    (cls, patches), (narrow_cls, none) = net.asked([wide, narrow], [masks, None], [masks, None])
    found = torch.cat([cls, narrow_cls, patches])

    assert none.shape == (0, 24)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    for ours, theirs in zip(learned(found), learned(expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)
