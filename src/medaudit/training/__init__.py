"""One training loop for every model: devices, precision, checkpoints, resume, progress, moving average."""

from medaudit.training.checkpoint import load_weights
from medaudit.training.loop import Trained, train
from medaudit.training.sampling import TrainingData
from medaudit.training.settings import TrainingSettings

__all__ = ["Trained", "TrainingData", "TrainingSettings", "load_weights", "train"]
