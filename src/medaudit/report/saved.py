"""A report's content as JSON, so that a finished run can be shown again in a newer layout without measuring anew."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from typing import Any

from medaudit.cohort import Known
from medaudit.report.finding import Finding
from medaudit.report.html import Answer, Figure, Picture, Report, Section, Table


def to_json(report: Report) -> str:
    """Return the report's content as JSON; :func:`from_json` gives it back."""
    plain = asdict(report)
    plain["findings"] = [finding.as_dict() for finding in report.findings]
    return json.dumps(plain, indent=1, ensure_ascii=False, default=_bytes)


def from_json(text: str) -> Report:
    """Return the report that :func:`to_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
    plain = json.loads(text)
    return Report(
        **{
            **plain,
            "answers": [Answer(**answer) for answer in plain["answers"]],
            "sections": [_section(section) for section in plain["sections"]],
            "provenance": [(name, said) for name, said in plain["provenance"]],
            "known": [Known(**known) for known in plain.get("known", [])],  # a report of before had none
            "findings": [Finding.from_dict(finding) for finding in plain["findings"]],
        }
    )


def _section(plain: dict[str, Any]) -> Section:
    return Section(
        **{
            **plain,
            "figures": [Figure(**figure) for figure in plain["figures"]],
            "tables": [Table(**table) for table in plain["tables"]],
            "pictures": [Picture(**{**p, "png": base64.b64decode(p["png"])}) for p in plain["pictures"]],
        }
    )


def _bytes(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.item() if hasattr(value, "item") else str(value)
