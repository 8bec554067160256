"""Whether the registry's files fit each other; each error names the file, the line, the key and what was expected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medaudit.errors import UsageError
from medaudit.explanation.assumptions.choice import choice, params_of
from medaudit.explanation.assumptions.configuration import admissible, configuration, ends
from medaudit.explanation.assumptions.cost import factors
from medaudit.explanation.assumptions.registry import ATOMS, Registry
from medaudit.explanation.assumptions.stance import stance

Keys = tuple[Any, ...]
Fail = Callable[[Path, Keys, str], None]


def check(known: Registry, families_in: Mapping[str, Path], fail: Fail) -> None:
    """Call ``fail`` with file, keys and what is wrong, where the parts do not fit each other."""
    _atoms(_File(known, known.folder / "atoms.yaml", fail))
    for name, path in families_in.items():
        _family(_File(known, path, fail), name)
    _pairs(_File(known, known.folder / "pairs.yaml", fail))
    _questions(_File(known, known.folder / "questions.yaml", fail))
    _claims(_File(known, known.folder / "claims.yaml", fail))
    _warrants(_File(known, known.folder / "warrants.yaml", fail))


@dataclass(frozen=True, eq=False)
class _File:
    known: Registry
    path: Path
    tell: Fail

    def fail(self, keys: Keys, says: str) -> None:
        self.tell(self.path, keys, says)

    def try_(self, keys: Keys, make: Callable[..., Any], *given: Any, **named: Any) -> None:
        try:
            make(*given, **named)
        except UsageError as error:
            self.fail(keys, str(error))

    def among(self, keys: Keys, what: str, some: Iterable[str], possible: Iterable[str]) -> None:
        possible = list(possible)
        for one in some:
            if one not in possible:
                self.fail(keys, f"no {what} '{one}'; expected one of {', '.join(possible)}")

    def values(self, keys: Keys, given: Mapping[str, Iterable[str]]) -> None:
        for atom, some in given.items():
            self.among((*keys, atom), "choice", [atom], ATOMS)
            values = self.known.atoms[atom].values
            for value in some:
                if value not in values:  # it has parameters, or is none
                    self.try_((*keys, atom), choice, atom, value, self.known)

    def choices(self, keys: Keys, given: Mapping[str, str]) -> None:
        self.values(keys, {atom: [value] for atom, value in given.items()})


def _atoms(file: _File) -> None:
    if tuple(file.known.atoms) != ATOMS:
        file.fail(("atoms",), f"expected the twelve choices {', '.join(ATOMS)}, in this order")
    for atom, one in file.known.atoms.items():
        for value, said in one.values.items():
            keys = ("atoms", atom, "values", value)
            file.choices((*keys, "implies"), said.implies)
            params = params_of(atom, value, file.known)
            for text in [said.assume.text, *(each.assume.text for each in params.values() if each.assume)]:
                try:
                    text.format_map(dict.fromkeys(params, ""))
                except (KeyError, ValueError, IndexError):
                    file.fail((*keys, "assume"), f"'{text}' names a parameter that '{value}' has not")
        for short, given in one.shorthand.items():
            if short in one.values:
                file.fail(("atoms", atom, "shorthand", short), "is the name of a value itself")
            file.try_(("atoms", atom, "shorthand", short), choice, atom, given, file.known)
    for k, rule in enumerate(file.known.incoherent):
        file.values(("incoherent", k, "when"), rule.when)


def _family(file: _File, name: str) -> None:
    known = file.known
    family, keys = known.families[name], ("families", name)
    if set(family.atoms) != set(ATOMS):
        off = [atom for atom in ATOMS if atom not in family.atoms] or sorted(set(family.atoms) - set(ATOMS))
        file.fail((*keys, "atoms"), f"expected all twelve choices and no other; see '{off[0]}'")
    file.choices((*keys, "atoms"), family.atoms)
    file.values((*keys, "admissible"), family.admissible)
    for atom, some in family.not_run.items():
        file.among((*keys, "not_run", atom), "choice", [atom], ATOMS)
        file.among((*keys, "not_run", atom), "admissible value", some, admissible(name, atom, known))
    for part in ("forward", "backward", "trainings"):
        file.try_((*keys, "cost", part), factors, getattr(family.cost, part))
    for k, failure in enumerate(family.known_failure):
        file.among((*keys, "known_failure", k, "warrant"), "warrant", [failure.warrant], known.warrants)
    for preset, one in family.presets.items():
        if known.presets[preset][0] != name:
            file.fail((*keys, "presets", preset), f"a preset of this name is in '{known.presets[preset][0]}' too")
        file.try_((*keys, "presets", preset), configuration, name, known, **one.over)


def _pairs(file: _File) -> None:
    for name, pair in file.known.pairs.items():
        keys = ("pairs", name)
        file.among((*keys, "changes"), "choice", pair.changes, ATOMS)
        file.among((*keys, "spec"), "choice", pair.spec, ATOMS)
        file.try_(keys, ends, name, file.known)
        a, b = ends(name, file.known)
        changed = tuple(atom for atom, one in a if one != b[atom])
        if changed != pair.changes:
            found = ", ".join(changed) or "nothing"
            file.fail((*keys, "changes"), f"says {', '.join(pair.changes)}; what changes is {found}")


def _questions(file: _File) -> None:
    asked = file.known.questions
    for name, question in asked.questions.items():
        for key, answer in question.answers.items():
            keys = ("questions", name, "answers", key)
            file.values((*keys, "require"), answer.require)
            file.values((*keys, "forbid"), answer.forbid)
            file.among((*keys, "warrants"), "warrant", answer.warrants, file.known.warrants)
            if answer.access is not None:
                file.choices((*keys, "access"), {"access": answer.access})
    for name, rule in asked.contradictions.items():
        here: Keys = ("contradictions", name)
        file.values((*here, "config"), rule.config)
        file.among((*here, "claim"), "claim", rule.claim, file.known.claims.claims)
        for wanted, some in rule.when.items():
            file.among((*here, "when"), "question", [wanted], asked.questions)
            one = asked.questions[wanted]
            if isinstance(some, dict):
                if some.get("name") not in one.numbers or not {"below", "above"} & set(some):
                    file.fail((*here, "when", wanted), "expected {name: a number of the question, below or above: ...}")
            else:
                file.among((*here, "when", wanted), "answer", some if isinstance(some, list) else [some], one.answers)
    for name, situation in asked.situations.items():
        file.try_(("situations", name), stance, situation.answers, file.known)


def _claims(file: _File) -> None:
    columns, claims = file.known.claims.columns, file.known.claims.claims
    for name, column in columns.items():
        for k, when in enumerate(column.when):
            file.values(("columns", name, "when", k), when)
    if not columns or list(columns.values())[-1].when:
        file.fail(("columns",), "the last column must take all others (no `when`)")
    for name, row in claims.items():
        if missing := [column for column in columns if column not in row.cells]:
            file.fail(("claims", name, "cells"), f"no cell for the column '{missing[0]}'")
        for key, cell in row.cells.items():
            keys = ("claims", name, "cells", key)
            file.among(keys, "column", [key], columns)
            file.among(keys, "warrant", cell.needs, file.known.warrants)
            if cell.verdict == "W" and not cell.needs:
                file.fail(keys, "W needs at least one warrant")


def _warrants(file: _File) -> None:
    paradigms = {name for one in file.known.frameworks.values() for name in one.record.paradigms}
    for name, warrant in file.known.warrants.items():
        keys = ("warrants", name)
        file.choices((*keys, "atoms"), warrant.atoms)
        file.values((*keys, "applies"), warrant.applies)
        for k, some in enumerate(warrant.any_of):
            file.values((*keys, "any_of", k), some)
        file.values((*keys, "circular"), warrant.circular)
        file.among((*keys, "paradigms"), "paradigm", warrant.paradigms, sorted(paradigms))
    for name, frame in file.known.frameworks.items():
        for paradigm, place in frame.record.paradigms.items():
            if place.warrants_of is not None and place.warrants_of not in paradigms:
                file.tell(file.known.folder / "frameworks" / f"{name}.yaml", ("paradigms", paradigm, "warrants_of"),
                          f"no paradigm '{place.warrants_of}' in any framework")  # fmt: skip
