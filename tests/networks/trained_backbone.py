"""The trained backbone and two photographs, where they are installed; neither is ever downloaded."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor

from medaudit.errors import UsageError
from medaudit.networks.efficientnet_lite import INSTALL, installed_weights


def weights_or_skip() -> str:
    try:
        return str(installed_weights())
    except UsageError:
        pytest.skip(f"the trained EfficientNet-Lite0 is not installed: {INSTALL}")


def photographs() -> dict[str, np.ndarray]:
    """Scikit-learn's own: a tower of the Summer Palace in Beijing, and a yellow dahlia; (427, 640, 3) uint8."""
    found = load_sample_images()
    return {
        name.split("/")[-1].split("\\")[-1]: image for name, image in zip(found.filenames, found.images, strict=True)
    }


def as_input(picture: np.ndarray, side: int = 224) -> Tensor:
    """Return the middle square as (1, 3, side, side), 0 to 1."""
    height, width = picture.shape[:2]
    half = min(height, width) // 2
    middle = picture[height // 2 - half : height // 2 + half, width // 2 - half : width // 2 + half]
    made = Image.fromarray(middle).resize((side, side), Image.Resampling.BICUBIC)
    return tensor(np.asarray(made) / 255)


def tensor(picture: np.ndarray) -> Tensor:
    """Return a picture (H, W, 3), 0 to 1, as (1, 3, H, W) float32."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1), dtype=np.float32))[None]
