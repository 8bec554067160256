"""Finding, Run, figures and the HTML report."""

from medaudit.report.checkpoint import Checkpoint
from medaudit.report.finding import Finding, Verdict
from medaudit.report.run import Run, hash_file, versions

__all__ = ["Checkpoint", "Finding", "Run", "Verdict", "hash_file", "versions"]
