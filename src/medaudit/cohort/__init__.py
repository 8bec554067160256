"""Cohort and Grouping: who the cases are, where their files lie, and how they form groups."""

from medaudit.cohort.cohort import EMPTY, Case, Cohort, Role, Source
from medaudit.cohort.grouping import Factor, Grouping, Groups, numeric
from medaudit.cohort.table import read_table
from medaudit.cohort.volume import Volume, check_geometry, read_image, read_mask

__all__ = [
    "EMPTY",
    "Case",
    "Cohort",
    "Factor",
    "Grouping",
    "Groups",
    "Role",
    "Source",
    "Volume",
    "check_geometry",
    "numeric",
    "read_image",
    "read_mask",
    "read_table",
]
