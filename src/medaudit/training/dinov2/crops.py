"""Multi-crop views of one-channel images, for a whole batch at once: each crop is two matrix products.

Cutting out a rectangle, flipping and resizing it act on rows and columns apart, and so does a Gaussian blur. All
randomness is drawn a case at a time by the loop's generator (:func:`draw`); making the views (:func:`views`) has none,
so that the number of processes changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_KERNEL = 9  # taps of the blur
_TRIES = 10
_TOP, _LEFT, _TALL, _WIDE, _FLIP_V, _FLIP_H, _BRIGHT, _CONTRAST, _SWAP, _SIGMA, _SOLARIZE = range(11)
_GAIN, _SHADOW, _GAMMA = slice(11, 15), slice(15, 18), 18
_NUMBERS = 19


@dataclass(frozen=True)
class CropLaw:
    """What a view may look like; the numbers are those of UltraDINO's released code where not said otherwise."""

    global_side: int = 224
    local_side: int = 96
    locals: int = 8
    global_scale: tuple[float, float] = (0.32, 1.0)
    local_scale: tuple[float, float] = (0.05, 0.32)
    flip: str = "v"
    """``v`` is the released code's, ``h`` DINOv2's; ``none``. Upside down is no ultrasound image: probably a slip."""
    jitter: float = 0.8
    """Probability; brightness and contrast by up to ``strength``."""
    strength: float = 0.4
    blur: tuple[float, float, float] = (0.0, 0.9, 0.5)
    """Probabilities for the first and second global crop and the local ones. DINOv2's code turns what it is given
    around (1, 0.1, 0.5 is written), which its authors confirmed."""
    solarize: float = 0.2
    """Of the second global crop."""
    ultrasound: bool = False
    """Ours: gain along the depth, an acoustic shadow and gamma, each with probability 0.3."""

    @property
    def count(self) -> int:
        """Views of a case: two global ones, then the local ones."""
        return 2 + self.locals


def draw(law: CropLaw, rng: np.random.Generator) -> np.ndarray:
    """Return the numbers of a case's views (count, 19) float32; rectangles are parts of the image's sides."""
    found = np.zeros((law.count, _NUMBERS), dtype=np.float32)
    for k, row in enumerate(found):
        row[:4] = _rectangle(law.global_scale if k < 2 else law.local_scale, rng)
        row[_FLIP_V] = law.flip == "v" and rng.random() < 0.5
        row[_FLIP_H] = law.flip == "h" and rng.random() < 0.5
        row[_BRIGHT] = row[_CONTRAST] = row[_GAMMA] = 1.0
        if rng.random() < law.jitter:
            row[[_BRIGHT, _CONTRAST]] = rng.uniform(1 - law.strength, 1 + law.strength, 2)
            row[_SWAP] = rng.random() < 0.5
        if rng.random() < law.blur[min(k, 2)]:
            row[_SIGMA] = rng.uniform(0.1, 2.0)
        row[_SOLARIZE] = k == 1 and rng.random() < law.solarize
        if law.ultrasound:
            if rng.random() < 0.3:
                row[_GAIN] = rng.normal(0, 3.0, 4)  # dB of the 60 that black to white is taken for, at four depths
            if rng.random() < 0.3:
                row[_SHADOW] = rng.uniform(0, 1), rng.uniform(0.03, 0.12), rng.uniform(0.3, 0.8)
            if rng.random() < 0.3:
                row[_GAMMA] = rng.uniform(0.7, 1.4)
    return found


