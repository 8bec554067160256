"""What is explained: one number an image, with whatever was decided at the image held fixed wherever it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medaudit.errors import DataError, UsageError
from medaudit.explanation.attributions.batching import every, in_batches

Model = Callable[[Tensor], Tensor]

CLASS_KINDS = ("logit", "log-prob", "prob", "margin", "loss")
KINDS = (*CLASS_KINDS, "embedding", "mask-sum", "score")
LINEAR = ("logit", "margin", "mask-sum", "score")
"""Kinds that are a linear function of what the model returns: only of such can relevance be shared out."""


@dataclass(frozen=True, eq=False)
class Explanandum:
    """Which number of a model's output is to be explained.

    A classifier returns (N, classes) of logits, or (N,) or (N, 1) of one logit, of class 1 against class 0; then the
    logit of class 0 is minus that, and a margin is the same as a logit. Kinds: ``logit``, ``log-prob``, ``prob``,
    ``margin`` (a logit minus that of class ``against``), ``loss`` (cross-entropy of the target), ``embedding`` (the
    cosine of (N, D) to ``reference``, (D,) or (N, D)), ``mask-sum`` (the sum of logits (N, classes, *spatial) of the
    target over ``mask``, (*spatial) or (N, *spatial); without a mask, over where the model sees the target at the
    image), ``score`` (the one number that the model returns).
    """

    kind: str = "logit"
    target: int | str | Sequence[int] | Tensor | None = None
    """A class, one for each image, ``predicted`` (as None), or ``runner-up``; both of the latter at the image."""
    against: int | str | Sequence[int] | Tensor = "runner-up"
    """What a margin is taken to: a class, one for each image, or the best class that is not the target."""
    mask: Tensor | None = None
    reference: Tensor | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"nothing is known of explaining {self.kind!r}; expected one of {', '.join(KINDS)}")
        if self.kind in ("embedding", "score") and self.target is not None:
            raise UsageError(f"a target was given, and {self.kind} has no classes; expected none")
        if self.kind == "embedding" and self.reference is None:
            raise UsageError("an embedding is explained by its cosine to a reference; expected one, (D,) or (N, D)")

    def of(self, model: Model, x: Tensor, *, at_once: int = 64) -> Bound:
        """Return the function to be explained at images ``x`` (N, ...): targets are decided here, and never again.

        Raises UsageError for a model in training mode, a class that it has not, a mask of another shape; DataError
        for outputs of another shape than the kind needs, or that are not finite.
        """
        if isinstance(model, nn.Module) and model.training:
            raise UsageError("the model is in training mode, in which it changes as it is asked; call model.eval()")
        parts: list[Tensor] = []

        def ask(start: int, stop: int) -> None:
            with torch.no_grad():
                parts.append(_told(model, x[start:stop]))

        in_batches(ask, len(x), at_once)
        if not parts:
            raise DataError("there are no images; expected one or more")
        out = torch.cat(parts)
        if not torch.isfinite(out).all():
            row = int(torch.nonzero(~torch.isfinite(out.flatten(1) if out.ndim > 1 else out))[0][0])
            raise DataError(f"the model's output is not finite for image {row}; expected finite numbers")
        if self.kind in CLASS_KINDS:
            return self._of_classes(model, out)
        if self.kind == "mask-sum":
            return self._of_masks(model, out)
        if self.kind == "score":
            if out.numel() != len(out):
                raise DataError(f"the model returns {_shape(out)}; expected one number a row, or a kind with a target")
            return Bound(model, self, len(out))
        if out.ndim != 2:
            raise DataError(f"the model returns {_shape(out)}; expected embeddings, (N, D)")
        reference = torch.as_tensor(self.reference).to(out)
        if reference.shape not in ((out.shape[1],), tuple(out.shape)):
            raise UsageError(f"the reference has shape {tuple(reference.shape)}; expected ({out.shape[1]},) or "
                             f"{tuple(out.shape)}")  # fmt: skip
        return Bound(model, self, len(out), reference=reference.expand(out.shape))

    def _of_classes(self, model: Model, out: Tensor) -> Bound:
        if out.ndim > 2:
            raise DataError(f"the model returns {_shape(out)}; expected logits (N, classes): a sum over a region is "
                            "the kind mask-sum")  # fmt: skip
        logits = _two(out)
        target = self._class(self.target, logits, "target")
        against = None
        if self.kind == "margin":
            others = logits.scatter(1, target[:, None], -torch.inf)
            best = isinstance(self.against, str) and self.against == "runner-up"
            against = others.argmax(1) if best else self._class(self.against, logits, "against")
            if same := torch.nonzero(against == target)[:, 0].tolist():
                raise UsageError(f"image {same[0]}: the margin of class {int(target[same[0]])} to itself is nothing; "
                                 "expected another class")  # fmt: skip
        return Bound(model, self, len(out), target=target, against=against)

    def _of_masks(self, model: Model, out: Tensor) -> Bound:
        if out.ndim < 3:
            raise DataError(f"the model returns {_shape(out)}; expected logits of a segmentation, (N, C, *spatial)")
        channels, spatial = out.shape[1], tuple(out.shape[2:])
        if self.target is None or isinstance(self.target, str):
            if channels > 1 or self.target not in (None, "predicted"):
                raise UsageError(f"the segmentation has {channels} channels; expected a target, 0 to {channels - 1}")
            target = torch.zeros(len(out), dtype=torch.int64, device=out.device)
        else:
            target = self._class(self.target, out, "target")
        own = out[torch.arange(len(out), device=out.device), target]
        if self.mask is None:
            mask = own > 0 if channels == 1 else out.argmax(1) == _as(target, out[:, 0])
            if empty := torch.nonzero(~mask.flatten(1).any(1))[:, 0].tolist():
                raise DataError(f"image {empty[0]}: the model sees class {int(target[empty[0]])} nowhere; expected a "
                                "mask to sum over")  # fmt: skip
        else:
            mask = torch.as_tensor(self.mask).to(out.device)
            if tuple(mask.shape) not in (spatial, (len(out), *spatial)):
                raise UsageError(
                    f"the mask has shape {tuple(mask.shape)}; expected {spatial} or {(len(out), *spatial)}"
                )
        return Bound(model, self, len(out), target=target, mask=mask.to(out.dtype).expand(len(out), *spatial))

    @staticmethod
    def _class(asked: int | str | Sequence[int] | Tensor | None, logits: Tensor, what: str) -> Tensor:
        n, classes = logits.shape[:2]
        if asked is None or isinstance(asked, str):
            if asked not in (None, "predicted", "runner-up"):
                raise UsageError(f"the {what} is {asked!r}; expected a class, predicted or runner-up")
            return logits.topk(2, dim=1).indices[:, int(asked == "runner-up")]
        target = torch.as_tensor(asked, device=logits.device)
        if target.dtype.is_floating_point or target.dtype == torch.bool or target.shape not in ((), (n,)):
            raise UsageError(f"the {what} is {target.dtype} of shape {tuple(target.shape)}; expected a class, or one "
                             f"for each of {n} images")  # fmt: skip
        target = target.long().expand(n)
        if ((target < 0) | (target >= classes)).any():
            wrong = int(target[(target < 0) | (target >= classes)][0])
            raise UsageError(f"the {what} is class {wrong}; expected 0 to {classes - 1}, the model's {classes}")
        return target


@dataclass(frozen=True, eq=False)
class Bound:
    """An explanandum at N images: (n, ...) to (n,), of rows that are versions of these images.

    ``f(x)`` takes all N in order; ``f(x, rows)`` any number, ``rows`` (n,) telling which image each is a version of,
    whose target then counts.
    """

    model: Model
    explanandum: Explanandum
    count: int
    target: Tensor | None = None
    """(N,) int64."""
    against: Tensor | None = None
    mask: Tensor | None = None
    reference: Tensor | None = None

    by_row = True

    @property
    def linear(self) -> bool:
        """Whether the number is a linear function of the model's output."""
        return self.explanandum.kind in LINEAR

    def __len__(self) -> int:
        return self.count

    def __call__(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return (n,) at versions ``x`` (n, ...) of the images ``rows`` (n,)."""
        if rows is None:
            if len(x) != self.count:
                raise UsageError(f"{len(x)} rows were asked without saying whose versions they are; expected "
                                 f"{self.count}, or rows")  # fmt: skip
            rows = every(x)
        return self.read(_told(self.model, x), rows)

    def read(self, out: Tensor, rows: Tensor) -> Tensor:
        """Return (n,) of what the model returned for ``rows`` (n,)."""
        kind = self.explanandum.kind
        if kind == "score":
            return out.reshape(len(out))
        rows = rows.to(out.device)
        if kind == "embedding":
            assert self.reference is not None
            return F.cosine_similarity(out, self.reference.to(out.device)[rows], dim=1)
        assert self.target is not None
        target = self.target.to(out.device)[rows]
        if kind == "mask-sum":
            assert self.mask is not None
            own = out[torch.arange(len(out), device=out.device), target]
            return (own * self.mask.to(out.device)[rows]).flatten(1).sum(1)
        if out.ndim == 1 or out.shape[1] == 1:
            own = torch.where(target == 1, 1.0, -1.0).to(out.dtype) * out.reshape(len(out))
            if kind in ("logit", "margin"):
                return own
            log = F.logsigmoid(own)
        else:
            if kind in ("logit", "margin"):
                own = out.gather(1, target[:, None])[:, 0]
                if kind == "logit":
                    return own
                assert self.against is not None
                return own - out.gather(1, self.against.to(out.device)[rows][:, None])[:, 0]
            log = out.log_softmax(1).gather(1, target[:, None])[:, 0]
        return {"log-prob": lambda: log, "prob": log.exp, "loss": log.neg}[kind]()


def _told(model: Model, x: Tensor) -> Tensor:
    out = model(x)
    if not isinstance(out, Tensor) or out.ndim == 0 or len(out) != len(x):
        what = _shape(out) if isinstance(out, Tensor) else f"a {type(out).__name__}"
        raise DataError(f"the model returns {what} of {len(x)} rows; expected one tensor, a row for each")
    return out


def _two(out: Tensor) -> Tensor:
    """Return (N, classes), a single logit as those of two classes."""
    if out.ndim == 2 and out.shape[1] > 1:
        return out
    own = out.reshape(len(out))
    return torch.stack([-own, own], dim=1)


def _as(target: Tensor, like: Tensor) -> Tensor:
    return target.reshape(len(target), *([1] * (like.ndim - 1)))


def _shape(out: Tensor) -> str:
    return f"shape {tuple(out.shape)}"
