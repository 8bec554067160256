"""Finding, Run, and the HTML report; the charts are in ``report.figures``, the pictures in ``report.overlay``."""

from medaudit.report.checkpoint import Checkpoint
from medaudit.report.finding import Finding, Verdict
from medaudit.report.html import Answer, Figure, Picture, Report, Section, Table, render
from medaudit.report.run import Run, hash_file, refuse_what_is_no_run, versions

__all__ = [
    "Answer",
    "Checkpoint",
    "Figure",
    "Finding",
    "Picture",
    "Report",
    "Run",
    "Section",
    "Table",
    "Verdict",
    "hash_file",
    "refuse_what_is_no_run",
    "render",
    "versions",
]
