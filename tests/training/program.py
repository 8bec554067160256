"""A training as a program of its own: ``python program.py FOLDER DEVICES``, also under torchrun."""

import sys

from problems import network, regression_data, squared_error, validate

from medaudit.training import TrainingSettings, train

SETTINGS = TrainingSettings(
    epochs=5, batch_size=6, learning_rate=0.02, ema_decay=0.7, clip_norm=0.5, patience=4, seed=2
)

if __name__ == "__main__":
    folder, devices = sys.argv[1], int(sys.argv[2])
    settings = TrainingSettings(**{**vars(SETTINGS), "devices": devices, "strategy": "ddp" if devices > 1 else "auto"})
    for part in ("first", "second"):  # a study trains many models in one program
        train(
            network(dropout=0.0),
            squared_error,
            regression_data(0.1),
            settings,
            folder=f"{folder}/{part}",
            validate=validate,
        )
