"""Models as the authors of Patronus publish them (github.com/nina-weng/patronus, ``ckpt.tar``), read into ours.

The file holds the weights beside the states of an optimiser and a gradient scaler. Its neighbour ``config.pickle`` is
never opened, as unpickling runs what is in it: shapes are seen in the weights, and what cannot be seen there is known
from the released code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from medaudit.errors import DataError, UsageError
from medaudit.networks.diffusion.unet import ConditionalUNet, UNetShape, sinusoids
from medaudit.networks.pretrained import read_file
from medaudit.networks.prototypes.encoder import EncoderShape, PrototypeEncoder
from medaudit.networks.prototypes.model import PrototypeDiffusion

_STRIDES_AND_PADDINGS = {
    (3, 3, 3, 3): ((2, 1, 1, 1), (1, 0, 0, 0)),
    (5, 5, 5, 5, 5): ((2, 2, 1, 1, 1), (1, 1, 0, 0, 0)),
}
"""By kernels, of the released code's two encoders: no weight shows them."""
_HEADS = 4  # the released code has no other

_OUTER = {
    "encoder.convolutions": "proactBlock.encoder.features",
    "encoder.prototypes": "proactBlock.prototype_vectors",
    "unet.time.0": "time_embeddings.time_blocks.1",
    "unet.time.2": "time_embeddings.time_blocks.3",
    "unet.condition": "cond_embeddings.vector_fc",
    "unet.first": "first",
    "unet.last": "final",
}
_BLOCKS = {"down": "encoder_blocks", "middle": "bottleneck_blocks", "up": "decoder_blocks"}
_INNER = {
    "norm1": "normlize_1", "conv1": "conv_1", "time": "dense_1", "condition": "dense_2", "norm2": "normlize_2",
    "conv2": "conv_2", "skip": "match_input", "attention.norm": "attention.group_norm",
    "attention.out": "attention.mhsa.out_proj",
}  # fmt: skip
"""Our names and the released code's, in its own spelling."""
_ONES, _TIMES = "proactBlock.ones", "time_embeddings.time_blocks.0.weight"
"""What is no weight there: ones that sum squares over channels, and the table of sines of times."""


@dataclass(frozen=True, eq=False)
class PublishedPatronus:
    """A published model, frozen and in evaluation mode; it predicts the noise."""

    model: PrototypeDiffusion
    encoder: EncoderShape
    unet: UNetShape
    noise_steps: int
    sha256: str
    """Of the file."""


def read_patronus(
    path: str | Path, *, strides: Sequence[int] | None = None, paddings: Sequence[int] | None = None
) -> PublishedPatronus:
    """Return the model in a ``ckpt.tar``; no code in the file is run.

    ``strides`` and ``paddings`` of the encoder are needed where its kernels are none of the released code's.

    Raises DataError, naming what differs, for a file that is not there, cannot be read or holds another net.
    """
    path = Path(path)
    found, digest = read_file(path)
    state = found.get("model", found)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{path} holds no model of Patronus; expected its weights under 'model', as in a ckpt.tar")
    encoder, unet, noise_steps = shapes_of(state, path, strides, paddings)
    with torch.device("meta"):
        model = PrototypeDiffusion(PrototypeEncoder(encoder), ConditionalUNet(unet), predicts="noise")
    m = encoder.prototypes
    ours = _fitted(model.state_dict(), state, path) | {"centre": torch.zeros(m), "spread": torch.ones(m)}
    model.load_state_dict(ours, assign=True)
    return PublishedPatronus(model.eval().requires_grad_(False), encoder, unet, noise_steps, digest)


