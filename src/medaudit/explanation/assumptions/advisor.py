"""Which configurations go with a stance, why, at what price; and of those that do not, what one would have to assume.

Nothing is recommended by name: the order is compatibility, then cost, and every preset is in the list with its reasons.
Last come those that are known to fail a test which they owe, and controls, which are no explanations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from medaudit.explanation.assumptions.boxes import Box
from medaudit.explanation.assumptions.claims import Status, applies, internal
from medaudit.explanation.assumptions.configuration import Assumed, Configuration, Reading, preset, read
from medaudit.explanation.assumptions.cost import PIXELS, Passes, cost
from medaudit.explanation.assumptions.registry import DEFAULT, Framework, Registry, framework, registry
from medaudit.explanation.assumptions.stance import Stance, restricted


@dataclass(frozen=True)
class Reason:
    """Why a configuration goes with a stance or does not, and the questions that it hangs on."""

    text: str
    questions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Owed:
    """A test that must pass before a claim may be made, why, and whether it is an independent word."""

    warrant: str
    because: tuple[str, ...]
    """Paradigms, or questions."""
    external: bool


@dataclass(frozen=True)
class Advice:
    """One configuration, judged."""

    name: str
    config: Configuration
    compatibility: float
    """Area shared with the stance over own area, 0 to 1; 0 where a hard constraint is broken."""
    reasons: tuple[Reason, ...]
    assumes: tuple[Assumed, ...]
    cost: Passes
    warrants: tuple[Owed, ...]
    paradigms: tuple[Reading, ...]
    """Of what it shares with the stance, or of itself where that is nothing."""
    runs: bool
    failures: tuple[str, ...] = ()
    """Warrants that it owes, is known to fail, and has not been said to have passed."""
    control: bool = False
    """What explanations are held against, and none itself."""


def compatibility(
    config: Configuration, stance: Stance, within: str | Path | Framework = DEFAULT, *, pixels: int = PIXELS,
    known: Registry | None = None,
) -> float:  # fmt: skip
    """Return area shared over the configuration's own, 0 to 1; 0 where it is incoherent or breaks what is hard."""
    box = config.position(framework(within, known))
    if box is None or any(limit.broken_by(config) for limit in stance.hard):
        return 0.0
    if stance.budget is not None and cost(config, pixels=pixels, known=known).work > stance.budget:
        return 0.0
    return box.share_in(stance.box)


def advise(
    stance: Stance, access: str | None = None, budget: float | None = None, *, data: str | None = None,
    within: str | Path | Framework = DEFAULT, pixels: int = PIXELS, configs: Iterable[tuple[str, Configuration]] = (),
    warrants: Mapping[str, Mapping[str, Status]] | None = None, known: Registry | None = None,
) -> tuple[Advice, ...]:  # fmt: skip
    """Return every preset (or ``configs``, with names) judged by a stance: most compatible first, then cheapest.

    What is known to fail a warrant that it owes comes after all others, however compatible, and controls come last.
    ``warrants``: a name to how its warrants came out, as ``{"guided-backprop": {"randomisation": "passed"}}``: what
    has passed here is held against nobody.

    ``access``: what can be had of the model (outputs, gradients, architecture, intrinsic); ``budget``: forward passes a
    case, a backward pass counting as two, an image having ``pixels``; ``data``: images, tables or graphs. All are hard.
    """
    known = known or registry()
    frame = framework(within, known)
    stance = restricted(stance, access=access, budget=budget, data=data)
    some = list(configs) or [(name, preset(name, known)) for name in known.presets]
    passed = {name: {warrant for warrant, status in each.items() if status == "passed"}
              for name, each in (warrants or {}).items()}  # fmt: skip
    found = [_judged(name, config, stance, frame, pixels, known, passed.get(name, set())) for name, config in some]
    return tuple(
        sorted(found, key=lambda one: (one.control, bool(one.failures), -one.compatibility, one.cost.work, one.name))
    )


def _judged(
    name: str, config: Configuration, stance: Stance, frame: Framework, pixels: int, known: Registry, passed: set[str]
) -> Advice:  # fmt: skip
    price = cost(config, pixels=pixels, known=known)
    own = config.position(frame)
    shared = None if own is None else own.intersect(stance.box)
    reasons = [Reason(text) for text in config.incoherences(frame)]
    for limit in stance.hard:
        if limit.broken_by(config):
            allowed = ", ".join(limit.allowed) or "nothing"
            reasons.append(Reason(f"{limit.atom} is {config[limit.atom]}; allowed: {allowed}", (limit.because,)))
    if stance.budget is not None and price.work > stance.budget:
        reasons.append(Reason(f"a case costs {price.work:,.0f} forward passes; {stance.budget:,.0f} are allowed"))
    if own is not None:
        reasons += _places(own, stance, frame)
    box = shared if shared is not None else own
    readings = () if box is None else read(box, frame)
    owed = _owed(config, stance, readings, frame, known)
    failures = [one for one in known.families[config.family].known_failure
                if one.warrant not in passed and one.warrant in [each.warrant for each in owed]]  # fmt: skip
    for one in failures:
        by = next(each.because for each in owed if each.warrant == one.warrant)
        asked = tuple(question for question in by if question in known.questions.questions)
        reasons.append(Reason(f"known to fail {one.warrant}, which it owes: {one.text} ({one.citation})", asked))
    control = any(config == preset(each, known) for each in known.controls)
    if control:
        reasons.append(Reason("a control"))
    return Advice(
        name, config, compatibility(config, stance, frame, pixels=pixels, known=known), tuple(reasons),
        config.sentences(known), price, owed, readings, config.runs(known),
        tuple(dict.fromkeys(one.warrant for one in failures)), control,
    )  # fmt: skip


def _places(own: Box, stance: Stance, frame: Framework) -> list[Reason]:
    """Return for each axis which part of the configuration's range lies in the stance's."""
    found = []
    for axis, mine, theirs in (("O", own.O, stance.O), ("E", own.E, stance.E)):
        name = frame.record.axes[axis].name
        share = mine.share_in(theirs)
        found.append(
            Reason(f"{name} {mine}: {share:.0%} of it lies in the stance's {theirs}", stance.because.get(axis, ()))
        )
    return found


def _owed(
    config: Configuration, stance: Stance, readings: tuple[Reading, ...], frame: Framework, known: Registry
) -> tuple[Owed, ...]:  # fmt: skip
    because: dict[str, list[str]] = {}
    for one in readings:
        paradigm = frame.record.paradigms[one.paradigm].warrants_of or one.paradigm
        for warrant, test in known.warrants.items():
            if paradigm in test.paradigms and applies(warrant, config, known):
                because.setdefault(warrant, []).append(one.name)
    for warrant, question in stance.warrants:
        if applies(warrant, config, known):
            because.setdefault(warrant, []).append(question)
    return tuple(
        Owed(warrant, tuple(because[warrant]), internal(warrant, config, known=known) is None)
        for warrant in known.warrants if warrant in because
    )  # fmt: skip
