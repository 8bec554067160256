"""The page: what one changed assumption does to a map, which changes most, which tests fail, what may be claimed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from medaudit.audits.explanations.cards import coloured, grey
from medaudit.audits.explanations.findings import changes, first, noise
from medaudit.audits.explanations.study import Study
from medaudit.cohort import Known
from medaudit.explanation.assumptions import registry
from medaudit.report import (
    Answer,
    Figure,
    Finding,
    Picture,
    Report,
    Run,
    Section,
    Table,
    figures,
    gallery,
    numerals,
    provenance,
)

_SHOWN, _PIXELS = 6, 110
CITATIONS = (
    "Mattioli, Petersen, Feragen, Pelillo, Bigdeli. Onto-Epistemological Analysis of AI Explanations. arXiv "
    "2510.02996, 2025.",
    "Adebayo et al. Sanity Checks for Saliency Maps. NeurIPS 2018.",
    "Arun et al. Assessing the Trustworthiness of Saliency Maps for Localizing Abnormalities in Medical Imaging. "
    "Radiology: AI 2021.",
    "Sundararajan, Taly, Yan. Axiomatic Attribution for Deep Networks. ICML 2017.",
    "Lundberg, Lee. A Unified Approach to Interpreting Model Predictions. NeurIPS 2017.",
)


def page(
    result: Study, answers: list[Finding], run: Run, seconds: float, dataset: str = "", known: Sequence[Known] = ()
) -> Report:  # fmt: skip
    """Return the report's content; ``known``: what others have found out about the ``dataset``."""
    found = result.explained
    head = [f.lead for f in answers if f.id == "moves-most"]
    reversed_ = [f for f in answers if f.id.startswith("pair:") and "turns the map around" in f.claim]
    if reversed_:
        head.append(f"{len(reversed_)} of {len([f for f in answers if f.id.startswith('pair:')])} changes of one "
                    "assumption turn the map around.")  # fmt: skip
    patients = len(set(found.pictures.patients[found.rows].tolist()))
    return Report(
        title="What does this explanation assume?",
        subtitle=f"{_images(result)} of {patients} patients, model: {found.model_id}",
        headline=" ".join(head),
        answers=[Answer.of(f) for f in first(answers)],
        sections=list(_sections(result)),
        methods=methods(result),
        citations=CITATIONS,
        limits=(
            "Which paradigm a choice belongs to is inferred by medaudit from the abstract of arXiv 2510.02996 and from "
            "literature; the paper's own placement of methods could not be read.",
            "Shares of what moves the answer are of the levels that were tried and of no others.",
            "That maps differ does not say which of them is right; that they agree does not say that they are.",
            "A test that shares its assumption with the explanation is internal: no firm claim rests on it.",
        ),
        provenance=provenance.told(
            run,
            dataset,
            more={
                "registry": registry().hash,
                "evaluations made once and used again": f"{result.reused} of {result.asked + result.reused}",
            },
            seconds={"all": seconds},
        ),
        findings=answers,
        known=known,
    )  # fmt: skip


def _sections(result: Study) -> Iterator[Section]:
    if result.profile is not None:
        yield _profile(result)
    yield _pairs(result)
    yield _maps(result)
    yield _tests(result)
    if any(one.placed for one in result.tested.values()):
        yield _places(result)
    yield _claims(result)


def _profile(result: Study) -> Section:
    p = result.profile
    assert p is not None
    rows = [{"group": atom, "value": 100 * e.value, "low": 100 * e.low, "high": 100 * e.high, "n": e.n}
            for atom, e in p.total_order.items()]  # fmt: skip
    svg = figures.forest(rows, title="What moves the answer", measure="share of what moves", unit="%")
    cells = [(atom, ", ".join(result.levels[atom]),
              _share(p.first_order[atom]), _share(p.total_order[atom])) for atom in p.atoms]  # fmt: skip
    return Section(
        "Which assumption moves the answer most?",
        f"{int(np.prod([len(v) for v in result.levels.values()]))} configurations of integrated gradients, every "
        "combination of the levels below, on the same images. Of all that their maps differ in, the share that each "
        "assumption makes alone, and with the others.",
        figures=[Figure(svg, "What moves the answer", "A row an assumption: its share in all, with interval.")],
        tables=[Table("Shares of variance", ("Assumption", "Levels", "Alone (95 %)", "In all (95 %)"), cells, "llrr")],
    )  # fmt: skip


