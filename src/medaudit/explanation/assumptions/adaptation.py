"""The fewest changes that bring a configuration into a stance: exact, over all values that its family may take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medaudit.explanation.assumptions.choice import Choice, choice
from medaudit.explanation.assumptions.configuration import Configuration, admissible
from medaudit.explanation.assumptions.cost import PIXELS, Passes, cost, passes_of
from medaudit.explanation.assumptions.difference import Change
from medaudit.explanation.assumptions.registry import ATOMS, DEFAULT, Framework, Registry, framework, registry
from medaudit.explanation.assumptions.stance import Stance

COMPATIBLE = 0.5
"""At least this part of what a configuration lets one hold lies in the stance (ours)."""


@dataclass(frozen=True)
class Adaptation:
    """A configuration of the same family that goes with the stance."""

    config: Configuration
    edits: tuple[Change, ...]
    compatibility: float
    cost: Passes


def adapt(
    config: Configuration, stance: Stance, *, within: str | Path | Framework = DEFAULT, at_least: float = COMPATIBLE,
    runs_only: bool = False, most: int = 50, pixels: int = PIXELS, known: Registry | None = None,
) -> tuple[Adaptation, ...]:  # fmt: skip
    """Return the Pareto set: none has fewer edits, costs less and is more compatible at once; fewest edits first.

    An edit gives one choice another value that the family may take, with its usual parameters. All combinations are
    looked at. Compatible: ``at_least`` of the configuration's own area lies in the stance, and nothing hard is broken;
    a configuration that is compatible already comes first, with no edit. Of equals all are told, up to ``most``.
    Nothing where the family cannot be brought there. ``runs_only`` leaves out what medaudit does not run.
    """
    import numpy as np

    known = known or registry()
    frame = framework(within, known)
    options = [_options(config, atom, known, runs_only) for atom in ATOMS]
    shape = tuple(len(some) for some in options)

    def along(k: int, numbers: list[float]) -> Any:
        return np.asarray(numbers, dtype=np.float64).reshape([-1 if j == k else 1 for j in range(len(ATOMS))])

    # Where all twelve choices meet, for every combination at once.
    inside = np.ones(shape, dtype=bool)
    share = np.ones(shape)
    for axis in ("O", "E"):
        lo, hi = np.full(shape, -1.0), np.full(shape, 1.0)
        for k, atom in enumerate(ATOMS):
            ends = [getattr(frame.place(atom, one.value), axis) for one in options[k]]
            lo = np.maximum(lo, along(k, [end.lo for end in ends]))
            hi = np.minimum(hi, along(k, [end.hi for end in ends]))
        theirs = getattr(stance, axis)
        inside &= lo <= hi
        common = np.minimum(hi, theirs.hi) - np.maximum(lo, theirs.lo)
        wide = hi > lo
        share *= np.where(wide, np.clip(common, 0, None) / np.where(wide, hi - lo, 1), common >= 0)
    for rule in frame.incoherent:
        together = np.ones((1,) * len(ATOMS))
        for atom, values in rule.when.items():
            k = ATOMS.index(atom)
            together = together * along(k, [one.value in values for one in options[k]])
        inside &= together == 0
    for limit in stance.hard:
        k = ATOMS.index(limit.atom)
        inside &= along(k, [one.value in limit.allowed for one in options[k]]) > 0

    price = passes_of(config.family, lambda atom, number: along(ATOMS.index(atom), [number(one) for one in
                   options[ATOMS.index(atom)]]), pixels, known)  # fmt: skip
    work = np.broadcast_to(price.work, shape)
    if stance.budget is not None:
        inside &= work <= stance.budget
    edits = np.zeros(shape, dtype=np.int64)
    for k in range(len(ATOMS)):
        edits = edits + along(k, [float(j > 0) for j in range(shape[k])]).astype(np.int64)

    flat = np.flatnonzero((inside & (share >= at_least - 1e-12)).ravel())
    measured = np.stack([edits.ravel()[flat].astype(np.float64), work.ravel()[flat], -share.ravel()[flat].round(12)], 1)
    kinds, which = np.unique(measured, axis=0, return_inverse=True)
    best = [k for k, one in enumerate(kinds) if not ((kinds <= one).all(1) & (kinds < one).any(1)).any()]
    found = []
    for k in best:  # np.unique has sorted them: fewest edits, then least work
        for at in flat[which.ravel() == k]:
            places = np.unravel_index(int(at), shape)
            new = Configuration(config.family, tuple(options[j][int(place)] for j, place in enumerate(places)))
            changed = tuple(Change(atom, one, new[atom]) for atom, one in config if one != new[atom])
            found.append(Adaptation(new, changed, float(share[places]), cost(new, pixels=pixels, known=known)))
            if len(found) == most:
                return tuple(found)
    return tuple(found)


def _options(config: Configuration, atom: str, known: Registry, runs_only: bool) -> list[Choice]:
    """Return what a choice is now, then all other values that it may take."""
    own = config[atom]
    not_run = known.families[config.family].not_run.get(atom, ()) if runs_only else ()
    others = [value for value in admissible(config.family, atom, known) if value != own.value and value not in not_run]
    return [own, *(_usual(config.family, atom, value, known) for value in others)]


def _usual(family: str, atom: str, value: str, known: Registry) -> Choice:
    """Return a value with its usual parameters: the family's own, where it is the family's own value."""
    given = known.families[family].atoms[atom]
    return choice(atom, given if given.partition("(")[0] == value else value, known)
