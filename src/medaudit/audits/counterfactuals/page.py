"""The page: pairs of graphs with the edits drawn first, then whether to believe them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from medaudit import __version__
from medaudit.audits.counterfactuals.study import Made, Study
from medaudit.cohort import Known
from medaudit.datasets.graphs.molecules import valence_ok
from medaudit.explanation.counterfactuals.explain import Counterfactual
from medaudit.explanation.counterfactuals.slots import Slots
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
from medaudit.report.graph_drawing import graph_change, layout

PAPER = (
    "Abildtrup Hansen A, Pegios P, Calissano A, Feragen A. Graph counterfactual explainable AI via latent space "
    "traversal. NLDL 2025, PMLR 265:75-84. arXiv:2501.08850."
)
_SHOWN, _PIXELS, _LARGEST = 8, 230, 120


def page(
    result: Study, found: list[Finding], run: Run, seconds: float, known: Sequence[Known] = ()
) -> Report:  # fmt: skip
    """Return the report's content; ``known``: what others have found out about the dataset."""
    m = result.material
    doubts = [f.lead for f in found if f.id.startswith("shortcut:") and f.verdict == "supported"][:1]
    flips = next(f.lead for f in found if f.id == "flips")
    return Report(
        title="What would have to change in this graph?",
        subtitle=f"{m.graphs.name}: {len(m.rows)} held-out graphs of {len(m.graphs):,}, '{result.settings.method}'",
        headline=" ".join([*doubts, flips]),
        answers=[Answer.of(f) for f in found],
        sections=list(sections(result)),
        methods=methods(result),
        citations=[PAPER, *([m.graphs.source.citation] if m.graphs.source else [])],
        limits=limits(result),
        provenance=provenance.told(run, m.graphs.name, seconds={"all": seconds}),
        findings=found,
        known=known,
    )  # fmt: skip


def sections(result: Study) -> Iterator[Section]:
    """Yield the page's sections."""
    yield _pairs(result)
    yield _methods(result)
    yield _trivial(result)
    if result.apart:
        yield _apart(result)
    if result.material.rebuilt is not None:
        yield _rebuilt(result)


