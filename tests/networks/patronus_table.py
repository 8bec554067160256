"""The released code's state dict by the facts: what each tensor is called and how large it is, and numbers to fill it.

Names and layers are those of github.com/nina-weng/patronus (ab9006c); the two tables that are tested were compared with
its own ``state_dict()``, key by key and in its order.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def published(
    channels: int = 1, m: int = 30, features: tuple[int, ...] = (32, 64, 64, 128), kernel: int = 3, width: int = 64,
    multipliers: tuple[int, ...] = (1, 2, 4, 4), blocks: int = 2, times: int = 1_000,
) -> Shapes:  # fmt: skip
    """Return the shapes by name, in the order of the released code; its defaults are the paper's for Fashion-MNIST."""
    made: Shapes = {}
    e, d = 4 * width, features[-1]

    def layer(name: str, *shape: int) -> None:
        made[f"{name}.weight"], made[f"{name}.bias"] = shape, shape[:1]

    def block(name: str, before: int, after: int, attends: bool = False) -> None:
        layer(f"{name}.normlize_1", before)
        layer(f"{name}.conv_1", after, before, 3, 3)
        layer(f"{name}.dense_1", after, e)
        layer(f"{name}.dense_2", after, e)
        layer(f"{name}.normlize_2", after)
        layer(f"{name}.conv_2", after, after, 3, 3)
        if before != after:
            layer(f"{name}.match_input", after, before, 1, 1)
        if attends:
            layer(f"{name}.attention.group_norm", after)
            made[f"{name}.attention.mhsa.in_proj_weight"] = (3 * after, after)
            made[f"{name}.attention.mhsa.in_proj_bias"] = (3 * after,)
            layer(f"{name}.attention.mhsa.out_proj", after, after)

    made["proactBlock.prototype_vectors"] = made["proactBlock.ones"] = (m, d, 1, 1)
    for k, after in enumerate(features):
        layer(f"proactBlock.encoder.features.{2 * k}", after, features[k - 1] if k else channels, kernel, kernel)
    made["time_embeddings.time_blocks.0.weight"] = (times, width)
    layer("time_embeddings.time_blocks.1", e, width)
    layer("time_embeddings.time_blocks.3", e, e)
    layer("cond_embeddings.vector_fc.0", e, m)
    layer("cond_embeddings.vector_fc.2", e, e)
    layer("first", width, channels, 3, 3)
    now, kept, k = width, [width], 0
    for level, times_width in enumerate(multipliers):
        for _ in range(blocks):
            block(f"encoder_blocks.{k}", now, times_width * width)
            now, k = times_width * width, k + 1
            kept.append(now)
        if level < len(multipliers) - 1:
            layer(f"encoder_blocks.{k}.downsample", now, now, 3, 3)
            kept.append(now)
            k += 1
    block("bottleneck_blocks.0", now, now, attends=True)
    block("bottleneck_blocks.1", now, now)
    k = 0
    for level, times_width in reversed(list(enumerate(multipliers))):
        for _ in range(blocks + 1):
            block(f"decoder_blocks.{k}", now + kept.pop(), times_width * width)
            now, k = times_width * width, k + 1
        if level:
            layer(f"decoder_blocks.{k}.upsample.1", now, now, 3, 3)
            k += 1
    layer("final.0", now)
    layer("final.2", channels, now, 3, 3)
    return made


def waves(shape: tuple[int, ...], start: float) -> Tensor:
    """Return numbers from -1 to 1 that look drawn and are the same everywhere."""
    return torch.from_numpy(np.sin(start + 12.9898 * np.arange(math.prod(shape))).astype(np.float32)).view(shape)


def state(shapes: Shapes) -> dict[str, Tensor]:
    """Return a state dict of these shapes, weights by formula, the size of trained ones."""
    made = {}
    for k, (name, shape) in enumerate(shapes.items()):
        if name == "proactBlock.ones":
            made[name] = torch.ones(shape)
        elif name == "proactBlock.prototype_vectors":
            made[name] = 0.5 + 0.5 * waves(shape, k)
        elif name == "time_embeddings.time_blocks.0.weight":
            made[name] = table(*shape)
        elif len(shape) > 1:
            made[name] = waves(shape, k) * math.sqrt(3 / math.prod(shape[1:]))
        else:
            norm = "norm" in name or name.startswith("final.0")
            made[name] = 0.1 * waves(shape, k) + float(norm and name.endswith("weight"))
    return made


def table(times: int, width: int) -> Tensor:
    """Return sines, then cosines, of times at rates from 1 down to 1/10000."""
    rates = 10_000 ** (-np.arange(width // 2) / (width // 2 - 1))
    angles = np.arange(times)[:, None] * rates
    return torch.from_numpy(np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32))
