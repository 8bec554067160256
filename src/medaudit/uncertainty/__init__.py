"""How unsure a classifier is of each case, by many methods, and how unlike its training data a case is.

``METHODS`` is the table of them; post-hoc methods need numpy alone, and those that run a net load torch when asked.
"""

from medaudit.uncertainty.methods import METHODS, Evidence, Method
from medaudit.uncertainty.outputs import Outputs, Uncertainty, collect

__all__ = ["METHODS", "Evidence", "Method", "Outputs", "Uncertainty", "collect"]
