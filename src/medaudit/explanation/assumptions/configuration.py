"""A configuration: a method with all of its twelve choices. Positions belong to it, not to the method's name.

That a small technical change of a method can be a large change of what it assumes is arXiv 2510.02996's word
(abstract); that the unit is therefore the configuration, its twelve choices and all positions are ours.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from medaudit.errors import UsageError
from medaudit.explanation.assumptions.boxes import Box, common
from medaudit.explanation.assumptions.choice import Choice, Level, choice, params_of, written
from medaudit.explanation.assumptions.registry import ATOMS, DEFAULT, Framework, Registry, framework, registry


@dataclass(frozen=True)
class Assumed:
    """A sentence that must be held to use a configuration, which choice asks for it, and where it is from."""

    text: str
    atom: str
    """One of the twelve, or ``family``."""
    value: str
    source: str
    citation: str | None = None
    reviewed_by: str | None = None


@dataclass(frozen=True)
class Reading:
    """A paradigm whose region a configuration reaches into, and with which part of its own."""

    paradigm: str
    name: str
    share: float


@dataclass(frozen=True)
class Configuration:
    """A family and its twelve choices, in the order of ``ATOMS``; made by ``configuration``, ``preset`` or ``ends``."""

    family: str
    choices: tuple[Choice, ...]

    def __getitem__(self, atom: str) -> Choice:
        """Return one choice; UsageError for a name that is none of the twelve."""
        if atom not in ATOMS:
            raise UsageError(f"no choice '{atom}'; expected one of {', '.join(ATOMS)}")
        return self.choices[ATOMS.index(atom)]

    def __iter__(self) -> Iterator[tuple[str, Choice]]:
        return iter(zip(ATOMS, self.choices, strict=True))

    def param(self, atom: str, name: str) -> Level:
        """Return a parameter of one choice, as ``param("locality", "nodes")``."""
        return self[atom].param(name)

    def with_(self, known: Registry | None = None, /, **changed: Any) -> Configuration:
        """Return it with other choices or parameters, said as to ``configuration``; UsageError as there."""
        known = known or registry()
        return _made(self.family, dict(self), changed, known)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, ready for JSON."""
        return {
            "family": self.family,
            "atoms": {atom: {"value": one.value, "params": dict(one.params)} for atom, one in self},
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], known: Registry | None = None) -> Configuration:
        """Return the configuration that ``as_dict`` wrote; UsageError where it is none."""
        try:
            family, atoms = plain["family"], dict(plain["atoms"])
        except (KeyError, TypeError, ValueError):
            raise UsageError("no configuration; expected {family: ..., atoms: {...}}") from None
        if unknown := [atom for atom in atoms if atom not in ATOMS]:
            raise UsageError(f"no choice '{unknown[0]}'; expected one of {', '.join(ATOMS)}")
        return configuration(family, known, **atoms)

    @property
    def key(self) -> str:
        """A name of 16 hexadecimal digits that depends on the content alone, the same on every machine."""
        text = json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def label(self, known: Registry | None = None) -> str:
        """Return the family and the choices that are not its own, as one would type them."""
        usual = configuration(self.family, known)
        other = [f"{atom}={_short(atom, one, known or registry())}" for atom, one in self if one != usual[atom]]
        return f"{self.family}({', '.join(other)})" if other else self.family

    def runs(self, known: Registry | None = None) -> bool:
        """Whether medaudit can run it."""
        family = (known or registry()).families[self.family]
        return family.runs and all(one.value not in family.not_run.get(atom, ()) for atom, one in self)

    def sentences(self, known: Registry | None = None) -> tuple[Assumed, ...]:
        """Return what must be assumed to use it: of the family, of each choice, of each unusual parameter."""
        known = known or registry()
        family = known.families[self.family]
        found = [Assumed(one.text, "family", self.family, one.source, one.citation, one.reviewed_by)
                 for one in family.assume]  # fmt: skip
        for atom, one in self:
            filled = {name: written(level) for name, level in one.params}
            asked = [known.atoms[atom].values[one.value].assume]
            for name, param in params_of(atom, one.value, known).items():
                if param.assume is not None and one.param(name) != param.default:
                    asked.append(param.assume)
            found += [Assumed(each.text.format_map(filled), atom, one.value, each.source, each.citation,
                              each.reviewed_by) for each in asked]  # fmt: skip
        return tuple(found)

    def incoherences(self, within: str | Path | Framework = DEFAULT) -> tuple[str, ...]:
        """Return why nobody can hold all of it at once; nothing where somebody can."""
        frame = framework(within)
        found = []
        for rule in frame.incoherent:
            if all(self[atom].value in values for atom, values in rule.when.items()):
                said = ", ".join(f"{atom} {self[atom].value}" for atom in rule.when)
                found.append(f"{said}: {rule.because.text}")
        for axis in ("O", "E"):
            at_least, at_most = self._bounds(frame, axis)
            if at_least[0] > at_most[0]:
                found.append(
                    f"{at_least[1]} asks for {frame.record.axes[axis].name} of {at_least[0]:g} or more, "
                    f"{at_most[1]} for {at_most[0]:g} or less"
                )
        return tuple(found)

    def position(self, within: str | Path | Framework = DEFAULT) -> Box | None:
        """Return where it stands: what all twelve choices let one hold. None where it is incoherent."""
        frame = framework(within)
        for rule in frame.incoherent:
            if all(self[atom].value in values for atom, values in rule.when.items()):
                return None
        return common(frame.place(atom, one.value) for atom, one in self)

    def paradigms(self, within: str | Path | Framework = DEFAULT) -> tuple[Reading, ...]:
        """Return every paradigm that it reaches into, the one with the greatest part of it first; none is forced.

        Parts need not add up to 1: regions may overlap. Nothing where it is incoherent.
        """
        frame = framework(within)
        box = self.position(frame)
        return () if box is None else read(box, frame)

    def says(self, within: str | Path | Framework = DEFAULT) -> str:
        """Return a sentence: what it presupposes at least, and with which paradigms it is compatible."""
        frame = framework(within)
        box = self.position(frame)
        if box is None:
            return "This configuration is incoherent: " + "; ".join(self.incoherences(frame)) + "."
        bounds = []
        for axis in ("O", "E"):
            name = frame.record.axes[axis].name
            at_least, at_most = self._bounds(frame, axis)
            if at_least[0] > -1:
                bounds.append(f"{name} {at_least[0]:g} or more ({at_least[1]})")
            if at_most[0] < 1:
                bounds.append(f"{name} {at_most[0]:g} or less ({at_most[1]})")
        with_ = ", ".join(f"{one.name} ({one.share:.0%} of it)" for one in read(box, frame))
        return (
            f"This configuration presupposes at least {', '.join(bounds) or 'nothing'}, and is compatible with "
            f"{with_ or 'no paradigm'}."
        )

    def _bounds(self, frame: Framework, axis: str) -> tuple[tuple[float, str], tuple[float, str]]:
        """Return the highest lower end and the lowest upper end, each with the choices that set it."""
        ends = [(getattr(frame.place(atom, one.value), axis), f"{atom} {one.value}") for atom, one in self]
        lo, hi = max(end.lo for end, _ in ends), min(end.hi for end, _ in ends)
        return (
            (lo, " and ".join(name for end, name in ends if end.lo == lo)),
            (hi, " and ".join(name for end, name in ends if end.hi == hi)),
        )


