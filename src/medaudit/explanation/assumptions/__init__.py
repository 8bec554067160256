"""What an explanation assumes, what changes if one assumes otherwise, and what may be claimed on its strength.

After "Onto-Epistemological Analysis of AI Explanations" (arXiv 2510.02996), of which the front matter could be read and
not the body: the idea of a space of existence and knowledge with four paradigms is from there; every position in it is
inferred by us and says so, and is a line of YAML in ``data/`` that a reader of the paper can mend.
"""

from medaudit.explanation.assumptions.adaptation import COMPATIBLE, Adaptation, adapt
from medaudit.explanation.assumptions.advisor import Advice, Owed, Reason, advise, compatibility
from medaudit.explanation.assumptions.boxes import EVERYWHERE, Box, Interval
from medaudit.explanation.assumptions.choice import Choice, choice
from medaudit.explanation.assumptions.claims import Claim, License, applies, column_of, internal, license, not_applying
from medaudit.explanation.assumptions.configuration import (
    Assumed,
    Configuration,
    Reading,
    admissible,
    configuration,
    ends,
    preset,
    read,
)
from medaudit.explanation.assumptions.cost import PIXELS, Passes, cost
from medaudit.explanation.assumptions.difference import Change, Difference, diff
from medaudit.explanation.assumptions.registry import ATOMS, Framework, Registry, framework, registry
from medaudit.explanation.assumptions.stance import (
    Conflict,
    Limit,
    Stance,
    answer_of,
    contradictions,
    restricted,
    situation,
    stance,
)

__all__ = [
    "ATOMS", "COMPATIBLE", "EVERYWHERE", "PIXELS", "Adaptation", "Advice", "Assumed", "Box", "Change", "Choice",
    "Claim", "Configuration", "Conflict", "Difference", "Framework", "Interval", "License", "Limit", "Owed", "Passes",
    "Reading", "Reason", "Registry", "Stance", "adapt", "admissible", "advise", "answer_of", "applies", "choice",
    "column_of", "compatibility", "configuration", "contradictions", "cost", "diff", "ends", "framework", "internal",
    "license", "not_applying", "preset", "read", "registry", "restricted", "situation", "stance",
]  # fmt: skip
