"""The studies of the page, in its order: those from scores to findings, then those that train."""

from benchmarks.truth.studies import (
    counterfactuals,
    diagnosis,
    explanations,
    generative,
    labels,
    ood,
    pretraining,
    prototypes,
    ruler,
    trained,
)
from benchmarks.truth.world import Study

CHEAP = (labels, ruler, diagnosis, ood, generative, pretraining, prototypes, counterfactuals, explanations)
STUDIES: dict[str, Study] = {study.name: study for study in (*(module.STUDY for module in CHEAP), *trained.STUDIES)}
"""By the name that the command line takes."""
