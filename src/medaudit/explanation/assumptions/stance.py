"""A stance: what somebody can hold of explanations in one clinical question, from answers to sixteen questions.

No hidden score: an answer says of each axis from where to where, the stance is the weighted mean of these ends, and a
question that is not answered speaks for the whole axis. So an answer only narrows the stance, turning it round moves it
one way only, and "unknown" widens it and leans to neither side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import TYPE_CHECKING, Any

from medaudit.errors import UsageError
from medaudit.explanation.assumptions.boxes import Box, Interval
from medaudit.explanation.assumptions.configuration import Configuration
from medaudit.explanation.assumptions.registry import Registry, registry

if TYPE_CHECKING:
    from medaudit.explanation.assumptions import schema

UNKNOWN = ("unknown", "don't know", "")
ACCESS = ("outputs", "gradients", "architecture", "intrinsic")
"""What can be had of a model, least first; who has more has what is before it."""
DATA = {
    "images": ("pixel", "grid", "superpixel", "layer", "channel", "concept", "prototype", "example", "latent"),
    "tables": ("variable", "concept", "prototype", "example", "latent"),
    "graphs": ("edge", "concept", "prototype", "example", "latent"),
}
"""Kinds of data, and the units that they have."""


@dataclass(frozen=True)
class Limit:
    """A hard constraint on one choice, and which question set it."""

    atom: str
    allowed: tuple[str, ...]
    because: str
    """A question's id, or what else set it."""

    def broken_by(self, config: Configuration) -> bool:
        """Whether a configuration chooses otherwise."""
        return config[self.atom].value not in self.allowed


