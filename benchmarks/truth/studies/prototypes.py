"""Worlds of the audit of prototypes (`medaudit prototypes audit`): a painter that is a formula."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.truth.world import Study, Truth, World
from medaudit.report import Finding

PAINTED_WORLDS = Path(__file__).parents[3] / "tests" / "audits" / "painted_worlds.py"
NAMES = ("sign", "shortcut", "control")
PAIRS = tuple(f"{a}->{b}" for a in NAMES for b in NAMES if a != b)
BOTH = ("shortcut->sign", "sign->shortcut")


def told(painted: Sequence[str] = (), absorbed: Sequence[str] = (), *, screened: bool = False) -> dict[str, Truth]:
    """Return the truth of every finding: which pairs are painted along, and which by the code alone."""
    truth: dict[str, Truth] = {f"shortcut:{pair}": "there" if pair in painted else "absent" for pair in PAIRS}
    truth |= {f"absorbed:{pair}": "there" if pair in absorbed else "absent" for pair in PAIRS}
    truth |= {f"captured:{name}": "there" for name in NAMES}
    truth |= {"screen:sign*shortcut": "there" if screened else "absent", "screen:sign*control": "absent",
              "screen:shortcut*control": "absent"}  # fmt: skip
    return truth


WORLDS = {
    "none": World("sign, shortcut and control go together nowhere", {"phi": 0.0}, told(), kind="null", seeds=200),
    "strong": World(
        "sign and shortcut correlate by 0.8 in training, and not in the images asked",
        {"phi": 0.8}, told(BOTH, screened=True),
    ),
    "weak": World("the same by 0.3", {"phi": 0.3}, told(BOTH, screened=True)),
    "absorbed": World(
        "the painter takes the shortcut for the sign; in training they do not go together",
        {"phi": 0.0, "absorbed": True}, told(["shortcut->sign"], ["shortcut->sign"]),
    ),
    "small, strong": World(
        "that of `strong`, asked of 60 images", {"phi": 0.8, "n": 60},
        {f"shortcut:{pair}": "there" if pair in BOTH else "absent" for pair in PAIRS}, kind="small",
    ),
}  # fmt: skip


@cache
def _painted() -> ModuleType:
    """Return the tests' painter, whose every move is a formula."""
    spec = importlib.util.spec_from_file_location("painted_worlds", PAINTED_WORLDS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def run(made: Mapping[str, Any], seed: int, folder: Path) -> Sequence[Finding]:
    """Return the findings on one model of 3,000 training images, asked on others."""
    from medaudit.audits.prototypes.findings import findings
    from medaudit.audits.prototypes.settings import AuditSettings

    settings = AuditSettings(drawn=0, leaks=0, seed=seed, resamples=made.get("resamples", 500))
    return findings(
        _painted().world(
            made["phi"], seed=80_000 + seed, absorbed=made.get("absorbed", False), n=made.get("n", 1_200),
            settings=settings,
        )
    )  # fmt: skip


STUDY = Study(
    "prototypes",
    "Prototypes: `medaudit prototypes`",
    """The study from paintings to findings: a painter that is a formula stands for the diffusion model, so that what a
    move brings along is known; 3,000 training images, 1,200 that are asked, 500 resamples instead of 2,000. No model is
    trained here; see *prototypes, trained*. `captured` is good news: each attribute has a carrier.""",
    WORLDS,
    run,
)
