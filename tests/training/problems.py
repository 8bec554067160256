"""Small problems with known answers, shared by the tests and by the programs that they start."""

import numpy as np
import torch
from torch import nn

from medaudit.training import TrainingData

CASES, FEATURES = 24, 3


def regression(noise=0.3):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(CASES, FEATURES))
    y = x @ np.array([[1.0], [-2.0], [0.5]]) + 0.7 + noise * rng.normal(size=(CASES, 1))
    return x, y


def regression_data(jitter=0.0):
    """The cases of the regression; ``jitter`` is noise added when a case is loaded: an augmentation."""
    x, y = regression()

    def load(index, rng):
        seen = x[index] + jitter * rng.normal(size=FEATURES)
        return {"x": torch.tensor(seen, dtype=torch.float32), "y": torch.tensor(y[index], dtype=torch.float32)}

    return TrainingData([f"case-{i:02d}" for i in range(CASES)], load)


def linear(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(FEATURES, 1)


def network(seed=0, width=8, dropout=0.2):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(FEATURES, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 1))


def squared_error(model, batch):
    return torch.mean((model(batch["x"]) - batch["y"]) ** 2)


def validate(model):
    x, y = regression()
    predicted = model(torch.tensor(x, dtype=torch.float32)).numpy()
    return {"loss": float(np.mean((predicted - y) ** 2))}
