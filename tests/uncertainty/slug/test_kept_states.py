"""Fits that were killed, and states that were kept: the same bits, or a refusal that says why."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty import slug
from medaudit.uncertainty.slug.ggn import Perceptual


class Killed(Exception):
    """What a kill looks like from inside."""


def small(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, nn.Module, Tensor]:
    torch.manual_seed(seed)
    encode = nn.Sequential(nn.Flatten(), nn.Linear(48, 4)).to(dtype)
    decode = nn.Sequential(nn.Linear(4, 10), nn.Tanh(), nn.Linear(10, 48), nn.Unflatten(1, (3, 4, 4))).to(dtype)
    return encode, decode, torch.randn(10, 3, 4, 4, generator=torch.Generator().manual_seed(1)).to(dtype)


def killing(at: int):  # type: ignore[no-untyped-def]
    def told(done: int, of_all: int) -> None:
        if done >= at:
            raise Killed

    return told


def same(one: slug.SlugState, other: slug.SlugState) -> None:
    assert one.vectors is not None
    assert other.vectors is not None
    assert torch.equal(one.values, other.values)
    assert torch.equal(one.vectors, other.vectors)
    assert torch.equal(one.removed, other.removed)
    assert asdict(one.fitted) == asdict(other.fitted)


@pytest.mark.parametrize("tolerance", [0.0, 0.05])
@pytest.mark.parametrize("at", [3, 6, 9, 12, 15])
def test_a_fit_killed_at_any_block_goes_on_to_the_same_bits(tmp_path: Path, at: int, tolerance: float) -> None:
    encode, decode, images = small()
    options = {"block": 3, "tolerance": tolerance, "depth": 5}
    whole = slug.fit(encode, decode, images, 9, **options)  # type: ignore[arg-type]
    kept = tmp_path / "krylov.pt"
    try:
        slug.fit(encode, decode, images, 9, checkpoint=kept, progress=killing(at), **options)  # type: ignore[arg-type]
    except Killed:
        assert kept.exists() == (at > 3)
    same(slug.fit(encode, decode, images, 9, checkpoint=kept, **options), whole)  # type: ignore[arg-type]


@pytest.mark.parametrize("rank", [6, 48])
def test_a_fit_that_was_finished_gives_the_same_bits_when_asked_again(tmp_path: Path, rank: int) -> None:
    # 48: the decoder's last bias alone, whose space is exhausted.
    _, decode, images = small()
    code = nn.Sequential(nn.Flatten(), nn.Linear(48, 4)).double()
    decode = nn.Sequential(Bias()) if rank == 48 else decode
    first = slug.fit(code, decode, images, rank, params="decoder", tolerance=0.3, checkpoint=tmp_path / "k.pt")
    same(slug.fit(code, decode, images, rank, params="decoder", tolerance=0.3, checkpoint=tmp_path / "k.pt"), first)


class Bias(nn.Module):
    """An image that does not depend on its code."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Parameter(torch.linspace(0, 1, 48, dtype=torch.float64))

    def forward(self, codes: Tensor) -> Tensor:
        return self.image.expand(len(codes), -1).view(-1, 3, 4, 4)


def test_a_loader_that_shuffles_may_go_on_with_a_fit(tmp_path: Path) -> None:
    encode, decode, images = small(dtype=torch.float32)
    for seed in range(5):
        loader = DataLoader(
            TensorDataset(images), batch_size=3, shuffle=True, generator=torch.Generator().manual_seed(seed)
        )
        state = slug.fit(encode, decode, loader, 4, checkpoint=tmp_path / "krylov.pt")
    assert state.fitted.images == 10


@pytest.mark.parametrize("changed", ["weight", "embed", "seed", "block", "images", "model", "variance", "params"])
def test_a_fit_does_not_go_on_with_what_another_one_found(tmp_path: Path, changed: str) -> None:
    encode, decode, images = small()
    options: dict = {"block": 3, "seed": 0, "likelihood": Perceptual(torch.tanh, 0.1)}
    slug.fit(encode, decode, images, 6, checkpoint=tmp_path / "krylov.pt", **options)
    if changed == "weight":
        options["likelihood"] = Perceptual(torch.tanh, 100.0)
    elif changed == "embed":
        options["likelihood"] = Perceptual(torch.sigmoid, 0.1)
    elif changed == "images":
        images = images + 0.1
    elif changed == "model":
        encode, decode, _ = small(seed=2)
    else:
        options[changed] = {"seed": 1, "block": 2, "variance": 0, "params": "decoder"}[changed]
        if changed == "variance":
            options["residual_variance"] = options.pop("variance") + 0.5
    with pytest.raises(UsageError, match="another checkpoint"):
        slug.fit(encode, decode, images, 6, checkpoint=tmp_path / "krylov.pt", **options)


