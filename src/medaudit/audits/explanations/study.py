"""What an explanation assumes, measured: pairs that differ in one assumption, which assumption moves it most, tests."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medaudit.audits.explanations.advice import configuration_of
from medaudit.audits.explanations.opened import Explained, evenly
from medaudit.audits.explanations.settings import ExplainSettings
from medaudit.errors import DataError, UsageError
from medaudit.explanation.assumptions import (
    Claim,
    Configuration,
    License,
    applies,
    internal,
    license,
    registry,
)
from medaudit.explanation.assumptions.claims import Status
from medaudit.explanation.attributions.audit import refusals
from medaudit.explanation.attributions.explananda import Bound, Explanandum
from medaudit.explanation.attributions.run import Banks, Subject, attribute, decided, refused
from medaudit.explanation.warrants import anova, curves, localisation, randomisation
from medaudit.explanation.warrants.comparison import Effect, agreement_matrix, effect, mass_share, spearman
from medaudit.explanation.warrants.invariance import determinism
from medaudit.explanation.warrants.maps import mean_estimate
from medaudit.explanation.warrants.warrant import Warrant, judged
from medaudit.statistics import Estimate

CLAIMS = tuple(registry().claims.claims)
CONTRASTS = (
    "ig-black", "ig-mean-image", "occlusion-mean-colour", "occlusion(absence=black)", "gradient",
    "kernel-shap-mean-colour",
)  # fmt: skip
"""Asked where nothing else that was asked can disagree."""
_TESTED, _RERUN = 16, 4  # images of the tests that ask a model most often, and of a rerun
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
    """The share that the model is right for."""
    balanced: Estimate | None
    """The mean over classes of that share: by lot, or by always naming one class, it is 1 / ``present``."""
    present: int
    """Classes that there are among the held-out images."""
    pairs: dict[str, PairResult]
    profile: anova.Profile | None
    levels: dict[str, tuple[str, ...]]
    no_profile: str
    tested: dict[str, Tested]
    agreement: np.ndarray
    """(K, K, N) of all maps of ``dissent``, signed Spearman."""
    names: tuple[str, ...]
    """Of the K."""
    beside: dict[str, Tested]
    """Of ``names``: what was asked only so that somebody may disagree; nothing of it was tested."""
    asked: int
    reused: int

    def maps_of(self, name: str) -> np.ndarray:
        """Return the maps (N, *spatial) of one of ``names``."""
        tested = self.tested.get(name) or self.beside.get(name)
        if tested is not None and tested.maps is not None:
            return tested.maps
        both = self.pairs[name.partition(":")[0]].maps
        assert both is not None
        return both[1]

    def config_of(self, name: str) -> Configuration:
        """Return the configuration of one of ``names``."""
        tested = self.tested.get(name) or self.beside.get(name)
        return tested.config if tested is not None else self.pairs[name.partition(":")[0]].b

    def dissent(self, name: str, case: int) -> tuple[str, float]:
        """Return the configuration whose map of a case is least like that of ``name``, and how like it is.

        NaN where no likeness can be told, because the map of ``name`` is the same everywhere: then the first one that
        is not. Never ``name`` itself.
        """
        own = self.names.index(name)
        others = [k for k in range(len(self.names)) if k != own]
        known = [k for k in others if np.isfinite(self.agreement[own, k, case])]
        if known:
            other = min(known, key=lambda k: float(self.agreement[own, k, case]))
            return self.names[other], float(self.agreement[own, other, case])
        says = [k for k in others if np.ptp(self.maps_of(self.names[k])[case]) > 0]
        return self.names[(says or others)[0]], float("nan")


def study(found: Explained, settings: ExplainSettings, tell: Tell = lambda _: None) -> Study:
    """Return the study; ``tell`` hears what is being done."""
    banks = [Banks(found.subject) for _ in range(settings.runs)]
    known = refusals(found.subject.model, found.subject.x)
    owners = found.pictures.patients[found.rows].tolist()

    def maps_of(config: Configuration, k: int = 0) -> np.ndarray:
        return attribute(config, found.subject, seed=settings.seed + k, banks=banks[k]).maps.cpu().numpy()

    def why_not(config: Configuration) -> str:
        return refused(config, found.subject, known) or ""

    pairs: dict[str, PairResult] = {}
    for name, (a, b) in settings.chosen_pairs().items():
        tell(f"pair {name}")
        why = why_not(a) or why_not(b)
        # A model of somebody's own may raise anything, and must not end what can be asked of it.
        try:
            pairs[name] = PairResult(a, b, None, why) if why else _pair(a, b, maps_of, settings, owners)
        except Exception as error:
            pairs[name] = PairResult(a, b, None, _line(error))
    tell("which assumption moves the answer most")
    profile, no_profile = _profile(settings, maps_of, why_not, owners)
    tested = {}
    for name, config in settings.chosen().items():
        tell(f"tests of {name}")
        why = why_not(config)
        try:
            tested[name] = Tested(config, why) if why else _tested(config, found, settings, banks, maps_of(config),
                                                                   owners)  # fmt: skip
        except Exception as error:
            tested[name] = Tested(config, _line(error))
    there = {name: one.maps for name, one in tested.items() if one.maps is not None}
    if not there:
        first = next(iter(tested.values()), None)
        raise DataError("no configuration can be run on this model" + (f": {first.refused}" if first else ""))
    keys = {one.config.key for one in tested.values() if one.maps is not None}
    for name, pair in pairs.items():
        if pair.maps is not None and pair.b.key not in keys:
            there[f"{name}: {pair.b.label()}"] = pair.maps[1]
            keys.add(pair.b.key)
    beside = _beside(keys, maps_of, why_not) if len(keys) < 2 else {}
    there |= {name: one.maps for name, one in beside.items() if one.maps is not None}
    if len(keys) + len(beside) < 2:
        raise DataError("nothing that can be run on this model disagrees with its one explanation; ask for another "
                        "configuration beside it")  # fmt: skip
    agreement = agreement_matrix(list(there.values()), "spearman")
    accuracy, balanced, present = _accuracy(found, settings)
    asked, reused = (sum(getattr(one, count) for one in banks) for count in ("asked", "reused"))
    return Study(settings, found, accuracy, balanced, present, pairs, profile, settings.varied, no_profile, tested,
                 agreement, tuple(there), beside, asked, reused)  # fmt: skip


def _beside(
    keys: set[str], maps_of: Callable[[Configuration], np.ndarray], why_not: Callable[[Configuration], str]
) -> dict[str, Tested]:  # fmt: skip
    """Return the first of ``CONTRASTS`` that is another configuration than those of ``keys`` and can be run."""
    for text in CONTRASTS:
        name, config = configuration_of(text)
        if config.key in keys or why_not(config):
            continue
        try:
            return {name: Tested(config, "", maps_of(config))}
        except Exception:
            continue
    return {}


def _line(error: BaseException) -> str:
    """Return what an error says, in one line; what is none of ours with its kind."""
    said = (str(error).strip() or "no reason given").splitlines()[0]
    return said if isinstance(error, UsageError | DataError) else f"{type(error).__name__}: {said}"


def _accuracy(found: Explained, settings: ExplainSettings) -> tuple[Estimate | None, Estimate | None, int]:
    """Return the share that is right, its mean over classes, and how many classes there are to be told."""
    shown = found.pictures
    y = shown.y[shown.held]
    known = y >= 0
    if not known.any():
        return None, None, 0
    right, y = (found.told == y)[known], y[known]
    counts = np.bincount(y, minlength=1)
    present = int((counts > 0).sum())
    more: dict[str, Any] = {"patients": shown.patients[shown.held][known].tolist(), "resamples": settings.resamples,
                            "seed": settings.seed}  # fmt: skip
    share = mean_estimate(right, name="share that is right", share=True, **more)
    # Each class weighs the same: who always names the commonest is no better than lot.
    weighed = right * len(y) / (present * counts[y])
    return share, mean_estimate(weighed, name="share that is right, mean over classes", **more), present


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
    settings: ExplainSettings, maps_of: Callable[[Configuration], np.ndarray], why_not: Callable[[Configuration], str],
    owners: list[Any],
) -> tuple[anova.Profile | None, str]:  # fmt: skip
    """Return which assumption moves integrated gradients most, over all combinations of the levels asked for."""
    varied, some = settings.varied, settings.combined()
    if len(varied) < 2:
        return None, "fewer than two assumptions were varied"
    for one in some:
        if why := why_not(one):
            return None, f"{one.label()}: {why}"
    try:
        maps = np.stack([maps_of(one) for one in some])
        shape = tuple(len(levels) for levels in varied.values())
        return anova.sensitivity_profile(
            maps.reshape(*shape, *maps.shape[1:]), tuple(varied), patients=owners, resamples=settings.resamples,
            seed=settings.seed,
        ), ""  # fmt: skip
    except Exception as error:
        return None, _line(error)


def _tested(
    config: Configuration, found: Explained, settings: ExplainSettings, banks: list[Banks], maps: np.ndarray,
    owners: list[Any],
) -> Tested:  # fmt: skip
    subject = found.subject
    own: dict[str, Any] = {"patients": owners, "fewest": settings.min_patients, "seed": settings.seed}
    told: dict[str, Warrant] = {}
    not_run: dict[str, str] = {}
    judges = {name: {"absence": _grey(config, subject)} for name in ("deletion", "insertion")}

    def run(name: str, make: Callable[[], Any], *, of: np.ndarray | None = None, **options: Any) -> None:
        """Make and judge a test; ``of``: of these images alone."""
        if not applies(name, config):
            not_run[name] = "it does not apply to this configuration"
            return
        inside = internal(name, config, judges.get(name))
        notes = [inside] if inside else []
        if of is not None:
            options["patients"] = [owners[k] for k in of]
            notes += [f"of {len(of)} of {len(owners)} images"] if len(of) < len(owners) else []
        try:
            told[name] = judged(name, make(), internal=inside is not None, note="; ".join(notes), **{**own, **options})
        except Exception as error:
            not_run[name] = _line(error)

    def explain(model: nn.Module, x: Tensor, targets: Tensor) -> Tensor:
        # The class that was explained stays the same, and what it is compared with: else another model's map would be
        # of another question. A second column is what a margin is taken to.
        against = targets[:, 1] if targets.ndim > 1 else None
        asked = replace(subject, model=model, x=x, others=(), target=targets if against is None else targets[:, 0],
                        against=against)  # fmt: skip
        return attribute(config, asked, seed=settings.seed).maps

    bound = banks[0].of(("f", "logit"), lambda: _logit(subject))
    against = decided(config, banks[0])[1]
    assert bound.target is not None
    targets = bound.target if against is None else torch.stack([bound.target, against], 1)
    raw = torch.from_numpy(maps).to(subject.x)
    grey = subject.intensity.reference("grey", subject.x[:1])
    # Spread evenly: of a table that is sorted the first are alike.
    few, rerun = (evenly(len(owners), most) for most in (_TESTED, _RERUN))

    def part(rows: np.ndarray) -> tuple[Tensor, Tensor]:
        which = torch.from_numpy(rows).to(subject.x.device)
        return subject.x[which], targets[which]

    if (gap := attribute(config, subject, seed=settings.seed, banks=banks[0]).gap) is not None:
        run("completeness", lambda: gap.cpu().numpy())
    elif applies("completeness", config):
        not_run["completeness"] = "what is missing to the sum is not known of this map"
    run("determinism", lambda: determinism(explain, subject.model, *part(rerun)), of=rerun)
    random = torch.Generator().manual_seed(settings.seed)
    for name in ("deletion", "insertion"):
        run(name, partial(_gain, bound, subject.x, raw, absent=grey, way=name, generator=random))
    run("road", partial(_gain, bound, subject.x, raw, absent=None, way="road", generator=random,
                        shares=curves.ROAD_SHARES))  # fmt: skip
    run("randomisation", lambda: _randomised(explain, subject, *part(few), settings.seed), of=few)
    if subject.others:
        run("repeatability", lambda: randomisation.between_models(
            explain, (subject.model, *subject.others), *part(few))[0, 1], of=few)  # fmt: skip
    else:
        not_run["repeatability"] = "it needs the model trained again"
    placed = _placed(config, found, maps, owners, settings, run, not_run)
    status: dict[str, Status] = {
        name: "not-run" if one.passed is None else "passed" if one.passed else "failed" for name, one in told.items()
    }
    scope = config["scope"].value
    licences = tuple(license(Claim(kind, scope), config, status, judged_with=judges) for kind in CLAIMS)
    return Tested(config, "", maps, tuple(told.values()), licences, placed, not_run)


def _randomised(
    explain: Callable[[nn.Module, Tensor, Tensor], Tensor], subject: Subject, x: Tensor, targets: Tensor, seed: int
) -> np.ndarray:  # fmt: skip
    """Return (N,): how alike maps are to those of the model with all of its layers drawn anew, the mean of two draws.

    What ``parameter_randomisation(...).complete`` returns, without the maps of every layer on the way.
    """
    if subject.pool is None and randomisation.has_statistics(subject.model):
        raise UsageError("the model has batch normalisation, and there are no other images to take its statistics anew")
    names = randomisation.layers_of(subject.model, x)
    own, alike = explain(subject.model, x, targets), []
    for draw in range(2):
        moving = copy.deepcopy(subject.model).eval()
        for k, name in enumerate(names):
            randomisation.randomise(moving, [name], seed=seed + 1_000 * draw + k)
        if subject.pool is not None:
            randomisation.refresh_statistics(moving, subject.pool)
        alike.append(spearman(own, explain(moving, x, targets), absolute=True))
    return np.mean(alike, axis=0)


def _gain(bound: Bound, x: Tensor, raw: Tensor, **how: Any) -> np.ndarray:
    return curves.curves(bound, x, raw, controls=("random",), **how).gain("random")


def _grey(config: Configuration, subject: Subject) -> str:
    """Return the grey that deletion and insertion take, as the configuration writes it where it is the same."""
    one = config["absence"]
    if one.value == "constant" and (level := one.param("value")) is not None:
        same = subject.intensity.of(level) == subject.intensity.of("grey")
        return str(one) if bool(same.all()) else "constant(grey)"
    return "constant(grey)"


def _logit(subject: Subject) -> Bound:
    return Explanandum("logit", subject.target).of(subject.model, subject.x)


def _placed(
    config: Configuration, found: Explained, maps: np.ndarray, owners: list[Any], settings: ExplainSettings,
    run: Callable[..., None], not_run: dict[str, str],
) -> dict[str, Estimate]:  # fmt: skip
    """Return where the maps lie: against each reader's mask, and on the marker; with the tests that follow from it."""
    shown, rows = found.pictures, found.rows
    placed: dict[str, Estimate] = {}
    if shown.masks:
        masks = shown.marked(rows)
        told = localisation.localise(maps, masks)
        for measure in ("auroc", "auprc", "mass", "iou", "pointing"):
            if measure in told.values:
                placed[measure] = mean_estimate(_over_readers(told.values[measure]), owners, name=measure,
                                                resamples=settings.resamples, seed=settings.seed)  # fmt: skip
        run("mask-auroc", lambda: _over_readers(told.values["auroc"]))
        # By lot a map's share of mass is the mask's share of the image: of the same images and readers.
        area = _over_readers(np.where(np.isfinite(told.values["mass"]), told.chance, np.nan))
        if np.isfinite(area).any():
            run("mass-in-mask", lambda: _over_readers(told.values["mass"]), threshold=float(np.nanmean(area)))
        else:
            not_run["mass-in-mask"] = "no map has mass"
        if len(masks) > 1:
            run("annotator-ceiling", lambda: told.below_ceiling("iou", owners, resamples=settings.resamples))
            placed["ceiling"] = mean_estimate(_over_readers(told.ceiling["iou"]), owners, name="IoU of readers",
                                              resamples=settings.resamples, seed=settings.seed)  # fmt: skip
        else:
            not_run["annotator-ceiling"] = "it needs the masks of two readers"
    if shown.marker is not None:
        marked = shown.marker[rows] > 127
        placed["marker"] = mean_estimate(mass_share(maps, marked, kind="absolute"), owners, name="mass on the marker",
                                         resamples=settings.resamples, seed=settings.seed)  # fmt: skip
        placed["marker_area"] = mean_estimate(marked.mean((1, 2)), owners, name="area of the marker",
                                              resamples=settings.resamples, seed=settings.seed)  # fmt: skip
    return placed


def _over_readers(values: np.ndarray) -> np.ndarray:
    """Return (N,): the mean over readers (A, N), of those that there are; NaN where there is none."""
    known = np.isfinite(values)
    count = known.sum(0)
    return np.where(count > 0, np.where(known, values, 0.0).sum(0) / np.maximum(count, 1), np.nan)