def _pairs(result: Study) -> Section:
    m, main = result.material, result.main
    order = [k for k in np.argsort(np.nan_to_num(main.upper, nan=np.inf), kind="stable") if main.flips[k]]
    chosen = (
        [order[int(i)] for i in np.unique(np.linspace(0, len(order) - 1, min(_SHOWN, len(order))))] if order else []
    )
    rows, cells = [], []
    for k in chosen:
        one, distance = main.found[k], main.distances[k]
        after = one.after
        if after is None or distance is None or max(one.graph.n, len(after.kinds)) > _LARGEST:
            continue
        places = _placed(one.before, after)
        own = graph_change(one.before.kinds, one.before.bonds, one.before.kinds, one.before.bonds, m.graphs.node_kinds,
                           pixels=_PIXELS, places=places)  # fmt: skip
        change = graph_change(one.before.kinds, one.before.bonds, after.kinds, after.bonds, m.graphs.node_kinds,
                              pixels=_PIXELS, places=places)  # fmt: skip
        rows.append([own, change])
        cells.append(
            (one.graph.id, m.graphs.classes[one.source], m.graphs.classes[one.target],
             numerals.number(one.probability, 2), _between(distance.lower, distance.upper),
             "yes" if one.minimal else "not shown", one.by)
        )  # fmt: skip
    if not rows:
        return Section("What changes?", "No counterfactual flips that could be drawn.")
    half = -(-len(rows) // 2)
    sheet = [rows[i] + (rows[i + half] if i + half < len(rows) else []) for i in range(half)]
    return Section(
        "What changes?",
        "Pairs from the nearest counterfactual to the farthest, down the left, then the right: a graph, and what the "
        "classifier must see to call it otherwise. Red and broken goes, blue comes or is of another kind, grey stays.",
        pictures=[Picture(gallery.tiles(sheet, pixels=_PIXELS), "Graphs, and the same with the edits drawn")],
        tables=[
            Table("The same pairs", ("Graph", "Predicted", "Then", "Probability", "Edit distance",
                                     "Every edit needed", "Found by"), cells, "lllrrll")
        ],
    )  # fmt: skip


def _placed(before: Slots, after: Slots) -> np.ndarray:
    """Return places (n, 2) of the slots; those that are empty before and after take none."""
    there, places = before.there | after.there, np.zeros((len(after.kinds), 2))
    places[there] = layout(((before.bonds > 0) | (after.bonds > 0))[np.ix_(there, there)])
    return places


def _methods(result: Study) -> Section:
    cells, rows = [], []
    for name, made in result.material.made.items():
        e = result.flips[name]
        flips = made.flips
        cells.append(
            (name, numerals.with_interval(100 * e.value, 100 * e.low, 100 * e.high, "%"), _mean(made.lower),
             _mean(made.upper), _needed(made) if name == result.settings.method else "not asked",
             _nodes(made.found, flips),
             _mean(np.array([one.far for one, yes in zip(made.found, flips, strict=True) if yes])))
        )  # fmt: skip
        rows.append({"group": name, "value": 100 * e.value, "low": 100 * e.low, "high": 100 * e.high, "n": e.n})
    floor = result.material.floor
    note = (
        f" A graph is at most {float(floor.mean()):.1f} edits from its own reconstruction, on average: a decode taken "
        "as it is carries these too. Latent distance: of those that a walk found."
        if len(floor) else ""
    )  # fmt: skip
    svg = figures.forest(rows, title="Share of graphs that flip", measure="share", unit="%")
    nearer = [
        (name, numerals.with_interval(e.value, e.low, e.high), numerals.p_cell(e.p), str(e.n))
        for name, e in result.nearer.items()
    ]
    tables = [
        Table("By method", ("Method", "Flips (95 %)", "Distance, at least", "at most", "Every edit needed",
                            "Nodes after", "Latent distance"), cells, "lrrrrrr",
              note="Flips by the classifier's own word on the hard graph without empty slots. Distances: means of "
              "certain bounds of the edit distance (each edit 1), of those that flip." + note)
    ]  # fmt: skip
    if nearer:
        who = "Graphs" if result.material.graphs.patients is None else "Patients"
        titles = ("Method", "Edits more (95 %)", "p", who)
        tables.append(Table("Farther than the method asked for, where both flip", titles, nearer, "lrrr"))
    return Section(
        "Do they flip, and how near are they?",
        "Each method on the same graphs. The paper's baselines are one proposal a graph, taken as it is; ours are "
        "checked, and edits that can be spared are taken back.",
        figures=[
            Figure(svg, "Flips", "A row a method: the share of graphs whose counterfactual flips, with interval.")
        ],
        tables=tables,
    )


def _trivial(result: Study) -> Section:
    m = result.material
    known = {"the classifier": m.classifier, **m.trivial}
    rows = [{"group": name, "value": e.value, "low": e.low, "high": e.high, "n": e.n} for name, e in known.items()]
    chance = 1 / len(m.graphs.classes)
    svg = figures.forest(
        rows, title="What tells the class", measure="balanced accuracy", null_band=(chance, chance + 0.1)
    )
    cells = [(name, numerals.with_interval(e.value, e.low, e.high)) for name, e in known.items()]
    return Section(
        "Is the question trivial?",
        "Balanced accuracy on held-out patients: of the classifier; of a small tree that knows the number of nodes; "
        "nodes, edges, density and parts; how many nodes of each kind. Where a count is as good as the classifier, a "
        "counterfactual need only grow or shrink.",
        figures=[Figure(svg, "Trivial facts", "A row a source of knowledge: its balanced accuracy.")],
        tables=[Table("Balanced accuracy (95 %)", ("Knows", "Value"), cells, "lr")],
    )


def _apart(result: Study) -> Section:
    cells = [
        (what, one.descriptor, numerals.number(one.value), numerals.number(one.null_high), numerals.p_cell(one.p),
         f"{one.n} / {one.m}")
        for what, some in result.apart for one in some
    ]  # fmt: skip
    return Section(
        "Do they look like graphs of the class?",
        "Maximum mean discrepancy of four descriptors from training graphs that the classifier gives the target class; "
        "beside it that of held-out real graphs. p by permutation.",
        tables=[
            Table("From training graphs",
                  ("Graphs", "Descriptor", "MMD²", "95 % of permutations below", "p", "Number"), cells, "llrrrr")
        ],
    )  # fmt: skip


def _rebuilt(result: Study) -> Section:
    r, m = result.material.rebuilt, result.material
    assert r is not None
    some = [one for one in result.main.found if one.rebuilt is not None and one.graph.n <= _LARGEST][:4]
    rows = []
    for one in some:
        if one.rebuilt is None or len(one.rebuilt.kinds) < one.graph.n:
            continue
        own, back = Slots.of(one.graph, len(one.rebuilt.kinds)), one.rebuilt
        rows.append(graph_change(own.kinds, own.bonds, back.kinds, back.bonds, m.graphs.node_kinds, pixels=_PIXELS,
                                 places=_placed(own, back)))  # fmt: skip
    cells = [
        ("F1 of edges", numerals.number(float(r.edge_f1.mean()), 2)),
        ("the same of a guess", numerals.number(float(r.base_f1.mean()), 2)),
        ("wrong pairs a graph", numerals.number(float(r.edge_errors.mean()))),
        ("wrong kinds of nodes a graph", numerals.number(float(r.node_errors.mean()))),
        ("graphs that come back exactly", numerals.percent(float(r.exact.mean()), 0)),
    ]  # fmt: skip
    if len(m.stays):
        cells.append(("explained graphs whose class stays", numerals.percent(float(m.stays.mean()), 0)))
    return Section(
        "Does the autoencoder rebuild graphs?",
        "Held-out graphs by the likeliest decode of their own latents. Below, graphs with what their reconstruction "
        "loses (red) and adds (blue): no counterfactual.",
        pictures=[
            Picture(gallery.tiles([rows], pixels=_PIXELS), "Graphs and what reconstruction does to them")
        ] if rows else [],
        tables=[Table("Reconstruction", ("Of held-out graphs", ""), cells, "lr")],
    )  # fmt: skip


def methods(result: Study) -> str:
    """Return how the study was made, for a paper."""
    s, m = result.settings, result.material
    walk = (
        "a walk through the latent space of a graph autoencoder trained on the same graphs (after CGCF, arXiv "
        "2501.08850, with proximity to the start, a margin and several decodes), "
        if any(one.rebuilt is not None for one in result.main.found) else ""
    )  # fmt: skip
    how = {
        "both": f"{walk}a search by single edits, and the nearest real graphs of the target, whichever was nearest",
        "walk": "a walk through the latent space of a graph autoencoder (after CGCF, arXiv 2501.08850)",
        "search": "a search by single edits",
        "instance": "the nearest real graphs of the target class",
    }[s.method]
    return (
        f"Counterfactuals of {len(m.rows)} held-out graphs (medaudit {__version__}) by {how}. The target is another "
        "class than the one predicted. Proposals were put to the classifier as hard graphs without empty slots; of "
        "those that flip, edits were taken back greedily while the target held, until none could be (1-minimal). Edit "
        "distances: certain lower and upper bounds, each edit 1"
        + (" (nodes matched)" if m.graphs.matched else "")
        + _asked(result)
        + f". {m.deduplicated.dropped} duplicates were left out before the split by patient. Intervals: patients drawn "
        "anew; comparisons of distances: exchange, Holm's correction."
    )


def limits(result: Study) -> Sequence[str]:
    """Return what the study cannot say."""
    found = [
        "A counterfactual is of the classifier, not of nature: it says what would change the prediction.",
        "1-minimal is of single edits: another, smaller set of edits may flip it too; the lower bound of the distance "
        "is between these two graphs, not to the nearest counterfactual there is.",
    ]
    m = result.material
    trained = [*([] if m.users else ["one classifier"]), *(["one autoencoder"] if m.rebuilt is not None else [])]
    if trained:
        found.append(f"{' and '.join(trained).capitalize()} {'were' if len(trained) > 1 else 'was'} trained: another "
                     "training may say otherwise.")  # fmt: skip
    if m.users:
        found.append("Held out means: not used here. Whether the classifier was trained on these graphs is not known.")
    first = m.graphs.graphs[0]
    numbers = [what for what, some in (("weights of edges", first.weights), ("numbers of nodes", first.features))
               if some is not None]  # fmt: skip
    if numbers:
        found.append(f"Nodes, edges and their kinds are edited. {' and '.join(numbers).capitalize()} that stay are "
                     "never changed, and no distance counts them.")  # fmt: skip
    if result.settings.chemistry:
        fine = np.mean([valence_ok(graph, m.graphs) for graph in m.graphs])
        found.append(f"Of the set's own graphs {numerals.percent(float(fine), 0)} have possible valences by "
                     "the check of --chemistry.")  # fmt: skip
    found += [note if note.endswith(".") else f"{note}." for note in m.graphs.notes]
    if m.graphs.matched:
        found.append(
            "Nodes are matched here: an autoencoder that treats them as exchangeable throws away who they are; the "
            "walk's prior is the wrong one for connectomes."
        )
    return found


def _asked(result: Study) -> str:
    """Return what the user forbade; the baselines know nothing of it."""
    s = result.settings
    told = [*([f"nodes {', '.join(map(str, s.freeze))} frozen"] if s.freeze else []), *[f"no {one}" for one in s.keep],
            *(["possible valences only"] if s.chemistry else [])]  # fmt: skip
    return f". Constraints, which the baselines do not keep: {'; '.join(told)}" if told else ""


def _needed(made: Made) -> str:
    least = [one.minimal for one in made.found if one.flips]
    return numerals.percent(float(np.mean(least)), 0) if least else ""


def _between(lower: float, upper: float) -> str:
    return f"{lower:g}" if lower == upper else f"{lower:g} to {upper:g}"


def _mean(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    return numerals.number(float(known.mean())) if len(known) else ""


def _nodes(found: Sequence[Counterfactual], flips: np.ndarray) -> str:
    pairs = [(one.graph.n, one.found.n) for one, yes in zip(found, flips, strict=True) if yes and one.found is not None]
    if not pairs:
        return ""
    before, after = np.mean(pairs, axis=0)
    return f"{before:.1f} → {after:.1f}"
