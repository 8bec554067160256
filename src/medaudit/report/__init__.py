"""Finding, Run, figures and the HTML report."""

from medaudit.report.finding import Finding, Verdict

__all__ = ["Finding", "Verdict"]
