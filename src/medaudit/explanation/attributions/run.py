"""From a configuration of the registry to maps of a model's images, through banks that many configurations share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from medaudit.errors import UsageError
from medaudit.explanation.assumptions import Configuration
from medaudit.explanation.attributions import absence, coalitions, gradients, layers, lrp, masks, paths, shown, units
from medaudit.explanation.attributions.absence import Absence
from medaudit.explanation.attributions.audit import Refusal, refusals
from medaudit.explanation.attributions.explananda import Bound, Explanandum
from medaudit.explanation.attributions.intensity import Intensity
from medaudit.explanation.attributions.rescale import deep_lift
from medaudit.explanation.attributions.units import Units

_DRAWS = 25
"""Draws of a neighbourhood where chance names no number."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A model, the images whose answers are explained, and what the data say of absence."""

    model: nn.Module
    x: Tensor
    """(N, C, *spatial), as the model takes them."""
    intensity: Intensity = field(default_factory=Intensity)
    pool: Tensor | None = None
    """(n, C, *spatial): images of the data, which ``dataset``, ``mean-image`` and ``mean-colour`` are made of."""
    matched: Tensor | None = None
    """(n, C, *spatial): those that were chosen to be what normal means."""
    target: Any = None
    """As of :class:`Explanandum`; None is the predicted class."""
    against: Any = None
    """What a margin is taken to, where that was decided already; None is what the configuration says."""
    mask: Tensor | None = None
    """Where a segmentation's logits are summed."""
    reference: Tensor | None = None
    """Of an embedding."""
    others: tuple[nn.Module, ...] = ()
    """Models that were trained again: what a set of explanations is made of."""
    painter: Callable[[Tensor, Tensor], Tensor] | None = None
    """Paints what a part would be without what is there: a generative model."""
    at_once: int | None = None
    """Rows asked at once; None chooses by memory."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """Maps of one configuration."""

    maps: Tensor
    """(N, *spatial) float32: raw, but for what the configuration's ``shown`` asks."""
    standard_error: Tensor | None = None
    """(N, *spatial) of what chance left, where it is known and the maps are shown signed."""
    gap: Tensor | None = None
    """(N,): the largest share that is missing to the whole, of path integrals and DeepLIFT; None where nothing is said
    of the map that is shown: it was clipped or smoothed, or its sign went."""


class Banks:
    """What was asked of a model already, by what it depends on: two configurations that share it ask once.

    ``asked`` counts what was computed and ``reused`` what was not.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.asked = self.reused = 0
        self._kept: dict[tuple[Any, ...], Any] = {}

    def of(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """Return what is kept under ``key``, made by ``make`` where it is not."""
        if key in self._kept:
            self.reused += 1
            return self._kept[key]
        self.asked += 1
        self._kept[key] = make()
        return self._kept[key]


RUNS = (
    "derivative", "path-integral", "rescale", "shapley", "banzhaf", "surrogate", "occlusion", "mean-mask",
    "epsilon-rule", "composite-rule", "deconvolution", "guided", "gradient-cam", "element-cam", "eigen-cam",
)  # fmt: skip
"""Rules of allocation that give a map of an image."""


def refused(config: Configuration, subject: Subject, found: tuple[Refusal, ...] | None = None) -> str | None:
    """Return why a configuration cannot be run on a subject's model, None where it can; ``found``: of ``refusals``."""
    rule = config["allocation"].value
    if rule not in RUNS:
        return f"{config.family} gives no map of an image here"
    if not config.runs():
        return f"medaudit cannot run {config.label()}"
    for one in refusals(subject.model, subject.x) if found is None else found:
        if one.concerns(rule):
            return str(one)
    absent, part = config["absence"].value, config["units"].value
    if absent in ("conditional", "foil") or part not in ("pixel", "grid", "superpixel", "layer"):
        return f"absence by {absent} and units of kind {part} are not of images"
    if absent in ("mean-image", "dataset") and subject.pool is None:
        return f"absence by {absent} needs images of the data"
    if absent == "matched" and subject.matched is None:
        return "absence by matched needs a cohort that is said to be normal"
    if absent == "generative" and subject.painter is None:
        return "absence by generative needs a model that paints"
    if config["plurality"].value != "one" and (few := _too_few_models(config, subject)):
        return few
    return None