@dataclass(frozen=True)
class Stance:
    """Where somebody stands on both axes, and what may not be chosen."""

    O: Interval = field(default_factory=Interval)  # noqa: E741
    E: Interval = field(default_factory=Interval)
    hard: tuple[Limit, ...] = ()
    moved: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Axis, and the questions whose answers narrowed it."""
    warrants: tuple[tuple[str, str], ...] = ()
    """Warrant that must pass, and the question that asks for it."""
    budget: float | None = None
    """Forward passes a case, at most."""

    @property
    def box(self) -> Box:
        """Both ranges."""
        return Box(self.O, self.E)

    @property
    def because(self) -> dict[str, tuple[str, ...]]:
        """Axis, choice or ``budget`` to the questions that set it."""
        found: dict[str, tuple[str, ...]] = dict(self.moved)
        for limit in self.hard:
            found[limit.atom] = tuple(dict.fromkeys((*found.get(limit.atom, ()), limit.because)))
        return found

    def also(self, atom: str, allowed: Iterable[str], because: str) -> Stance:
        """Return it with one more hard constraint."""
        return replace(self, hard=(*self.hard, Limit(atom, tuple(allowed), because)))

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            **self.box.as_dict(),
            "hard": [{"atom": one.atom, "allowed": list(one.allowed), "because": one.because} for one in self.hard],
            "because": {key: list(some) for key, some in self.because.items()},
            "warrants": [{"id": warrant, "because": question} for warrant, question in self.warrants],
            "budget": self.budget,
        }


@dataclass(frozen=True)
class Conflict:
    """Things that do not go together, and the questions that said them."""

    id: str
    questions: tuple[str, ...]
    text: str


def stance(answers: Mapping[str, Any], known: Registry | None = None) -> Stance:
    """Return where somebody stands who answers so: question id to an answer's key, or to numbers (``{"kappa": 0.6}``).

    What is missing, None or ``"unknown"`` is not known, which is always allowed; capital letters count for nothing.
    Raises UsageError naming the questions, or the answers, that there are.
    """
    known = known or registry()
    said = _read(answers, known)
    ends: dict[str, list[tuple[float, float, float]]] = {"O": [], "E": []}
    moved: dict[str, list[str]] = {"O": [], "E": []}
    for name, question in known.questions.questions.items():
        for axis, weight in question.weight.items():
            parts = _parts(question, said.get(name), axis)
            ends[axis] += [(lo, hi, weight / len(parts)) for lo, hi in parts]
            if any(part != (-1.0, 1.0) for part in parts):
                moved[axis].append(name)
    hard: list[Limit] = []
    warrants: list[tuple[str, str]] = []
    budget = None
    for name, key in said.items():
        if isinstance(key, str):
            answer = known.questions.questions[name].answers[key]
            hard += _limits(answer, name, known)
            warrants += [(warrant, name) for warrant in answer.warrants]
            budget = answer.budget if answer.budget is not None else budget
    return Stance(
        _mean(ends["O"]), _mean(ends["E"]), tuple(hard), tuple((axis, tuple(some)) for axis, some in moved.items()),
        tuple(warrants), budget,
    )  # fmt: skip


def answer_of(question: str, given: Any, known: Registry | None = None) -> str | dict[str, float] | None:
    """Return an answer as it is read: its key, numbers by name, or None where it is not known; UsageError as above."""
    return _read({question: given}, known or registry()).get(question)


def situation(name: str, known: Registry | None = None) -> dict[str, Any]:
    """Return the answers that one would start from for a clinical question, to be edited; UsageError for others."""
    known = known or registry()
    if name not in known.questions.situations:
        raise UsageError(f"no situation '{name}'; expected one of {', '.join(known.questions.situations)}")
    return dict(known.questions.situations[name].answers)


def contradictions(
    answers: Mapping[str, Any], config: Configuration | None = None, claims: Iterable[str] = (),
    known: Registry | None = None,
) -> tuple[Conflict, ...]:  # fmt: skip
    """Return what does not go together among answers, or of answers with a configuration or with claims.

    Those of the registry, and every two questions that leave no value for a choice.
    """
    known = known or registry()
    said = _read(answers, known)
    claims = tuple(claims)
    found = []
    for name, rule in known.questions.contradictions.items():
        if rule.config and (
            config is None or any(config[atom].value not in some for atom, some in rule.config.items())
        ):
            continue
        if rule.claim and not set(rule.claim) & set(claims):
            continue
        if all(_holds(said.get(question), wanted) for question, wanted in rule.when.items()):
            found.append(Conflict(name, tuple(rule.when), rule.says.text))
    hard = stance(answers, known).hard
    for k, a in enumerate(hard):
        for b in hard[k + 1 :]:
            if a.atom == b.atom and not set(a.allowed) & set(b.allowed):
                found.append(
                    Conflict(f"no-{a.atom}", (a.because, b.because),
                             f"what the one leaves for {a.atom} ({', '.join(a.allowed)}) the other forbids")
                )  # fmt: skip
    return tuple(found)


def restricted(
    stance: Stance, *, access: str | None = None, budget: float | None = None, data: str | None = None
) -> Stance:  # fmt: skip
    """Return a stance that also minds what can be had of the model, what a case may cost, and what the data are.

    ``budget``: forward passes a case; the lower of two holds. Raises UsageError for a word that is none of ``ACCESS``
    or ``DATA``.
    """
    limits = list(stance.hard)
    if access is not None:
        limits.append(_access(access, "access"))
    if data is not None:
        if data not in DATA:
            raise UsageError(f"no data '{data}'; expected one of {', '.join(DATA)}")
        limits.append(Limit("units", DATA[data], "data"))
    given = [one for one in (stance.budget, budget) if one is not None]
    return replace(stance, hard=tuple(limits), budget=min(given) if given else None)


def _access(access: str, because: str) -> Limit:
    if access not in ACCESS:
        raise UsageError(f"no access '{access}'; expected one of {', '.join(ACCESS)}")
    return Limit("access", ACCESS[: ACCESS.index(access) + 1], because)


def _read(answers: Mapping[str, Any], known: Registry) -> dict[str, str | dict[str, float]]:
    """Return the answers that are known, each checked."""
    questions = known.questions.questions
    found: dict[str, str | dict[str, float]] = {}
    for name in answers:
        if name not in questions:
            raise UsageError(f"no question '{name}'; expected one of {', '.join(questions)}")
    for name, question in questions.items():
        given = answers.get(name)
        if isinstance(given, bool):
            given = "yes" if given else "no"
        if given is None or _unknown(given):
            continue
        if question.answers:
            given = given.strip().casefold() if isinstance(given, str) else given
            if not isinstance(given, str) or given not in question.answers:
                raise UsageError(f"{name}: no answer '{given}'; expected {', '.join(question.answers)} or unknown")
            found[name] = given
            continue
        numbers = given if isinstance(given, Mapping) else {next(iter(question.numbers)): given}
        kept = {}
        for key, number in numbers.items():
            if key not in question.numbers:
                raise UsageError(f"{name}: no number '{key}'; expected {', '.join(question.numbers)} or unknown")
            if number is None or _unknown(number):
                continue
            least = question.least.get(key, -1.0)
            try:
                kept[key] = float("nan" if isinstance(number, bool) else number)
            except (TypeError, ValueError):
                raise UsageError(f"{name}: {key} is '{number}'; expected a number, or unknown") from None
            if not (isfinite(kept[key]) and least <= kept[key] <= 1):
                raise UsageError(f"{name}: {key} is {number}; expected a number from {least:g} to 1, or unknown")
        found[name] = kept
    return found


def _unknown(given: Any) -> bool:
    return isinstance(given, str) and given.strip().casefold() in UNKNOWN


def _parts(question: schema.Question, said: str | dict[str, float] | None, axis: str) -> list[tuple[float, float]]:
    """Return what an answer says of an axis, one range for each of the question's numbers."""
    whole = (-1.0, 1.0)
    if question.answers:
        return [(isinstance(said, str) and getattr(question.answers[said], axis)) or whole]
    numbers = said if isinstance(said, dict) else {}
    found = []
    for name, bands in question.numbers.items():
        band = next(
            (one for one in bands if name in numbers and (one.below is None or numbers[name] < one.below)), None
        )
        found.append((band is not None and getattr(band, axis)) or whole)
    return found


def _mean(ends: list[tuple[float, float, float]]) -> Interval:
    total = sum(weight for _, _, weight in ends)
    if not total:
        return Interval()
    lo, hi = (sum(end[k] * end[2] for end in ends) / total for k in (0, 1))
    return Interval(max(-1.0, min(lo, hi)), min(1.0, max(lo, hi)))


def _limits(answer: schema.Answer, question: str, known: Registry) -> list[Limit]:
    found = []
    for atom in dict.fromkeys((*answer.require, *answer.forbid)):
        some = answer.require.get(atom, tuple(known.atoms[atom].values))
        found.append(Limit(atom, tuple(value for value in some if value not in answer.forbid.get(atom, ())), question))
    if answer.access is not None:
        found.append(_access(answer.access, question))
    return found


def _holds(said: str | dict[str, float] | None, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        number = said.get(wanted["name"]) if isinstance(said, dict) else None
        if number is None:
            return False
        return number < wanted.get("below", float("inf")) and number > wanted.get("above", float("-inf"))
    return isinstance(said, str) and said in wanted
