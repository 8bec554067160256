"""What the study of uncertainties was asked: every choice that its findings depend on."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from medaudit.errors import DataError, UsageError

SHIFTS = ("image", "anatomy", "mixed")
"""Image characteristic shift, anatomical feature shift (arXiv 2509.18326), or both at once."""
PRESETS = ("fast", "cpu", "gpu")
"""Of ``training.classification``; named here so that a wrong one is refused before torch is loaded."""
METHOD_PRESETS = ("fetal-ood-8",)


@dataclass(frozen=True)
class MethodChoice:
    """One method of a study: its name, the ``score`` that stands for it, and its options."""

    name: str
    score: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MethodList:
    """The methods of a study, and what must be said of how they were chosen."""

    title: str
    methods: tuple[MethodChoice, ...]
    note: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The methods' names, in order."""
        return tuple(choice.name for choice in self.methods)


@dataclass(frozen=True)
class Settings:
    """The options of ``medaudit ood``; see its help for what each means."""

    tasks: tuple[str, ...]
    ood: tuple[str, ...] = ()
    shifts: tuple[str, ...] = ()
    acquire: tuple[str, ...] = ()
    methods: str = "fetal-ood-8"
    match: str = "auto"
    preset: str = "cpu"
    seeds: int = 3
    split: tuple[float, float, float] = (0.5, 0.15, 0.35)
    flip: bool = True
    ood_cost: float = 0.5
    device: str = "cpu"
    seed: int = 0
    resamples: int = 2_000
    min_patients: int = 20

    def __post_init__(self) -> None:
        if not self.tasks:
            raise UsageError(
                "no task: say with --task COLUMN what a model is to be trained to tell; repeat for several"
            )
        if len(set(self.tasks)) < len(self.tasks):
            raise UsageError(f"a task is named twice: {', '.join(self.tasks)}")
        if len(set(self.ood)) < len(self.ood):
            raise UsageError(f"an --ood is named twice: {'; '.join(self.ood)}")
        if not self.ood and not self.acquire:
            raise UsageError(
                "no shift: say with --ood EXPRESSION which cases are out of distribution, or --acquire NAME"
            )
        if len(self.shifts) != len(self.ood):
            raise UsageError(
                f"{len(self.ood)} --ood and {len(self.shifts)} --shift; expected one --shift for each --ood, in order"
            )
        for shift in self.shifts:
            if shift not in SHIFTS:
                raise UsageError(f"no shift '{shift}'; expected one of {', '.join(SHIFTS)}")
        if self.preset not in PRESETS:
            raise UsageError(f"no preset is called '{self.preset}'; there are: {', '.join(PRESETS)}")
        if self.seeds < 1:
            raise UsageError(f"--seeds is {self.seeds}; expected 1 or more")
        if len(self.split) != 3 or min(self.split) <= 0:
            raise UsageError("--split needs three shares above 0: training, validation, test, as 0.5,0.15,0.35")
        if not 0 < self.ood_cost < 1:
            raise UsageError(f"--ood-cost is {self.ood_cost}; expected more than 0 and less than 1")


def method_list(text: str) -> MethodList:
    """Return the methods that ``--methods`` names: a preset, a file like it, names with commas, or ``all``.

    ``name.score`` picks which score stands for a method. Raises UsageError for a name that is not known, DataError for
    a file that cannot be read.
    """
    if text in METHOD_PRESETS:
        file = resources.files("medaudit.uncertainty") / "presets" / f"{text}.toml"
        return _parsed(tomllib.loads(file.read_text()), text)
    if text.endswith(".toml"):
        path = Path(text)
        try:
            return _parsed(tomllib.loads(path.read_text()), path.name)
        except FileNotFoundError:
            raise DataError(f"{path}: no such file") from None
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{path}: cannot be read as TOML ({error})") from None
    from medaudit.uncertainty.methods import METHODS

    named = list(METHODS) if text == "all" else [name.strip() for name in text.split(",") if name.strip()]
    return _checked(text, [dict(zip(("name", "score"), name.split(".", 1), strict=False)) for name in named], "")


def _parsed(content: Mapping[str, Any], source: str) -> MethodList:
    entries = content.get("methods")
    if not isinstance(entries, list) or not all(isinstance(e, dict) and "name" in e for e in entries):
        raise DataError(f"{source}: expected [[methods]] tables, each with a name")
    return _checked(str(content.get("title", source)), entries, str(content.get("note", "")))


def _checked(title: str, entries: list[dict[str, Any]], note: str) -> MethodList:
    from medaudit.uncertainty.methods import METHODS

    chosen = []
    for entry in entries:
        name = str(entry["name"])
        if name not in METHODS:
            raise UsageError(f"no method is called '{name}'; there are: {', '.join(METHODS)}")
        score = str(entry.get("score", next(iter(METHODS[name].scores))))
        if score not in METHODS[name].scores:
            raise UsageError(f"{name} has no score '{score}'; it has: {', '.join(METHODS[name].scores)}")
        options = {key: value for key, value in entry.items() if key not in ("name", "score")}
        known = _options_of(METHODS[name].score)
        for key in options:
            if key not in known:
                raise UsageError(f"{name} has no option '{key}'; it has: {', '.join(known) or 'none'}")
        chosen.append(MethodChoice(name, score, options))
    if not chosen:
        raise UsageError("no method was named; expected a preset, names with commas, or 'all'")
    if len({choice.name for choice in chosen}) < len(chosen):
        raise UsageError(f"{title}: a method is named twice")
    return MethodList(title, tuple(chosen), note)


def _options_of(function: Any) -> tuple[str, ...]:
    import inspect

    return tuple(inspect.signature(function).parameters)[1:]
