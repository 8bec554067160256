"""The words of the living review: kinds of artifacts and findings, verbs, evidence, access, modalities.

The kinds are a superset of the four of the paper's figure (arXiv 2501.10727, figure 1): documentation, shortcuts,
additional annotations, and use. What the paper does not name is ours.
"""

from __future__ import annotations

ARTIFACTS: dict[str, tuple[str, ...]] = {
    "annotation": (
        "segmentation", "bounding box", "landmarks", "relabelling", "adjudicated labels", "report or scene graph",
        "eye gaze", "demographics or skin tone", "device or tube", "several annotators", "concepts", "other",
    ),
    "shortcut": (
        "device", "surgical mark", "ink, ruler, hair or patch", "view or projection", "scanner or site",
        "laterality token", "patient position", "compression or colour", "text overlay", "demographics", "other",
    ),
    "bias": (
        "representation", "label or underdiagnosis", "sex", "age", "race or ethnicity", "skin tone", "insurance",
        "geography", "scanner", "other",
    ),
    "label_issue": (
        "noise rate", "extraction from reports", "uncertainty policy", "contradictory labels",
        "hidden stratification", "disagreement", "other",
    ),
    "data_issue": (
        "duplicates", "leakage between train and test", "wrong patient identifier", "corrupt or out of range",
        "misfiled", "de-identification", "missing metadata", "image artefacts", "other",
    ),
    "documentation": (
        "datasheet", "data card", "nutrition label", "healthsheet", "croissant", "review of documentation",
        "licence audit", "other",
    ),
    "derived_dataset": ("subset", "relabelled", "merged", "mirror", "corrected version", "other"),
    "benchmark": ("challenge", "benchmark", "other"),
    "access_change": ("withdrawn", "moved", "licence changed", "superseded", "retracted work", "other"),
    "computed_audit": (
        "labels", "diagnosis", "ood", "pretraining", "prototypes", "generative", "generative_uncertainty",
        "counterfactuals", "explanations", "recomputed", "other",
    ),
}  # fmt: skip
"""Types of research artifacts, and for each the kinds of finding that it may be."""

PAPER_TYPES = {
    "annotation": "additional annotations", "shortcut": "shortcuts", "bias": "shortcuts",
    "documentation": "documentation",
}  # fmt: skip
"""The box of the paper's figure that a type belongs to; Larrazabal et al. (a bias) stand under shortcuts there."""

WARNS = ("shortcut", "bias", "label_issue", "data_issue", "access_change", "computed_audit")
"""Types that whoever uses the dataset is warned of."""

SEVERITIES = ("info", "minor", "major", "critical")
VERBS = ("PRODUCE", "INTRODUCE", "EXTEND", "USE")
BETWEEN_ARTIFACTS = ("REPLICATE", "CONTRADICT", "CORRECT")
EVIDENCE = ("cited", "mentioned", "cited and mentioned", "data availability", "manual")
"""How it is known that a work uses a dataset (Sourget et al., arXiv 2402.03003); ``cited`` alone is no use."""
IS_USE = ("mentioned", "cited and mentioned", "data availability", "manual")

LINKS = ("DERIVED_FROM", "SUBSET_OF", "MIRROR_OF", "CORRECTS", "MERGES", "SHARES_PATIENTS_WITH")
ACCESS = ("open", "registration", "application", "credentialed", "closed", "unknown")
STATUS = ("active", "superseded", "withdrawn", "unreachable")
VERIFICATION = ("verified", "unverified", "computed", "imported")
"""``verified``: a curator saw it in its source; ``unverified``: from memory; ``computed``: by this program from the
data; ``imported``: as another catalogue has it."""

MODALITIES = {
    "CR": "plain radiograph", "MG": "mammography", "CT": "computed tomography", "MR": "magnetic resonance",
    "US": "ultrasound", "PT": "positron emission tomography", "NM": "nuclear medicine", "SM": "slide microscopy",
    "OP": "fundus photography", "OCT": "optical coherence tomography", "XC": "photograph", "DMS": "dermoscopy",
    "ES": "endoscopy", "XA": "angiography", "other": "other",
}  # fmt: skip
"""DICOM's codes where they exist; DMS (dermoscopy) is DICOM's, OP covers fundus photographs."""
TASKS = (
    "classification", "segmentation", "detection", "regression", "registration", "retrieval", "report generation",
    "question answering", "reconstruction", "other",
)  # fmt: skip
ATTRIBUTES = (
    "age", "sex", "gender", "race", "ethnicity", "skin tone", "socioeconomic status", "geography", "disability",
    "insurance", "site", "scanner",
)  # fmt: skip
"""Attributes that somebody could be treated unequally by; the first nine are STANDING Together's."""
