"""Graph edit distance against all assignments one by one, networkx's exact search, and the laws of a metric."""

from collections.abc import Iterator
from itertools import combinations
from os import environ
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from medaudit.cohort.graphs import Graph
from medaudit.errors import DataError, UsageError
from medaudit.metrics.graph_edit import EditCosts, edit_distance, edit_distances, isomorphic
from medaudit.metrics.graph_edit.lower import least_assignment

UNEQUAL = EditCosts(1.3, 0.9, 1.5, 0.7, 1.1, 1.6)
HEAVY = EditCosts(1.0, 1.2, 0.8, 0.9, 1.0, 0.5, weight=0.7, feature=0.4)


def drawn(rng, n, *, density=0.5, kinds=2, numbers=False) -> Graph:
    edges = [pair for pair in combinations(range(n), 2) if rng.random() < density]
    return Graph.of(
        f"g{n}", rng.integers(kinds, size=n), np.array(edges, dtype=int).reshape(-1, 2),
        rng.integers(kinds, size=len(edges)), weights=rng.normal(size=len(edges)) if numbers else None,
        features=rng.normal(size=(n, 2)) if numbers else None,
    )  # fmt: skip


def assignments(n, m, taken=()) -> Iterator[tuple[int, ...]]:
    if len(taken) == n:
        yield taken
        return
    for j in range(-1, m):
        if j < 0 or j not in taken:
            yield from assignments(n, m, (*taken, j))


def least_of_all(g: Graph, h: Graph, c: EditCosts) -> float:
    """The least cost over every assignment, deletions among them, edge by edge from the definition."""

    def looked_up(graph):
        weights = graph.weights if graph.weights is not None else np.zeros(len(graph.edges))
        table = {}
        for (i, k), kind, w in zip(graph.edges.tolist(), graph.edge_kinds, weights, strict=True):
            table[i, k] = table[k, i] = (kind, w)
        return table

    ours, theirs = looked_up(g), looked_up(h)
    least = np.inf
    for f in assignments(g.n, h.n):
        total = c.node_insertion * (h.n - sum(j >= 0 for j in f))
        for i, j in enumerate(f):
            if j < 0:
                total += c.node_deletion
                continue
            change = c.node_substitution * (g.nodes[i] != h.nodes[j])
            if c.feature:
                change += c.feature * float(np.sqrt(((g.features[i] - h.features[j]) ** 2).sum()))
            total += min(change, c.node_deletion + c.node_insertion)
        left = set(theirs)
        for (i, k), (kind, w) in ours.items():
            if i > k:
                continue
            at = (f[i], f[k])
            if at not in theirs:
                total += c.edge_deletion
                continue
            left -= {at, at[::-1]}
            change = c.edge_substitution * (kind != theirs[at][0]) + c.weight * abs(w - theirs[at][1])
            total += min(change, c.edge_deletion + c.edge_insertion)
        least = min(least, total + c.edge_insertion * len(left) / 2)
    return least


@pytest.mark.parametrize("costs", [EditCosts(), UNEQUAL, HEAVY], ids=["unit", "unequal", "weights"])
def test_distance_is_the_least_over_all_assignments(costs):
    rng = np.random.default_rng(1)
    for _ in range(12):
        g, h = (drawn(rng, rng.integers(1, 6), numbers=costs is HEAVY) for _ in range(2))
        least = least_of_all(g, h, costs)
        quick, proven = edit_distance(g, h, costs=costs), edit_distance(g, h, costs=costs, budget=30)
        assert quick.lower - 1e-9 <= least <= quick.upper + 1e-9
        assert proven.exact
        assert proven.upper == pytest.approx(least, abs=1e-5)


def test_distance_of_six_nodes_is_the_least_over_all_assignments():
    rng = np.random.default_rng(2)
    for n, m in ((6, 6), (6, 5), (4, 6)):
        g, h = drawn(rng, n), drawn(rng, m)
        assert edit_distance(g, h, budget=30).upper == least_of_all(g, h, EditCosts())


def of_networkx(graph: Graph) -> nx.Graph:
    made = nx.Graph()
    made.add_nodes_from((i, {"kind": kind}) for i, kind in enumerate(graph.nodes.tolist()))
    made.add_edges_from((*pair, {"kind": k}) for pair, k in zip(graph.edges.tolist(), graph.edge_kinds, strict=True))
    return made


def same_kind(a, b):
    return a["kind"] == b["kind"]


