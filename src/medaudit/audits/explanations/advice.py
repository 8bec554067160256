"""What an explanation assumes, and which ones go with somebody's answers: told as plain data, without any model.

The registry, the positions and the sentences are those of ``medaudit.explanation.assumptions``; every one of them says
where it is from, and so does everything here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from medaudit.errors import DataError, UsageError
from medaudit.explanation import assumptions as known_
from medaudit.explanation.assumptions import (
    PIXELS,
    Adaptation,
    Advice,
    Box,
    Configuration,
    Conflict,
    Framework,
    Reason,
    Stance,
    read,
)
from medaudit.explanation.assumptions.yaml_file import read_yaml

EDITS = 3
"""Adaptations that are told of one configuration, fewest edits first."""
_NAMED = re.compile(r"^\s*([A-Za-z0-9-]+)\s*(?:\((.*)\))?\s*$", re.DOTALL)


def configuration_of(text: str, also: Mapping[str, str] | None = None) -> tuple[str, Configuration]:
    """Return the name and the configuration of ``"ig-black"``, ``"lime"`` or ``"lime(absence=black, width=0.5)"``.

    A preset goes before a family of the same name. ``also``: further choices, ``{"absence": "white"}``. Raises
    UsageError that says what is possible.
    """
    registry = known_.registry()
    found = _NAMED.match(text)
    if found is None:
        raise UsageError(
            f"'{text}' is no configuration; expected a name, or a name with choices as lime(absence=black)"
        )
    name = found[1]
    if name in registry.presets:
        config = known_.preset(name)
    elif name in registry.families:
        config = known_.configuration(name)
    else:
        near = difflib.get_close_matches(name, [*registry.presets, *registry.families], n=4, cutoff=0.5)
        meant = f"is it {' or '.join(dict.fromkeys(near))}? " if near else ""
        raise UsageError(
            f"no preset or family '{name}'; {meant}`medaudit explain list` has all {len(registry.presets)} presets of "
            f"{len(registry.families)} families"
        )
    chosen = {key: _number(value) for key, value in {**choices(_parts(found[2] or "")), **(also or {})}.items()}
    if not chosen:
        return name, config
    config = config.with_(**chosen)
    return config.label(), config


def choices(given: Iterable[str]) -> dict[str, str]:
    """Return choices, or their parameters, by name from texts as ``absence=black`` and ``nodes=64``."""
    found = {}
    for one in given:
        name, is_one, value = (part.strip() for part in one.partition("="))
        if not (is_one and name and value):
            raise UsageError(f"'{one}': expected a choice and its value, as absence=black or chance=averaged(50)")
        if name in ("self", "known"):
            raise UsageError(f"no choice '{name}'; expected one of {', '.join(known_.ATOMS)}, or a parameter of one")
        found[name] = value
    return found


def presets(
    within: Framework, *, family: str | None = None, paradigm: str | None = None, runs: bool = False
) -> list[dict[str, Any]]:  # fmt: skip
    """Return every preset with its family, where it stands, what it costs and whether medaudit runs it.

    With ``paradigm`` (its id or name), those that reach into it, most of them first. Raises UsageError for a family or
    a paradigm that there is not.
    """
    registry = known_.registry()
    if family is not None and family not in registry.families:
        raise UsageError(f"no family '{family}'; expected one of {', '.join(sorted(registry.families))}")
    wanted = None if paradigm is None else _paradigm(paradigm, within)
    found: list[dict[str, Any]] = []
    for name, (of, _) in registry.presets.items():
        config = known_.preset(name)
        readings = config.paradigms(within)
        if (family not in (None, of)) or (runs and not config.runs()):
            continue
        if wanted is not None and wanted not in [one.paradigm for one in readings]:
            continue
        found.append(
            {
                "preset": name, "family": of, "family_name": registry.families[of].name, "runs": config.runs(),
                "control": name in registry.controls, "position": place(config.position(within)),
                "paradigms": [vars(one) for one in readings],
                "forward_passes": finite(known_.cost(config).work),
            }
        )  # fmt: skip
    if wanted is not None:
        found.sort(key=lambda row: -next(one["share"] for one in row["paradigms"] if one["paradigm"] == wanted))
    return found


def described(name: str, config: Configuration, within: Framework, *, pixels: int = PIXELS) -> dict[str, Any]:
    """Return all that is known of one configuration."""
    registry = known_.registry()
    family = registry.families[config.family]
    judged = known_.advise(Stance(), within=within, pixels=pixels, configs=[(name, config)])[0]
    return {
        "name": name, "label": config.label(), "key": config.key, "family": config.family, "family_name": family.name,
        "explanation_model": None if family.explanation_model is None else vars_of(family.explanation_model),
        "runs": config.runs(), "control": judged.control, "framework": framework_of(within),
        "known_failures": [vars_of(one) for one in family.known_failure],
        "choices": [
            {
                "atom": atom, "label": registry.atoms[atom].label, "name": registry.atoms[atom].name,
                "asks": registry.atoms[atom].asks.text, "value": one.value, "params": dict(one.params),
                "written": str(one),
                "else": [value for value in known_.admissible(config.family, atom) if value != one.value],
            }
            for atom, one in config
        ],
        "assumes": [vars(one) for one in judged.assumes], "position": place(config.position(within)),
        "says": config.says(within), "incoherences": list(config.incoherences(within)),
        "paradigms": [paradigm_of(one.paradigm, one.share, within) for one in judged.paradigms],
        "cost": cost_of(judged), "warrants": [_owed(one, config) for one in judged.warrants],
        "claims": claimed(config),
    }  # fmt: skip


def claimed(config: Configuration, kinds: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return for each claim, as far as the explanation reaches, what it hangs on while no test has been run.

    ``firm`` is said as it stands, ``tentative`` with "suggests".
    """
    rows = known_.registry().claims.claims
    if unknown := [kind for kind in kinds if kind not in rows]:
        raise UsageError(f"no claim '{unknown[0]}'; expected one of {', '.join(rows)}")
    found = []
    for kind in kinds or rows:
        never = rows[kind].cells[known_.column_of(config)].verdict == "N"
        told: dict[str, Any] = {
            "claim": kind, "says": rows[kind].says, "scope": config["scope"].value,
            "why_not": rows[kind].why_not.text if never else None,
        }  # fmt: skip
        for strength in ("tentative", "firm"):
            one = known_.license(known_.Claim(kind, config["scope"].value, strength), config, {})
            told[strength] = {
                "verdict": one.verdict, "why": one.why, "needs": list(one.needs), "either": list(one.either),
                "not_needed": dict(one.not_needed),
            }  # fmt: skip
        found.append(told)
    return found


