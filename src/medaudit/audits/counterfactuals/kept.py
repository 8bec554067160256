"""A method's counterfactuals in the run's folder, so that a run that was stopped does not look for them anew."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medaudit.cohort.graphs import Graph
from medaudit.explanation.counterfactuals.explain import Counterfactual
from medaudit.explanation.counterfactuals.slots import Slots

_SLOTS = ("before", "after", "rebuilt")
_ARRAYS = ("kinds", "bonds", "weights", "features")


def keep(path: Path, key: str, found: Sequence[Counterfactual]) -> None:
    """Write the counterfactuals to ``path``, whole or not at all; ``key`` says what they are of."""
    arrays = {"key": np.array(key), "by": np.array([one.by for one in found])}
    arrays["numbers"] = np.array(
        [(o.source, o.target, o.flips, o.probability, o.minimal, o.steps, o.far) for o in found], dtype=np.float64
    )
    for k, one in enumerate(found):
        for which in _SLOTS:
            slots = getattr(one, which)
            for name in _ARRAYS if slots is not None else ():
                if (values := getattr(slots, name)) is not None:
                    arrays[f"{k}/{which}/{name}"] = values
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    with beside.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    os.replace(beside, path)


def kept(path: Path, key: str, graphs: Sequence[Graph]) -> list[Counterfactual] | None:
    """Return the counterfactuals of the graphs that ``path`` holds; None where it holds none, or of another key."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        if str(arrays["key"]) != key or len(arrays["by"]) != len(graphs):
            return None
        found = []
        for k, (graph, by, row) in enumerate(zip(graphs, arrays["by"], arrays["numbers"], strict=True)):
            before, after, again = (_slots(arrays, f"{k}/{which}") for which in _SLOTS)
            assert before is not None
            source, target, flips, probability, least, steps, far = row.tolist()
            found.append(
                Counterfactual(graph, int(source), int(target), before, after, bool(flips), probability, bool(least),
                               str(by), again, int(steps), far)
            )  # fmt: skip
    except (OSError, ValueError, KeyError, AssertionError, zipfile.BadZipFile):
        return None  # damaged: they are looked for anew
    return found


def _slots(arrays: dict[str, np.ndarray], where: str) -> Slots | None:
    if f"{where}/kinds" not in arrays:
        return None
    return Slots(*(arrays.get(f"{where}/{name}") for name in _ARRAYS))  # type: ignore[arg-type]
