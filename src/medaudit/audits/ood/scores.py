"""The scores of a study: ``values[method, task, seed, case]``, as an array and as the table that is kept.

Whoever made them, they are the same from here on: this study's own models, or somebody's, as a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from medaudit.audits.ood.design import Design
from medaudit.errors import DataError

KEYS = ("case_id", "task", "seed", "method", "score", "value", "prediction")


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of N cases (``rows`` of the cohort) by M methods, T tasks and S seeds; larger is more uncertain.

    ``values`` (M, T, S, N) are the scores that stand for the methods, ``others`` maps ``method.score`` to (T, S, N).
    ``predicted`` (M, T, S, N) is each method's own prediction, an index into the task's classes.
    """

    rows: np.ndarray
    methods: tuple[str, ...]
    tasks: tuple[str, ...]
    seeds: int
    values: np.ndarray
    predicted: np.ndarray
    chosen: tuple[str, ...]
    """Which score stands for each method."""
    others: Mapping[str, np.ndarray]

    def at(self, rows: np.ndarray) -> np.ndarray:
        """Return where cases (rows of the cohort) stand among these N."""
        place = {int(row): i for i, row in enumerate(self.rows)}
        return np.asarray([place[int(row)] for row in rows], dtype=np.int64)

    def frame(self, case_ids: Sequence[str], classes: Mapping[str, Sequence[str]]) -> pl.DataFrame:
        """Return the table that is kept: a row a case, task, seed, method and score."""
        ids = pl.Series("case_id", [case_ids[row] for row in self.rows])
        frames = []
        for m, method in enumerate(self.methods):
            prefix = f"{method}."
            kinds = {self.chosen[m]: self.values[m]}
            kinds |= {k.removeprefix(prefix): v for k, v in self.others.items() if k.startswith(prefix)}
            for t, task in enumerate(self.tasks):
                names = np.asarray(classes[task])
                for s in range(self.seeds):
                    for kind, values in kinds.items():
                        frames.append(
                            pl.DataFrame(
                                {
                                    "case_id": ids,
                                    "task": [task] * len(ids),
                                    "seed": [s] * len(ids),
                                    "method": [method] * len(ids),
                                    "score": [kind] * len(ids),
                                    "value": values[t, s],
                                    "prediction": names[self.predicted[m, t, s]],
                                }
                            )
                        )
        return pl.concat(frames)


def scores_of(frame: pl.DataFrame, design: Design, case_ids: Sequence[str], source: str) -> Scores:
    """Return the scores of a table of the form that :meth:`Scores.frame` writes, for the cases that are scored.

    The first score of a method in the table stands for it; without columns ``score`` and ``seed`` there is one of each.
    Raises DataError naming the case, task or method for which a score is missing, or that is not a finite number.
    """
    for column in ("case_id", "task", "method", "value", "prediction"):
        if column not in frame.columns:
            raise DataError(f"{source}: no column '{column}'; expected {', '.join(KEYS)}")
    if "seed" not in frame.columns:
        frame = frame.with_columns(seed=pl.lit(0))
    if "score" not in frame.columns:
        frame = frame.with_columns(score=pl.lit("score"))
    frame = frame.with_columns(pl.col("case_id", "task", "prediction", "seed").cast(pl.String))
    tasks = tuple(task.name for task in design.tasks)
    absent = [task for task in tasks if task not in set(frame["task"])]
    if absent:
        raise DataError(f"{source}: no score of the task {absent[0]}; it has: {', '.join(sorted(set(frame['task'])))}")
    methods = tuple(dict.fromkeys(frame["method"].to_list()))
    seeds = sorted(set(frame["seed"]))
    rows = design.scored
    wanted = pl.DataFrame({"case_id": [case_ids[row] for row in rows]})
    codes = {task.name: {name: i for i, name in enumerate(task.classes)} for task in design.tasks}
    parts = {
        tuple(str(key) for key in keys): part
        for keys, part in frame.group_by(["method", "score", "task", "seed"], maintain_order=True)
    }
    chosen: dict[str, str] = {}
    for method, score, *_ in parts:
        chosen.setdefault(method, score)
    shape = (len(methods), len(tasks), len(seeds), len(rows))
    values, predicted = np.full(shape, np.nan), np.zeros(shape, dtype=np.int64)
    others: dict[str, np.ndarray] = {}
    for (method, score, task, seed), part in parts.items():
        if task not in tasks:
            continue
        place = methods.index(method), tasks.index(task), seeds.index(seed)
        twice = part["case_id"].filter(part["case_id"].is_duplicated())
        if len(twice):
            raise DataError(
                f"{source}: case {twice[0]} has several {method} {score} of task {task}, seed {seed}; expected one"
            )
        joined = wanted.join(part, on="case_id", how="left", maintain_order="left")
        found = joined["value"].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
        bad = np.flatnonzero(~np.isfinite(found))
        if bad.size:
            raise DataError(
                f"{source}: case {wanted['case_id'][int(bad[0])]} (and {bad.size - 1} more) has no finite {method} "
                f"{score} of task {task}, seed {seed}"
            )
        if score == chosen[method]:
            values[place] = found
            said = joined["prediction"].to_list()
            strange = next((name for name in said if name not in codes[task]), None)
            if strange is not None:
                raise DataError(
                    f"{source}: task {task} predicts '{strange}', which is no class in training: "
                    f"{', '.join(codes[task])}"
                )
            predicted[place] = [codes[task][name] for name in said]
        else:
            blank = np.full((len(tasks), len(seeds), len(rows)), np.nan)
            others.setdefault(f"{method}.{score}", blank)[place[1:]] = found
    hole = np.argwhere(np.isnan(values).any(axis=3))
    if hole.size:
        m, t, s = hole[0]
        raise DataError(f"{source}: no score of method {methods[m]}, task {tasks[t]}, seed {seeds[s]}")
    return Scores(rows, methods, tasks, len(seeds), values, predicted, tuple(chosen[m] for m in methods), others)
