"""Descriptors by hand and by networkx, and a discrepancy whose null holds its level."""

import numpy as np
import pytest

from medaudit.cohort.graphs import Graph
from medaudit.errors import DataError
from medaudit.metrics.graph_sets import DESCRIPTORS, clustering, degrees, discrepancies, spectrum

TRIANGLE = Graph.of("t", [0] * 4, [(0, 1), (1, 2), (0, 2)])


def random_graph(rng, n, p):
    matrix = np.triu(rng.random((n, n)) < p, 1)
    return Graph.from_matrix("r", np.zeros(n), (matrix + matrix.T).astype(int))


def test_descriptors_of_a_triangle_and_a_lone_node():
    assert degrees(TRIANGLE)[:3].tolist() == [0.25, 0, 0.75]
    assert (clustering(TRIANGLE)[0], clustering(TRIANGLE)[-1]) == (0.25, 0.75)
    # Of a triangle: 0 and 1.5 twice; of a lone node: 0.
    assert spectrum(TRIANGLE)[[0, 15]].tolist() == [0.5, 0.5]


def test_clustering_and_spectrum_are_networkxs():
    networkx = pytest.importorskip("networkx")
    graph = random_graph(np.random.default_rng(0), 12, 0.4)
    other = networkx.from_numpy_array(graph.matrix())
    wanted = np.histogram(list(networkx.clustering(other).values()), bins=10, range=(0, 1))[0] / 12
    np.testing.assert_allclose(clustering(graph), wanted)
    values = networkx.normalized_laplacian_spectrum(other)
    np.testing.assert_allclose(spectrum(graph), np.histogram(np.clip(values, 0, 2), 20, (0, 2))[0] / 12)


def test_the_unbiased_estimate_is_that_of_its_double_sum():
    rng = np.random.default_rng(1)
    some, others = ([random_graph(rng, 8, p) for _ in range(6)] for p in (0.3, 0.5))
    x = np.stack([degrees(g) for g in (*some, *others)])
    far = [np.sum((a - b) ** 2) for i, a in enumerate(x) for b in x[i + 1 :]]
    kernel = np.exp(-((x[:, None] - x) ** 2).sum(-1) / np.median(far))
    inside = [sum(kernel[i, j] for i in r for j in r if i != j) / 30 for r in (range(6), range(6, 12))]
    across = np.mean([kernel[i, j] for i in range(6) for j in range(6, 12)])
    found = discrepancies(some, others, permutations=99)[0]
    assert found.value == pytest.approx(sum(inside) - 2 * across)


def test_other_graphs_are_told_and_the_same_kind_rarely():
    rng = np.random.default_rng(2)
    same = [random_graph(rng, 10, 0.3) for _ in range(60)]
    other = [random_graph(rng, 10, 0.6) for _ in range(30)]
    assert {one.p <= 0.01 for one in discrepancies(same[:30], other)} == {True}
    called = []
    for k in range(60):
        order = np.random.default_rng(k).permutation(60)
        called.append([one.p <= 0.1 for one in discrepancies(
            [same[i] for i in order[:30]], [same[i] for i in order[30:]], permutations=99, seed=k)])  # fmt: skip
    assert set(DESCRIPTORS) == {one.descriptor for one in discrepancies(same[:3], other[:3], permutations=9)}
    # At a level of 0.1 each descriptor is called in at most 14 of 60 with a probability of 99.9 %.
    assert (np.sum(called, axis=0) <= 14).all()


def test_one_graph_is_no_set():
    with pytest.raises(DataError, match="1 and 2 graphs"):
        discrepancies([TRIANGLE], [TRIANGLE, TRIANGLE])
