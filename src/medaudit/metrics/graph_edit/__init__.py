"""The graph edit distance between certain bounds, the edits themselves, and which graphs are the same."""

from medaudit.metrics.graph_edit.assignment import EditPath, apply, edit_path
from medaudit.metrics.graph_edit.costs import EditCosts
from medaudit.metrics.graph_edit.distance import Distance, edit_distance, edit_distances
from medaudit.metrics.graph_edit.isomorphic import duplicates, isomorphic, wl_hash

__all__ = [
    "Distance",
    "EditCosts",
    "EditPath",
    "apply",
    "duplicates",
    "edit_distance",
    "edit_distances",
    "edit_path",
    "isomorphic",
    "wl_hash",
]
