"""What may be claimed on the strength of an explanation: licensed, in need of warrants, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from medaudit.errors import UsageError
from medaudit.explanation.assumptions.choice import Choice, choice
from medaudit.explanation.assumptions.configuration import Configuration
from medaudit.explanation.assumptions.registry import Registry, registry

Status = Literal["passed", "failed", "not-run"]
STATUSES = ("passed", "failed", "not-run")
SCOPES = ("point", "neighbourhood", "cohort", "global")
_ABOUT = {
    "point": "about one case", "neighbourhood": "about a neighbourhood", "cohort": "about a cohort",
    "global": "about all cases",
}  # fmt: skip
STRENGTHS = ("tentative", "firm")
SHARED = ("absence", "locality")
"""Choices which, shared by a test and what it tests, make the test internal (spec 08, appendix C)."""


@dataclass(frozen=True)
class Claim:
    """What somebody wants to say; UsageError for a scope or strength that is none.

    ``firm`` is said as it stands and rests on an external warrant at least; ``tentative`` is said with "suggests", and
    may do with what is internal.
    """

    kind: str
    scope: str = "point"
    strength: str = "firm"

    def __post_init__(self) -> None:
        for name, possible in (("scope", SCOPES), ("strength", STRENGTHS)):
            if getattr(self, name) not in possible:
                raise UsageError(f"a claim's {name} cannot be '{getattr(self, name)}'; expected {', '.join(possible)}")


@dataclass(frozen=True)
class License:
    """Whether a claim may be made, and what it hangs on."""

    claim: Claim
    column: str
    """Of the table: which kind of explanation this is."""
    verdict: Literal["licensed", "needs", "refused"]
    why: str
    needs: tuple[str, ...] = ()
    """Warrants that must still pass."""
    either: tuple[str, ...] = ()
    """External warrants of which one must still pass."""
    internal: tuple[tuple[str, str], ...] = ()
    """Warrants that passed and are no independent word, each with the reason."""
    external: tuple[str, ...] = ()
    """Warrants that passed and are independent."""
    not_needed: tuple[tuple[str, str], ...] = ()
    """Warrants of the table that cannot be made of this configuration, each with what it has instead."""


def column_of(config: Configuration, known: Registry | None = None) -> str:
    """Return the column of the claims table that speaks of a configuration: the first that fits."""
    columns = (known or registry()).claims.columns
    for name, column in columns.items():
        if not column.when or any(
            all(config[atom].value in values for atom, values in when.items()) for when in column.when
        ):
            return name
    raise AssertionError("the last column takes all others")


def internal(
    warrant: str, config: Configuration, judged_with: Mapping[str, str] | None = None, known: Registry | None = None
) -> str | None:  # fmt: skip
    """Return why a test is no independent word on a configuration, None where it is one.

    It is none where it holds the explanation against itself, where explanations by this rule pass it by construction,
    and where both share an absence or a locality (spec 08, appendix C; the first two are ours). ``judged_with`` says
    which choices the test was run with, ``{"absence": "constant(white)"}``, where they are not the registry's: another
    value of the same kind of absence is then another world.
    """
    known = known or registry()
    if warrant not in known.warrants:
        raise UsageError(f"no warrant '{warrant}'; expected one of {', '.join(known.warrants)}")
    one = known.warrants[warrant]
    if one.passes == "shown":
        return "it is shown, and there is nothing to pass"
    if one.against == "itself":
        return "it holds the explanation against itself"
    for atom, values in one.circular.items():
        if config[atom].value in values:
            return f"{config[atom].value} passes it by construction"
    judge = {atom: given for atom, given in {**one.atoms, **(judged_with or {})}.items() if atom in SHARED}
    for atom, given in judge.items():
        its = choice(atom, given, known)
        stated = "(" in given or given in known.atoms[atom].shorthand
        if _same(its, config[atom], stated):
            return f"it shares the {atom} '{config[atom] if stated else config[atom].value}' with the explanation"
        for other, mine in config:
            if known.atoms[other].values[mine.value].implies.get(atom) == its.value:
                return f"it shares the {atom} '{its.value}' that {other} {mine.value} brings in"
    return None


def applies(warrant: str, config: Configuration, known: Registry | None = None) -> bool:
    """Whether a test can be made of a configuration at all."""
    return not_applying(warrant, config, known) is None


def not_applying(warrant: str, config: Configuration, known: Registry | None = None) -> str | None:
    """Return what keeps a test of a configuration from being made, as ``chance is deterministic``; None: nothing."""
    known = known or registry()
    if warrant not in known.warrants:
        raise UsageError(f"no warrant '{warrant}'; expected one of {', '.join(known.warrants)}")
    one = known.warrants[warrant]
    barred = [_barred(when, config) for when in ({**one.applies}, *one.any_of)]
    for atoms in (barred[0], min(barred[1:], key=len, default=[])):
        if atoms:
            return " and ".join(f"{atom} is {config[atom].value}" for atom in atoms)
    return None


def _barred(when: Mapping[str, tuple[str, ...]], config: Configuration) -> list[str]:
    return [atom for atom, values in when.items() if config[atom].value not in values]


def license(
    claim: Claim, config: Configuration, warrants: Mapping[str, Status], *,
    judged_with: Mapping[str, Mapping[str, str]] | None = None, known: Registry | None = None,
) -> License:  # fmt: skip
    """Return whether ``claim`` may be made on a configuration's word, the warrants having come out so.

    Refused: the table says never, the claim is about another scope than the explanation (a mean over a cohort says
    nothing of one case, and a case nothing of the cohort), or a warrant that the claim rests on has failed. Needs: a
    warrant of the table has not been run, or a firm claim has no external one. A warrant of the table that cannot be
    made of the configuration is not needed, and this is said; but where it is what makes the claim mean anything (a
    share, of what has no sum), the claim is refused. ``judged_with``: warrant to the choices it was run with, see
    ``internal``. Raises UsageError for a claim, a warrant or an outcome that there is not.
    """
    known = known or registry()
    if claim.kind not in known.claims.claims:
        raise UsageError(f"no claim '{claim.kind}'; expected one of {', '.join(known.claims.claims)}")
    for warrant, status in warrants.items():
        if warrant not in known.warrants:
            raise UsageError(f"no warrant '{warrant}'; expected one of {', '.join(known.warrants)}")
        if status not in STATUSES:
            raise UsageError(f"warrant '{warrant}' is '{status}'; expected {', '.join(STATUSES)}")
    row = known.claims.claims[claim.kind]
    column = column_of(config, known)
    cell, name = row.cells[column], known.claims.columns[column].name
    passed = [warrant for warrant, status in warrants.items() if status == "passed" and applies(warrant, config, known)]
    whys = {warrant: internal(warrant, config, (judged_with or {}).get(warrant), known) for warrant in passed}
    inside = tuple((warrant, why) for warrant, why in whys.items() if why is not None)
    outside = tuple(warrant for warrant, why in whys.items() if why is None)
    cannot = {warrant: why for warrant in cell.needs if (why := not_applying(warrant, config, known)) is not None}
    needed = tuple(warrant for warrant in cell.needs if warrant not in cannot)
    waived = tuple(one for one in cannot.items() if known.warrants[one[0]].elsewhere == "not needed")

    def told(verdict: Literal["licensed", "needs", "refused"], why: str, needs: tuple[str, ...] = (),
             either: tuple[str, ...] = ()) -> License:  # fmt: skip
        return License(claim, column, verdict, why, needs, either, inside, outside, waived)

    if cell.verdict == "N":
        return told("refused", f"{name}: never '{row.says}'; {row.why_not.text}")
    if claim.scope != config["scope"].value:
        scope = config["scope"].value
        return told("refused", f"the claim is {_ABOUT[claim.scope]}, the explanation {_ABOUT[scope]}: claim it of that")
    for warrant, why in cannot.items():
        if known.warrants[warrant].elsewhere == "refused":
            return told("refused", f"'{row.says}' rests on {warrant}, which does not apply: {why}")
    if failed := [warrant for warrant in needed if warrants.get(warrant) == "failed"]:
        return told("refused", f"'{row.says}' rests on {', '.join(failed)}, which failed")
    owed = tuple(warrant for warrant in needed if warrant not in passed)
    either: tuple[str, ...] = ()
    if claim.strength == "firm" and not outside:
        candidates = tuple(
            warrant for warrant in known.warrants
            if warrants.get(warrant) != "failed" and applies(warrant, config, known)
            and internal(warrant, config, (judged_with or {}).get(warrant), known) is None
        )  # fmt: skip
        either = () if set(owed) & set(candidates) else candidates
    spared = [f"{warrant} does not apply ({why}) and is not needed" for warrant, why in cannot.items()]
    if owed or either:
        parts = [f"{', '.join(owed)} must pass"] if owed else []
        if either:
            parts.append("a warrant that is external must pass: what has passed is internal" if inside else
                         "a warrant that is external must pass")  # fmt: skip
        return told("needs", "; ".join(parts + spared), owed, either)
    how = "by definition" if cell.verdict == "L" or not needed else f"{', '.join(needed)} passed"
    said = "may be said" if claim.strength == "firm" else "may be said with 'suggests'"
    return told("licensed", f"'{row.says}' {said}: " + "; ".join([how, *spared, *([cell.why] if cell.why else [])]))


def _same(judge: Choice, mine: Choice, stated: bool) -> bool:
    if judge.value == "none" or judge.value == "point":
        return False
    return judge == mine if stated else judge.value == mine.value