def _rectangle(scale: tuple[float, float], rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Return top, left, height and width of torchvision's RandomResizedCrop on a square of side 1."""
    for _ in range(_TRIES):
        area = rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        wide, tall = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if wide <= 1 and tall <= 1:
            return rng.uniform(0, 1 - tall), rng.uniform(0, 1 - wide), tall, wide
    return 0.0, 0.0, 1.0, 1.0


def views(images: Tensor, drawn: Tensor, law: CropLaw, mean: float, std: float) -> tuple[Tensor, Tensor]:
    """Return global views (2 N, 1, G, G), all first ones before all second ones, and local ones (locals * N, 1, L, L).

    ``images`` (N, S, S), uint8 or from 0 to 1; ``drawn`` (N, count, 19) from :func:`draw`. In the order of DINOv2's
    transforms: crop and flip, brightness and contrast, blur, solarise, normalise; after each what lies outside 0 to 1
    is cut, as in 8-bit images, whose rounding is left out.
    """
    pixels = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    both = []
    for first, last, side in ((0, 2, law.global_side), (2, law.count, law.local_side)):
        numbers = drawn[:, first:last].transpose(0, 1).float()  # (views, N, 19)
        cut = _cut(pixels, numbers, side)
        both.append(((_changed(cut.flatten(0, 1), numbers.flatten(0, 1)) - mean) / std).unsqueeze(1))
    return both[0], both[1]


def _cut(pixels: Tensor, numbers: Tensor, side: int) -> Tensor:
    """Return (views, N, side, side)."""
    size = pixels.shape[-1]
    rows = resampling(numbers[..., _TOP] * size, numbers[..., _TALL] * size, size, side, numbers[..., _FLIP_V] > 0)
    columns = resampling(numbers[..., _LEFT] * size, numbers[..., _WIDE] * size, size, side, numbers[..., _FLIP_H] > 0)
    return (rows @ pixels @ columns.transpose(-1, -2)).clamp_(0, 1)


def resampling(start: Tensor, length: Tensor, size: int, side: int, flip: Tensor) -> Tensor:
    """Return matrices (..., side, size) that resize ``length`` pixels from ``start`` on to ``side``, as Pillow does.

    Bicubic with a = -0.5, widened where it makes smaller (anti-aliased); what lies outside the part is not seen.
    """
    scale = (length / side)[..., None, None]
    support = scale.clamp(min=1.0)
    at = torch.arange(side, device=start.device, dtype=torch.float32)
    at = torch.where(flip[..., None], side - 1 - at, at)
    centre = start[..., None, None] + (at[..., None] + 0.5) * scale
    # Only the pixels within two supports of a centre have a weight.
    taps = 2 * math.ceil(2 * float(support.max() if support.numel() else 1.0)) + 1
    place = (centre - 2 * support).floor().long() + torch.arange(taps, device=start.device)
    pixel = place + 0.5
    x = ((pixel - centre) / support).abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
    end = (start + length)[..., None, None]
    weights = weights * ((pixel > start[..., None, None].floor()) & (pixel < end.ceil()) & (place < size))
    weights = weights / weights.sum(-1, keepdim=True)
    return weights.new_zeros(*weights.shape[:-1], size).scatter_add_(-1, place.clamp(0, size - 1), weights)


def _changed(x: Tensor, numbers: Tensor) -> Tensor:
    """Return views (n, side, side) with the light, blur and solarisation of ``numbers`` (n, 19)."""
    side = x.shape[-1]

    def of(column: int) -> Tensor:
        return numbers[:, column, None, None]

    if bool((numbers[:, 11:] != numbers.new_tensor([0.0] * 7 + [1.0])).any()):
        x = _ultrasound(x, numbers, side)
    swapped = of(_SWAP) > 0
    x = (x * torch.where(swapped, torch.ones_like(of(_BRIGHT)), of(_BRIGHT))).clamp_(0, 1)
    x = (of(_CONTRAST) * x + (1 - of(_CONTRAST)) * x.mean((-2, -1), keepdim=True)).clamp_(0, 1)
    x = (x * torch.where(swapped, of(_BRIGHT), torch.ones_like(of(_BRIGHT)))).clamp_(0, 1)
    blurred = torch.nonzero(numbers[:, _SIGMA] > 0)[:, 0]
    if len(blurred):
        band = blurring(numbers[blurred, _SIGMA], side)
        x = x.index_copy(0, blurred, band @ x[blurred] @ band.transpose(-1, -2))
    return torch.where((of(_SOLARIZE) > 0) & (x >= 128 / 255), 1 - x, x)


def blurring(sigma: Tensor, side: int) -> Tensor:
    """Return matrices (n, side, side) of a Gaussian of nine taps, reflected at the border, as torchvision's blur is."""
    half = _KERNEL // 2
    taps = torch.arange(-half, half + 1, device=sigma.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (taps / sigma[:, None]) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    at = torch.arange(side, device=sigma.device)[:, None] + taps.long()
    at = at.abs()
    at = torch.where(at >= side, 2 * (side - 1) - at, at)
    matrix = torch.zeros(len(sigma), side, side, device=sigma.device)
    return matrix.scatter_add_(2, at.expand(len(sigma), -1, -1), kernel[:, None].expand(-1, side, -1))


def _ultrasound(x: Tensor, numbers: Tensor, side: int) -> Tensor:
    gain = torch.nn.functional.interpolate(numbers[:, None, _GAIN], size=side, mode="linear", align_corners=True)
    x = x + gain[:, 0, :, None] / 60
    across = torch.linspace(0, 1, side, device=x.device)
    centre, wide, deep = (numbers[:, 15 + k, None] for k in range(3))
    shade = deep * torch.exp(-0.5 * ((across - centre) / wide.clamp(min=1e-3)) ** 2)
    x = x * (1 - shade * (wide > 0))[:, None, :]
    return x.clamp(0, 1) ** numbers[:, _GAMMA, None, None]
