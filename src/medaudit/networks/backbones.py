"""Frozen feature extractors under one interface: a pretrained net of ours, published ones, and what they must beat."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medaudit.cohort.atomic import replace_file
from medaudit.errors import DataError, UsageError
from medaudit.networks.efficientnet_lite import EfficientNetLite0, load_lite0
from medaudit.networks.hog import CELL, hog
from medaudit.networks.pretrained import Weights, read_nested
from medaudit.networks.vit import SHAPES, ViT, ViTShape
from medaudit.networks.vit_weights import Preprocessing, read_json, read_preprocessing, read_vit, vit_of

LAYERS = 4
"""The last blocks whose class tokens are features, as in DINOv2's linear probe."""
BATCH = 256
BATCH_PIXELS = 256 * 96 * 96
"""Larger images come in smaller batches: memory is bounded, whatever the side."""
PUBLISHED_SIDE = 224
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
FUS13M = ((0.1842924807,), (0.2187705424,))
"""Mean and SD of grey ultrasound frames, 0 to 1, in UltraDINO's released code."""
UNDERSTOOD = (
    "a folder of a pretraining run or of Hugging Face, a .pth or .pt file of DINOv2 or UltraDINO, "
    "lite0[:SIDE], random[:SHAPE], pixels[:SIDE] or hog[:SIDE]"
)


class Features(NamedTuple):
    """Of N images, float32: ``layers`` (N, L, d), class tokens of the last blocks, each after the last norm, last last.

    ``mean_patch`` (N, d): the last block's patches on average. What has no class token has one layer.
    """

    layers: np.ndarray
    mean_patch: np.ndarray

    @property
    def vector(self) -> np.ndarray:
        """The last layer (N, d): what neighbours are found by."""
        return self.layers[:, -1]


class Seen(NamedTuple):
    """Of a batch: layers (n, L, d), mean patch (n, d) and patches (n, rows, columns, d), where there are any."""

    layers: Tensor
    mean_patch: Tensor
    patches: Tensor | None


Look = Callable[[Any, Tensor], Seen]


