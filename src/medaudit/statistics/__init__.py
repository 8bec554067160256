"""From measurements to evidence."""

from medaudit.statistics.estimate import Estimate

__all__ = ["Estimate"]