def _pairs(result: Study) -> Section:
    cells, rows, refused = [], [], []
    for name, one in result.pairs.items():
        if one.effect is None:
            refused.append((name, one.refused))
            continue
        e = one.effect
        changed = ", ".join(changes(one.a, one.b))
        cells.append(
            (
                name,
                one.a.family,
                changed,
                _with(e.similarity),
                numerals.number(noise(one), 3),
                _with(e.beyond),
                e.verdict,
            )
        )
        rows.append({"group": name, "value": e.similarity.value, "low": e.similarity.low, "high": e.similarity.high,
                     "n": e.similarity.n})  # fmt: skip
    titles = ("Pair", "Method", "Changed", "Likeness (95 %)", "Noise", "Beyond it (95 %)", "")
    tables = [Table("Pairs", titles, cells, "lllrrrl",
                    note="Likeness is the rank correlation of signed maps: 1 the same, 0 unrelated, below 0 "
                    "turned around. Noise is the distance (1 less likeness) between reruns of one configuration, or of "
                    "a path and the same with twice its steps. Images of which a map is the same everywhere are left "
                    "out.")]  # fmt: skip
    if refused:
        tables.append(Table("Not run", ("Pair", "Why"), refused, "ll"))
    svg = figures.forest(rows, title="Likeness of two maps that differ in one assumption", measure="rank correlation")
    shown = [Figure(svg, "Pairs", "A row a pair: likeness with interval.")]
    return Section(
        "What does one changed assumption do?",
        "Each pair is the same method on the same model and images, but for the assumption that is changed.",
        figures=shown if rows else [], tables=tables,
    )  # fmt: skip


def _maps(result: Study) -> Section:
    found = result.explained
    names = [name for name, one in result.tested.items() if one.maps is not None]
    places = np.unique(np.linspace(0, len(found.rows) - 1, min(_SHOWN, len(found.rows))).round().astype(int))
    sheet = []
    for k in places:
        row = [grey(found.pictures.images[found.rows[k]])]
        for name in names:
            maps = result.tested[name].maps
            assert maps is not None
            row.append(coloured(maps[k]))
        other, _ = result.dissent(names[0], int(k))
        sheet.append([*row, coloured(result.maps_of(other)[k])])
    large = [[np.asarray(Image.fromarray(p).resize((_PIXELS, _PIXELS), Image.Resampling.NEAREST)) for p in row]
             for row in sheet]  # fmt: skip
    rows = [(found.pictures.case_ids[found.rows[k]], f"{numerals.number(alike, 2)} ({other})")
            for k in places for other, alike in [result.dissent(names[0], int(k))]]  # fmt: skip
    return Section(
        "How do they look?",
        f"Red speaks for the class, blue against; each map has its own scale. Columns: the image, {', '.join(names)}, "
        f"and the explanation that disagrees most with {names[0]}.",
        pictures=[Picture(gallery.tiles(large, pixels=_PIXELS), "Images, maps, and the map that disagrees most")],
        tables=[Table("Dissent", ("Case", f"Least like {names[0]}"), rows, "lr")],
    )  # fmt: skip


def _tests(result: Study) -> Section:
    cells = []
    for name, one in result.tested.items():
        if one.refused:
            cells.append((name, "", one.refused, "", "", "", ""))
        for w in one.warrants:
            interval = f" ({w.interval[0]:.3g} to {w.interval[1]:.3g})" if w.interval else ""
            verdict = "cannot tell" if w.passed is None else "passed" if w.passed else "failed"
            cells.append((name, w.id, f"{w.value:.3g}{interval}", verdict, str(w.n),
                          "no" if w.internal else "yes", w.note))  # fmt: skip
    missing = [(name, test, why) for name, one in result.tested.items() for test, why in (one.not_run or {}).items()
               if why != "it does not apply to this configuration"]  # fmt: skip
    titles = ("Configuration", "Test", "Value (95 %)", "", "n", "Independent?", "Note")
    tables = [Table("Tests", titles, cells, "llrlrll",
                    note="n: patients, or images where the value is that of the worst one.")]  # fmt: skip
    if missing:
        tables.append(Table("Not run", ("Configuration", "Test", "Why"), missing, "lll"))
    return Section(
        "Which tests does an explanation pass?",
        "Tests assume things as well. One that shares its absence or its locality with the explanation, or that holds "
        "it against itself, is no independent word.",
        tables=tables,
    )  # fmt: skip