@dataclass(frozen=True, eq=False)
class Backbone:
    """A frozen extractor: images in, numpy out; on the device that it was opened on."""

    name: str
    title: str
    """What a report calls it."""
    preprocessing: Preprocessing
    net: nn.Module | None
    trained_on: str
    look: Look
    """From the net and prepared images (n, C, side, side)."""
    device: str = "cpu"

    def features(self, images: np.ndarray) -> Features:
        """Return the features of grey squares (N, S, S), uint8 or floats from 0 to 1, of any side S.

        Raises UsageError for images of another kind.
        """
        seen = [(some.layers.cpu().numpy(), some.mean_patch.cpu().numpy()) for some in self._seen(images)]
        return Features(*(np.concatenate(parts).astype(np.float32, copy=False) for parts in zip(*seen, strict=True)))

    def patches(self, images: np.ndarray) -> np.ndarray | None:
        """Return the patches' features (N, rows, columns, d) float32 of the same images.

        A CNN's are its last map with cells of 16 pixels. ``None`` where there are none.
        """
        found = []
        for some in self._seen(images):
            if some.patches is None:
                return None
            found.append(some.patches.cpu().numpy())
        return np.concatenate(found).astype(np.float32, copy=False)

    def prepared(self, images: np.ndarray) -> Tensor:
        """Return images as the net takes them (N, C, side, side): resized, channels repeated, normalised.

        Smaller by the means of cells, larger bicubically.
        """
        how = self.preprocessing
        x = torch.from_numpy(np.array(images)).to(self.device)[:, None]  # a copy: frames are mapped read-only
        x = x.float() / 255 if images.dtype == np.uint8 else x.float()
        if x.shape[-1] > how.side:
            x = F.interpolate(x, size=(how.side, how.side), mode="area")
        elif x.shape[-1] < how.side:
            x = F.interpolate(x, size=(how.side, how.side), mode="bicubic", align_corners=False).clamp_(0, 1)
        mean, std = (torch.tensor(of, device=self.device)[:, None, None] for of in (how.mean, how.std))
        return (x.expand(-1, how.channels, -1, -1) - mean) / std

    def _seen(self, images: np.ndarray) -> Iterator[Seen]:
        if images.ndim != 3 or images.shape[1] != images.shape[2] or images.dtype.kind not in "uf":
            raise UsageError(
                f"images are {images.dtype} {images.shape}; expected grey squares (N, S, S), uint8 or floats"
            )
        if len(images) == 0:
            raise UsageError("there are no images to take features of")
        if images.dtype.kind == "u" and images.dtype != np.uint8:
            raise UsageError(f"images are {images.dtype}; expected uint8, or floats from 0 to 1")
        step = max(1, min(BATCH, BATCH_PIXELS // self.preprocessing.side**2))
        for i in range(0, len(images), step):
            with torch.no_grad():
                yield self.look(self.net, self.prepared(images[i : i + step]))


def save_backbone(folder: str | Path, vit: ViT, preprocessing: Preprocessing, *, about: Mapping[str, Any]) -> None:
    """Write ``backbone.pt``, plain tensors, and ``backbone.json``, what they are: the one written last names the other.

    ``about`` has ``title``, what a report calls it, and ``trained_on``; what else is in it is kept.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save({"model": {name: value.detach().cpu().contiguous() for name, value in vit.state_dict().items()}}, buffer)
    content = buffer.getbuffer()
    record = {
        "shape": asdict(vit.shape),
        "preprocessing": asdict(preprocessing),
        "about": dict(about),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    replace_file(folder / "backbone.pt", content)
    replace_file(folder / "backbone.json", json.dumps(record, indent=2).encode())


def open_backbone(where: str | Path, *, device: str = "cpu", seed: int = 0) -> Backbone:
    """Return the extractor that ``where`` names: a folder that :func:`save_backbone` wrote, or of Hugging Face; a file
    of DINOv2 or UltraDINO; ``lite0[:SIDE]``, EfficientNet-Lite0 as trained on ImageNet; ``random[:SHAPE]``, a vision
    transformer before training, drawn by ``seed``; ``pixels[:SIDE]``, grey values; ``hog[:SIDE]``.

    Published files do not say how images were prepared: three channels get ImageNet's mean and SD, one UltraDINO's;
    their side is 224 pixels, as in both evaluations, or the native one where it is smaller.

    Raises UsageError for anything else, and what is not installed; DataError for files that are damaged or do not fit.
    """
    kind, _, option = str(where).partition(":")
    if isinstance(where, str) and kind in _NAMED:
        made = _NAMED[kind](option, seed)
    else:
        made = _of_path(Path(where))
    net = made.net.eval().requires_grad_(False).to(device) if made.net is not None else None
    return Backbone(**{**_fields(made), "net": net, "device": device})


def _fields(made: Backbone) -> dict[str, Any]:
    return {name: getattr(made, name) for name in made.__dataclass_fields__}


def _of_path(path: Path) -> Backbone:
    if path.name == "backbone.pt" and (path.parent / "backbone.json").is_file():
        path = path.parent
    if (path / "backbone.json").is_file():
        return _saved(path)
    if (path / "config.json").is_file():
        vit, _ = read_vit(path)
        said = read_preprocessing(path)
        if said is None and vit.shape.channels != 3:
            raise DataError(f"{path} has no preprocessor_config.json; expected one, for its images are no photographs")
        return _vit(path.name, path.name, vit, said or _published(vit.shape), f"unknown (the weights in {path.name})")
    if path.is_file() and path.suffix in (".pth", ".pt", ".bin"):
        vit, about = read_vit(path)
        title, trained_on = _origin(path, vit.shape, about)
        return _vit(path.stem, title, vit, _published(vit.shape), trained_on)
    raise UsageError(f"no backbone '{path}'; expected {UNDERSTOOD}")


def _saved(folder: Path) -> Backbone:
    record = read_json(folder / "backbone.json")
    found = read_nested(folder / "backbone.pt")
    try:
        shape, digest, about = ViTShape(**record["shape"]), record["sha256"], dict(record["about"])
        said = dict(record["preprocessing"])
        how = Preprocessing(**said | {"mean": tuple(said["mean"]), "std": tuple(said["std"])})
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise DataError(f"{folder / 'backbone.json'} is no record of a backbone: {error}") from None
    if found.sha256 != digest:
        raise DataError(f"{folder / 'backbone.pt'} is not the file that backbone.json beside it was written for")
    tensors = {name.removeprefix("model."): value for name, value in found.tensors.items()}
    vit = vit_of(Weights(found.path, tensors, found.sha256), shape)
    title, trained_on = (
        str(about.get(key, other)) for key, other in (("title", folder.name), ("trained_on", "unknown"))
    )
    return _vit(folder.name, title, vit, how, trained_on)


def _origin(path: Path, shape: ViTShape, about: Mapping[str, Any]) -> tuple[str, str]:
    """Return title and training data of published weights, as far as name and shape tell them."""
    if path.stem.startswith("dinov2_vit") and path.stem.endswith("_pretrain"):
        return path.stem.removesuffix("_pretrain"), "LVD-142M, photographs (by the file's name)"
    if about["format"] == "checkpoint" and shape.channels == 1 and shape.patch == 16:
        return f"{path.stem} (DINOv2 checkpoint, 1 channel)", "unknown (FUS13M, if it is UltraDINO's)"
    return path.stem, f"unknown (the weights in {path.name})"


def _published(shape: ViTShape) -> Preprocessing:
    side = min(shape.side, PUBLISHED_SIDE // shape.patch * shape.patch)
    if shape.channels not in (1, 3):
        raise UsageError(f"the net takes {shape.channels} channels; how images are prepared for it is not known")
    return Preprocessing(side, shape.channels, *(FUS13M if shape.channels == 1 else IMAGENET))


def _vit(name: str, title: str, vit: ViT, how: Preprocessing, trained_on: str) -> Backbone:
    if how.side % vit.shape.patch or how.channels != vit.shape.channels:
        raise DataError(
            f"{name}: images of {how.side} pixels and {how.channels} channels do not fit a net of patches of "
            f"{vit.shape.patch} and {vit.shape.channels} channels"
        )
    return Backbone(name, title, how, vit, trained_on, _look_vit)


def _look_vit(vit: ViT, x: Tensor) -> Seen:
    depth = vit.shape.depth
    tokens = vit.layers(x, range(max(0, depth - LAYERS), depth))
    last = tokens[-1].patches
    rows = x.shape[-2] // vit.shape.patch
    return Seen(
        torch.stack([some.cls for some in tokens], 1), last.mean(1), last.view(len(x), rows, -1, last.shape[-1])
    )


def _look_lite0(net: EfficientNetLite0, x: Tensor) -> Seen:
    cells = net.stride16(x)
    return Seen(net.pooled(x, cells)[:, None], cells.mean((2, 3)), cells.permute(0, 2, 3, 1))


def _look_pixels(_: Any, x: Tensor) -> Seen:
    vector = x.flatten(1)
    return Seen(vector[:, None], vector, None)


def _look_hog(_: Any, x: Tensor) -> Seen:
    vector = torch.from_numpy(hog(x[:, 0].cpu().numpy()))
    return Seen(vector[:, None], vector, None)


def _lite0(option: str, seed: int) -> Backbone:
    side = _side("lite0", option, 144, 144)
    how = Preprocessing(side, 3, (0.0,) * 3, (1.0,) * 3)  # the net scales its input itself
    title = f"EfficientNet-Lite0 at {side} pixels"
    return Backbone(_named("lite0", option), title, how, load_lite0(), "ImageNet-1k (labels)", _look_lite0)


def _random(option: str, seed: int) -> Backbone:
    name = option or "tiny"
    if name not in SHAPES:
        raise UsageError(f"no shape '{name}'; expected one of {', '.join(SHAPES)}, as in random:tiny")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vit = ViT(SHAPES[name])
    shape = vit.shape
    how = Preprocessing(shape.side, shape.channels, *FUS13M)
    return _vit(_named("random", option), f"untrained ViT ({name})", vit, how, "nothing (random weights)")


def _raw(kind: str, look: Look, start: int, least: int, title: str, option: str, seed: int) -> Backbone:
    side = _side(kind, option, start, least)
    if kind == "hog" and side % CELL:
        raise UsageError(f"the side of hog is {side}; expected a multiple of {CELL}, as in hog:64")
    how = Preprocessing(side, 1, (0.0,), (1.0,))
    return Backbone(_named(kind, option), f"{title}, {side} x {side} pixels", how, None, "nothing", look)


def _named(kind: str, option: str) -> str:
    return f"{kind}:{option}" if option else kind


def _side(kind: str, option: str, start: int, least: int) -> int:
    if not option:
        return start
    if not option.isdecimal() or int(option) < least:
        raise UsageError(f"the side of {kind} is '{option}'; expected pixels, from {least}, as in {kind}:{start}")
    return int(option)


_NAMED: dict[str, Callable[[str, int], Backbone]] = {
    "lite0": _lite0,
    "random": _random,
    "pixels": partial(_raw, "pixels", _look_pixels, 16, 1, "grey values"),
    "hog": partial(_raw, "hog", _look_hog, 64, 2 * CELL, "histograms of oriented gradients"),
}
