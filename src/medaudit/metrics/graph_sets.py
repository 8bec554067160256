"""Do two sets of graphs look alike? Maximum mean discrepancy of their descriptors, with a null by permutation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from medaudit.cohort.graphs import Graph
from medaudit.errors import DataError

_BINS = 10


@dataclass(frozen=True)
class Discrepancy:
    """MMD² (unbiased, so it may be below 0) of one descriptor, and what permutations of the labels give."""

    descriptor: str
    value: float
    p: float
    """Share of permutations that give as much or more, the observed one counted."""
    null_high: float
    """Their 95th percentile."""
    n: int
    m: int


def degrees(graph: Graph) -> np.ndarray:
    """Return the shares of nodes of degree 0, 1, ... and of the last bin or more."""
    return np.bincount(np.minimum(graph.degrees, _BINS - 1), minlength=_BINS) / graph.n


def clustering(graph: Graph) -> np.ndarray:
    """Return the histogram of nodes' clustering coefficients (triangles over pairs of neighbours; 0 with fewer)."""
    a = (graph.matrix() > 0).astype(np.float64)
    triangles = np.einsum("ij,jk,ki->i", a, a, a, optimize=True) / 2
    pairs = graph.degrees * (graph.degrees - 1) / 2
    values = np.divide(triangles, pairs, out=np.zeros(graph.n), where=pairs > 0)
    return np.histogram(values, bins=_BINS, range=(0, 1))[0] / graph.n


def spectrum(graph: Graph) -> np.ndarray:
    """Return the histogram of the eigenvalues of the normalised Laplacian, 0 to 2."""
    a = (graph.matrix() > 0).astype(np.float64)
    root = np.divide(1, np.sqrt(graph.degrees), out=np.zeros(graph.n), where=graph.degrees > 0)
    values = np.linalg.eigvalsh(np.diag((graph.degrees > 0).astype(float)) - root[:, None] * a * root)
    return np.histogram(np.clip(values, 0, 2), bins=2 * _BINS, range=(0, 2))[0] / graph.n


def sizes(graph: Graph) -> np.ndarray:
    """Return the numbers of nodes and of edges."""
    return np.array([graph.n, len(graph.edges)], dtype=np.float64)


DESCRIPTORS: dict[str, Callable[[Graph], np.ndarray]] = {
    "degrees": degrees, "clustering": clustering, "spectrum": spectrum, "sizes": sizes,
}  # fmt: skip


def discrepancies(
    some: Sequence[Graph], others: Sequence[Graph], *, permutations: int = 499, seed: int = 0
) -> list[Discrepancy]:
    """Return the discrepancy of two sets of graphs by each of :data:`DESCRIPTORS`.

    A Gaussian kernel of the median distance of all graphs (Gretton et al., JMLR 2012). Without the null a number says
    nothing: with few graphs two halves of one set differ too. Raises DataError for fewer than 2 graphs in a set.
    """
    n, m = len(some), len(others)
    if min(n, m) < 2:
        raise DataError(f"{n} and {m} graphs; expected 2 or more in both sets")
    rng = np.random.default_rng(seed)
    orders = np.stack([np.arange(n + m), *[rng.permutation(n + m) for _ in range(permutations)]])
    found = []
    for name, describe in DESCRIPTORS.items():
        x = np.stack([describe(graph) for graph in (*some, *others)])
        square = ((x[:, None] - x[None]) ** 2).sum(-1)
        typical = float(np.median(square[np.triu_indices(n + m, 1)]))
        kernel = np.exp(-square / (typical if typical > 0 else 1.0))
        np.fill_diagonal(kernel, 0.0)
        signs = np.zeros((len(orders), n + m))
        np.put_along_axis(signs, orders[:, :n], 1.0, axis=1)
        inside = signs @ kernel
        one = (inside * signs).sum(1) / (n * (n - 1))
        across = (inside * (1 - signs)).sum(1) / (n * m)
        total = kernel.sum() - (inside * signs).sum(1) - 2 * (inside * (1 - signs)).sum(1)
        values = one + total / (m * (m - 1)) - 2 * across
        at_least = (values >= values[0] - 1e-12).mean()
        found.append(Discrepancy(name, float(values[0]), float(at_least), float(np.quantile(values[1:], 0.95)), n, m))
    return found