def compared(a: tuple[str, Configuration], b: tuple[str, Configuration], within: Framework) -> dict[str, Any]:
    """Return what changes from one configuration to another: choices, sentences, place, paradigms, claims, cost."""
    registry = known_.registry()
    found = known_.diff(a[1], b[1], within)
    before, after = (claimed(config) for config in (a[1], b[1]))
    return {
        "framework": framework_of(within), "names": [a[0], b[0]], "labels": [a[1].label(), b[1].label()],
        "families": list(found.families), "runs": [a[1].runs(), b[1].runs()],
        "changes": [
            {
                "atom": one.atom, "label": registry.atoms[one.atom].label, "name": registry.atoms[one.atom].name,
                "before": str(one.before), "after": str(one.after),
            }
            for one in found.changes
        ],
        "dropped": [vars(one) for one in found.dropped], "added": [vars(one) for one in found.added],
        "positions": [place(box) for box in found.positions],
        "paradigms": [[vars(one) for one in some] for some in found.paradigms],
        "forward_passes": [finite(known_.cost(config).work) for config in (a[1], b[1])],
        "claims": [
            {"claim": one["claim"], "says": one["says"], "before": one["tentative"]["verdict"],
             "after": two["tentative"]["verdict"]}
            for one, two in zip(before, after, strict=True)
            if one["tentative"]["verdict"] != two["tentative"]["verdict"]
        ],
    }  # fmt: skip


def questionnaire() -> dict[str, Any]:
    """Return the questions with their answers and what each answer does, and the clinical questions to start from."""
    asked = known_.registry().questions
    return {
        "questions": [{"id": name, **one.model_dump(mode="json")} for name, one in asked.questions.items()],
        "clinical": [{"id": name, **one.model_dump(mode="json")} for name, one in asked.situations.items()],
    }


