"""What an explanation costs: forward and backward passes for one case, as formulas of its own parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

from medaudit.errors import UsageError
from medaudit.explanation.assumptions.choice import Choice
from medaudit.explanation.assumptions.configuration import Configuration
from medaudit.explanation.assumptions.registry import ATOMS, Registry, registry

PIXELS = 224 * 224
"""Of an image, where the caller does not say how many."""
_MOST = 1_000  # units of which all coalitions are still a number


@dataclass(frozen=True)
class Passes:
    """Passes for one case."""

    forward: Any
    backward: Any
    trainings: Any = 0.0
    """Models that must be trained besides, once for all cases."""

    @property
    def work(self) -> Any:
        """In forward passes; a backward pass counts as two, as is usual."""
        return self.forward + 2 * self.backward


def cost(config: Configuration, *, pixels: int = PIXELS, known: Registry | None = None) -> Passes:
    """Return what one case costs, ``pixels`` (or variables, edges) being how many units it has without a grouping.

    All is done again for each model, or each answer, where a mean, a set or a dissent of several is asked for.
    """
    return passes_of(config.family, lambda atom, number: number(config[atom]), pixels, known or registry())


def passes_of(family: str, of: Callable[[str, Callable[[Choice], float]], Any], pixels: int, known: Registry) -> Passes:
    """Return what a family costs; ``of`` turns a choice's number into one, or into an array over many choices."""
    formulas = known.families[family].cost
    several = of("plurality", lambda one: _param(one, "n"))
    forward, backward, trained = (
        _sum(text, of, pixels) for text in (formulas.forward, formulas.backward, formulas.trainings)
    )
    if formulas.plural == "models":
        trained = trained * several + (several - 1) * (formulas.trainings == "0")
    return Passes(forward * several, backward * several, trained)


def factors(text: str) -> list[list[str]]:
    """Return the terms of a formula, each as its factors; UsageError where one is no number and no known word."""
    terms = [[factor.strip() for factor in term.split("*")] for term in text.split("+")]
    for factor in (factor for term in terms for factor in term):
        atom, dot, name = factor.partition(".")
        if factor in ("units", "2^units") or (dot and atom in ATOMS and name.isidentifier()):
            continue
        try:
            float(factor)
        except ValueError:
            raise UsageError(
                f"'{factor}' in the formula '{text}'; expected a number, units, 2^units or choice.parameter"
            ) from None
    return terms


def _sum(text: str, of: Callable[[str, Callable[[Choice], float]], Any], pixels: int) -> Any:
    total: Any = 0.0
    for term in factors(text):
        product: Any = 1.0
        for factor in term:
            atom, _, name = factor.partition(".")
            if factor == "units":
                product = product * of("units", lambda one: _units(one, pixels))
            elif factor == "2^units":
                product = product * of("units", lambda one: _coalitions(one, pixels))
            elif atom in ATOMS:
                product = product * of(atom, lambda one, name=name: _param(one, name))  # type: ignore[misc]
            else:
                product = product * float(factor)
        total = total + product
    return total


def _units(one: Choice, pixels: int) -> float:
    if one.value == "grid":
        return min(float(pixels), _param(one, "cells") ** 2)
    return min(float(pixels), _param(one, "segments")) if one.value == "superpixel" else float(pixels)


def _coalitions(one: Choice, pixels: int) -> float:
    units = _units(one, pixels)
    return 2.0**units if units <= _MOST else inf


def _param(one: Choice, name: str) -> float:
    """Return a number of a choice, 1 where it has none: a factor that does not count."""
    level = one.param(name) if one.has(name) else None
    return float(level) if isinstance(level, (int, float)) else 1.0