def configuration(family: str, known: Registry | None = None, /, **chosen: Any) -> Configuration:
    """Return a family's configuration with other choices than its own where they are given.

    ``configuration("integrated-gradients", absence="black", explanandum="margin", nodes=64)``: a choice is said as
    ``choice`` reads it; any other word is a parameter of whichever choice has it (the registry is given by position
    alone). Raises UsageError, naming what is admissible, for a family, a choice or a parameter that is not there.
    """
    known = known or registry()
    if family not in known.families:
        raise UsageError(f"no family '{family}'; expected one of {', '.join(sorted(known.families))}")
    return _made(family, dict(zip(ATOMS, _own(family, known), strict=True)), chosen, known)


def preset(name: str, known: Registry | None = None) -> Configuration:
    """Return a configuration by its name in the registry, as ``ig-black``; UsageError where there is none."""
    known = known or registry()
    if name not in known.presets:
        raise UsageError(f"no preset '{name}'; expected one of {', '.join(sorted(known.presets))}")
    family, over = known.presets[name]
    return configuration(family, known, **over)


def ends(pair: str, known: Registry | None = None) -> tuple[Configuration, Configuration]:
    """Return the two configurations of a controlled pair, as ``P1-white``; UsageError where there is none."""
    known = known or registry()
    if pair not in known.pairs:
        raise UsageError(f"no pair '{pair}'; expected one of {', '.join(known.pairs)}")
    a, b = known.pairs[pair].a, known.pairs[pair].b
    return (
        configuration(a.family, known, **(a.model_extra or {})),
        configuration(b.family, known, **(b.model_extra or {})),
    )