def to_fill_in(clinical: str | None = None) -> str:
    """Return the questions as a YAML file to fill in, with what one would start from for a clinical question."""
    asked = known_.registry().questions
    given = known_.situation(clinical) if clinical is not None else {}
    lines = [
        "# Write an answer's key after each question. Empty, and `unknown`, say that you do not know: that is always",
        "# allowed, and widens what you may hold. Then: medaudit explain advise --answers THIS_FILE",
    ]
    if clinical is not None:
        lines.append(f"# Filled in as a start for: {asked.situations[clinical].name}. Ours, and to be edited.")
    for name, question in asked.questions.items():
        lines += ["", f"# {name}. {question.text}"]
        lines += [f"#   {key}: {one.text}" for key, one in question.answers.items()]
        answer = given.get(name)
        if question.answers:
            lines.append(f"{name}: {answer if answer is not None else ''}".rstrip())
            continue
        numbers = answer if isinstance(answer, Mapping) else {}
        between = (f"{key} from {question.least.get(key, -1):g} to 1" for key in question.numbers)
        lines += [f"#   numbers: {', '.join(between)}", f"{name}:"]
        lines += [f"  {key}: {numbers.get(key, '')}".rstrip() for key in question.numbers]
    return "\n".join(lines) + "\n"


def answers_in(path: Path) -> dict[str, Any]:
    """Return the answers of a file, question to answer; DataError where it cannot be read, UsageError where malformed.

    Everything in it is checked: the UsageError names the questions or answers that there are.
    """
    try:
        plain, _ = read_yaml(path)
    except DataError as error:
        if str(error).startswith("cannot read"):
            raise DataError(f"{error}; `medaudit explain questions --write {path}` makes one") from None
        raise UsageError(f"{error}; expected a line a question, as Q4: model") from None
    if plain is None:
        return {}
    if not isinstance(plain, dict):
        raise UsageError(f"{path}: expected a line a question, as Q4: model")
    answers = {str(question): answer for question, answer in plain.items()}
    try:
        known_.stance(answers)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return answers


