"""Segmentation networks: U-Nets of a size for the machine at hand, by MONAI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from monai.networks.nets import DynUNet, UNet
from torch import Tensor, nn

from medaudit.errors import UsageError

# Instance, not batch norm: with a few cases a batch its statistics are noise, and differ by process. The channels of
# the GPU presets follow nnU-Net's rule (32, doubled up to 512 in 2-D and 320 in 3-D; arXiv 1904.08128); their blocks
# are residual on both ways, where nnU-Net's ResEnc has them in the encoder only, and more of them a stage.
PRESETS: dict[str, dict[str, Any]] = {
    "cpu-2d": {"net": "unet", "spatial_dims": 2, "channels": (24, 48, 96, 192)},
    "cpu-3d": {"net": "unet", "spatial_dims": 3, "channels": (16, 32, 64, 128)},
    "gpu-2d": {"net": "dynunet", "spatial_dims": 2, "channels": (32, 64, 128, 256, 512, 512, 512)},
    "gpu-3d": {"net": "dynunet", "spatial_dims": 3, "channels": (32, 64, 128, 256, 320, 320)},
}


def build(preset: str, in_channels: int, classes: int, spatial_dims: int | None = None, *, seed: int = 0) -> nn.Module:
    """Return the U-Net of a preset: images (N, in_channels, *S) to logits (N, classes, *S), background included.

    ``classes`` 1 means one logit, for a sigmoid. Each side of *S* must be a multiple of ``stride(model)``.
    ``spatial_dims`` is that of the preset; given, it is checked. The same ``seed`` gives the same first weights.

    Raises UsageError for an unknown preset, or if it is for other dimensions.
    """
    if preset not in PRESETS:
        raise UsageError(f"no preset '{preset}'; expected one of {', '.join(PRESETS)}")
    shape = PRESETS[preset]
    dims = shape["spatial_dims"]
    if spatial_dims not in (None, dims):
        fitting = preset.replace(f"{dims}d", f"{spatial_dims}d")
        raise UsageError(f"the preset {preset} is for {dims}-D images, these are {spatial_dims}-D; take {fitting}")
    if in_channels < 1 or classes < 1:
        raise UsageError(f"{in_channels} channels and {classes} classes; expected 1 or more of both")
    stages = len(shape["channels"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if shape["net"] == "unet":
            return UNet(
                spatial_dims=dims,
                in_channels=in_channels,
                out_channels=classes,
                channels=shape["channels"],
                strides=(2,) * (stages - 1),
                # With residual units MONAI normalises the logits' map itself: a small object cannot rise above 0 then.
                num_res_units=0,
                norm="instance",
            )
        return DynUNet(
            spatial_dims=dims,
            in_channels=in_channels,
            out_channels=classes,
            kernel_size=(3,) * stages,
            strides=(1, *(2,) * (stages - 1)),
            upsample_kernel_size=(2,) * (stages - 1),
            filters=shape["channels"],
            res_block=True,
        )


def stride(model: nn.Module) -> int:
    """Return what each side of an image must be a multiple of: 2 to the number of halvings."""
    net: Any = _plain(model)
    if not isinstance(net, UNet | DynUNet):
        raise UsageError(f"no stride known of a {type(net).__name__}; build the model from a preset")
    return 2 ** sum(step == 2 for step in net.strides)


@contextmanager
def bottleneck_features(model: nn.Module) -> Iterator[list[Tensor]]:
    """Return a list that grows by one (N, channels) tensor a forward pass: the bottleneck, averaged over space.

    The bottleneck is the output of the deepest stage, the smallest picture that the net makes of an image; its global
    average is the latent space in which groups are compared. Tensors are detached and stay on their device.
    """
    features: list[Tensor] = []

    def keep(module: nn.Module, seen: Any, output: Tensor) -> None:
        features.append(output.detach().float().flatten(2).mean(dim=2))

    handle = _bottleneck(_plain(model)).register_forward_hook(keep)
    try:
        yield features
    finally:
        handle.remove()


def _plain(model: nn.Module) -> nn.Module:
    """Return the net itself where a trainer has wrapped it."""
    inner = getattr(model, "module", None)
    return inner if isinstance(inner, UNet | DynUNet) else model


def _bottleneck(model: nn.Module) -> nn.Module:
    if isinstance(model, DynUNet):
        return model.get_submodule("bottleneck")
    if isinstance(model, UNet):
        # MONAI nests a stage as down, skip(next stage), up; the innermost has no stage below it.
        stage: Any = model.model
        while isinstance(stage, nn.Sequential) and len(stage) > 1 and hasattr(stage[1], "submodule"):
            stage = stage[1].submodule
        return stage
    raise UsageError(f"no bottleneck known of a {type(model).__name__}; build the model from a preset")
