"""Cohort and Grouping: who the cases are, where their files lie, and how they form groups."""

from medaudit.cohort.cohort import EMPTY, Case, Cohort, Known, Role, Source, fingerprint
from medaudit.cohort.expression import columns_of, describe_values, matches
from medaudit.cohort.folds import folds, split
from medaudit.cohort.geometry import check_geometry, on_common_grid
from medaudit.cohort.grouping import Factor, Grouping, Groups, numeric
from medaudit.cohort.reading import colour_image, grey_image, read_image, read_mask
from medaudit.cohort.table import read_table
from medaudit.cohort.volume import Volume
from medaudit.cohort.writing import mask_ending, write_mask

__all__ = [
    "EMPTY",
    "Case",
    "Cohort",
    "Factor",
    "Grouping",
    "Groups",
    "Known",
    "Role",
    "Source",
    "Volume",
    "check_geometry",
    "colour_image",
    "columns_of",
    "describe_values",
    "fingerprint",
    "folds",
    "grey_image",
    "mask_ending",
    "matches",
    "numeric",
    "on_common_grid",
    "read_image",
    "read_mask",
    "read_table",
    "split",
    "write_mask",
]