@pytest.mark.parametrize("kinds", [1, 3])
def test_distance_is_networkxs_exact_one(kinds):
    rng = np.random.default_rng(3)
    for n, m in ((7, 7), (6, 7), (7, 4), (5, 5), (3, 6), (1, 4)):
        g, h = drawn(rng, n, density=0.35, kinds=kinds), drawn(rng, m, density=0.35, kinds=kinds)
        theirs = nx.graph_edit_distance(of_networkx(g), of_networkx(h), node_match=same_kind, edge_match=same_kind)
        found = edit_distance(g, h, budget=30)
        assert (found.lower, found.upper, found.exact) == (theirs, theirs, True)


@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_bounds_hold_the_proven_distance_and_a_distance_is_none_for_the_same_graph_only(seed, n, m):
    rng = np.random.default_rng(seed)
    g, h = drawn(rng, n, density=0.3), drawn(rng, m, density=0.3)
    quick = edit_distance(g, h, effort=int(rng.integers(0, 20)))
    proven = edit_distance(g, h, budget=30)
    assert quick.lower <= proven.upper <= quick.upper
    assert (proven.upper == 0) == (isomorphic(g, h) is not None)
    back = edit_distance(h, g, budget=30)
    assert back.upper == proven.upper
    turned = edit_distance(h, g, costs=UNEQUAL.turned(), effort=0)
    assert turned.lower == pytest.approx(edit_distance(g, h, costs=UNEQUAL, effort=0).lower)


def test_exact_distances_obey_the_triangle_inequality():
    rng = np.random.default_rng(4)
    for costs in (EditCosts(), HEAVY):
        for _ in range(6):
            a, b, c = (drawn(rng, rng.integers(2, 7), density=0.4, numbers=True) for _ in range(3))
            ab, bc, ac = (edit_distance(*pair, costs=costs, budget=30) for pair in ((a, b), (b, c), (a, c)))
            assert ab.exact
            assert bc.exact
            assert ac.exact
            assert ac.upper <= ab.upper + bc.upper + 1e-5


def test_renumbering_changes_neither_the_distance_nor_the_lower_bound():
    rng = np.random.default_rng(5)
    for _ in range(8):
        g, h = drawn(rng, 10, density=0.25), drawn(rng, 8, density=0.25)
        same = edit_distance(g, g.renumbered(rng.permutation(10)), budget=30)
        assert (same.lower, same.upper) == (0, 0)
        other = (g.renumbered(rng.permutation(10)), h.renumbered(rng.permutation(8)))
        here, there = edit_distance(g, h), edit_distance(*other)
        assert here.lower == there.lower
        assert abs(here.upper - there.upper) <= 2
        proven = edit_distance(g, h, budget=30), edit_distance(*other, budget=30)
        assert proven[0].exact
        assert proven[0].upper == proven[1].upper


def test_matched_nodes_are_the_slot_formula():
    rng = np.random.default_rng(6)
    for n, m in ((20, 20), (12, 17), (17, 12)):
        g, h = drawn(rng, n, kinds=1), drawn(rng, m, kinds=1)
        size = max(n, m)
        a, b = (np.pad(graph.matrix() > 0, (0, size - graph.n)).astype(int) for graph in (g, h))
        found = edit_distance(g, h, matched=True)
        assert found.exact
        assert found.upper == found.lower == np.abs(a - b).sum() / 2 + abs(n - m)
        free = edit_distance(g, h, starts=["identity"], effort=0)
        assert free.upper <= found.upper


def test_matched_connectomes_differ_by_their_weights():
    rng = np.random.default_rng(7)
    g = drawn(rng, 15, kinds=1, numbers=True)
    h = Graph.of("h", g.nodes, g.edges, g.edge_kinds, weights=g.weights + rng.normal(size=len(g.edges)) / 10)
    found = edit_distance(g, h, costs=EditCosts(weight=2), matched=True)
    assert found.upper == pytest.approx(2 * np.abs(g.weights - h.weights).sum())
    assert len(found.path.edge_substitutions) == len(g.edges) == len(found.path)
    assert edit_distance(g, h, matched=True).upper == 0


def test_a_budget_closes_what_the_bounds_leave_open_and_never_widens_it():
    rng = np.random.default_rng(8)
    opened = 0
    for _ in range(4):
        g, h = drawn(rng, 11, density=0.2, kinds=3), drawn(rng, 13, density=0.2, kinds=3)
        none, little, much = (edit_distance(g, h, effort=0, budget=seconds) for seconds in (0, 0.02, 60))
        opened += not none.exact
        assert none.lower <= little.lower <= much.lower == much.upper <= little.upper <= none.upper
        assert much.exact
    assert opened