def attribute(config: Configuration, subject: Subject, *, seed: int = 0, banks: Banks | None = None) -> Attribution:
    """Return a configuration's maps of the subject's images.

    What is drawn depends on the seed and an image's number alone. ``banks`` keeps what several configurations need: the
    same masks, draws and paths serve all of them, so that a difference between two is none of chance. Where several
    models answer, all are asked about the class that the first one is asked about. Raises UsageError for a
    configuration that gives no map here and for banks of another subject, and what its parts raise.
    """
    if config["allocation"].value not in RUNS:
        raise UsageError(f"{config.family} gives no map of an image; expected a rule among {', '.join(RUNS)}")
    own = banks if banks is not None else Banks(subject)
    if own.subject is not subject:
        raise UsageError("the banks are of another subject; expected those of this one, or none")
    if config["plurality"].value != "one":
        if few := _too_few_models(config, subject):
            raise UsageError(f"{few}; expected models that were trained again")
        one = config.with_(plurality="one", chance="deterministic")
        target, against = decided(config, own)
        models = (subject.model, *subject.others)
        each = [attribute(one, replace(subject, model=m, others=(), target=target, against=against), seed=seed).maps
                for m in models]  # fmt: skip
        return Attribution(torch.stack(each).mean(0))
    found = _made(config, subject, seed, own)
    maps = _post(found.maps, config)
    as_made = config["shown"].value == "signed" and torch.equal(maps, found.maps)
    gap = found.gap if as_made else None
    if config["scope"].value == "cohort":
        maps = maps.mean(0, keepdim=True).expand(maps.shape).clone()
        return Attribution(maps, None, gap)
    return Attribution(maps, found.standard_error if as_made else None, gap)


def decided(config: Configuration, banks: Banks) -> tuple[Any, Any]:
    """Return which class is explained of each image and which one a margin is taken to, (N,) or None each.

    Decided by the subject's own model: another one that is to be compared with it must be asked about the same.
    """
    bound = _bound(config, banks)
    return bound.target, bound.against


def _too_few_models(config: Configuration, subject: Subject) -> str | None:
    one, there = config["plurality"], 1 + len(subject.others)
    asked = _whole(config, "plurality", "n", 2)
    return None if there >= asked else f"several answers ({one}) need {asked} models, and there is {there}"


def _made(config: Configuration, subject: Subject, seed: int, banks: Banks) -> Attribution:
    rule, x = config["allocation"].value, subject.x
    bound = _bound(config, banks)
    what = _key(config, "explanandum")
    if rule == "derivative":
        return _derivative(config, bound, what, seed, banks)
    if rule in ("path-integral", "rescale"):
        return _path(config, bound, what, seed, banks)
    if rule in ("shapley", "banzhaf", "surrogate", "occlusion", "mean-mask"):
        return _masked(config, bound, what, seed, banks)
    if rule in ("guided", "deconvolution"):
        raw = banks.of((rule, what), lambda: layers.guided(bound, x, subject.model, rule, at_once=subject.at_once))
        return Attribution(_in_units(shown.over_channels(raw), config, banks))
    if rule in ("epsilon-rule", "composite-rule"):
        if rule == "epsilon-rule":
            way: Any = lrp.Rule()
        else:
            low, high = (subject.intensity.reference(end, x[:1]) for end in ("black", "white"))
            way = lrp.composite(str(config.param("allocation", "composite")), low=low, high=high)
        raw = banks.of(
            (rule, _key(config, "allocation"), what), lambda: lrp.lrp(bound, x, way, at_once=subject.at_once)
        )
        return Attribution(_in_units(shown.over_channels(raw), config, banks))
    how = {"gradient-cam": "grad-cam", "eigen-cam": "eigen-cam"}.get(rule) or (
        "layer-cam" if config.family == "layer-cam" else "hires-cam"
    )
    layer = layer_of(subject.model, x, str(config.param("units", "layer")))
    raw = banks.of(
        (how, what, config.param("units", "layer")),
        lambda: layers.activation_map(bound, x, layer, how, relu=False, at_once=subject.at_once),
    )
    if config["shown"].value == "positive":
        raw = raw.clamp(min=0)
    smooth = config.param("shown", "upsample") != "nearest"
    return Attribution(layers.upsampled(raw, tuple(x.shape[2:]), smooth=smooth).float())


