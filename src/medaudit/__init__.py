"""medaudit finds out what is wrong with a medical-imaging dataset, its labels and the models trained on it."""

__version__ = "0.1.0"
