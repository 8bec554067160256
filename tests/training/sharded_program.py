"""A pretraining as a program of its own: ``python sharded_program.py FOLDER DEVICES STRATEGY [EPOCHS]``."""

import sys
from dataclasses import replace

import numpy as np
import torch

from medaudit.networks.vit import ViTShape
from medaudit.training.dinov2.crops import draw
from medaudit.training.dinov2.model import DinoV2, Objective
from medaudit.training.dinov2.monitors import watching
from medaudit.training.dinov2.recipe import PRESETS
from medaudit.training.loop import train
from medaudit.training.sampling import TrainingData

RECIPE = replace(
    PRESETS["smoke"], shape=ViTShape(32, 2, 2, patch=8, side=48, layer_scale=0.1), prototypes=24, hidden=32,
    bottleneck=16, batch_norm=False, centring="centre", koleo=0.0, batch_size=8, steps=6, epochs=3, layer_decay=0.9,
)  # fmt: skip
"""Without what a process does by itself: BatchNorm and KoLeo see their own images only."""


def main() -> None:
    folder, devices, strategy = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    recipe = replace(RECIPE, epochs=int(sys.argv[4]) if len(sys.argv) > 4 else RECIPE.epochs)
    images = np.random.default_rng(0).integers(0, 256, (20, 64, 64), dtype=np.uint8)

    def load(index, rng):
        return {"image": torch.from_numpy(images[index]), "drawn": torch.from_numpy(draw(recipe.crops, rng))}

    torch.manual_seed(0)
    objective = Objective(recipe, 0, 0.5, 0.3)
    train(
        DinoV2(recipe), objective.loss_of, TrainingData([str(i) for i in range(20)], load),
        recipe.settings(0, devices=devices, strategy=strategy), folder=folder, steering=objective.steering(),
        validate=watching(recipe, images, 0.5, 0.3, None),
    )  # fmt: skip


if __name__ == "__main__":
    main()
