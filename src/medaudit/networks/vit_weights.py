"""Weights of vision transformers in and out of files: DINOv2's, UltraDINO's checkpoints, Hugging Face folders.

Read without running code, and strictly: every tensor of the file has its place and every place its tensor. Published
evaluation code has dropped a model's registers by loading non-strictly; here that is an error.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medaudit.cohort.atomic import replace_file
from medaudit.errors import DataError, UsageError
from medaudit.networks.pretrained import Weights, filled, read_nested
from medaudit.networks.vit import ViT, ViTShape

INSTALL = "pip install safetensors"
HEADS = {384: 6, 768: 12, 1024: 16, 1536: 24}
"""By width: a state dict does not show them (dinov2/models/vision_transformer.py)."""
MODEL_TYPES = ("dinov2", "dinov2_with_registers")
_OFFICIAL_PATCH = 14
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_fsdp_wrapped_module|_orig_mod|module)\.")
_CHUNKED = re.compile(r"^blocks\.\d+\.(\d+)\.")
_WHERE = ("model.teacher.backbone.", "teacher.backbone.", "backbone.", "teacher.", "model.", "")
"""Where a backbone may lie in a file, the teacher's before any other's."""
_NORMAL = {"hidden_act": "gelu", "qkv_bias": True, "layer_norm_eps": 1e-6}

_OUTER = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "register_tokens": "embeddings.register_tokens",
    "mask_token": "embeddings.mask_token",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
}
_INNER = {
    "norm1": "norm1", "norm2": "norm2", "attn.proj": "attention.output.dense",
    "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2", "mlp.w12": "mlp.weights_in", "mlp.w3": "mlp.weights_out",
    "ls1": "layer_scale1", "ls2": "layer_scale2",
}  # fmt: skip
"""Our names, DINOv2's, and those in Hugging Face's files, which have the three parts of ``attn.qkv`` apart."""
_PARTS = ("query", "key", "value")


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a net's input: a square of ``side`` pixels, 0 to 1, less ``mean`` over ``std``."""

    side: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    framing: str = "letterbox"
    """How an image that is no square becomes one."""

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) == self.channels:
            raise UsageError(f"{self.channels} channels have {len(self.mean)} means and {len(self.std)} SDs")


