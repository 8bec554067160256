"""What `medaudit explain` prints for people: plain tables and sentences, each with where it is from."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medaudit.audits.explanations import advice as told
from medaudit.cli import show
from medaudit.explanation import assumptions as known_
from medaudit.explanation.assumptions import Framework

_WIDE = 100


def presets(found: Sequence[Mapping[str, Any]], within: Framework) -> None:
    """Print presets, where each stands, and what medaudit runs."""
    first, second = (within.record.axes[key].name for key in ("O", "E"))
    rows = [
        (
            one["preset"], one["family"] if one["family"] != one["preset"] else "", "yes" if one["runs"] else "no",
            *_ends(one["position"]), f"{'a control: ' if one['control'] else ''}{_readings(one['paradigms'])}",
        )
        for one in found
    ]  # fmt: skip
    show.table(("preset", "family", "runs", first, second, "compatible with"), rows)
    families = len({one["family"] for one in found})
    _say("", f"{len(found)} presets of {families} families; {sum(one['runs'] for one in found)} can be run here.")
    _framework(told.framework_of(within))


def configuration(one: Mapping[str, Any]) -> None:
    """Print one configuration in full."""
    _say(f"{one['label']}: {one['family_name']}")
    if not one["runs"]:
        _say("medaudit cannot run it.")
    if one["control"]:
        _say("It is a control: no explanation, but what explanations are held against.")
    for each in one["known_failures"]:
        _say(f"It is known to fail {each['warrant']}: {each['text']} ({told.source_of(each)}).")
    _head("The twelve choices")
    show.table(
        ("", "choice", "value", "may also be"),
        [(each["label"], each["atom"], each["written"], ", ".join(each["else"])) for each in one["choices"]],
    )
    _head("To use this you must assume that")
    _sentences(one["assumes"])
    _head("Where it stands")
    _say(one["says"])
    axes = one["framework"]["axes"]
    for key, ends in zip(("O", "E"), _ends(one["position"]), strict=True):
        _say(f"{axes[key]['name']} {ends}, from -1 ({axes[key]['low']}) to +1 ({axes[key]['high']})")
    show.table(
        ("compatible with", "of it", "what counts there"),
        [
            (each["name"], f"{each['share']:.0%}", f"{each['criterion']['text']} ({told.source_of(each['criterion'])})")
            for each in one["paradigms"]
        ],
    )
    _head("What one case costs")
    _say(_cost(one["cost"]))
    _head("Tests that it owes")
    _warrants(one["warrants"])
    _head("What may be claimed while no test has been run")
    show.table(
        ("claim", "with 'suggests'", "as it stands", "why"),
        [
            (each["says"], each["tentative"]["verdict"], each["firm"]["verdict"], _why(each))
            for each in one["claims"]
        ],
    )  # fmt: skip
    _say("", f"What may be claimed, and which test is owed to whom, is {known_.registry().claims.source}, too.")
    _framework(one["framework"])


def difference(one: Mapping[str, Any]) -> None:
    """Print what changes from one configuration to another."""
    _say(f"from  {one['labels'][0]}", f"to    {one['labels'][1]}")
    if not one["changes"]:
        _say("", "No choice changes.")
    else:
        _head("Choices that change")
        show.table(
            ("", "choice", "before", "after"),
            [(each["label"], each["atom"], each["before"], each["after"]) for each in one["changes"]],
        )
    for heading, key in (("Need not be assumed any longer", "dropped"), ("Must be assumed now", "added")):
        if one[key]:
            _head(heading)
            _sentences(one[key])
    _head("Where it stands")
    axes = one["framework"]["axes"]
    (first, second), (third, fourth) = (_ends(place) for place in one["positions"])
    passes = [_passes(number) for number in one["forward_passes"]]
    show.table(
        ("", "before", "after"),
        [
            (axes["O"]["name"], first, third), (axes["E"]["name"], second, fourth),
            ("compatible with", *(_readings(some) for some in one["paradigms"])),
            ("forward passes a case", *passes), ("runs here", *("yes" if runs else "no" for runs in one["runs"])),
        ],
    )  # fmt: skip
    if one["claims"]:
        _head("Claims that change ('suggests', while no test has been run)")
        show.table(
            ("claim", "before", "after"), [(each["says"], each["before"], each["after"]) for each in one["claims"]]
        )
    _framework(one["framework"])


def advice(found: told.Advised, *, top: int, out: Path | None) -> None:
    """Print where the answers stand, what goes with them, and what each asks one to assume."""
    record, stance = found.within.record, found.stance
    known = known_.registry().questions
    if found.clinical is not None:
        start = known.situations[found.clinical]
        _say(f"Started from: {start.name} (expected: {start.expects.text}; {told.source_of(vars(start.expects))})")
    _head("Where the answers stand")
    because = stance.because
    for key, ends in (("O", stance.O), ("E", stance.E)):
        by = ", ".join(because.get(key, ())) or "nothing answered: all of it"
        _say(f"{record.axes[key].name} {ends} ({by})")
    _say(f"This reaches into {_readings([vars(one) for one in told.read(stance.box, found.within)])}.")
    for limit in stance.hard:
        _say(f"{limit.atom} must be {' or '.join(limit.allowed) or 'nothing'} ({limit.because})")
    if stance.budget is not None:
        _say(f"A case may cost {stance.budget:,.0f} forward passes.")
    _head("What does not go together")
    for one in found.conflicts:
        _say(f"- {', '.join(one.questions)}: {one.text}")
    if not found.conflicts:
        _say("Nothing that was looked for.")
    some = told.leading(found, top)
    _head(f"Configurations that go with the answers: {len(found.held)} of {len(found.ranked)}")
    if some:
        show.table(
            ("", "configuration", "compatible", "forward passes", "runs", "reaches into"),
            [
                (str(k), _beside(one, found), f"{one.compatibility:.0%}", _passes(told.finite(one.cost.work)),
                 "yes" if one.runs else "no", _readings([vars(each) for each in one.paradigms]))
                for k, one in enumerate(some, 1)
            ],
        )  # fmt: skip
        _say("", "Compatible: the part of what it lets one hold that the answers hold too. It is no measure of truth, "
             "and no recommendation: each owes the tests below before anything may be claimed.")  # fmt: skip
        if aside := told.aside(found):
            _say("", "Placed last, however compatible:", *(f"- {name}: {why}" for name, why in aside))
        _assumed(some)
        _owed(some)
        _contradicted(found, some)
        if found.claims:
            _claims(found, some)
    else:
        _say("None. What shuts them out, each by itself:")
        show.table(("", "configurations"), [(what, str(n)) for what, n in told.obstacles(found)])
    changes = told.nearest(found, top)
    if changes:
        _head("The fewest changes that bring in others")
        show.table(
            ("configuration", "changes", "compatible", "forward passes", "runs"),
            [
                (one.name, ", ".join(f"{edit.atom}: {edit.before} -> {edit.after}" for edit in each.edits),
                 f"{each.compatibility:.0%}", _passes(told.finite(each.cost.work)),
                 "yes" if each.config.runs() else "no")
                for one, each in changes
            ],
        )  # fmt: skip
    _say("", "What a rejected one asks you to assume: medaudit explain show NAME; all of them, with reasons: --json.")
    _framework(told.framework_of(found.within))
    if out is not None:
        print(f"report: {out / 'report.html'}")


def _beside(one: known_.Advice, found: told.Advised) -> str:
    others = sum(other.config.family == one.config.family for other in found.held) - 1
    return f"{one.name} (+{others} of its family)" if others else one.name


def _assumed(some: Sequence[known_.Advice]) -> None:
    shared = told.shared_by(some) if len(some) > 1 else ()
    if shared:
        _head(f"All of these {len(some)} ask you to assume that")
        _sentences([vars(one) for one in shared])
    texts = {one.text for one in shared}
    for one in some:
        _head(f"{one.name} asks you to assume{' besides' if shared else ''} that")
        _sentences([vars(each) for each in one.assumes if each.text not in texts])


def _owed(some: Sequence[known_.Advice]) -> None:
    names = {one.name: str(k) for k, one in enumerate(some, 1)}
    tests: dict[str, dict[str, list[str]]] = {}
    for one in some:
        for each in one.warrants:
            test = tests.setdefault(each.warrant, {"by": [], "external": [], "because": []})
            test["by"].append(names[one.name])
            test["because"] += [why for why in each.because if why not in test["because"]]
            if each.external:
                test["external"].append(names[one.name])
    if tests:
        _head("Tests that must pass before a claim")
        show.table(
            ("test", "passes", "owed by", "independent of", "because of"),
            [
                (name, told.threshold_of(name), _some(test["by"], len(some)), _some(test["external"], len(some)),
                 ", ".join(test["because"]))
                for name, test in tests.items()
            ],
        )  # fmt: skip


def _contradicted(found: told.Advised, some: Sequence[known_.Advice]) -> None:
    lines = [
        f"- {one.name}: {', '.join(each.questions)}: {each.text}" for one in some for each in found.against(one.config)
    ]
    if lines:
        _head("Against the answers all the same")
        _say(*lines)


def _claims(found: told.Advised, some: Sequence[known_.Advice]) -> None:
    _head("What may be claimed while no test has been run")
    rows = [
        (str(k), each["claim"], each["tentative"]["verdict"], each["firm"]["verdict"], _why(each))
        for k, one in enumerate(some, 1)
        for each in told.claimed(one.config, found.claims)
    ]
    show.table(("", "claim", "with 'suggests'", "as it stands", "why"), rows)


def _warrants(some: Sequence[Mapping[str, Any]]) -> None:
    show.table(
        ("test", "passes", "because of", "independent"),
        [
            (one["id"], one["passes"], ", ".join(one["because"]),
             "yes" if one["external"] else f"no: {one['internal_because']}")
            for one in some
        ],
    )  # fmt: skip


def _sentences(some: Iterable[Mapping[str, Any]]) -> None:
    for one in some:
        _say(f"- {one['text']} ({one['atom']}; {told.source_of(one)})")


def _framework(one: Mapping[str, Any]) -> None:
    _say("", f"Framework: {one['name']} ({one['id']}), after {one['citation']}. {one['positions_are']}")


def _why(claim: Mapping[str, Any]) -> str:
    if claim["why_not"] is not None:
        return str(claim["why_not"])
    one = claim["tentative"] if claim["tentative"]["verdict"] == "refused" else claim["firm"]
    return one["why"] if one["verdict"] != "needs" else f"{_listed(one['needs'], one['either'])} must pass"


def _listed(needs: Sequence[str], either: Sequence[str]) -> str:
    parts = [", ".join(needs)] if needs else []
    if either:
        parts.append(f"one of {', '.join(either[:4])}{' ...' if either[4:] else ''}")
    return " and ".join(parts)


def _readings(some: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(f"{one['name']} {one['share']:.0%}" for one in some) or "none: nobody can hold all of it"


def _ends(position: Mapping[str, Sequence[float]] | None) -> tuple[str, str]:
    if position is None:
        return "nowhere", "nowhere"
    first, second = (f"{position[key][0]:+.2f} to {position[key][1]:+.2f}" for key in ("O", "E"))
    return first, second


def _cost(cost: Mapping[str, float | None]) -> str:
    text = (
        f"{_passes(cost['forward'])} forward and {_passes(cost['backward'])} backward passes: as much as "
        f"{_passes(cost['forward_passes'])} forward passes."
    )
    return f"{text} Besides, {_passes(cost['trainings'])} models to be trained, once." if cost["trainings"] else text


def _passes(number: float | None) -> str:
    return "too many to count" if number is None else f"{number:,.0f}"


def _some(names: Sequence[str], of: int) -> str:
    if len(names) == of and of > 1:
        return "all"
    return ", ".join(names) or "none"


def _head(text: str) -> None:
    print(f"\n{text}")


def _say(*lines: str) -> None:
    for line in lines:
        print(
            textwrap.fill(line, _WIDE, subsequent_indent="  " if line.startswith("- ") else "", break_on_hyphens=False)
        )
