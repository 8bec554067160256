"""Published models of Patronus: the released code's own answers, its table of tensors, and files that are refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import patronus_table
import pytest
import torch
from patronus_table import published, waves
from torch import Tensor

from medaudit.errors import DataError, UsageError
from medaudit.networks.diffusion.unet import UNetShape
from medaudit.networks.prototypes.encoder import EncoderShape
from medaudit.networks.prototypes.patronus_weights import read_patronus, shapes_of

FOUR = {"m": 5, "features": (4, 6, 6, 8), "width": 8, "multipliers": (1, 2, 2)}
FIVE = {
    "channels": 3, "m": 4, "features": (4, 6, 6, 8, 8), "kernel": 5, "width": 16, "multipliers": (1, 2), "blocks": 1,
}  # fmt: skip

# What the released code (ab9006c; torch 2.13, CPU) answers with the weights of patronus_table.state: activations of two
# images, three pixels of each prediction at times 3 and 60, and the sum of its sizes.
ANSWERS = {
    "four": (
        FOUR, 16,
        [[0.21743280, 0.18563300, 0.24374944, 0.17016757, 0.26075315],
         [0.13483235, 0.09559290, 0.11904628, 0.10610026, 0.10401619]],
        [[-0.12335944, 0.18190515, 0.82849312], [0.27468526, 0.08262682, -0.04785235]],
        [135.857559, 133.927063],
    ),
    "five": (
        FIVE, 64,
        [[0.18747848, 1.22141278, 0.18868634, 0.81913275], [0.18693545, 1.21559048, 0.18823069, 0.81503391]],
        [[-1.35718989, -1.22464705, -0.44759601], [-0.65129608, 0.02153646, 0.62004155]],
        [6273.16064, 7418.20898],
    ),
}  # fmt: skip


def saved(tmp_path: Path, state: dict[str, Tensor] | None = None) -> Path:
    """Return a file as the released code writes it, beside the states of AdamW and of a gradient scaler."""
    state = patronus_table.state(published(**FOUR)) if state is None else state
    moments = {"step": torch.tensor(1.0), "exp_avg": torch.ones(2, 3), "exp_avg_sq": torch.ones(2, 3)}
    groups = [{"lr": 1e-5, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01, "fused": None, "params": [0]}]
    scaler = {"scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000}
    kept = {"opt": {"state": {0: moments}, "param_groups": groups}, "scaler": scaler, "model": state}
    torch.save(kept, tmp_path / "ckpt.tar")
    return tmp_path / "ckpt.tar"


@pytest.mark.parametrize("name", ANSWERS)
def test_our_answers_are_the_released_codes(name: str, tmp_path: Path) -> None:
    sizes, side, activations, pixels, sums = ANSWERS[name]
    found = read_patronus(saved(tmp_path, patronus_table.state(published(**sizes))))
    channels = found.encoder.channels
    clean, noisy = waves((2, channels, side, side), 1), 2 * waves((2, channels, side, side), 2)
    made = found.model(clean, noisy, torch.tensor([3, 60]))
    torch.testing.assert_close(found.model.activations(clean), torch.tensor(activations), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(made[:, 0, 5, 5:8], torch.tensor(pixels), rtol=1e-4, atol=3e-5)
    torch.testing.assert_close(made.abs().sum((1, 2, 3)), torch.tensor(sums), rtol=1e-5, atol=0)
    assert found.model.predicts == "noise"
    assert not found.model.training
    assert not any(p.requires_grad for p in found.model.parameters())


def test_the_papers_shapes_are_seen_in_the_tensors() -> None:
    for m, features, kernel, wanted in (
        (30, (32, 64, 64, 128), 3, EncoderShape()),
        (100, (32, 64, 64, 128, 128), 5, EncoderShape(
            1, (32, 64, 64, 128, 128), (5, 5, 5, 5, 5), (2, 2, 1, 1, 1), (1, 1, 0, 0, 0), prototypes=100)),
    ):  # fmt: skip
        shapes = published(m=m, features=features, kernel=kernel)
        state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        assert shapes_of(state, Path("ckpt.tar")) == (wanted, UNetShape(channels=1, conditions=m), 1_000)
        frozen = ("proactBlock.ones", "time_embeddings.time_blocks.0.weight")
        count = sum(t.numel() for name, t in state.items() if name not in frozen)
        assert round(count / 1e6, 2) == {30: 25.23, 100: 25.89}[m]


def test_a_bare_state_dict_is_read_too(tmp_path: Path) -> None:
    torch.save(patronus_table.state(published(**FOUR, times=200)), tmp_path / "model.pt")
    found = read_patronus(tmp_path / "model.pt")
    assert (found.noise_steps, found.unet.multipliers, found.unet.blocks) == (200, (1, 2, 2), 2)


def without(name: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda state: state.__delitem__(name)


def instead(name: str, value: Tensor) -> Callable[[dict[str, Tensor]], None]:
    return lambda state: state.__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("proactBlock.prototype_vectors"), "it has no 'proactBlock.prototype_vectors'"),
        (without("proactBlock.encoder.features.0.weight"), "it has no 'proactBlock.encoder.features.0.weight'"),
        (without("encoder_blocks.0.conv_1.weight"), "it has no 'encoder_blocks.0.conv_1.weight'"),
        (without("decoder_blocks.4.dense_2.bias"), "it has no 'decoder_blocks.4.dense_2.bias'"),
        (instead("encoder_blocks.0.attention.group_norm.weight", torch.ones(8)),
         "its 'encoder_blocks.0.attention.group_norm.weight' has no place there"),
        (instead("cond_embeddings.vector_fc.0.weight", torch.ones(32, 6)),
         r"its 'cond_embeddings.vector_fc.0.weight' is \(32, 6\), the net's \(32, 5\)"),
        (instead("first.weight", torch.ones(8)), r"its 'first.weight' is \(8,\), expected 4 dimensions"),
        (instead("first.weight", torch.ones(12, 1, 3, 3)), r"\[\[8, 8\], \[16, 16\], \[16, 16\]\] channels"),
        (instead("encoder_blocks.1.conv_1.weight", torch.ones(16, 8, 3, 3)), r"expected one multiple of 8 each"),
        (instead("encoder_blocks.8.conv_1.weight", torch.ones(16, 16, 3, 3)), r"\[2, 2, 3\] residual blocks"),
        (instead("time_embeddings.time_blocks.0.weight", patronus_table.table(1_000, 8).flip(1)),
         "other numbers than sines and cosines of times"),
        (instead("proactBlock.ones", 2 * torch.ones(5, 8, 1, 1)), "other numbers than ones"),
    ],
)  # fmt: skip
def test_what_is_another_net_is_refused_by_what_differs(
    change: Callable[[dict[str, Tensor]], None], said: str, tmp_path: Path
) -> None:
    state = patronus_table.state(published(**FOUR))
    change(state)
    with pytest.raises(DataError, match=said) as error:
        read_patronus(saved(tmp_path, state))
    assert str(error.value).startswith(f"{tmp_path / 'ckpt.tar'} ")
    assert "\n" not in str(error.value)


def test_an_encoder_that_the_authors_do_not_have_needs_its_strides_and_paddings(tmp_path: Path) -> None:
    path = saved(tmp_path, patronus_table.state(published(**{**FOUR, "features": (4, 6)})))
    with pytest.raises(DataError, match=r"kernels of \(3, 3\), whose strides and paddings no weight shows; give both"):
        read_patronus(path)
    with pytest.raises(UsageError, match="differ in length"):
        read_patronus(path, strides=(2,), paddings=(1, 0))
    found = read_patronus(path, strides=(2, 2), paddings=(1, 0))
    assert (found.encoder.strides, found.encoder.paddings) == ((2, 2), (1, 0))
    assert found.model.activations(waves((2, 1, 16, 16), 0)).shape == (2, 5)


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_no_code_is_run_neither_the_files_nor_its_neighbours(tmp_path: Path) -> None:
    sprung, path = tmp_path / "sprung", saved(tmp_path)
    (tmp_path / "config.pickle").write_bytes(pickle.dumps(Trap(sprung)))
    read_patronus(path)
    assert not sprung.exists()
    torch.save({"model": Trap(sprung)}, path)
    with pytest.raises(DataError, match=r"ckpt\.tar cannot be read as weights"):
        read_patronus(path)
    assert not sprung.exists()
    pickle.loads((tmp_path / "config.pickle").read_bytes())  # the trap does work
    assert sprung.exists()


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    for content in ({"model": 3}, {"model": {"first.weight": 3}}, {"opt": {}, "scaler": {}}):
        torch.save(content, tmp_path / "ckpt.tar")
        with pytest.raises(DataError, match="expected its weights under 'model'"):
            read_patronus(tmp_path / "ckpt.tar")
    torch.save({"model": {"cls_token": torch.zeros(1, 1, 8)}}, tmp_path / "ckpt.tar")
    with pytest.raises(DataError, match=r"it has no 'proactBlock\.prototype_vectors'"):
        read_patronus(tmp_path / "ckpt.tar")
    with pytest.raises(DataError, match="is not there"):
        read_patronus(tmp_path / "other.tar")