def test_more_starts_and_kicks_never_make_a_distance_longer():
    rng = np.random.default_rng(9)
    g, h = drawn(rng, 18, density=0.15), drawn(rng, 22, density=0.15)
    plain = edit_distance(g, h, effort=0).upper
    order = np.r_[rng.permutation(18)[:10], [-1] * 8]
    for starts in (["random"], ["identity"], [order], ["identity", "random", order]):
        assert edit_distance(g, h, starts=starts, effort=0).upper <= plain
    uppers = [edit_distance(g, h, effort=effort).upper for effort in (0, 5, 50, 200)]
    assert uppers == sorted(uppers, reverse=True)
    back = np.where(np.isin(np.arange(22), order), [int(np.flatnonzero(order == j).sum()) for j in range(22)], -1)
    assert edit_distance(h, g, starts=[back], effort=0).upper <= edit_distance(h, g, effort=0).upper


def test_many_pairs_do_not_depend_on_jobs_nor_on_each_other():
    rng = np.random.default_rng(10)
    graphs = [drawn(rng, rng.integers(3, 14), density=0.25) for _ in range(12)]
    pairs = list(combinations(graphs, 2)) + [(g, g) for g in graphs]
    alone = edit_distances(pairs, starts=["random"], seed=3)
    assert len(alone) == len(pairs) > 64
    assert edit_distances(pairs, starts=["random"], seed=3, jobs=2) == alone
    assert edit_distance(*pairs[40], starts=["random"], seed=3) == alone[40]
    assert edit_distances(pairs[::-1], starts=["random"], seed=3)[::-1] == alone
    assert edit_distances([]) == []


def sides(graph: Graph) -> list[list[tuple[int, float]]]:
    weights = graph.weights if graph.weights is not None else np.zeros(len(graph.edges))
    found: list[list[tuple[int, float]]] = [[] for _ in range(graph.n)]
    for pair, kind, weight in zip(graph.edges.tolist(), graph.edge_kinds, weights, strict=True):
        for i in pair:
            found[i].append((kind, weight))
    return found


def square(change: np.ndarray, deletion: np.ndarray, insertion: np.ndarray) -> float:
    """The least sum where rows may be deleted and columns inserted, as a square assignment of rows and columns more."""
    n, m = change.shape
    cost = np.full((n + m, n + m), 1e6)
    cost[:n, :m] = change
    cost[np.arange(n), m + np.arange(n)] = deletion
    cost[n + np.arange(m), np.arange(m)] = insertion
    cost[n:, m:] = 0
    return float(cost[linear_sum_assignment(cost)].sum())


@pytest.mark.parametrize("costs", [EditCosts(), UNEQUAL, HEAVY], ids=["unit", "unequal", "weights"])
def test_lower_bound_without_effort_is_branch_and_the_ascent_only_raises_it(costs):
    rng = np.random.default_rng(12)
    raised = 0
    for _ in range(6):
        g, h = (drawn(rng, rng.integers(3, 10), density=0.4, numbers=True) for _ in range(2))
        ours, theirs, c = sides(g), sides(h), costs
        branch = np.empty((g.n, h.n))
        for i, j in np.ndindex(g.n, h.n):
            edges = np.array([[c.edge_substitution * (a != b) + c.weight * abs(v - w) for b, w in theirs[j]]
                              for a, v in ours[i]]).reshape(len(ours[i]), len(theirs[j]))  # fmt: skip
            half = square(edges, np.full(len(edges), c.edge_deletion), np.full(edges.shape[1], c.edge_insertion)) / 2
            apart = c.feature * float(np.linalg.norm(g.features[i] - h.features[j]))
            change = c.node_substitution * (g.nodes[i] != h.nodes[j]) + apart
            branch[i, j] = min(change, c.node_deletion + c.node_insertion) + half
        known = square(
            branch,
            c.node_deletion + c.edge_deletion * g.degrees / 2,
            c.node_insertion + c.edge_insertion * h.degrees / 2,
        )
        lowers = [edit_distance(g, h, costs=c, effort=effort).lower for effort in (0, 10, 50, 500)]
        upper = edit_distance(g, h, costs=c, budget=30).upper
        # Costs that are all whole allow to round up.
        assert lowers[0] == pytest.approx(min(np.ceil(known - 1e-9) if costs == EditCosts() else known, upper))
        assert all(a <= b + 1e-9 for a, b in zip(lowers, [*lowers[1:], upper], strict=True))
        raised += lowers[-1] > lowers[0]
    assert raised >= 3


