"""Edit paths: applied to the first graph they give the second, and they cost what the distance says."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medaudit.cohort.graphs import Graph
from medaudit.errors import UsageError
from medaudit.metrics.graph_edit import EditCosts, apply, edit_distance, edit_path
from medaudit.metrics.graph_edit.tables import Problem
from medaudit.metrics.graph_edit.upper import induced_cost

UNEQUAL = EditCosts(1.3, 0.9, 1.5, 0.7, 1.1, 1.6)
HEAVY = EditCosts(1.0, 1.2, 0.8, 0.9, 1.0, 0.5, weight=0.7, feature=0.4)


def drawn(rng, n, numbers=False) -> Graph:
    edges = [pair for pair in combinations(range(n), 2) if rng.random() < 0.4]
    return Graph.of(
        f"g{n}", rng.integers(2, size=n), np.array(edges, dtype=int).reshape(-1, 2), rng.integers(2, size=len(edges)),
        weights=rng.normal(size=len(edges)) if numbers else None, features=rng.normal(size=(n, 2)) if numbers else None,
    )  # fmt: skip


def any_assignment(rng, n, m) -> np.ndarray:
    f = np.full(n, -1)
    kept = rng.integers(0, min(n, m) + 1)
    f[rng.permutation(n)[:kept]] = rng.permutation(m)[:kept]
    return f


def counted(path, costs) -> float:
    """What the listed edits cost when each is charged by its kind alone."""
    return (
        costs.node_deletion * len(path.node_deletions) + costs.node_insertion * len(path.node_insertions)
        + costs.node_substitution * len(path.node_substitutions) + costs.edge_deletion * len(path.edge_deletions)
        + costs.edge_insertion * len(path.edge_insertions) + costs.edge_substitution * len(path.edge_substitutions)
    )  # fmt: skip


def is_renumbered(made: Graph, path, h: Graph) -> bool:
    order = [j for j in path.assignment if j >= 0] + list(path.node_insertions)
    wanted = h.renumbered(order)
    return np.array_equal(made.nodes, wanted.nodes) and np.array_equal(made.matrix(), wanted.matrix())


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=80, deadline=None)
def test_any_path_applied_gives_the_other_graph_and_costs_its_edits(seed, n, m):
    rng = np.random.default_rng(seed)
    g, h = drawn(rng, n), drawn(rng, m)
    path = edit_path(g, h, any_assignment(rng, n, m), UNEQUAL)
    assert is_renumbered(apply(path, g, h), path, h)
    assert path.cost == pytest.approx(counted(path, UNEQUAL))
    found = edit_distance(g, h, costs=UNEQUAL)
    assert is_renumbered(apply(found.path, g, h), found.path, h)
    assert found.upper == pytest.approx(counted(found.path, UNEQUAL))
    assert found.upper <= path.cost + 1e-9


def test_weights_and_features_come_with_their_edits():
    rng = np.random.default_rng(1)
    for _ in range(10):
        g, h = drawn(rng, 7, True), drawn(rng, 9, True)
        found = edit_distance(g, h, costs=HEAVY)
        made = apply(found.path, g, h)
        order = [j for j in found.path.assignment if j >= 0] + list(found.path.node_insertions)
        wanted = h.renumbered(order)
        assert is_renumbered(made, found.path, h)
        assert np.array_equal(made.weights, wanted.weights)
        assert np.array_equal(made.features, wanted.features)


@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(0, 4))
@settings(max_examples=40, deadline=None)
def test_compiled_cost_is_that_of_the_path(seed, n, more):
    rng = np.random.default_rng(seed)
    g, h = drawn(rng, n, True), drawn(rng, n + more, True)
    problem = Problem.of(g, h, HEAVY)
    f = rng.permutation(n + more)[:n]
    a, b = problem.small, problem.large
    found = induced_cost(
        f, problem.nodes, problem.rates, a.begins, a.ends, a.kinds, a.weights, b.matrix, b.weight_matrix, len(h.edges)
    )
    assert found == pytest.approx(edit_path(g, h, f, HEAVY).cost)


def test_no_exchange_of_two_nodes_is_cheaper_than_what_the_search_returns():
    rng = np.random.default_rng(3)
    for costs in (EditCosts(), HEAVY):
        for n, m in ((8, 8), (9, 7), (7, 10)):
            g, h = drawn(rng, n, True), drawn(rng, m, True)
            found = edit_distance(g, h, costs=costs, effort=0)
            places = [*found.path.assignment, *found.path.node_insertions]
            for i, k in combinations(range(len(places)), 2):
                other = places.copy()
                other[i], other[k] = other[k], other[i]
                assert edit_path(g, h, other[:n], costs).cost >= found.upper - 1e-9


def test_edits_of_a_small_molecule_by_name():
    ethanol = Graph.of("ethanol", [0, 0, 1], [[0, 1], [1, 2]])
    acetic = Graph.of("acetic acid", [0, 0, 1, 1], [[0, 1], [1, 2], [1, 3]], [0, 1, 0])
    found = edit_distance(ethanol, acetic)
    assert found.exact
    assert found.upper == 2
    assert found.path.assignment == (0, 1, 3)
    assert found.path.node_insertions == (2,)
    assert found.path.edge_insertions == ((1, 2),)
    assert len(found.path) == 2
    back = edit_distance(acetic, ethanol).path
    assert (back.node_deletions, back.edge_deletions) == ((2,), ((1, 2),))
    worse = edit_path(ethanol, acetic, [0, 1, 2])
    assert worse.edge_substitutions == (((1, 2), (1, 2)),)
    assert worse.cost == 3


def test_an_assignment_that_is_none_is_refused():
    rng = np.random.default_rng(2)
    g, h = drawn(rng, 4), drawn(rng, 5)
    with pytest.raises(UsageError, match="gives two nodes of g4 the same node of g5"):
        edit_path(g, h, [0, 1, 1, -1])
    for wrong in ([0, 1, 2], [0, 1, 2, 5], [0, 1, 2, -2]):
        with pytest.raises(UsageError, match=r"expected a node of g5 or -1 for each of 4 nodes"):
            edit_path(g, h, wrong)
    path = edit_path(g, h, [0, 1, 2, 3])
    with pytest.raises(UsageError, match="does not fit"):
        apply(path, drawn(rng, 6), h)