def _derivative(config: Configuration, bound: Bound, what: Any, seed: int, banks: Banks) -> Attribution:
    subject, x = banks.subject, banks.subject.x
    near, way = config["locality"].value, config["shown"].value
    if near == "point":
        raw = banks.of(("gradient", what), lambda: gradients.gradient(bound, x, at_once=subject.at_once))
        raw = raw * x if way == "times-input" else raw
        return Attribution(_in_units(shown.over_channels(raw), config, banks))
    law, name = ("gaussian", "sigma") if near == "gaussian" else ("ball", "radius")
    size = _real(config, "locality", name)
    draws = max(2, _whole(config, "chance", "n", _DRAWS))
    bank = banks.of(
        ("neighbours", what, law, size, draws, seed),
        lambda: gradients.gradient_bank(bound, x, subject.intensity.scaled(size, x), draws, law=law, seed=seed,
                                        at_once=subject.at_once),
    )  # fmt: skip
    raw = {"squared": bank.squared, "variance": bank.variance}.get(way, bank.smooth)
    error = bank.smooth_error if way == "signed" and x.shape[1] == 1 and not _pooled(config) else None
    raw = raw * x if way == "times-input" else raw
    return Attribution(
        _in_units(shown.over_channels(raw), config, banks), None if error is None else shown.over_channels(error)
    )


def _path(config: Configuration, bound: Bound, what: Any, seed: int, banks: Banks) -> Attribution:
    subject, x = banks.subject, banks.subject.x
    absent = absence_of(config, subject, seed)
    if config["allocation"].value == "rescale":
        key = ("rescale", what, *_absent(config, seed))
        bank = banks.of(key, lambda: deep_lift(bound, x, absent, at_once=subject.at_once))
    else:
        nodes = _whole(config, "locality", "nodes")
        along = ("path", what, *_absent(config, seed), nodes)
        bank = banks.of(along, lambda: paths.integrated_gradients(bound, x, absent, nodes=nodes, most=max(256, nodes),
                                                                at_once=subject.at_once))  # fmt: skip
    error = None
    if bank.standard_error is not None and x.shape[1] == 1 and not _pooled(config):
        error = shown.over_channels(bank.standard_error)
    return Attribution(_in_units(shown.over_channels(bank.mean), config, banks), error, bank.share.max(0).values)


