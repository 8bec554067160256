"""The exact graph edit distance as an integer programme, or better bounds of it where the time ends first."""

from __future__ import annotations

import numpy as np
from scipy.optimize import Bounds as Limits
from scipy.optimize import LinearConstraint, milp
from scipy.sparse import csr_array, vstack

from medaudit.metrics.graph_edit.bounds import Bounds
from medaudit.metrics.graph_edit.tables import Problem, Rows
from medaudit.metrics.graph_edit.upper import induced_cost

_TOLERANCE = 1e-6


def solve(problem: Problem, known: Bounds, seconds: float) -> Bounds:
    """Return bounds no worse than those known, equal where the distance is proven.

    The programme is F2 of Lerouge et al. (Pattern Recognition 2017) for undirected graphs: x[i, j] whether node j takes
    the place of node i, y[e, e'] whether edge e' takes that of edge e; an edge may only where its ends do. It is
    solved by HiGHS for a solution that is cheaper than ``upper``; where there is none, ``upper`` is the distance.
    Where ``seconds`` end first, its dual bound may raise ``lower``, rounded up only where every cost is whole. Where
    costs are not whole, distances are proven to a millionth of ``upper`` or of the largest cost.
    """
    lower, upper, assignment = known
    if seconds <= 0 or lower >= upper:
        return known
    n, m = problem.nodes.shape
    rates = problem.rates
    mine, mine_at = _edges(problem.small)
    theirs, theirs_at = _edges(problem.large)
    a, b = len(mine), len(theirs)
    x, y = problem.small, problem.large
    change = rates[4] * (x.kinds[mine_at][:, None] != y.kinds[theirs_at])
    change += rates[5] * np.abs(x.weights[mine_at][:, None] - y.weights[theirs_at])
    both = rates[2] + rates[3]
    # What is charged in any case: the larger graph's spare nodes and its edges, inserted; the smaller's, deleted.
    constant = rates[1] * (m - n) + rates[3] * b + rates[2] * a
    # HiGHS' tolerances are absolute; whole costs are left as they are, so that bounds can be rounded.
    unit = 1.0 if problem.whole else problem.largest
    objective = np.concatenate([problem.nodes.ravel(), (np.minimum(change, both) - both).ravel()]) / unit
    matrix, low, high = _constraints(n, m, mine, theirs)
    least_step = 1.0 - _TOLERANCE if problem.whole else _TOLERANCE * max(1.0, upper / unit)
    matrix = vstack([matrix, csr_array(objective[None])])
    low, high = np.append(low, -np.inf), np.append(high, (upper - constant) / unit - least_step)
    # With whole x the best y is whole without being asked to be, and HiGHS is faster unasked.
    found = milp(
        objective, integrality=np.r_[np.ones(n * m), np.zeros(a * b)], bounds=Limits(0, 1),
        constraints=LinearConstraint(matrix, low, high),
        options={"time_limit": float(seconds), "mip_rel_gap": 0.0, "disp": False},
    )  # fmt: skip
    if found.status == 2:
        return Bounds(upper, upper, assignment)
    dual = found.mip_dual_bound
    if dual is not None and np.isfinite(dual):
        dual = float(dual) * unit + constant
        dual = float(np.ceil(dual - _TOLERANCE)) if problem.whole else dual - _TOLERANCE * max(unit, upper)
        lower = max(lower, min(dual, upper))
    if found.x is not None:
        assignment = found.x[: n * m].reshape(n, m).argmax(axis=1)
        upper = float(
            induced_cost(
                assignment, problem.nodes, rates, x.begins, x.ends, x.kinds, x.weights, y.matrix, y.weight_matrix, b
            )
        )
        if found.status == 0:
            lower = upper
    return Bounds(min(lower, upper), upper, assignment)


def _edges(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Return each edge once, (e, 2), and where it stands in the rows."""
    near = np.repeat(np.arange(len(rows.begins) - 1), np.diff(rows.begins))
    at = np.flatnonzero(near < rows.ends)
    return np.stack([near[at], rows.ends[at]], axis=1), at


def _constraints(n: int, m: int, mine: np.ndarray, theirs: np.ndarray) -> tuple[csr_array, np.ndarray, np.ndarray]:
    """Return the constraints' matrix and their lower and upper sides."""
    a, b = len(mine), len(theirs)
    rows: list[np.ndarray] = []
    columns: list[np.ndarray] = []
    values: list[np.ndarray] = []

    def add(row: np.ndarray, column: np.ndarray, value: float) -> None:
        rows.append(row.ravel())
        columns.append(column.ravel())
        values.append(np.full(row.size, value))

    i, j = np.divmod(np.arange(n * m), m)
    add(i, np.arange(n * m), 1.0)
    add(n + j, np.arange(n * m), 1.0)
    count = n + m
    p, q = np.divmod(np.arange(a * b), b) if a * b else (np.zeros(0, dtype=int), np.zeros(0, dtype=int))
    y = n * m + np.arange(a * b)
    # Edge p may become an edge at node j only where j takes the place of one of p's ends; and the other way round.
    for end in range(2):
        add(count + p * m + theirs[q, end], y, 1.0)
        add(count + np.repeat(np.arange(a), m) * m + np.tile(np.arange(m), a),
            np.repeat(mine[:, end], m) * m + np.tile(np.arange(m), a), -1.0)  # fmt: skip
    count += a * m
    for end in range(2):
        add(count + q * n + mine[p, end], y, 1.0)
        add(count + np.repeat(np.arange(b), n) * n + np.tile(np.arange(n), b),
            np.tile(np.arange(n), b) * m + np.repeat(theirs[:, end], n), -1.0)  # fmt: skip
    count += b * n
    matrix = csr_array(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(count, n * m + a * b)
    )
    low = np.full(count, -np.inf)
    low[:n] = 1.0
    return matrix, low, np.r_[np.ones(n + m), np.zeros(count - n - m)]
