"""The living review: what is known about a dataset, who found it, and where it stands (arXiv 2501.10727)."""

from medaudit.review.asking import known, opened
from medaudit.review.database import Database, Deadline, connect
from medaudit.review.records import Artifact, Dataset, Fact, Record, Work, parse

__all__ = [
    "Artifact",
    "Database",
    "Dataset",
    "Deadline",
    "Fact",
    "Record",
    "Work",
    "connect",
    "known",
    "opened",
    "parse",
]