def read_vit(path: str | Path, *, heads: int | None = None) -> tuple[ViT, dict[str, Any]]:
    """Return the net in a file or a Hugging Face folder, frozen and in evaluation mode, and what is known of it.

    A file is a state dict of DINOv2's, or a checkpoint of its training code (UltraDINO's too), of which the teacher's
    backbone is taken. The shape is seen in the tensors, but for ``heads``; those are DINOv2's for its widths, the
    config's, or of 64 channels each. Known of it: ``format`` (``state dict``, ``checkpoint``, ``huggingface``),
    ``sha256``, and ``mask_token``, whether the file has one (else it is zero).

    Positions are interpolated as by those who made the weights: DINOv2's own with registers antialiased to the grid's
    size, without registers with an offset of 0.1 (dinov2/hub/backbones.py); checkpoints with the offset
    (dinov2/configs/ssl_default_config.yaml); Hugging Face folders as by transformers 5, to the grid's size,
    antialiased where there are registers, unless the config says otherwise.

    Raises DataError, naming what differs, for weights of anything else; UsageError where safetensors is needed and not
    installed.
    """
    path = Path(path)
    if path.is_dir():
        return _read_huggingface(path, heads)
    found = read_nested(path)
    tensors = {_WRAPPERS.sub("", name): value for name, value in found.tensors.items()}
    prefix = next((prefix for prefix in _WHERE if f"{prefix}cls_token" in tensors), None)
    if prefix is None:
        raise DataError(f"{path} holds no weights of a vision transformer of DINOv2: it has no 'cls_token'")
    inner = {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
    inner = {_CHUNKED.sub(r"blocks.\1.", name): value for name, value in inner.items()}
    shape = shape_of(inner, path, heads)
    if prefix == "" and shape.registers and shape.patch == _OFFICIAL_PATCH and shape.channels == 3:
        shape = replace(shape, offset=0.0, antialias=True)
    about = {"format": "checkpoint" if "backbone" in prefix else "state dict", "sha256": found.sha256}
    return vit_of(Weights(path, inner, found.sha256), shape), about | {"mask_token": "mask_token" in inner}


def shape_of(tensors: Mapping[str, Tensor], path: Path, heads: int | None = None) -> ViTShape:
    """Return the shape that a state dict's tensors show; DataError where they are no vision transformer's."""
    wrong = f"{path} holds no weights of a vision transformer of DINOv2: "

    def size(name: str, dimensions: int) -> tuple[int, ...]:
        if name not in tensors:
            raise DataError(f"{wrong}it has no '{name}'")
        if tensors[name].ndim != dimensions:
            raise DataError(f"{wrong}its '{name}' is {tuple(tensors[name].shape)}, expected {dimensions} dimensions")
        return tuple(tensors[name].shape)

    dim = size("cls_token", 3)[-1]
    _, channels, patch, _ = size("patch_embed.proj.weight", 4)
    positions = size("pos_embed", 3)[1] - 1
    grid = math.isqrt(max(0, positions))
    if grid < 1 or grid**2 != positions:
        raise DataError(f"{wrong}its 'pos_embed' has {positions} patches, expected those of a square")
    blocks = [int(name.split(".")[1]) for name in tensors if re.match(r"blocks\.\d+\.", name)]
    gated = "blocks.0.mlp.w3.weight" in tensors
    hidden = size("blocks.0.mlp.w3.weight", 2)[1] if gated else size("blocks.0.mlp.fc1.weight", 2)[0]
    heads = heads or HEADS.get(dim) or max(1, dim // 64)
    if dim % heads:
        raise DataError(f"{path}: a width of {dim} cannot be dealt to {heads} heads; say how many there are")
    return ViTShape(
        dim=dim,
        depth=max(blocks) + 1,
        heads=heads,
        patch=patch,
        side=grid * patch,
        channels=channels,
        registers=size("register_tokens", 3)[1] if "register_tokens" in tensors else 0,
        mlp_ratio=_ratio(dim, hidden, gated),
        ffn="swiglu" if gated else "mlp",
        layer_scale=1e-5 if "blocks.0.ls1.gamma" in tensors else None,
    )


def vit_of(weights: Weights, shape: ViTShape) -> ViT:
    """Return the net of this shape with these weights, in float32, frozen; a mask token that is not there is zero.

    Raises DataError, naming the first tensor that differs.
    """
    tensors = {name: value.float() for name, value in weights.tensors.items()}
    tensors.setdefault("mask_token", torch.zeros(1, shape.dim))
    named = f"a vision transformer of {shape.depth} blocks of {shape.dim}, patches of {shape.patch}"
    return filled(lambda: ViT(shape), replace(weights, tensors=tensors), named)


def write_huggingface(vit: ViT, folder: str | Path, preprocessing: Preprocessing) -> None:
    """Write ``config.json``, ``model.safetensors`` and ``preprocessor_config.json`` for transformers' AutoModel.

    Equal there to ours on images of the native side. On others transformers interpolates positions to the grid's size,
    with antialiasing where there are registers and without it elsewhere; a net trained with DINOv2's offset of 0.1, or
    another antialiasing, gives somewhat other features there. Our reader goes by what the config says of it.

    Raises UsageError where safetensors is not installed, or for a shape that transformers does not know.
    """
    _, save = _safetensors()
    shape, folder = vit.shape, Path(folder)
    if shape.mlp_ratio != int(shape.mlp_ratio):
        raise UsageError(f"transformers knows whole mlp_ratio only, not {shape.mlp_ratio}")
    folder.mkdir(parents=True, exist_ok=True)
    registers = shape.registers > 0
    config = {
        "architectures": ["Dinov2WithRegistersModel" if registers else "Dinov2Model"],
        "model_type": MODEL_TYPES[registers],
        "hidden_size": shape.dim,
        "num_hidden_layers": shape.depth,
        "num_attention_heads": shape.heads,
        "mlp_ratio": int(shape.mlp_ratio),
        "image_size": shape.side,
        "patch_size": shape.patch,
        "num_channels": shape.channels,
        "use_swiglu_ffn": shape.ffn == "swiglu",
        "layerscale_value": 1.0 if shape.layer_scale is None else shape.layer_scale,
        "dtype": "float32",
        **_NORMAL,
        **({"num_register_tokens": shape.registers} if registers else {"use_mask_token": True}),
        "interpolate_offset": shape.offset,
        "interpolate_antialias": shape.antialias,
    }
    crop = {"height": preprocessing.side, "width": preprocessing.side}
    prepared = {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": preprocessing.channels == 3,
        "do_resize": True,
        "size": {"shortest_edge": preprocessing.side},
        "resample": 3,  # bicubic, in Pillow's numbers
        "do_center_crop": True,
        "crop_size": crop,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
        "framing": preprocessing.framing,
    }
    replace_file(folder / "model.safetensors", save(_theirs(vit), metadata={"format": "pt"}))
    replace_file(folder / "preprocessor_config.json", json.dumps(prepared, indent=2).encode())
    replace_file(folder / "config.json", json.dumps(config, indent=2).encode())


def read_preprocessing(folder: Path) -> Preprocessing | None:
    """Return what ``preprocessor_config.json`` in a Hugging Face folder says; ``None`` where there is none."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return None
    said = read_json(path)
    try:
        mean, std = (tuple(float(x) for x in said[key]) for key in ("image_mean", "image_std"))
        cut = said["crop_size"] if said.get("do_center_crop", True) and "crop_size" in said else said["size"]
        side = cut if isinstance(cut, int) else cut.get("height", cut.get("shortest_edge"))
        return Preprocessing(int(side), len(mean), mean, std, str(said.get("framing", "letterbox")))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DataError(f"{path} does not say image_mean, image_std and crop_size or size") from None


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; DataError where it is not there or is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is not there") from None
    except (OSError, ValueError, RecursionError):
        raise DataError(f"{path} cannot be read as JSON") from None
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no JSON object")
    return found


def _read_huggingface(folder: Path, heads: int | None) -> tuple[ViT, dict[str, Any]]:
    config = read_json(folder / "config.json")
    kind = config.get("model_type")
    if kind not in MODEL_TYPES:
        raise DataError(f"{folder / 'config.json'}: model_type is '{kind}'; expected {' or '.join(MODEL_TYPES)}")
    for key, value in _NORMAL.items():
        if config.get(key, value) != value:
            raise DataError(f"{folder / 'config.json'}: {key} is {config[key]}; DINOv2's is {value}")
    weights = _huggingface_weights(folder)
    tensors = _ours(weights)
    shape = shape_of(tensors, weights.path, heads or config.get("num_attention_heads"))
    seen = {
        "hidden_size": shape.dim, "num_hidden_layers": shape.depth, "patch_size": shape.patch,
        "num_channels": shape.channels, "num_register_tokens": shape.registers,
    }  # fmt: skip
    for key, value in seen.items():
        said = config.get(key, value)
        if said not in (value, [value, value]):
            raise DataError(f"{weights.path} is of another net than config.json: {key} is {value} there, {said} here")
    shape = replace(
        shape,
        offset=float(config.get("interpolate_offset", 0.0)),
        antialias=bool(config.get("interpolate_antialias", kind == MODEL_TYPES[1])),
    )
    about = {"format": "huggingface", "sha256": weights.sha256, "mask_token": "mask_token" in tensors}
    return vit_of(replace(weights, tensors=tensors), shape), about


def _huggingface_weights(folder: Path) -> Weights:
    """Return the tensors of a folder, as they are called there, from one file or several."""
    if (folder / "pytorch_model.bin").is_file() and not any(folder.glob("*.safetensors")):
        return read_nested(folder / "pytorch_model.bin")
    index, whole = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if not whole.is_file() and not index.is_file():
        raise DataError(f"{folder} holds neither model.safetensors nor pytorch_model.bin")
    load, _ = _safetensors()
    places = {} if whole.is_file() else read_json(index).get("weight_map", {})
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise DataError(f"{index}: weight_map does not say which file each tensor is in")
    names = [whole.name] if whole.is_file() else sorted(set(places.values()))
    tensors: dict[str, Tensor] = {}
    digest = hashlib.sha256()
    for name in names:
        path = folder / Path(name).name  # no way out of the folder
        try:
            content = path.read_bytes()
            tensors |= load(content)
        except Exception as error:  # safetensors has an error class of its own, which is not imported here
            raise DataError(f"{path} cannot be read as safetensors: {error}") from None
        digest.update(content)
    return Weights(whole if whole.is_file() else index, tensors, digest.hexdigest())


def _ours(weights: Weights) -> dict[str, Tensor]:
    """Return the tensors under our names; those of a classifier are left out, what is unknown keeps its name."""
    theirs = weights.tensors
    prefix = next((p for p in ("", *(f"{kind}." for kind in MODEL_TYPES)) if f"{p}embeddings.cls_token" in theirs), "")
    left = {name[len(prefix) :]: value for name, value in theirs.items() if name.startswith(prefix)}
    found = {ours: left.pop(name) for ours, name in _OUTER.items() if name in left}
    inner = {theirs: ours for ours, theirs in _INNER.items()}
    joined: dict[str, dict[str, Tensor]] = {}
    for name, value in left.items():
        block = re.match(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias|lambda1)$", name)
        part = block and re.match(r"attention\.attention\.(query|key|value)$", block[2])
        if block and part:
            joined.setdefault(f"blocks.{block[1]}.attn.qkv.{block[3]}", {})[part[1]] = value
        elif block and block[2] in inner:
            last = "gamma" if block[3] == "lambda1" else block[3]
            found[f"blocks.{block[1]}.{inner[block[2]]}.{last}"] = value
        elif not name.startswith("classifier."):
            found[name] = value
    for name, parts in joined.items():
        missing = [part for part in _PARTS if part not in parts]
        if missing:
            raise DataError(f"{weights.path} is not whole: the {missing[0]} of '{name}' is not there")
        found[name] = torch.cat([parts[part] for part in _PARTS])
    return found


def _theirs(vit: ViT) -> dict[str, Tensor]:
    """Return the net's tensors under the names of Hugging Face's files."""
    made: dict[str, Tensor] = {}
    for name, tensor in vit.state_dict().items():
        value = tensor.detach().float().cpu().contiguous().clone()
        if name in _OUTER:
            made[_OUTER[name]] = value
            continue
        _, block, rest = name.split(".", 2)
        inner, last = rest.rsplit(".", 1)
        if inner == "attn.qkv":
            for part, some in zip(_PARTS, value.chunk(3), strict=True):
                made[f"encoder.layer.{block}.attention.attention.{part}.{last}"] = some.clone()
        else:
            made[f"encoder.layer.{block}.{_INNER[inner]}.{'lambda1' if last == 'gamma' else last}"] = value
    if vit.shape.layer_scale is None:  # there every net has one
        for k in range(vit.shape.depth):
            for j in (1, 2):
                made[f"encoder.layer.{k}.layer_scale{j}.lambda1"] = torch.ones(vit.shape.dim)
    return made


def _ratio(dim: int, hidden: int, gated: bool) -> float:
    """Return the mlp_ratio that makes a hidden layer of this width."""

    def width(ratio: float) -> int:
        return (int(int(dim * ratio) * 2 / 3) + 7) // 8 * 8 if gated else int(dim * ratio)

    plain = hidden * (1.5 if gated else 1.0) / dim
    return next((r for r in (4.0, plain, math.nextafter(plain, math.inf)) if width(r) == hidden), plain)


def _safetensors() -> tuple[Any, Any]:
    try:
        from safetensors.torch import load, save
    except ImportError:
        raise UsageError(f"safetensors, which Hugging Face's weights need, is not installed; run: {INSTALL}") from None
    return load, save