def shapes_of(
    state: Mapping[str, Tensor], path: Path, strides: Sequence[int] | None = None, paddings: Sequence[int] | None = None
) -> tuple[EncoderShape, UNetShape, int]:
    """Return the shapes of encoder and U-Net that a state dict of the released code shows, and its number of times.

    Heads, dropout, similarity and epsilon leave no trace in it; they are the released code's. Raises DataError where
    the state dict is of another net.
    """

    def size(name: str, dimensions: int) -> tuple[int, ...]:
        if name not in state:
            _refuse(path, f"it has no '{name}'")
        if state[name].ndim != dimensions:
            _refuse(path, f"its '{name}' is {tuple(state[name].shape)}, expected {dimensions} dimensions")
        return tuple(state[name].shape)

    m = size("proactBlock.prototype_vectors", 4)[0]
    convolutions, at = [], 0
    while f"proactBlock.encoder.features.{at}.weight" in state:
        convolutions.append(size(f"proactBlock.encoder.features.{at}.weight", 4))
        at += 2  # a ReLU lies between
    if not convolutions:
        _refuse(path, "it has no 'proactBlock.encoder.features.0.weight'")
    kernels = tuple(shape[-1] for shape in convolutions)
    known = _STRIDES_AND_PADDINGS.get(kernels)
    if known is None and (strides is None or paddings is None):
        _refuse(
            path,
            f"its encoder has kernels of {kernels}, whose strides and paddings no weight shows; give both",
            wrong="holds an encoder that is none of the released code's",
        )
    given = known or ((), ())
    width, channels = size("first.weight", 4)[:2]
    multipliers, blocks = _levels(state, path, width)
    noise_steps = size(_TIMES, 2)[0]
    embedding = size("time_embeddings.time_blocks.1.weight", 2)[0]
    encoder = EncoderShape(
        channels=channels,
        features=tuple(shape[0] for shape in convolutions),
        kernels=kernels,
        strides=tuple(given[0] if strides is None else strides),
        paddings=tuple(given[1] if paddings is None else paddings),
        prototypes=m,
    )
    try:
        unet = UNetShape(channels, width, multipliers, blocks, _HEADS, conditions=m, embedding=embedding)
    except UsageError as error:
        _refuse(path, str(error))
    return encoder, unet, noise_steps


def _levels(state: Mapping[str, Tensor], path: Path, width: int) -> tuple[tuple[int, ...], int]:
    """Return the widths of the levels in units of the first's, and how many residual blocks each has."""
    levels: list[list[int]] = [[]]
    for k in range(len(state)):
        if (name := f"encoder_blocks.{k}.conv_1.weight") in state:
            levels[-1].append(len(state[name]))
        elif f"encoder_blocks.{k}.downsample.weight" in state:
            levels.append([])
        else:
            break
    if not levels[0]:
        _refuse(path, "it has no 'encoder_blocks.0.conv_1.weight'")
    counts = {len(level) for level in levels}
    if len(counts) > 1:
        _refuse(path, f"its levels have {[len(level) for level in levels]} residual blocks, expected one number")
    if any(after % width or after != level[0] for level in levels for after in level):
        _refuse(path, f"its levels have {levels} channels, expected one multiple of {width} each")
    return tuple(level[0] // width for level in levels), counts.pop()


def _fitted(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the file's tensors under our names; every tensor of the file has its place and every place its tensor."""
    places = {name: _published(name) for name in ours if name not in ("centre", "spread")}
    known = dict.fromkeys([*places.values(), _ONES, _TIMES])
    for name in [*known, *theirs]:
        if name not in theirs:
            _refuse(path, f"it has no '{name}'")
        if name not in known:
            _refuse(path, f"its '{name}' has no place there")
    for name, place in places.items():
        if ours[name].shape != theirs[place].shape:
            _refuse(path, f"its '{place}' is {tuple(theirs[place].shape)}, the net's {tuple(ours[name].shape)}")
    table = theirs[_TIMES].float()
    if not torch.allclose(table, sinusoids(torch.arange(len(table)), table.shape[1]), atol=1e-3):
        _refuse(path, f"its '{_TIMES}' holds other numbers than sines and cosines of times")
    if not bool((theirs[_ONES] == 1).all()):
        _refuse(path, f"its '{_ONES}' holds other numbers than ones")
    return {name: theirs[place].float() for name, place in places.items()}


def _published(name: str) -> str:
    """Return what the released code calls our tensor ``name``."""
    for ours, theirs in _OUTER.items():
        if name == ours or name.startswith(f"{ours}."):
            return theirs + name[len(ours) :]
    _, part, number, *inner, last = name.split(".")
    block = f"{_BLOCKS[part]}.{number}"
    if not inner:  # between two levels
        return f"{block}.{'downsample' if part == 'down' else 'upsample.1'}.{last}"
    if inner == ["attention", "qkv"]:
        return f"{block}.attention.mhsa.in_proj_{last}"
    return f"{block}.{_INNER['.'.join(inner)]}.{last}"


def _refuse(path: Path, what: str, wrong: str = "holds no model of Patronus as its authors publish them") -> NoReturn:
    raise DataError(f"{path} {wrong}: {what}")