def test_unit_of_the_costs_does_not_matter():
    rng = np.random.default_rng(13)
    g, h = drawn(rng, 7, density=0.4), drawn(rng, 9, density=0.4)
    for budget in (0, 30):
        one = edit_distance(g, h, costs=UNEQUAL, budget=budget)
        for unit in (1e-6, 1e6):
            other = edit_distance(
                g, h, costs=EditCosts(*(unit * np.array([1.3, 0.9, 1.5, 0.7, 1.1, 1.6]))), budget=budget
            )
            assert other.upper == pytest.approx(unit * one.upper, rel=1e-5)
            assert other.lower == pytest.approx(unit * one.lower, rel=1e-5)
    assert (
        edit_distance(g, h, costs=EditCosts(2, 2, 2, 2, 2, 2), budget=30).upper
        == 2 * edit_distance(g, h, budget=30).upper
    )
    free = edit_distance(g, h, costs=EditCosts(0, 0, 0, 0, 0, 0))
    assert (free.lower, free.upper, free.exact) == (0, 0, True)


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_least_assignment_is_scipys(seed, n, more):
    cost = np.random.default_rng(seed).integers(-5, 9, (n, n + more)).astype(float)
    f = np.empty(n, dtype=np.int64)
    found = least_assignment(cost, f)
    assert found == pytest.approx(cost[linear_sum_assignment(cost)].sum())
    assert cost[np.arange(n), f].sum() == pytest.approx(found)
    assert len(set(f.tolist())) == n


def test_what_cannot_be_measured_is_refused():
    rng = np.random.default_rng(11)
    g, h = drawn(rng, 4), drawn(rng, 5, numbers=True)
    with pytest.raises(UsageError, match=r"edge_deletion is -1; expected a finite"):
        EditCosts(edge_deletion=-1)
    with pytest.raises(UsageError, match=r"node_substitution is 3; expected at most a deletion and an insertion, 2"):
        EditCosts(node_substitution=3)
    with pytest.raises(DataError, match=r"graphs g4 and g5: weights have a cost"):
        edit_distance(g, h, costs=EditCosts(weight=1))
    with pytest.raises(DataError, match=r"graphs g5 and g4: features have a cost"):
        edit_distance(h, g, costs=EditCosts(feature=1), matched=True)
    with pytest.raises(UsageError, match=r'no start is called "best"'):
        edit_distance(g, h, starts=["best"])
    with pytest.raises(UsageError, match=r"a node of g5 or -1 for each of 4 nodes"):
        edit_distance(g, h, starts=[[0, 1]])
    with pytest.raises(UsageError, match=r"a budget of -1 s"):
        edit_distance(g, h, budget=-1)
    with pytest.raises(UsageError, match=r"0 jobs"):
        edit_distances([(g, h)], jobs=0)


@pytest.mark.realdata
def test_molecules_lie_between_their_bounds():
    data = environ.get("MEDAUDIT_DATA", Path(__file__).parents[3] / "shared" / "data")
    folder = Path(data) / "tudataset" / "AIDS" / "raw"
    if not folder.exists():
        pytest.skip(f"no public data at {folder}; set MEDAUDIT_DATA")
    edges, of, kinds, bonds = (
        np.loadtxt(folder / f"AIDS_{what}.txt", delimiter=",", dtype=int)
        for what in ("A", "graph_indicator", "node_labels", "edge_labels")
    )
    at = of[edges[:, 0] - 1]
    molecules = [
        Graph.of(str(k), kinds[of == k], edges[at == k] - 1 - np.argmax(of == k), bonds[at == k])
        for k in range(1, 2001, 37)
    ]
    small = [molecule for molecule in molecules if molecule.n <= 12][:24]
    pairs = list(zip(small[::2], small[1::2], strict=True))
    quick, proven = edit_distances(pairs), edit_distances(pairs, budget=30)
    for (g, h), a, b in zip(pairs, quick, proven, strict=True):
        assert b.exact
        assert a.lower <= b.lower == b.upper <= a.upper
        theirs = nx.graph_edit_distance(
            of_networkx(g), of_networkx(h), node_match=same_kind, edge_match=same_kind, timeout=0.05
        )
        assert b.upper <= theirs
    # What the local search misses on molecules of up to 12 nodes is little.
    assert np.mean([a.upper - b.upper for a, b in zip(quick, proven, strict=True)]) <= 0.5