def admissible(family: str, atom: str, known: Registry | None = None) -> tuple[str, ...]:
    """Return the values that a family may take for one choice, its own first."""
    one = (known or registry()).families[family]
    own = one.atoms[atom].partition("(")[0]
    return tuple(dict.fromkeys((own, *one.admissible.get(atom, ()))))


def read(box: Box, frame: Framework) -> tuple[Reading, ...]:
    """Return every paradigm that a box reaches into, the greatest part first."""
    found = [Reading(name, one.name, share) for name, one in frame.record.paradigms.items()
             if (share := box.share_in(one.box)) > 0]  # fmt: skip
    return tuple(sorted(found, key=lambda one: (-one.share, one.paradigm)))


@lru_cache(maxsize=512)
def _own(family: str, known: Registry) -> tuple[Choice, ...]:
    given = known.families[family].atoms
    return tuple(choice(atom, given[atom], known) for atom in ATOMS)


def _made(family: str, usual: Mapping[str, Choice], chosen: Mapping[str, Any], known: Registry) -> Configuration:
    taken = dict(usual)
    for atom in ATOMS:
        if chosen.get(atom) is not None:
            taken[atom] = choice(atom, chosen[atom], known)
            possible = admissible(family, atom, known)
            if taken[atom].value not in possible:
                raise UsageError(
                    f"{family} cannot have {atom} '{taken[atom].value}'; admissible: {', '.join(possible)}"
                )
    for name, level in chosen.items():
        if name in ATOMS:
            continue
        owners = [atom for atom in ATOMS if taken[atom].has(name)]
        if len(owners) != 1:
            found = "belongs to " + ", ".join(owners) if owners else "belongs to none of its choices"
            raise UsageError(
                f"{family}: '{name}' {found}; expected one of {', '.join(ATOMS)}, or a parameter of one choice "
                "(else say it as absence='blur(3)')"
            )
        one = taken[owners[0]]
        taken[owners[0]] = choice(owners[0], (one.value, {**dict(one.params), name: level}), known)
    return Configuration(family, tuple(taken[atom] for atom in ATOMS))


def _short(atom: str, one: Choice, known: Registry) -> str:
    usual = choice(atom, one.value, known)
    given = tuple(pair for pair in one.params if pair not in usual.params)
    return str(Choice(one.value, given)) if len(one.params) == 1 else _named(one.value, given)


def _named(value: str, given: tuple[tuple[str, Level], ...]) -> str:
    return f"{value}({', '.join(f'{name}={written(level)}' for name, level in given)})" if given else value
