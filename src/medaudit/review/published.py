"""From a run of an audit to an artifact that can be proposed: its findings, settings, and the hash of the data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medaudit.errors import UsageError
from medaudit.review.records import Artifact, Dataset, digest, parse

if TYPE_CHECKING:
    from medaudit.report import Finding

MOST = 40
"""Facts of one artifact; of more findings those that are supported come first."""
_FINDINGS = {
    "labels": "labels", "scores": "labels", "diagnose": "diagnosis", "ruler": "diagnosis", "ood": "ood",
    "pretrain": "pretraining", "probe": "pretraining", "prototypes train": "prototypes",
    "prototypes audit": "prototypes", "prototypes show": "prototypes", "vae": "generative",
    "slug": "generative_uncertainty", "counterfactuals": "counterfactuals", "explain audit": "explanations",
    "explain advise": "explanations",
}  # fmt: skip
"""The kind of finding of each verb that leaves a run."""
_TOLD = {"supported": 0, "refuted": 1, "insufficient": 2}


def artifact(
    about: str,
    findings: Sequence[Finding],
    run: Mapping[str, Any],
    *,
    title: str | None = None,
    severity: str | None = None,
    version: str = "",
) -> Artifact:
    """Return the ``computed_audit`` artifact of a run about the dataset ``about``.

    ``run`` is what ``run.json`` holds: verb, settings, inputs (hashes), versions, started. The slug is of the dataset,
    the verb and the hash of settings and inputs: the same run published twice is one artifact. An answer of
    ``insufficient`` is published too: that somebody looked and could not tell is worth knowing. Raises UsageError where
    there is nothing to publish.
    """
    chosen = sorted(findings, key=lambda one: _TOLD[one.verdict])[:MOST]
    if not chosen:
        raise UsageError("the run has no finding to publish")
    identity = digest({key: run[key] for key in ("verb", "settings", "inputs")})
    counts = {verdict: sum(one.verdict == verdict for one in findings) for verdict in _TOLD}
    found = [one for one in chosen if one.verdict == "supported"]
    told = title or (found[0].claim if found else chosen[0].claim)
    lines = [f"`medaudit {run['verb']}` asked {len(findings)} questions: {counts['supported']} supported, "
             f"{counts['refuted']} refuted, {counts['insufficient']} insufficient.", ""]  # fmt: skip
    lines += [f"- **{one.verdict}** ({one.id}): {one.claim}" for one in chosen[:20]]
    tool = f"medaudit {run['versions'].get('medaudit', '?')}"
    plain: dict[str, Any] = {
        "kind": "artifact", "slug": f"{about[:60]}-{run['verb'].replace(' ', '-')}-{identity[:12]}",
        "type": "computed_audit",
        "finding": _FINDINGS.get(run["verb"], "other"), "title": " ".join(told.split())[:480],
        "summary": "\n".join(lines), "severity": severity or ("major" if found else "info"),
        "reported": str(run["started"])[:10],
        "about": [{"dataset": about, "verb": "EXTEND", **({"versions": [version]} if version else {})}],
        "facts": [fact for one in chosen if (fact := _fact(one, tool)) is not None],
        "run": {
            "tool": tool, "verb": run["verb"], "settings": run["settings"], "inputs": run["inputs"],
            "versions": run["versions"], "sha256": identity,
            "findings": [{"id": one.id, "verdict": one.verdict} for one in findings],
        },
        "verification": "computed",
    }  # fmt: skip
    record = parse(plain, "the run")
    assert isinstance(record, Artifact)
    return record


def stub(slug: str, description: str = "") -> Dataset:
    """Return the record of a dataset that the review does not know yet, to be proposed along."""
    text = description or "Not described yet; proposed along with a finding about it."
    record = parse({"kind": "dataset", "slug": slug, "name": slug, "description": text}, f"dataset '{slug}'")
    assert isinstance(record, Dataset)
    return record


def _fact(one: Finding, tool: str) -> dict[str, Any] | None:
    estimate = one.estimate
    if not math.isfinite(estimate.value):
        return None
    fact: dict[str, Any] = {
        "field": one.id[:480], "value": float(f"{estimate.value:.6g}"), "unit": estimate.unit[:60], "package": tool,
        "n": int(estimate.n), "verification": "computed",
        "note": f"{one.verdict}; {estimate.method}"[:900] + _p(estimate.p_adjusted),
    }  # fmt: skip
    if math.isfinite(estimate.low) and math.isfinite(estimate.high):
        fact |= {"low": float(f"{estimate.low:.6g}"), "high": float(f"{estimate.high:.6g}")}
    return fact


def _p(value: float) -> str:
    return f"; adjusted p {value:.3g}" if math.isfinite(value) else ""
