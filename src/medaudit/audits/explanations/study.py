"""What an explanation assumes, measured: pairs that differ in one assumption, which assumption moves it most, tests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medaudit.audits.explanations.opened import Explained
from medaudit.audits.explanations.settings import ExplainSettings
from medaudit.errors import DataError, UsageError
from medaudit.explanation.assumptions import (
    Claim,
    Configuration,
    License,
    applies,
    configuration,
    internal,
    license,
    registry,
)
from medaudit.explanation.assumptions.claims import Status
from medaudit.explanation.attributions.audit import refusals
from medaudit.explanation.attributions.run import Banks, Subject, attribute, refused
from medaudit.explanation.warrants import anova, curves, localisation, randomisation
from medaudit.explanation.warrants.comparison import Effect, agreement_matrix, effect, mass_share, spearman
from medaudit.explanation.warrants.invariance import determinism
from medaudit.explanation.warrants.maps import mean_estimate
from medaudit.explanation.warrants.warrant import Warrant, judged
from medaudit.statistics import Estimate

CLAIMS = tuple(registry().claims.claims)
_TESTED = 16  # images of the tests that ask a model most often
Tell = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class PairResult:
    """Two configurations that differ in one assumption."""

    a: Configuration
    b: Configuration
    effect: Effect | None
    refused: str = ""
    maps: tuple[np.ndarray, np.ndarray] | None = None
    """(N, *spatial) each, of the first seed."""


@dataclass(frozen=True, eq=False)
class Tested:
    """A configuration with its maps, its tests, and what may be claimed on its strength."""

    config: Configuration
    refused: str = ""
    maps: np.ndarray | None = None
    warrants: tuple[Warrant, ...] = ()
    licences: tuple[License, ...] = ()
    placed: dict[str, Estimate] | None = None
    """AUROC, mass and more against masks; and the mass on the marker."""
    not_run: Mapping[str, str] | None = None
    """Tests that could not be made, and why."""


@dataclass(frozen=True, eq=False)
class Study:
    """All that the report is made of."""

    settings: ExplainSettings
    explained: Explained
    accuracy: Estimate | None
    pairs: dict[str, PairResult]
    profile: anova.Profile | None
    levels: dict[str, tuple[str, ...]]
    no_profile: str
    tested: dict[str, Tested]
    agreement: np.ndarray
    """(K, K, N) of all maps of ``dissent``, signed Spearman."""
    names: tuple[str, ...]
    """Of the K."""
    asked: int
    reused: int

    def maps_of(self, name: str) -> np.ndarray:
        """Return the maps (N, *spatial) of one of ``names``."""
        tested = self.tested.get(name)
        if tested is not None and tested.maps is not None:
            return tested.maps
        both = self.pairs[name.partition(":")[0]].maps
        assert both is not None
        return both[1]

    def config_of(self, name: str) -> Configuration:
        """Return the configuration of one of ``names``."""
        return self.tested[name].config if name in self.tested else self.pairs[name.partition(":")[0]].b

    def dissent(self, name: str, case: int) -> tuple[str, float]:
        """Return the configuration whose map of a case is least like that of ``name``, and how like it is."""
        row = self.agreement[self.names.index(name), :, case].copy()
        row[self.names.index(name)] = np.inf
        other = int(np.argmin(np.where(np.isnan(row), np.inf, row)))
        return self.names[other], float(row[other])


def study(found: Explained, settings: ExplainSettings, tell: Tell = lambda _: None) -> Study:
    """Return the study; ``tell`` hears what is being done."""
    banks = [Banks(found.subject) for _ in range(settings.runs)]
    known = refusals(found.subject.model, found.subject.x)
    owners = found.pictures.patients[found.rows].tolist()

    def maps_of(config: Configuration, k: int = 0) -> np.ndarray:
        return attribute(config, found.subject, seed=settings.seed + k, banks=banks[k]).maps.cpu().numpy()

    pairs: dict[str, PairResult] = {}
    for name, (a, b) in settings.chosen_pairs().items():
        tell(f"pair {name}")
        why = refused(a, found.subject, known) or refused(b, found.subject, known)
        pairs[name] = PairResult(a, b, None, why) if why else _pair(a, b, maps_of, settings, owners)
    tell("which assumption moves the answer most")
    profile, no_profile = _profile(found, settings, maps_of, owners)
    tested = {}
    for name, config in settings.chosen().items():
        tell(f"tests of {name}")
        why = refused(config, found.subject, known)
        tested[name] = Tested(config, why) if why else _tested(config, found, settings, banks, maps_of(config), owners)
    there = {name: one.maps for name, one in tested.items() if one.maps is not None}
    if not there:
        first = next(iter(tested.values()), None)
        raise DataError("no configuration can be run on this model" + (f": {first.refused}" if first else ""))
    for name, one in pairs.items():
        if one.maps is not None and one.b.key not in {t.config.key for t in tested.values()}:
            there.setdefault(f"{name}: {one.b.label()}", one.maps[1])
    agreement = agreement_matrix(list(there.values()), "spearman")
    return Study(settings, found, _accuracy(found), pairs, profile, dict(settings.factors), no_profile, tested,
                 agreement, tuple(there), sum(b.asked for b in banks), sum(b.reused for b in banks))  # fmt: skip


def _accuracy(found: Explained) -> Estimate | None:
    shown = found.pictures
    known = shown.y[shown.held] >= 0
    if not known.any():
        return None
    right = (found.told == shown.y[shown.held])[known]
    return mean_estimate(right, shown.patients[shown.held][known].tolist(), name="share that is right", share=True)


def _chancy(config: Configuration) -> bool:
    return config["chance"].value != "deterministic"


def _pair(
    a: Configuration, b: Configuration, maps_of: Callable[[Configuration, int], np.ndarray], settings: ExplainSettings,
    owners: list[Any],
) -> PairResult:  # fmt: skip
    """Return how far two configurations are apart beyond their own noise.

    What nothing is drawn for is run once; its noise is then what finer steps change (twice the nodes of a path).
    """
    runs = {side: range(settings.runs) if _chancy(c) else range(1) for side, c in (("a", a), ("b", b))}
    a_runs, b_runs = [maps_of(a, k) for k in runs["a"]], [maps_of(b, k) for k in runs["b"]]
    floor = None
    if len(a_runs) == len(b_runs) == 1:
        finer = [_finer(c, m, maps_of) for c, m in ((a, a_runs[0]), (b, b_runs[0]))]
        floor = (finer[0] + finer[1]) / 2
    found = effect(
        a_runs, b_runs, patients=owners, floor=floor, resamples=settings.resamples, seed=settings.seed,
        fewest=settings.min_patients,
    )  # fmt: skip
    return PairResult(a, b, found, maps=(a_runs[0], b_runs[0]))


def _finer(
    config: Configuration, maps: np.ndarray, maps_of: Callable[[Configuration, int], np.ndarray]
) -> np.ndarray:  # fmt: skip
    """Return (N,): how far a map is from the same with twice the steps; 0 where there are none."""
    if config["locality"].value != "path":
        return np.zeros(len(maps))
    finer = config.with_(nodes=2 * int(str(config.param("locality", "nodes"))))
    return 1 - spearman(maps, maps_of(finer, 0))


def _profile(
    found: Explained, settings: ExplainSettings, maps_of: Callable[[Configuration, int], np.ndarray], owners: list[Any]
) -> tuple[anova.Profile | None, str]:  # fmt: skip
    """Return which assumption moves integrated gradients most, over all combinations of the levels asked for."""
    factors = {atom: levels for atom, levels in settings.factors.items() if len(levels) > 1}
    if len(factors) < 2:
        return None, "fewer than two assumptions were varied"
    some = [configuration("integrated-gradients", None, **dict(zip(factors, levels, strict=True)))
            for levels in itertools.product(*factors.values())]  # fmt: skip
    for one in some:
        if why := refused(one, found.subject):
            return None, f"{one.label()}: {why}"
    maps = np.stack([maps_of(one, 0) for one in some])
    shape = tuple(len(levels) for levels in factors.values())
    return anova.sensitivity_profile(
        maps.reshape(*shape, *maps.shape[1:]), tuple(factors), patients=owners, resamples=settings.resamples,
        seed=settings.seed,
    ), ""  # fmt: skip


def _tested(
    config: Configuration, found: Explained, settings: ExplainSettings, banks: list[Banks], maps: np.ndarray,
    owners: list[Any],
) -> Tested:  # fmt: skip
    subject = found.subject
    few = slice(0, _TESTED)
    more: dict[str, Any] = {"patients": owners, "fewest": settings.min_patients, "seed": settings.seed}
    told: dict[str, Warrant] = {}
    not_run: dict[str, str] = {}

    def run(name: str, make: Callable[[], Any], *, judge: str | None = None, **options: Any) -> None:
        if not applies(name, config):
            not_run[name] = "it does not apply to this configuration"
            return
        inside = internal(name, config, {"absence": judge} if judge else None)
        try:
            told[name] = judged(name, make(), internal=inside is not None, note=inside or "", **{**more, **options})
        except (UsageError, DataError) as error:
            not_run[name] = str(error)

    def explain(model: nn.Module, x: Tensor, targets: Any = None) -> Tensor:
        # The class that was explained stays the same: else another model's map would be of another question.
        asked = replace(subject, model=model, x=x, others=(), target=targets if targets is not None else subject.target)
        return attribute(config, asked, seed=settings.seed).maps

    bound = banks[0].of(("f", "logit"), lambda: _logit(subject))
    raw = torch.from_numpy(maps).to(subject.x)
    grey = subject.intensity.reference("grey", subject.x[:1])
    target = bound.target
    some = None if target is None else target[few]
    image: dict[str, Any] = {"patients": owners[few]}
    if (gap := attribute(config, subject, seed=settings.seed, banks=banks[0]).gap) is not None:
        run("completeness", lambda: gap.cpu().numpy())
    four = None if target is None else target[:4]
    run("determinism", lambda: determinism(explain, subject.model, subject.x[:4], four), patients=owners[:4])
    random = torch.Generator().manual_seed(settings.seed)
    for name in ("deletion", "insertion"):
        found_curves = curves.curves(bound, subject.x, raw, absent=grey, way=name, generator=random)
        run(name, partial(found_curves.gain, "random"), judge="constant(grey)")
    run("road", lambda: curves.road(bound, subject.x, raw, generator=random).gain("random"), judge="inpaint")
    run("randomisation", lambda: randomisation.parameter_randomisation(
        explain, subject.model, subject.x[few], some, seeds=2, data=subject.pool, seed=settings.seed,
    ).complete, **image)  # fmt: skip
    if subject.others:
        run("repeatability", lambda: randomisation.between_models(
            explain, (subject.model, *subject.others), subject.x[few], some)[0, 1], **image)  # fmt: skip
    else:
        not_run["repeatability"] = "it needs the model trained again"
    placed = _placed(config, found, maps, owners, settings, run, not_run)
    status: dict[str, Status] = {
        name: "not-run" if one.passed is None else "passed" if one.passed else "failed" for name, one in told.items()
    }
    judge = {"deletion": {"absence": "constant(grey)"}, "insertion": {"absence": "constant(grey)"}}
    scope = config["scope"].value
    licences = tuple(license(Claim(kind, scope), config, status, judged_with=judge) for kind in CLAIMS)
    return Tested(config, "", maps, tuple(told.values()), licences, placed, not_run)


def _logit(subject: Subject) -> Any:
    from medaudit.explanation.attributions.explananda import Explanandum

    return Explanandum("logit", subject.target).of(subject.model, subject.x)


def _placed(
    config: Configuration, found: Explained, maps: np.ndarray, owners: list[Any], settings: ExplainSettings,
    run: Callable[..., None], not_run: dict[str, str],
) -> dict[str, Estimate]:  # fmt: skip
    """Return where the maps lie: against each reader's mask, and on the marker; with the tests that follow from it."""
    shown, rows = found.pictures, found.rows
    placed: dict[str, Estimate] = {}
    if len(shown.masks):
        masks = shown.masks[:, rows]
        told = localisation.localise(maps, masks)
        for measure in ("auroc", "auprc", "mass", "iou", "pointing"):
            if measure in told.values:
                placed[measure] = mean_estimate(_over_readers(told.values[measure]), owners, name=measure,
                                                resamples=settings.resamples, seed=settings.seed)  # fmt: skip
        run("mask-auroc", lambda: _over_readers(told.values["auroc"]))
        run("mass-in-mask", lambda: _over_readers(told.values["mass"]), threshold=float(np.nanmean(told.chance)))
        if len(masks) > 1:
            run("annotator-ceiling", lambda: told.below_ceiling("iou", owners, resamples=settings.resamples))
            placed["ceiling"] = mean_estimate(_over_readers(told.ceiling["iou"]), owners, name="IoU of readers")
        else:
            not_run["annotator-ceiling"] = "it needs the masks of two readers"
    if shown.marker is not None:
        marked = shown.marker[rows]
        placed["marker"] = mean_estimate(mass_share(maps, marked, kind="absolute"), owners, name="mass on the marker",
                                         resamples=settings.resamples, seed=settings.seed)  # fmt: skip
        placed["marker_area"] = mean_estimate(marked.mean((1, 2)), owners, name="area of the marker")
    return placed


def _over_readers(values: np.ndarray) -> np.ndarray:
    """Return (N,): the mean over readers (A, N), of those that there are; NaN where there is none."""
    known = np.isfinite(values)
    count = known.sum(0)
    return np.where(count > 0, np.where(known, values, 0.0).sum(0) / np.maximum(count, 1), np.nan)