def _masked(config: Configuration, bound: Bound, what: Any, seed: int, banks: Banks) -> Attribution:
    subject, x, rule = banks.subject, banks.subject.x, config["allocation"].value
    absent, n = absence_of(config, subject, seed), _whole(config, "locality", "n", 1024)
    asked = ("masks", what, *_absent(config, seed))
    if rule == "mean-mask":
        cells, keep = _whole(config, "units", "cells", 7), _real(config, "allocation", "keep")
        maps, error = banks.of(
            (*asked, rule, cells, keep, n, seed),
            lambda: masks.rise(bound, x, absent, cells=cells, share=keep, draws=n, seed=seed, at_once=subject.at_once),
        )
        return Attribution(maps.float(), error.float())
    parts = units_of(config, banks)
    if rule == "occlusion":
        found = banks.of(
            (*asked, rule, _key(config, "units")),
            lambda: masks.ablation(bound, x, parts, absent, at_once=subject.at_once),
        )
        return Attribution(found.painted(parts))
    # One sample serves Shapley's kernel, LIME's and Banzhaf's: what two of them differ in is no matter of draws.
    drawn = coalitions.draw(parts.count, None if parts.count <= coalitions.EXACT else n, seed=seed, law="mixed")
    bank = banks.of(
        (*asked, "coalitions", _key(config, "units"), n, seed),
        lambda: masks.mask_bank(bound, x, drawn, parts, absent, at_once=subject.at_once),
    )
    if rule == "shapley":
        told = masks.shapley(bank)
    elif rule == "banzhaf":
        told = masks.banzhaf(bank)
    else:
        told = masks.lime(bank, _real(config, "locality", "width"), ridge=_real(config, "allocation", "penalty"))
    error = told.standard_error
    return Attribution(told.painted(parts), None if error is None else units.paint(error, parts).float())


def absence_of(config: Configuration, subject: Subject, seed: int = 0) -> Absence:
    """Return what a configuration puts in the place of what is not there."""
    one, kind = config["absence"], config["absence"].value
    if kind == "constant":
        return absence.constant(one.param("value") or 0.0, subject.intensity)
    if kind == "mean-colour":
        return absence.mean_colour(subject.pool)
    if kind == "blur":
        return absence.blur(_real(config, "absence", "sigma"))
    if kind == "noise":
        return absence.noise(_real(config, "absence", "sd"), _draws(config), subject.intensity, seed=seed)
    if kind == "inpaint":
        return absence.inpaint()
    if kind == "generative":
        if subject.painter is None:
            raise UsageError("absence by generative needs a model that paints; expected one")
        return absence.generative(subject.painter)
    pool = subject.matched if kind == "matched" else subject.pool
    if pool is None:
        raise UsageError(f"absence by {kind} needs images; expected a pool of the data, or a cohort said to be normal")
    if kind == "mean-image":
        return absence.mean_image(pool)
    if kind == "matched":
        # One reference, so that nothing is left to chance: what is usual at each place among those said to be normal.
        return absence.mean_image(pool)
    if kind == "dataset":
        return absence.dataset(pool, min(_whole(config, "absence", "n"), len(pool)), seed=seed)
    raise UsageError(f"absence by {kind} cannot be run on images; expected another")


def units_of(config: Configuration, banks: Banks) -> Units:
    """Return the parts of the images that a configuration speaks of; made once for all that ask."""
    one, x = config["units"], banks.subject.x

    def make() -> Units:
        if one.value == "grid":
            return units.grid(x, _whole(config, "units", "cells"))
        if one.value == "superpixel":
            return units.superpixels(x, _whole(config, "units", "segments"), _real(config, "units", "compactness"),
                                     intensity=banks.subject.intensity)  # fmt: skip
        if one.value == "variable":
            return units.columns(x)
        return units.pixels(x)

    return banks.of(("units", _key(config, "units")), make)


def layer_of(model: nn.Module, x: Tensor, name: str) -> nn.Module:
    """Return a layer of images: by its name in the model, or ``last`` or ``second-to-last`` of those that give one.

    Of several that give the same shape the last counts, which is the one after its activation. Raises UsageError,
    naming what there is.
    """
    there = spatial_layers(model, x)
    if not there:
        raise UsageError("the model has no layer that gives images; expected a convolutional one, or another method")
    if name in ("last", "second-to-last"):
        place = -1 if name == "last" else -2
        if len(there) < -place:
            raise UsageError("the model has one layer of images only; expected two or more for second-to-last")
        name = list(there.values())[place]
    modules = dict(model.named_modules())
    if name not in modules:
        raise UsageError(f"the model has no layer '{name}'; those that give images: {', '.join(there.values())}")
    return modules[name]