def _places(result: Study) -> Section:
    measures = list(dict.fromkeys(m for one in result.tested.values() for m in (one.placed or {})))
    cells = [(name, *(_with(one.placed[m]) if one.placed and m in one.placed else numerals.MISSING for m in measures))
             for name, one in result.tested.items() if one.maps is not None]  # fmt: skip
    return Section(
        "Where do the maps lie?",
        "Against the readers' masks, each one by itself, beside what the readers reach among themselves; and how much "
        "of a map lies on the marker that should not matter, beside its area.",
        tables=[Table("Places", ("Configuration", *measures), cells)],
    )  # fmt: skip


def _claims(result: Study) -> Section:
    kinds = registry().claims.claims
    words = {"licensed": "yes", "needs": "needs", "refused": "no"}
    cells = []
    for kind, row in kinds.items():
        said = [next((words[one.verdict] for one in tested.licences if one.claim.kind == kind), "")
                for tested in result.tested.values() if not tested.refused]  # fmt: skip
        cells.append((row.says, *said))
    names = [name for name, tested in result.tested.items() if not tested.refused]
    why = [(name, kinds[one.claim.kind].says, one.verdict, one.why) for name, tested in result.tested.items()
           for one in tested.licences if one.verdict != "refused"]  # fmt: skip
    tables = [Table("What may be said", ("Claim", *names), cells, "l" * (1 + len(names)))]
    if why:
        tables.append(Table("On what", ("Configuration", "Claim", "", "Why"), why, "llll"))
    return Section(
        "What may be claimed?",
        "Yes: by definition, or because the tests that it needs have passed and one of them is independent. Needs: "
        "tests that have not passed yet. The reasons stand on each card.",
        tables=tables,
    )  # fmt: skip


def methods(result: Study) -> str:
    """Return the methods as paragraphs for a paper."""
    found, s = result.explained, result.settings
    trained = (f"A classifier of five convolutions was trained for {s.steps} steps on images of {s.side} pixels of "
               "other patients, twice from two seeds; the first is explained. " if found.trained
               else f"The model {found.model_id} was explained as it is. ")  # fmt: skip
    return (
        f"{trained}{_images(result)} were explained by configurations of medaudit's registry "
        f"({registry().hash[:16]}): each is a method with twelve choices, of which each has a sentence that must be "
        "assumed. Configurations share banks of gradients, paths and masked images, so that a difference between two "
        "of them is none of chance. References of absence are given in intensities.\n\n"
        "Two configurations that differ in one choice were compared by Spearman's correlation of signed maps with mid-"
        "ranks. Their distance less what is within reruns of each is given with a bootstrap interval over patients; "
        "where nothing is drawn, the noise is what twice the steps of a path change. p-values, where something is "
        "drawn, are of an exchange of reruns between the two for each patient, corrected by Holm; coalitions of units "
        "are drawn once for all images and for both, noise for each image. Which assumption moves a map most is a "
        "functional analysis of variance of maps of "
        "length 1 over all combinations of the levels.\n\nTests and their thresholds are those of the registry; what a "
        "test assumes itself decides whether it is independent."
    )  # fmt: skip


def _images(result: Study) -> str:
    # Of a model that was not trained here nobody knows which images it has seen.
    found = result.explained
    return f"{len(found.rows)} {'held-out ' if found.trained else ''}images"


def _share(e: object) -> str:
    value, low, high = (100 * getattr(e, key) for key in ("value", "low", "high"))
    return numerals.with_interval(value, low, high, "%")


def _with(e: object) -> str:
    value, low, high = (numerals.number(getattr(e, key), 2) for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"