def test_a_sketched_fit_does_not_say_that_it_keeps_checkpoints_if_it_does_not(tmp_path: Path) -> None:
    encode, decode, images = small()
    kept = tmp_path / "krylov.pt"
    try:
        slug.fit(encode, decode, images, 6, weights="projector", sketch=60, checkpoint=kept)
    except UsageError as error:
        assert "checkpoint" in str(error)  # noqa: PT017
    else:
        assert kept.exists()


def test_a_state_comes_back_to_the_same_bits_with_a_loader_or_with_some_images(tmp_path: Path) -> None:
    encode, decode, images = small()
    state = slug.fit(encode, decode, list(images.split(4)), 6, max_images=8, training_images=100)
    state.save(tmp_path / "slug.pt")
    for again in (
        slug.load(tmp_path / "slug.pt", encode, decode, list(images.split(3))),
        slug.load(str(tmp_path / "slug.pt"), encode, decode, images=images[:1]),
    ):
        same(again, state)
        here, there = (slug.score(s, images, pixel_map=True, max_probes=32) for s in (again, state))
        np.testing.assert_array_equal(here.score, there.score)
        np.testing.assert_array_equal(here.pixels, there.pixels)  # type: ignore[arg-type]
    assert f"{state.fitted.parameters:,}" in slug.describe(again)


def test_a_state_is_refused_with_another_model_or_other_images(tmp_path: Path) -> None:
    encode, decode, images = small()
    path = tmp_path / "slug.pt"
    slug.fit(encode, decode, images, 6).save(path)
    nudged = small()[1]
    nudged[2].bias.data[0] += 1e-6  # type: ignore[index]
    with pytest.raises(DataError, match="another model"):
        slug.load(path, encode, nudged, images)
    with pytest.raises(DataError, match="another model"):
        slug.load(path, encode.float(), decode.float(), images.float())
    encode, decode, _ = small()
    with pytest.raises(DataError, match="other images"):
        slug.load(path, encode, decode, torch.cat([images[:9], images[:1]]))
    with pytest.raises(DataError, match=r"give the loader, or some images"):
        slug.load(path, encode, decode)


def test_a_state_of_all_images_is_refused_with_a_loader_that_has_more(tmp_path: Path) -> None:
    encode, decode, images = small()
    slug.fit(encode, decode, images[:7], 6).save(tmp_path / "slug.pt")
    with pytest.raises(DataError, match="other images"):
        slug.load(tmp_path / "slug.pt", encode, decode, images)


def test_files_that_are_no_states_are_refused_by_name(tmp_path: Path) -> None:
    encode, decode, images = small()
    path = tmp_path / "slug.pt"
    state = slug.fit(encode, decode, images, 6)
    state.save(path)
    whole = path.read_bytes()
    kept = torch.load(path, weights_only=True)
    damaged = {
        "cut.pt": whole[: len(whole) // 2],
        "empty.pt": b"",
        "text.pt": b"eigenvalues\n",
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
    torch.save({**kept, "format": 99}, tmp_path / "later.pt")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({**kept, "fitted": {**kept["fitted"], "more": 1}}, tmp_path / "fields.pt")
    torch.save({name: value for name, value in kept.items() if name != "values"}, tmp_path / "values.pt")
    torch.save({name: value for name, value in kept.items() if name != "vectors"}, tmp_path / "vectors.pt")
    names = [*damaged, "later.pt", "weights.pt", "list.pt", "fields.pt", "values.pt", "vectors.pt", "nowhere.pt"]
    for name in names:
        with pytest.raises(DataError, match=name):
            slug.load(tmp_path / name, encode, decode, images)
    with pytest.raises(DataError, match="cannot write"):
        state.save(tmp_path / "slug.pt" / "below.pt")
