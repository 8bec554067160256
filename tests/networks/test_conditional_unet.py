"""The conditional U-Net: the released code's size, what its answer depends on, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch

from medaudit.errors import DataError, UsageError
from medaudit.networks.diffusion.unet import ConditionalUNet, UNetShape, sinusoids
from medaudit.networks.prototypes.encoder import EncoderShape, PrototypeEncoder

SMALL = UNetShape(channels=2, width=8, multipliers=(1, 2, 2), blocks=1, conditions=5, embedding=16)


def net(shape: UNetShape = SMALL) -> ConditionalUNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ConditionalUNet(shape).eval()


def inputs(n: int = 4, side: int = 8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, 2, side, side, generator=generator)
    return images, torch.tensor([0, 20, 500, 999])[:n], torch.rand(n, 5, generator=generator)


def test_the_papers_net_has_25_point_23_million_parameters() -> None:
    unet, encoder = ConditionalUNet(UNetShape(channels=1)), PrototypeEncoder(EncoderShape())
    count = sum(p.numel() for model in (unet, encoder) for p in model.parameters() if p.requires_grad)
    assert round(count / 1e6, 2) == 25.23


@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 4), (12, 20)])
@pytest.mark.parametrize("multipliers", [(1, 2, 2), (1, 2), (2,)])
def test_the_answer_has_the_images_shape(height: int, width: int, multipliers: tuple[int, ...]) -> None:
    unet = net(UNetShape(2, 8, multipliers, 2, heads=2, conditions=5, embedding=16))
    assert unet.stride == 2 ** (len(multipliers) - 1)
    x = torch.randn(3, 2, height, width)
    assert unet(x, torch.tensor([0, 5, 999]), torch.rand(3, 5)).shape == x.shape


@pytest.mark.parametrize(
    ("height", "width", "said"), [(9, 8, "8 or 12"), (8, 10, "multiples of 4, as 8 or 12"), (3, 8, "4 or 4")]
)
def test_sides_that_cannot_be_halved_are_refused(height: int, width: int, said: str) -> None:
    with pytest.raises(DataError, match=said):
        net()(torch.zeros(1, 2, height, width), torch.zeros(1), torch.zeros(1, 5))


def test_a_width_that_the_norms_cannot_group_is_refused() -> None:
    with pytest.raises(UsageError, match="width 20; expected a multiple of 8"):
        UNetShape(width=20)


def test_heads_that_cannot_share_the_channels_are_refused() -> None:
    with pytest.raises(UsageError, match="3 heads cannot share 256 channels"):
        UNetShape(heads=3)


def test_images_times_and_conditions_all_matter() -> None:
    unet, (x, times, conditions) = net(), inputs()
    made = unet(x, times, conditions)
    for other in (
        unet(x.flip(0), times, conditions),
        unet(x, times.flip(0), conditions),
        unet(x, times, conditions.flip(0)),
    ):
        assert bool(((other - made).flatten(1).abs().amax(1) > 1e-3).all())


def test_every_weight_learns_from_one_batch() -> None:
    unet, given = net(), inputs()
    unet(*given).square().sum().backward()
    assert [n for n, p in unet.named_parameters() if p.grad is None or not float(p.grad.abs().max()) > 0] == []


def test_an_images_answer_knows_no_other_image() -> None:
    unet, (x, times, conditions) = net(), inputs()
    together = unet(x, times, conditions)
    for i in range(len(x)):
        torch.testing.assert_close(unet(x[i, None], times[i, None], conditions[i, None])[0], together[i])


def test_training_drops_and_evaluation_does_not() -> None:
    unet, given = net(), inputs()
    assert torch.equal(unet(*given), unet(*given))
    unet.train()
    assert not torch.equal(unet(*given), unet(*given))


def test_attention_is_torchs_own() -> None:
    attention = net().middle[0].attention
    width = attention.qkv.in_features
    peer = torch.nn.MultiheadAttention(width, attention.heads, batch_first=True)
    peer.load_state_dict(
        {
            "in_proj_weight": attention.qkv.weight.detach(),
            "in_proj_bias": attention.qkv.bias.detach(),
            "out_proj.weight": attention.out.weight.detach(),
            "out_proj.bias": attention.out.bias.detach(),
        }
    )
    x = torch.randn(2, width, 3, 4)
    tokens = attention.norm(x).flatten(2).transpose(1, 2)
    wanted = x + peer(tokens, tokens, tokens)[0].transpose(1, 2).view_as(x)
    torch.testing.assert_close(attention(x), wanted)


def test_every_time_of_a_thousand_has_sines_of_its_own() -> None:
    codes = sinusoids(torch.arange(1_000), 64).double()
    wanted = [math.sin(7), math.sin(7e-4), math.cos(7), math.cos(7e-4)]
    torch.testing.assert_close(codes[7, [0, 31, 32, 63]], torch.tensor(wanted).double(), atol=1e-6, rtol=0)
    distances = torch.cdist(codes, codes) + torch.eye(1_000).double()
    assert float(distances.min()) > 0.1


def test_it_can_be_of_half_the_bits() -> None:
    x, times, conditions = inputs()
    assert net().to(torch.bfloat16)(x.bfloat16(), times, conditions.bfloat16()).dtype == torch.bfloat16