def joined(clinical: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answers of a clinical question with somebody's own in their place; an empty one replaces nothing."""
    found = known_.situation(clinical) if clinical is not None else {}
    for question, answer in given.items():
        if isinstance(answer, Mapping) and isinstance(found.get(question), Mapping):
            found[question] = {**found[question], **{key: one for key, one in answer.items() if one not in (None, "")}}
        elif answer not in (None, ""):
            found[question] = answer
    return found


@dataclass(frozen=True)
class Advised:
    """What goes with somebody's answers, and what would have to change for the rest."""

    clinical: str | None
    answers: Mapping[str, Any]
    stance: Stance
    within: Framework
    conflicts: tuple[Conflict, ...]
    """Of answers among themselves and with the claims."""
    ranked: tuple[Advice, ...]
    """Every preset, most compatible first; then those known to fail what they owe, then controls."""
    adapted: Mapping[str, tuple[Adaptation, ...]]
    """Rejected preset to configurations of its family that go with the stance, fewest edits first."""
    claims: tuple[str, ...] = ()

    @property
    def held(self) -> tuple[Advice, ...]:
        """Those that go with the stance."""
        return tuple(one for one in self.ranked if one.compatibility >= known_.COMPATIBLE and not one.control)

    @property
    def rejected(self) -> tuple[Advice, ...]:
        """Those that do not."""
        return tuple(one for one in self.ranked if one.compatibility < known_.COMPATIBLE and not one.control)

    @property
    def controls(self) -> tuple[Advice, ...]:
        """Those that are no explanations, but what explanations are held against."""
        return tuple(one for one in self.ranked if one.control)

    def against(self, config: Configuration) -> tuple[Conflict, ...]:
        """Return what does not go together of the answers and one configuration."""
        return tuple(
            one for one in known_.contradictions(self.answers, config, self.claims) if one not in self.conflicts
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, ready for JSON."""
        return {
            "framework": framework_of(self.within), "clinical": self.clinical, "answers": dict(self.answers),
            "stance": {
                **self.stance.as_dict(),
                "paradigms": [vars(one) for one in read(self.stance.box, self.within)],
            },
            "contradictions": [vars(one) for one in self.conflicts], "compatible_from": known_.COMPATIBLE,
            "configurations": [self._judged(one) for one in self.ranked],
        }  # fmt: skip

    def _judged(self, one: Advice) -> dict[str, Any]:
        told = {
            "name": one.name, "label": one.config.label(), "compatibility": round(one.compatibility, 6),
            "compatible": one.compatibility >= known_.COMPATIBLE, "runs": one.runs, "control": one.control,
            "known_failures": list(one.failures),
            "position": place(one.config.position(self.within)),
            "reasons": [{"text": each.text, "questions": list(each.questions)} for each in one.reasons],
            "contradictions": [vars(each) for each in self.against(one.config)],
            "assumes": [vars(each) for each in one.assumes], "paradigms": [vars(each) for each in one.paradigms],
            "cost": cost_of(one), "warrants": [_owed(each, one.config) for each in one.warrants],
            "adaptations": [
                {
                    "label": each.config.label(), "runs": each.config.runs(),
                    "compatibility": round(each.compatibility, 6), "forward_passes": finite(each.cost.work),
                    "edits": [
                        {"atom": edit.atom, "before": str(edit.before), "after": str(edit.after)} for edit in each.edits
                    ],
                }
                for each in self.adapted.get(one.name, ())
            ],
        }  # fmt: skip
        if self.claims:
            told["claims"] = claimed(one.config, self.claims)
        return told


def advised(
    answers: Mapping[str, Any], *, clinical: str | None = None, within: Framework, access: str | None = None,
    budget: float | None = None, data: str | None = None, claims: Sequence[str] = (), runs: bool = False,
    pixels: int = PIXELS,
) -> Advised:  # fmt: skip
    """Return every preset judged by answers, and for those that do not go with them the fewest edits that would do.

    ``access``, ``budget`` (forward passes a case) and ``data`` are hard, as in ``assumptions.advise``; ``runs`` leaves
    out what medaudit does not run. Raises UsageError for a word that is none of those possible.
    """
    registry = known_.registry()
    if unknown := [kind for kind in claims if kind not in registry.claims.claims]:
        raise UsageError(f"no claim '{unknown[0]}'; expected one of {', '.join(registry.claims.claims)}")
    if budget is not None and not (isfinite(budget) and budget > 0):
        raise UsageError(f"a budget of {budget:g} forward passes; expected a number above 0")
    stance = known_.restricted(known_.stance(answers), access=access, budget=budget, data=data)
    ranked = known_.advise(stance, within=within, pixels=pixels)
    if runs:
        ranked = tuple(one for one in ranked if one.runs)
    adapted = {}
    for one in ranked:
        if one.compatibility < known_.COMPATIBLE and not one.control:
            found = known_.adapt(one.config, stance, within=within, runs_only=runs, most=EDITS, pixels=pixels)
            if found:
                adapted[one.name] = found
    conflicts = known_.contradictions(answers, None, claims)
    return Advised(clinical, dict(answers), stance, within, conflicts, ranked, adapted, tuple(claims))


def nearest(found: Advised, most: int) -> list[tuple[Advice, Adaptation]]:
    """Return rejected presets that need the fewest edits, each with them.

    None ends in a configuration that another ends in, or that goes with the stance as a preset. What is known to fail a
    test that it owes comes last.
    """
    seen = {one.config.key for one in found.held}
    rejected = {one.name: one for one in found.rejected}
    some = [(rejected[name], each) for name, adaptations in found.adapted.items() for each in adaptations[:1]]
    chosen: list[tuple[Advice, Adaptation]] = []
    for one, each in sorted(some, key=_by_edits):
        if each.config.key not in seen and len(chosen) < most:
            seen.add(each.config.key)
            chosen.append((one, each))
    return chosen


def _by_edits(pair: tuple[Advice, Adaptation]) -> tuple[bool, int, float, str]:
    one, each = pair
    return bool(one.failures), len(each.edits), -each.compatibility, one.name


def aside(found: Advised) -> list[tuple[str, str]]:
    """Return what goes with the stance and was placed last all the same, and why: known failures, controls."""
    some = [*found.held, *(one for one in found.controls if one.compatibility >= known_.COMPATIBLE)]
    return [
        (f"{one.name} ({one.compatibility:.0%})", each.text) for one in some for each in one.reasons if sets_aside(each)
    ]


def sets_aside(reason: Reason) -> bool:
    """Whether a reason says why something is placed last, and nothing of compatibility."""
    return reason.text == "a control" or reason.text.startswith("known to fail ")


def obstacles(found: Advised) -> list[tuple[str, int]]:
    """Return what shuts rejected configurations out, and how many each; they may be shut out by several."""
    some = [
        (f"{limit.atom}: {', '.join(limit.allowed) or 'nothing'} ({limit.because})",
         sum(limit.broken_by(one.config) for one in found.rejected))
        for limit in found.stance.hard
    ]  # fmt: skip
    budget = found.stance.budget
    if budget is not None:
        some.append((f"at most {budget:,.0f} forward passes", sum(one.cost.work > budget for one in found.rejected)))
    return sorted([one for one in some if one[1]], key=lambda one: -one[1])


def leading(found: Advised, most: int) -> list[Advice]:
    """Return the most compatible configuration of each family that goes with the stance, in order."""
    first: dict[str, Advice] = {}
    for one in found.held:
        first.setdefault(one.config.family, one)
    return list(first.values())[:most]


def shared_by(some: Sequence[Advice]) -> tuple[known_.Assumed, ...]:
    """Return the sentences that all of some configurations ask for."""
    if not some:
        return ()
    texts = [{one.text for one in advice.assumes} for advice in some]
    return tuple(one for one in some[0].assumes if all(one.text in each for each in texts))


def source_of(said: Any) -> str:
    """Return where a sentence is from, in words: ``inferred`` is medaudit's own."""
    source, citation, by = (said[key] if isinstance(said, Mapping) else getattr(said, key)
                            for key in ("source", "citation", "reviewed_by"))  # fmt: skip
    text = "inferred" if source == "inferred" else f"{source}: {citation}"
    return f"{text}, reviewed by {by}" if by else text


def positions_are(within: Framework) -> str:
    """Return whose word a framework's positions are; said wherever a position is shown."""
    said = within.record.positions_are
    return f"{said.text} ({source_of(said)})."


def framework_of(within: Framework) -> dict[str, Any]:
    """Return a framework's name, what it is after, its axes, and that its positions are ours."""
    record = within.record
    return {
        "id": within.id, "name": record.name, "citation": record.citation, "positions_are": positions_are(within),
        "axes": {key: {"name": one.name, "low": one.low, "high": one.high} for key, one in record.axes.items()},
    }  # fmt: skip


def paradigm_of(name: str, share: float, within: Framework) -> dict[str, Any]:
    """Return a paradigm, the share of a configuration in it, and what counts there."""
    one = within.record.paradigms[name]
    return {
        "paradigm": name, "name": one.name, "share": share,
        **{key: vars_of(getattr(one, key)) for key in ("named", "explanation", "criterion", "failure")},
    }  # fmt: skip


def place(box: Box | None) -> dict[str, list[float]] | None:
    """Return a position as plain data; None where nobody can hold it."""
    return None if box is None else {key: [round(end, 6) for end in ends] for key, ends in box.as_dict().items()}


def cost_of(one: Advice) -> dict[str, float | None]:
    """Return the passes for one case, and all in forward passes; None where they are too many to count."""
    cost = one.cost
    return {
        "forward": finite(cost.forward), "backward": finite(cost.backward), "forward_passes": finite(cost.work),
        "trainings": finite(cost.trainings),
    }  # fmt: skip


def finite(number: Any) -> float | None:
    """Return a number, None where it has no end."""
    return float(number) if isfinite(number) else None


def vars_of(sentence: Any) -> dict[str, Any]:
    """Return a sentence and where it is from, as plain data."""
    return dict(sentence.model_dump(mode="json"))


def threshold_of(warrant: str) -> str:
    """Return when a test passes, in words."""
    one = known_.registry().warrants[warrant]
    if one.passes == "shown":
        return "shown; nothing to pass"
    if one.threshold is None:
        return f"{one.passes} what is said beforehand"
    return f"interval without {one.threshold:g}" if one.passes == "outside" else f"{one.passes} {one.threshold:g}"


def _owed(one: Any, config: Configuration) -> dict[str, Any]:
    record = known_.registry().warrants[one.warrant]
    return {
        "id": one.warrant, "name": record.name, "because": list(one.because), "external": one.external,
        "internal_because": known_.internal(one.warrant, config), "statistic": record.statistic,
        "passes": threshold_of(one.warrant), "assumes": vars_of(record.assume),
    }  # fmt: skip


def _paradigm(given: str, within: Framework) -> str:
    paradigms = within.record.paradigms
    for name, one in paradigms.items():
        if given.casefold() in (name.casefold(), one.name.casefold()):
            return name
    raise UsageError(f"no paradigm '{given}' in {within.id}; expected one of {', '.join(paradigms)}")


def _parts(text: str) -> list[str]:
    """Return what commas outside brackets part."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in (one.strip() for one in parts) if part]


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
