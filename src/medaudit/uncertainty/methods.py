"""The methods, one table: what each is, whose it is, which of its scores means what, and what it needs.

Every method is a function of :class:`Evidence`, which holds what any of them may look at, and returns an
:class:`Uncertainty`. None of them ever sees which test case is out of distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medaudit.errors import UsageError
from medaudit.uncertainty import softmax
from medaudit.uncertainty.conformal import Conformal
from medaudit.uncertainty.decomposition import decompose, dirichlet_decomposition
from medaudit.uncertainty.density import GaussianDensity
from medaudit.uncertainty.distances import KNN, Mahalanobis, RelativeMahalanobis, ViM
from medaudit.uncertainty.laplace import LastLayerLaplace
from medaudit.uncertainty.outputs import Outputs, Uncertainty, collect
from medaudit.uncertainty.trust import TrustScore

if TYPE_CHECKING:
    from torch import Tensor

TU, AU, EU, OOD = "TU", "AU", "EU", "OOD"
"""Total, aleatoric and epistemic uncertainty; and a distance or density that is no uncertainty of the prediction."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a method may look at: the ``classifier``'s outputs over its training, validation and test cases.

    Post-hoc methods need no more than these. ``weight`` (C, D) and ``bias`` (C,) are those of the last layer.
    ``models`` holds trained models by kind (``classifier``, ``ensemble``: a list, ``swag``: a posterior, ``ddu``,
    ``sngp``, ``duq``, ``evidential``), and ``images(part)`` yields the batches (n, C, H, W) of ``train``,
    ``validation`` or ``test`` anew, for the methods that run a net.
    """

    train: Outputs
    validation: Outputs
    test: Outputs
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    models: Mapping[str, Any] = field(default_factory=dict)
    images: Callable[[str], Iterable[Tensor]] | None = None
    seed: int = 0


@dataclass(frozen=True)
class Method:
    """One method: its ``title``, its ``source``, the ``scores`` it gives with what each is, and what it needs.

    The first score stands for the method unless a preset says otherwise. ``needs``: the kinds of trained models;
    ``classifier`` alone is met by cached outputs where ``cached`` is true.
    """

    title: str
    source: str
    scores: Mapping[str, str]
    score: Callable[..., Uncertainty]
    needs: tuple[str, ...] = ("classifier",)
    cached: bool = True


def _softmax(evidence: Evidence) -> Uncertainty:
    z = evidence.test.logits
    scores = {"max_probability": softmax.max_probability(z), "entropy": softmax.entropy(z), "margin": softmax.margin(z)}
    return _of(evidence, scores)


def _temperature(evidence: Evidence) -> Uncertainty:
    known = evidence.validation.known()
    scale = softmax.temperature(known.logits, _labels(known))
    z = evidence.test.logits / scale
    scores = {"max_probability": softmax.max_probability(z), "entropy": softmax.entropy(z)}
    return Uncertainty(scores, Outputs(z).probabilities, 1.0, (f"temperature {scale:.3g}, fitted on validation cases",))


def _energy(evidence: Evidence, temperature: float = 1.0) -> Uncertainty:
    return _of(evidence, {"energy": softmax.energy(evidence.test.logits, temperature)})


def _max_logit(evidence: Evidence) -> Uncertainty:
    return _of(evidence, {"max_logit": softmax.max_logit(evidence.test.logits)})


def _gen(evidence: Evidence, gamma: float = 0.1, top: int | None = None) -> Uncertainty:
    return _of(evidence, {"generalised_entropy": softmax.generalised_entropy(evidence.test.logits, gamma, top)})


def _doctor(evidence: Evidence) -> Uncertainty:
    return _of(evidence, {"doctor": softmax.doctor(evidence.test.logits)})


def _mc_dropout(evidence: Evidence, passes: int = 20) -> Uncertainty:
    from medaudit.uncertainty.dropout import mc_dropout

    model, images = _running(evidence, "classifier", "mc_dropout")
    return _of_draws(mc_dropout(model, images("test"), passes=passes, seed=evidence.seed), float(passes))


def _ensemble(evidence: Evidence, members: int = 5, vectorised: bool = False) -> Uncertainty:
    from medaudit.uncertainty.ensemble import ensemble, ensemble_kind

    models, images = _running(evidence, "ensemble", "ensemble")
    some = list(models)[:members]
    said = _of_draws(ensemble(some, images("test"), vectorised), float(len(some)))
    if ensemble_kind(some) == "head":
        return replace(said, notes=("members share their trunk's weights: an ensemble of heads, no deep ensemble",))
    return said


def _augmentation(evidence: Evidence, views: int = 16, flip: bool = False) -> Uncertainty:
    from medaudit.uncertainty.augmentation import augmented

    model, images = _running(evidence, "classifier", "augmentation")
    return _of_draws(augmented(model, images("test"), views=views, seed=evidence.seed, flip=flip), float(views))


def _swag(evidence: Evidence, samples: int = 10) -> Uncertainty:
    from medaudit.uncertainty.swag import swag_predict

    model, images = _running(evidence, "classifier", "swag")
    posterior, _ = _running(evidence, "swag", "swag")
    draws = swag_predict(
        model, posterior, lambda: images("test"), lambda: images("train"), samples=samples, seed=evidence.seed
    )
    return _of_draws(draws, float(samples))


def _laplace(
    evidence: Evidence, structure: str = "kron", prior: str | float = "marginal", samples: int = 100
) -> Uncertainty:
    weight, bias = _last_layer(evidence, "laplace")
    train, validation = _with_features(evidence.train.known(), "laplace"), None
    if prior == "validation":
        known = _with_features(evidence.validation.known(), "laplace")
        validation = known.features, _labels(known)
    fitted = LastLayerLaplace.fit(
        train.features, weight, bias, structure=structure, prior=prior, labels=_labels(train), validation=validation
    )
    features = _with_features(evidence.test, "laplace").features
    probabilities = fitted.predict(features, link="probit")
    parts = decompose(fitted.draws(features, samples=samples, seed=evidence.seed))
    scores = {
        "total": softmax.entropy_of(probabilities),
        "epistemic": parts.epistemic,
        "variance": fitted.logit_variance(features).sum(axis=1),
    }
    return Uncertainty(scores, probabilities, 1.0, fitted.notes)


def _mahalanobis(evidence: Evidence, shrinkage: Any = "ledoit-wolf") -> Uncertainty:
    train = _with_features(evidence.train.known(), "mahalanobis")
    fitted = Mahalanobis.fit(train.features, _labels(train), shrinkage)
    return _of(evidence, {"distance": fitted.score(_features(evidence.test))}, fitted.notes)


def _rmds(evidence: Evidence, shrinkage: Any = "ledoit-wolf") -> Uncertainty:
    train = _with_features(evidence.train.known(), "rmds")
    fitted = RelativeMahalanobis.fit(train.features, _labels(train), shrinkage)
    return _of(evidence, {"distance": fitted.score(_features(evidence.test))}, fitted.notes)


def _knn(evidence: Evidence, k: int = 50) -> Uncertainty:
    train = _with_features(evidence.train, "knn")
    fitted = KNN.fit(train.features, k=min(k, len(train)))
    notes = (f"k is {len(train)}, all training cases, for want of {k}",) if k > len(train) else ()
    return _of(evidence, {"distance": fitted.score(_features(evidence.test))}, notes)


def _vim(evidence: Evidence, dimension: int | None = None) -> Uncertainty:
    weight, bias = _last_layer(evidence, "vim")
    train = _with_features(evidence.train, "vim")
    fitted = ViM.fit(train.features, train.logits, weight, bias, dimension)
    return _of(evidence, {"vim": fitted.score(_features(evidence.test), evidence.test.logits)})


def _trust(evidence: Evidence, k: int = 10, alpha: float = 0.0) -> Uncertainty:
    train = _with_features(evidence.train.known(), "trust_score")
    fitted = TrustScore.fit(train.features, _labels(train), alpha=alpha, k=k)
    predicted = evidence.test.logits.argmax(axis=1)
    return _of(evidence, {"trust": fitted.score(_features(evidence.test), predicted)})


def _density(evidence: Evidence, shrinkage: Any = "ledoit-wolf") -> Uncertainty:
    train = _with_features(evidence.train.known(), "feature_density")
    fitted = GaussianDensity.fit(train.features, _labels(train), shrinkage)
    scores = {"density": fitted.score(_features(evidence.test)), "entropy": softmax.entropy(evidence.test.logits)}
    return _of(evidence, scores, fitted.notes)


def _conformal(evidence: Evidence, alpha: float = 0.1, method: str = "lac") -> Uncertainty:
    known = evidence.validation.known()
    fitted = Conformal.fit(known.probabilities, _labels(known), alpha=alpha, method=method, seed=evidence.seed)
    p = evidence.test.probabilities
    # The set's size takes few values; the largest p-value of any class orders the cases within them.
    scores = {"credibility": 1 - fitted.p_value(p).max(axis=1), "set_size": fitted.size(p).astype(float)}
    return _of(evidence, scores, fitted.notes)


def _ddu(evidence: Evidence, shrinkage: Any = "ledoit-wolf") -> Uncertainty:
    return _density(_outputs_of(evidence, "ddu"), shrinkage)


def _sngp(evidence: Evidence) -> Uncertainty:
    import torch

    from medaudit.networks.heads import mean_field_logits
    from medaudit.uncertainty.outputs import device_of, evaluating

    model, images = _running(evidence, "sngp", "sngp")
    logits, variances = [], []
    device = device_of(model)
    with evaluating(model), torch.no_grad():
        for batch in images("test"):
            features = model.trunk(batch.to(device))
            z, variance = model.head(features), model.head.variance(features)
            logits.append(mean_field_logits(z, variance).double().cpu().numpy())
            variances.append(variance.double().cpu().numpy())
    z = np.concatenate(logits)
    scores = {"entropy": softmax.entropy(z), "variance": np.concatenate(variances)}
    return Uncertainty(scores, Outputs(z).probabilities, 1.0)


def _duq(evidence: Evidence) -> Uncertainty:
    import torch

    from medaudit.uncertainty.outputs import device_of, evaluating

    model, images = _running(evidence, "duq", "duq")
    with evaluating(model), torch.no_grad():
        kernels = np.concatenate([model(batch.to(device_of(model))).double().cpu().numpy() for batch in images("test")])
    # So far from every centroid that all kernels are 0, a case has no class: then each is as likely.
    total = kernels.sum(axis=1, keepdims=True)
    shares = np.where(total > 0, kernels / np.maximum(total, np.finfo(float).tiny), 1 / kernels.shape[1])
    return Uncertainty({"kernel": 1 - kernels.max(axis=1)}, shares, 1.0)


def _evidential(evidence: Evidence) -> Uncertainty:
    from medaudit.uncertainty.evidential import concentration

    z = _outputs_of(evidence, "evidential").test.logits
    alpha = concentration(z)
    parts = dirichlet_decomposition(alpha)
    scores = {
        "vacuity": alpha.shape[1] / alpha.sum(axis=1),
        "total": parts.total,
        "aleatoric": parts.aleatoric,
        "epistemic": parts.epistemic,
    }
    return Uncertainty(scores, alpha / alpha.sum(axis=1, keepdims=True), 1.0)


_DRAWS = {"total": TU, "aleatoric": AU, "epistemic": EU, "variation_ratio": TU, "variance": EU}

METHODS: dict[str, Method] = {
    "softmax": Method(
        "Softmax (maximum probability, entropy)", "Hendrycks & Gimpel, ICLR 2017",
        {"max_probability": TU, "entropy": TU, "margin": TU}, _softmax,
    ),
    "mc_dropout": Method(
        "MC dropout", "Gal & Ghahramani, ICML 2016", _DRAWS, _mc_dropout, cached=False,
    ),
    "ensemble": Method(
        "Deep ensemble", "Lakshminarayanan et al., NeurIPS 2017", _DRAWS, _ensemble, ("ensemble",), cached=False,
    ),
    "augmentation": Method(
        "Test-time augmentation", "Wang et al., Neurocomputing 2019", _DRAWS, _augmentation, cached=False,
    ),
    "swag": Method(
        "SWAG", "Maddox et al., NeurIPS 2019", _DRAWS, _swag, ("classifier", "swag"), cached=False,
    ),
    "laplace": Method(
        "Last-layer Laplace", "Daxberger et al., NeurIPS 2021; Kristiadi et al., ICML 2020",
        {"total": TU, "epistemic": EU, "variance": EU}, _laplace,
    ),
    "ddu": Method(
        "DDU", "Mukhoti et al., CVPR 2023", {"density": EU, "entropy": AU}, _ddu, ("ddu",), cached=False,
    ),
    "sngp": Method(
        "SNGP", "Liu et al., NeurIPS 2020", {"entropy": TU, "variance": EU}, _sngp, ("sngp",), cached=False,
    ),
    "temperature": Method(
        "Temperature scaling", "Guo et al., ICML 2017", {"max_probability": TU, "entropy": TU}, _temperature,
    ),
    "energy": Method("Energy", "Liu et al., NeurIPS 2020", {"energy": OOD}, _energy),
    "max_logit": Method("Maximum logit", "Hendrycks et al., ICML 2022", {"max_logit": OOD}, _max_logit),
    "mahalanobis": Method("Mahalanobis distance", "Lee et al., NeurIPS 2018", {"distance": OOD}, _mahalanobis),
    "rmds": Method("Relative Mahalanobis distance", "Ren et al., 2021", {"distance": OOD}, _rmds),
    "knn": Method("k nearest neighbours", "Sun et al., ICML 2022", {"distance": OOD}, _knn),
    "vim": Method("ViM", "Wang et al., CVPR 2022", {"vim": OOD}, _vim),
    "feature_density": Method(
        "Feature density (DDU without spectral normalisation)", "Mukhoti et al., CVPR 2023",
        {"density": EU, "entropy": AU}, _density,
    ),
    "duq": Method("DUQ", "van Amersfoort et al., ICML 2020", {"kernel": EU}, _duq, ("duq",), cached=False),
    "evidential": Method(
        "Evidential deep learning", "Sensoy et al., NeurIPS 2018",
        {"vacuity": EU, "total": TU, "aleatoric": AU, "epistemic": EU}, _evidential, ("evidential",), cached=False,
    ),
    "gen": Method("Generalised entropy (GEN)", "Liu et al., CVPR 2023", {"generalised_entropy": TU}, _gen),
    "trust_score": Method("Trust score", "Jiang et al., NeurIPS 2018", {"trust": TU}, _trust),
    "doctor": Method("DOCTOR", "Granese et al., NeurIPS 2021", {"doctor": TU}, _doctor),
    "conformal": Method(
        "Conformal prediction", "Vovk et al. 2005; Sadinle et al., JASA 2019", {"credibility": OOD, "set_size": TU},
        _conformal,
    ),
}  # fmt: skip
"""All methods by name."""


def _of(evidence: Evidence, scores: Mapping[str, np.ndarray], notes: tuple[str, ...] = ()) -> Uncertainty:
    """A post-hoc method: it does not change what is predicted, and costs no pass of its own."""
    return Uncertainty(scores, evidence.test.probabilities, 1.0, notes)


def _of_draws(draws: np.ndarray, passes: float) -> Uncertainty:
    """A method of several passes: TU, AU and EU of its draws (T, N, C), and their mean as prediction."""
    parts = decompose(draws)
    scores = {name: getattr(parts, name) for name in _DRAWS}
    return Uncertainty(scores, draws.mean(axis=0), passes)


def _outputs_of(evidence: Evidence, kind: str) -> Evidence:
    """Return the evidence as another kind of model sees it."""
    model, images = _running(evidence, kind, kind)
    train, validation, test = (
        collect(model, images(part), labels=getattr(evidence, part).labels) for part in ("train", "validation", "test")
    )
    return Evidence(train, validation, test, models=evidence.models, images=evidence.images, seed=evidence.seed)


def _running(evidence: Evidence, kind: str, method: str) -> tuple[Any, Callable[[str], Iterable[Tensor]]]:
    if kind not in evidence.models or evidence.images is None:
        raise UsageError(
            f"the method {method} runs a net: it needs a trained '{kind}' and the images, not outputs alone"
        )
    return evidence.models[kind], evidence.images


def _last_layer(evidence: Evidence, method: str) -> tuple[np.ndarray, np.ndarray]:
    if evidence.weight is None or evidence.bias is None:
        raise UsageError(f"the method {method} needs the last layer's weight (C, D) and bias (C,)")
    return evidence.weight, evidence.bias


def _with_features(outputs: Outputs, method: str) -> Any:
    if outputs.features is None:
        raise UsageError(f"the method {method} needs features, the input of the last layer, beside the logits")
    return outputs


def _features(outputs: Outputs) -> np.ndarray:
    if outputs.features is None:
        raise UsageError("a method of features needs the test cases' features too, not their logits alone")
    return outputs.features


def _labels(outputs: Outputs) -> np.ndarray:
    assert outputs.labels is not None
    return outputs.labels
