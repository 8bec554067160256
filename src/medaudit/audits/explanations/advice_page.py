"""The page of an advice: where the answers stand, what goes with them, and what each would have one assume."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medaudit import __version__
from medaudit.audits.explanations import advice as told
from medaudit.audits.explanations.advice import Advised
from medaudit.explanation import assumptions as known_
from medaudit.explanation.assumptions import Advice, Box
from medaudit.explanation.assumptions.registry import content_hash
from medaudit.report import Figure, Report, Run, Section, Table, figures, numerals

_DRAWN = 6


def write_advice(found: Advised, asked: Mapping[str, Any], *, out: Path) -> None:
    """Write the page, the advice as JSON and the answers into a run folder; ``asked`` is what else was asked for.

    Raises UsageError where the folder holds another run. There are no estimates in it, so ``findings.json`` is empty.
    """
    settings = {
        **asked, "framework": found.within.id, "clinical": found.clinical, "claims": list(found.claims),
        "answers": dict(found.answers),
    }  # fmt: skip
    inputs = {"registry": known_.registry().hash, **_own_framework(found)}
    with Run.open(out, verb="explain advise", settings=settings, inputs=inputs) as run:
        run.write_text("advice.json", json.dumps(found.as_dict(), indent=1, ensure_ascii=False) + "\n")
        run.write_findings([])
        run.write_report(page(found, run, top=int(asked.get("top", 5))))
        run.finish()


def page(found: Advised, run: Run, *, top: int) -> Report:
    """Return the report's content."""
    record = found.within.record
    start = known_.registry().questions.situations[found.clinical].name if found.clinical else "answers of your own"
    return Report(
        title="What may an explanation assume here?",
        subtitle=f"{start}; {record.name} ({found.within.id})",
        headline=headline(found),
        answers=[],  # a verdict is of data, and there are none here
        sections=list(sections(found, top)),
        methods=methods(found),
        citations=[record.citation],
        limits=[
            told.positions_are(found.within),
            "Compatible means that what a configuration lets one hold, the answers hold too. It does not mean that the "
            "explanation is right: that is for the tests that it owes, on the model and the data.",
            "Answers are one person's at one time, and what each says of the axes is ours. Another may answer "
            "otherwise; nothing here says who is right.",
            "Costs are passes counted by formula, not seconds measured.",
        ],
        provenance=[
            ("Framework", f"{found.within.id}: {record.citation}"),
            ("Positions", told.positions_are(found.within)),
            ("Registry", f"sha256 {run.inputs['registry'][:16]}..."),
            ("Compatible from", numerals.percent(known_.COMPATIBLE, 0)),
            ("Asked", ", ".join(f"{key} {value}" for key, value in run.settings.items()
                                if key != "answers" and value not in (None, [], False))),
            ("Versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())),
        ],
    )  # fmt: skip


def headline(found: Advised) -> str:
    """Return the answer in a sentence or two."""
    some = told.leading(found, 3)
    against = " The answers contradict each other." if found.conflicts else ""
    if not some:
        return f"None of {len(found.ranked)} configurations goes with these answers.{against}"
    names = ", ".join(one.name for one in some)
    said = "is" if len(found.held) == 1 else "are"
    runs = "" if any(one.runs for one in found.held) else " None of them can be run by medaudit."
    return (
        f"{len(found.held)} of {len(found.ranked)} configurations {said} compatible with these answers, most of all "
        f"{names}. None of them is thereby right: each owes tests.{runs}{against}"
    )


def sections(found: Advised, top: int) -> Iterator[Section]:
    """Yield the page's sections."""
    some = told.leading(found, top)
    yield _stands(found, some)
    yield _answered(found)
    yield _contradictions(found, some)
    yield _ranked(found, some)
    yield from _assumed(found, some)
    yield _adapted(found)
    yield _owed(found, some)
    if found.claims:
        yield _claims(found, some)


def methods(found: Advised) -> str:
    """Return how the advice was made, for a paper."""
    record = found.within.record
    return (
        f"Explanations were chosen by what they assume (medaudit {__version__}; framework '{record.name}', after "
        f"{record.citation}). {told.positions_are(found.within)} A configuration is a method with twelve choices; "
        "each choice allows a range on two axes, and a configuration stands where its twelve ranges meet. "
        f"{len(known_.registry().questions.questions)} questions give a stance: the weighted mean of the ranges that "
        "their answers allow, a question that is not answered speaking for the whole axis, and hard constraints on "
        "choices. Compatibility is the area shared with the stance over the configuration's own, and 0 where a hard "
        f"constraint is broken; from {known_.COMPATIBLE:.0%} on a configuration is called compatible. For the others "
        "the fewest changes of choices that make them compatible were searched over all values that their family may "
        "take."
    )


def _own_framework(found: Advised) -> dict[str, str]:
    """Return the hash of a framework that is the user's file, nothing for those that come with medaudit."""
    if found.within.id in known_.registry().frameworks:
        return {}
    return {"framework": content_hash(found.within.record.model_dump(mode="json"))}


def _stands(found: Advised, some: Sequence[Advice]) -> Section:
    record, stance = found.within.record, found.stance
    drawn = [(str(k), one) for k, one in enumerate(some[:_DRAWN], 1)]
    places = [(name, one.config.position(found.within)) for name, one in drawn]
    axes = record.axes
    svg = figures.plane(
        {one.name: _sides(one.box) for one in record.paradigms.values()},
        [(name, _sides(box)) for name, box in places if box is not None],
        title="The stance, and what goes with it", x=_axis(axes["O"]), y=_axis(axes["E"]), stance=_sides(stance.box),
        note="Thick: the stance. Broken, with numbers: the most compatible of each family, as far as each lets one "
        "go. Filled: the paradigms. Whose word the positions are is said above.",
    )  # fmt: skip
    readings = ", ".join(f"{one.name} ({one.share:.0%} of it)" for one in told.read(stance.box, found.within))
    described = "; ".join(f"{name} {one.name}" for name, one in drawn)
    rows = [
        (one.name, f"{one.explanation.text}", one.criterion.text, one.failure.text, told.source_of(one.named))
        for one in record.paradigms.values()
    ]
    sources = sorted({told.source_of(one.criterion) for one in record.paradigms.values()})
    return Section(
        "Where the answers stand",
        f"{axes['O'].name.capitalize()} {_between(stance.O)}, {axes['E'].name} {_between(stance.E)}: this reaches into "
        f"{readings or 'no paradigm'}. {told.positions_are(found.within)} The framework is '{record.name}', after "
        f"{record.citation}.",
        figures=[
            Figure(svg, "Stance", f"A square of {axes['O'].name} and {axes['E'].name} from -1 to 1: the paradigms, the "
                   f"stance, and boxes of {described or 'nothing'}.")
        ],
        tables=[
            Table("What counts in each paradigm", ("Paradigm", "An explanation is", "It is valid if", "It fails if",
                  "Name from"), rows, "lllll", f"What counts is {', '.join(sources)}.")
        ],
    )  # fmt: skip


def _answered(found: Advised) -> Section:
    asked = known_.registry().questions.questions
    limits: dict[str, list[str]] = {}
    for limit in found.stance.hard:
        limits.setdefault(limit.because, []).append(f"{limit.atom}: {', '.join(limit.allowed) or 'nothing'}")
    rows = []
    for name, question in asked.items():
        given = known_.answer_of(name, found.answers.get(name))
        moved = [found.within.record.axes[axis].name for axis, by in found.stance.moved if name in by]
        if isinstance(given, str):
            said = question.answers[given].text
        else:
            said = ", ".join(f"{key} {one:g}" for key, one in (given or {}).items()) or "not known"
        rows.append((name, question.text, said, ", ".join(moved), "; ".join(limits.get(name, ()))))
    others = [f"{why} leaves {'; '.join(some)}" for why, some in limits.items() if why not in asked]
    if found.stance.budget is not None:
        others.append(f"a case may cost {found.stance.budget:,.0f} forward passes")
    note = f"Beside the questions: {'; '.join(others)}." if others else ""
    return Section(
        "The answers",
        "What is not known widens the stance and leans to neither side. An answer may narrow an axis, and may leave "
        "only some values of a choice.",
        tables=[Table("Questions and answers", ("", "Question", "Answer", "Narrows", "Leaves"), rows, "lllll", note)],
    )  # fmt: skip


def _contradictions(found: Advised, some: Sequence[Advice]) -> Section:
    rows = [("the answers", ", ".join(one.questions), one.text) for one in found.conflicts]
    rows += [(one.name, ", ".join(each.questions), each.text) for one in some for each in found.against(one.config)]
    if not rows:
        return Section("What does not go together", "Nothing that was looked for.")
    return Section(
        "What does not go together",
        "Each side may be held, but not both at once. Answer one of the questions otherwise, or say why not.",
        tables=[Table("Contradictions", ("Where", "Questions", "What"), rows, "lll")],
    )


def _ranked(found: Advised, some: Sequence[Advice]) -> Section:
    numbers = {one.name: str(k) for k, one in enumerate(some[:_DRAWN], 1)}
    held = [
        (numbers.get(one.name, ""), one.name, f"{one.compatibility:.0%}", *_ends(one, found), _passes(one.cost.work),
         "yes" if one.runs else "no", ", ".join(f"{each.name} {each.share:.0%}" for each in one.paradigms))
        for one in found.held
    ]  # fmt: skip
    rejected = [
        (one.name, f"{one.compatibility:.0%}", _passes(one.cost.work), "yes" if one.runs else "no", _why(one))
        for one in found.rejected
    ]
    axes = [found.within.record.axes[key].name.capitalize() for key in ("O", "E")]
    tables = []
    if held:
        tables.append(
            Table("Compatible with the answers", ("", "Configuration", "Compatible", *axes, "Forward passes a case",
                  "Runs here", "Shares with the stance"), held, "llrllrll",
                  "Numbers: in the figure. Compatible: the part of what it lets one hold that the answers hold too; "
                  "equal ones by cost. A backward pass counts as two.")
        )  # fmt: skip
    if rejected:
        tables.append(
            Table("Not compatible", ("Configuration", "Compatible", "Forward passes a case", "Runs here", "Why not"),
                  rejected, "lrrll")
        )  # fmt: skip
    if aside := told.aside(found):
        tables.append(Table("Placed last, however compatible", ("Configuration", "Because it is"), aside, "ll"))
    if found.controls:
        rows = [(one.name, f"{one.compatibility:.0%}", _passes(one.cost.work), "yes" if one.runs else "no")
                for one in found.controls]  # fmt: skip
        tables.append(
            Table("Controls", ("Control", "Compatible", "Forward passes a case", "Runs here"), rows, "lrrl",
                  "No explanations: what explanations are held against.")
        )  # fmt: skip
    return Section(
        "Which configurations go with them",
        f"{len(found.held)} of {len(found.ranked)} do. The order is compatibility, then cost; those that are known to "
        "fail a test which they owe come after all others. Nothing is recommended by name.",
        tables=tables,
    )


def _assumed(found: Advised, some: Sequence[Advice]) -> Iterator[Section]:
    tables = []
    for one in some:
        rows = [(each.text, f"{each.atom}: {each.value}", told.source_of(each)) for each in one.assumes]
        tables.append(
            Table(
                f"To use {one.name} ({one.config.label()}) you must assume that",
                ("", "Because of", "From"),
                rows,
                "lll",
            )
        )
    if tables:
        yield Section(
            "What the most compatible ask you to assume",
            "The most compatible of each family. Who cannot assume one of these sentences cannot use what it says.",
            tables=tables,
        )
    users: dict[tuple[str, str, str], list[str]] = {}
    for one in found.ranked:
        for each in one.assumes:
            key = (each.text, f"{each.atom}: {each.value}", told.source_of(each))
            users.setdefault(key, []).append(one.name)
    whole = len(found.ranked)
    whose = [(*key, "all" if len(names) == whole else ", ".join(names)) for key, names in users.items()]
    yield Section(
        "What each one asks you to assume",
        f"All {len(whose)} sentences of all {whole} configurations, those that are not compatible too.",
        tables=[Table("You must assume that", ("", "Because of", "From", "To use"), whose, "llll")],
    )


def _adapted(found: Advised) -> Section:
    rows = [
        (one.name, ", ".join(f"{edit.atom}: {edit.before} → {edit.after}" for edit in each.edits),
         f"{each.compatibility:.0%}", _passes(each.cost.work), "yes" if each.config.runs() else "no")
        for one, each in told.nearest(found, len(found.rejected))
    ]  # fmt: skip
    never = [one.name for one in found.rejected if one.name not in found.adapted]
    note = f"No change of choices brings these in: {', '.join(never)}." if never else ""
    if not rows:
        return Section("What would bring others in", note or "All are compatible as they are.")
    return Section(
        "What would bring others in",
        "The fewest changes of choices, of all that the family may take, after which a rejected configuration goes "
        "with the answers. One that ends where another does is left out.",
        tables=[
            Table("Changes", ("Configuration", "Changes", "Compatible then", "Forward passes a case", "Runs here"),
                  rows, "llrrl", note)
        ],
    )  # fmt: skip


def _owed(found: Advised, some: Sequence[Advice]) -> Section:
    registry = known_.registry()
    rows = []
    for name, warrant in registry.warrants.items():
        by = [(one, each) for one in some for each in one.warrants if each.warrant == name]
        if by:
            because = dict.fromkeys(why for _, each in by for why in each.because)
            outside = [one.name for one, each in by if each.external]
            rows.append(
                (warrant.name, warrant.statistic, told.threshold_of(name), _all([one.name for one, _ in by], some),
                 _all(outside, some), ", ".join(because), warrant.assume.text)
            )  # fmt: skip
    if not rows:
        return Section("Which tests are owed", "None.")
    return Section(
        "Which tests are owed",
        "Before anything may be claimed. A test assumes something itself; one that shares an absence or a locality "
        "with the explanation, or holds it against itself, is no independent word, and a claim that is firm needs one.",
        tables=[
            Table("Tests", ("Test", "Statistic", "Passes", "Owed by", "Independent of", "Because of", "It assumes"),
                  rows, "lllllll", "Thresholds are starting points, ours: set them beforehand.")
        ],
    )  # fmt: skip


def _claims(found: Advised, some: Sequence[Advice]) -> Section:
    rows = [
        (one.name, each["says"], each["tentative"]["verdict"], each["firm"]["verdict"],
         each["why_not"] or each["firm"]["why"])
        for one in some
        for each in told.claimed(one.config, found.claims)
    ]  # fmt: skip
    return Section(
        "What may be claimed",
        "While no test has been run.",
        tables=[Table("Claims", ("With", "Claim", "With 'suggests'", "As it stands", "Why"), rows, "lllll")],
    )


def _why(one: Advice) -> str:
    """Return what is broken, or where nothing is, how much lies in the stance."""
    judging = [each for each in one.reasons if not told.sets_aside(each)]
    broken = [each for each in judging if not each.text.endswith("]")]
    parts = [each.text + (f" ({', '.join(each.questions)})" if each.questions else "") for each in broken or judging]
    return "; ".join(parts)


def _ends(one: Advice, found: Advised) -> tuple[str, str]:
    box = one.config.position(found.within)
    return ("nowhere", "nowhere") if box is None else (_between(box.O), _between(box.E))


def _between(ends: Any) -> str:
    return f"{numerals.number(ends.lo, 2)} to {numerals.number(ends.hi, 2)}"


def _axis(axis: Any) -> list[str]:
    return [axis.name, f"−1: {axis.low}", f"+1: {axis.high}"]


def _sides(box: Box) -> tuple[tuple[float, float], tuple[float, float]]:
    return ((box.O.lo, box.O.hi), (box.E.lo, box.E.hi))


def _passes(number: Any) -> str:
    one = told.finite(number)
    return "too many to count" if one is None else f"{one:,.0f}"


def _all(names: Sequence[str], some: Sequence[Advice]) -> str:
    return "all" if len(names) == len(some) > 1 else ", ".join(names) or "none"