def spatial_layers(model: nn.Module, x: Tensor) -> dict[tuple[int, ...], str]:
    """Return the last module, by name, of each shape (C, *spatial) of images that a model makes, in its order."""
    seen: dict[tuple[int, ...], str] = {}

    def hook(name: str) -> Any:
        def note(module: nn.Module, args: Any, out: Any) -> None:
            if isinstance(out, Tensor) and out.ndim == x.ndim and max(out.shape[2:]) > 1:
                shape = tuple(out.shape[1:])
                seen.pop(shape, None)
                seen[shape] = name

        return note

    leaves = [(name, module) for name, module in model.named_modules() if name and not list(module.children())]
    handles = [module.register_forward_hook(hook(name)) for name, module in leaves]
    try:
        with torch.no_grad():
            model(x[:1])
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _bound(config: Configuration, banks: Banks) -> Bound:
    subject, one = banks.subject, config["explanandum"]
    kind = "logit" if one.value == "whole-model" else one.value
    against = one.param("against") if one.has("against") else "runner-up"

    def make() -> Bound:
        return Explanandum(
            kind, None if kind in ("embedding", "score") else subject.target,
            subject.against if subject.against is not None else against if against == "runner-up" else
            _class_number(against),
            subject.mask, subject.reference,
        ).of(subject.model, subject.x)  # fmt: skip

    return banks.of(("bound", _key(config, "explanandum")), make)


def _class_number(against: Any) -> int:
    try:
        return int(str(against))
    except ValueError:
        raise UsageError(f"a margin is taken to '{against}'; expected runner-up, or the number of a class") from None


def _pooled(config: Configuration) -> bool:
    return config["units"].value in ("grid", "superpixel")


def _in_units(maps: Tensor, config: Configuration, banks: Banks) -> Tensor:
    """Return maps of pixels as they are, or summed over larger units and painted."""
    if not _pooled(config):
        return maps
    parts = units_of(config, banks)
    return units.paint(units.pooled(maps, parts), parts)


def _post(maps: Tensor, config: Configuration) -> Tensor:
    one = config["shown"]
    way = {"times-input": "signed", "variance": "signed"}.get(one.value, one.value)
    if config["locality"].value in ("gaussian", "ball") and one.value == "squared":
        way = "signed"  # the mean of squares, which the bank has, and not the square of the mean
    found = shown.shown(maps, way)
    if (clip := _real(config, "shown", "clip")) < 100:
        found = shown.clipped(found, clip)
    if (wide := _real(config, "shown", "smooth")) > 0:
        found = shown.smoothed(found, wide)
    return found


def _key(config: Configuration, atom: str) -> tuple[Any, ...]:
    """Return a choice with its numbers to the last digit: as it is written, it may be that of another."""
    one = config[atom]
    return (one.value, *((name, type(level).__name__, level) for name, level in one.params))


def _absent(config: Configuration, seed: int) -> tuple[Any, ...]:
    """Return all that references depend on: which absence, how many draws of it, and the seed where one is drawn."""
    kind = config["absence"].value
    drawn = kind in ("noise", "dataset", "conditional", "generative")
    return (*_key(config, "absence"), _draws(config) if kind == "noise" else 1, seed if drawn else 0)


def _draws(config: Configuration) -> int:
    return _whole(config, "chance", "n", 1)


def _whole(config: Configuration, atom: str, name: str, usual: int | None = None) -> int:
    """Return a whole number of a choice; ``usual`` where the choice has no such parameter."""
    return int(_real(config, atom, name, usual))


def _real(config: Configuration, atom: str, name: str, usual: float | None = None) -> float:
    """Return a number of a choice."""
    one = config[atom]
    level = one.param(name) if usual is None or one.has(name) else usual
    if not isinstance(level, int | float):
        raise UsageError(f"{config.family}: {atom} {one} needs a number for {name}; expected one")
    return float(level)
