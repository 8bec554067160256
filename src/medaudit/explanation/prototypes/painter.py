"""From an image to its activations and its noise, and back with other activations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medaudit.networks.diffusion.inversion import invert
from medaudit.networks.diffusion.samplers import sample
from medaudit.training.prototypes.fit import TrainedPrototypes

Seen = Callable[[int, np.ndarray], None]
"""Called with a time and the clean images (n, C, H, W) that the model expects there, from -1 to 1 or beyond."""


@dataclass(frozen=True, eq=False)
class Inverted:
    """Images' own noise: painting from it with their own activations gives them back."""

    noise: np.ndarray
    """(n, C, H, W) float32."""
    residual: np.ndarray
    """(n,): by how much the last refinement still moved the noise, root mean square."""
    spread: np.ndarray
    """(n,): the SD of the noise, near 1 where the inversion is what the model was trained with."""
    evaluations: int
    """Of the net, for each image."""


@dataclass(frozen=True, eq=False)
class Painter:
    """A trained model and how it samples. Images are from 0 to 1, (n, C, H, W), and come out cut to that range."""

    trained: TrainedPrototypes
    steps: int = 50
    refinements: int = 20
    """Fixed-point steps of the inversion at each time, at most."""
    tolerance: float = 1e-3
    """Root mean square, of images from -1 to 1, at which a step of the inversion is settled. Only the times nearest
    to the image need many refinements: this asks the net as often as two at all times, and comes fifty times closer."""
    batch: int = 64
    method: str = "ddim"

    def activations(self, images: np.ndarray) -> np.ndarray:
        """Return the activations (n, m) float32."""
        found = [self._codes(part) for part in self._parts(images)]
        return np.concatenate(found) if found else np.zeros((0, self.trained.recipe.encoder.prototypes), np.float32)

    def cells(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return activations (n, m), and the cell nearest to each prototype as (n, m, 2), row and column."""
        model = self.trained.model
        found, cells = [], []
        with torch.no_grad():
            for part in self._parts(images):
                columns = model.encoder.shape.cells(part.shape[2], part.shape[3])[1]
                activations, flat = model.encoder.nearest(_signed(part))
                found.append(activations.float().numpy())
                cells.append(torch.stack([flat // columns, flat % columns], dim=-1).numpy())
        return np.concatenate(found), np.concatenate(cells)

    def invert(self, images: np.ndarray, activations: np.ndarray | None = None) -> Inverted:
        """Return the noise of ``images`` under ``activations``, by default their own."""
        noise, residual, spread, evaluations = [], [], [], 0
        for start, part in self._numbered(images):
            codes = self._codes(part) if activations is None else activations[start : start + len(part)]
            with torch.no_grad():
                found = invert(
                    self._denoise(codes), _signed(part), self.trained.schedule, steps=self.steps,
                    refinements=self.refinements, tolerance=self.tolerance,
                    predicts=self.trained.recipe.predicts,
                )  # fmt: skip
            noise.append(found.noise.float().numpy())
            residual.append(np.asarray(found.residual))
            spread.append(np.asarray(found.spread))
            evaluations = found.evaluations
        return Inverted(np.concatenate(noise), np.concatenate(residual), np.concatenate(spread), evaluations)

    def paint(self, noise: np.ndarray, activations: np.ndarray, seen: Seen | None = None) -> np.ndarray:
        """Return the images (n, C, H, W) float32 that the model makes of ``noise`` with ``activations`` (n, m)."""
        made = []
        for start, part in self._numbered(noise):
            codes = activations[start : start + len(part)]

            def watch(time: int, noisy: Tensor, image: Tensor) -> None:
                if seen is not None:
                    seen(int(time), image.float().numpy())

            with torch.no_grad():
                images = sample(
                    self._denoise(codes), torch.from_numpy(np.ascontiguousarray(part)), self.trained.schedule,
                    steps=self.steps, method=self.method, predicts=self.trained.recipe.predicts,
                    seen=watch if seen is not None else None,
                )  # fmt: skip
            made.append(((images.float() + 1) / 2).clamp(0, 1).numpy())
        return np.concatenate(made)

    def noise(self, n: int, seed: int) -> np.ndarray:
        """Return fresh noise (n, C, H, W); the first ones do not depend on ``n``."""
        recipe = self.trained.recipe
        shape = (recipe.encoder.channels, recipe.side, recipe.side)
        return np.stack([np.random.default_rng((seed, i)).standard_normal(shape, dtype=np.float32) for i in range(n)])

    def _codes(self, images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.trained.model.activations(_signed(images)).float().numpy()

    def _denoise(self, codes: np.ndarray) -> Callable[[Tensor, Tensor], Tensor]:
        activations = torch.from_numpy(np.ascontiguousarray(codes, dtype=np.float32))
        return lambda noisy, times: self.trained.model.denoise(noisy.float(), times, activations)

    def _parts(self, images: np.ndarray) -> Iterator[np.ndarray]:
        for _, part in self._numbered(images):
            yield part

    def _numbered(self, images: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        for start in range(0, len(images), self.batch):
            yield start, np.asarray(images[start : start + self.batch], dtype=np.float32)


def _signed(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)) * 2 - 1
