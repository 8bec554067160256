"""An encoder and a decoder as one function of their parameters, and its products with the Jacobian.

f(parameters, x) = decode(encode_mean(x)): the encoder's mean, never a sample (spec 1.2). J is the Jacobian of f with
respect to the parameters, (O, P) with O = C·H·W; it is never formed. A vector of parameters is one row of P numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp, vmap
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.dropout import _DropoutNd

from medaudit.errors import DataError, UsageError

PARAMETERS = ("all", "decoder")
_HINTS = (
    (("in-place", "inplace", "in place"), "an in-place operation: write x = x + y for x += y, and inplace=False"),
    (
        ("multi_head_attention", "transformer_encoder", "scaled_dot_product"),
        "a fused attention without a forward derivative: set torch.backends.mha.set_fastpath_enabled(False), and fit "
        "and score within torch.nn.attention.sdpa_kernel(SDPBackend.MATH)",
    ),
    (("weight_norm",), "a weight norm without a forward derivative: remove it, which leaves the weights what they are"),
)
_OTHERWISE = "an operation without a forward derivative, or a view of memory in another order: call .contiguous()"


class Chain(nn.Module):
    """``decode(encode_mean(x))`` as one module, so that both parts' parameters have names."""

    def __init__(self, encode: nn.Module, decode: nn.Module) -> None:
        super().__init__()
        self.encode, self.decode = encode, decode

    def forward(self, images: Tensor) -> Tensor:
        """Return the reconstruction of ``images`` (N, C, H, W)."""
        return self.decode(self.encode(images))


class _Bound(nn.Module):
    """A bound method of a module, as a module: ``vae.encode_mean``."""

    def __init__(self, owner: nn.Module, name: str) -> None:
        super().__init__()
        self.owner, self.name = owner, name

    def forward(self, *inputs: Tensor) -> Tensor:
        return getattr(self.owner, self.name)(*inputs)


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """f, ready to be differentiated: the parameters that Laplace's approximation is over, and those that stay.

    ``parameters`` maps a name to its value; together they are the P numbers of a row. ``fixed`` are all others.
    """

    chain: Chain
    over: str
    parameters: Mapping[str, Tensor]
    fixed: Mapping[str, Tensor]
    image_shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return sum(value.numel() for value in self.parameters.values())

    @property
    def outputs(self) -> int:
        """O = C·H·W."""
        return int(torch.Size(self.image_shape).numel())

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return next(iter(self.parameters.values())).device

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' floating-point type."""
        return next(iter(self.parameters.values())).dtype

    def flat(self, named: Mapping[str, Tensor], batched: bool = False) -> Tensor:
        """Return named tensors as a row (P,), or as rows (b, P) where each tensor has a first axis of b."""
        start = 1 if batched else 0
        # Not flatten: a weight that is a single number has no axis to flatten.
        parts = [named[name] for name in self.parameters]
        return torch.cat([part.reshape(*part.shape[:start], -1) for part in parts], dim=start)

    def named(self, rows: Tensor) -> dict[str, Tensor]:
        """Return a row (P,) or rows (b, P) as tensors by name, without a copy."""
        found, at = {}, 0
        for name, value in self.parameters.items():
            part = rows[..., at : at + value.numel()]
            found[name] = part.view(rows.shape[:-1] + value.shape)
            at += value.numel()
        return found

    def function(self, images: Tensor) -> Callable[[Mapping[str, Tensor]], Tensor]:
        """Return f of the parameters at ``images`` (N, C, H, W); what does not depend on them is computed once."""
        images = in_order(images)
        if self.over == "decoder":
            with torch.no_grad():
                latent = self.chain.encode(images)
            kept = _below(self.fixed, "decode.")

            def decoded(parameters: Mapping[str, Tensor]) -> Tensor:
                return called(self.chain.decode, {**kept, **_below(parameters, "decode.")}, latent)

            return decoded
        return lambda parameters: called(self.chain, {**self.fixed, **parameters}, images)

    def reconstruct(self, images: Tensor) -> Tensor:
        """Return f(x), (N, C, H, W)."""
        with torch.no_grad():
            return self.function(images)(self.parameters)

    def push(self, images: Tensor, rows: Tensor, at_once: int | None = None) -> Tensor:
        """Return J(x) v for each row v of ``rows`` (b, P), (b, N, C, H, W): one JVP a row, for all images together."""
        f = self.function(images)

        def one(row: Tensor) -> Tensor:
            return jvp(f, (self.parameters,), (self.named(row),))[1]

        with torch.no_grad():
            return _mapped(one, rows, self._at_once(at_once))

    def pull(self, images: Tensor, outputs: Tensor, at_once: int | None = None) -> Tensor:
        """Return J^T y summed over images for each y of ``outputs`` (b, N, C, H, W), (b, P): one backward a row."""
        back = vjp(self.function(images), dict(self.parameters))[1]
        return _mapped(lambda y: self.flat(back(y)[0]), outputs, self._at_once(at_once))

    def pull_each(self, images: Tensor, outputs: Tensor) -> Tensor:
        """Return J(x_n)^T y_n of each image apart, (N, P), for y (N, C, H, W).

        For weights that vary over images a convolution becomes a grouped one, which is slow on a CPU: there the images
        are taken one by one.
        """

        def one(image: Tensor, y: Tensor) -> Tensor:
            return self.flat(vjp(self.function(image[None]), dict(self.parameters))[1](y[None])[0])

        if self.device.type == "cpu":
            return torch.stack([one(image, y) for image, y in zip(images, outputs, strict=True)])
        return vmap(one)(images, outputs)

    def push_each(self, images: Tensor, rows: Tensor) -> Tensor:
        """Return J(x_n) v_n of each image apart, (N, C, H, W), for rows (N, P)."""

        def one(image: Tensor, row: Tensor) -> Tensor:
            with torch.no_grad():
                return jvp(self.function(image[None]), (self.parameters,), (self.named(row),))[1][0]

        if self.device.type == "cpu":
            return torch.stack([one(image, row) for image, row in zip(images, rows, strict=True)])
        return vmap(one)(images, rows)

    def _at_once(self, wanted: int | None) -> int:
        # On a CPU a convolution with a batch of weights costs more than as many convolutions.
        return wanted or (1 if self.device.type == "cpu" else 8)

    def fingerprint(self) -> str:
        """Return a SHA-256 of all names and values, the fixed ones too: which model this is."""
        digest = hashlib.sha256(self.over.encode())
        for name, value in sorted({**self.fixed, **self.parameters}.items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if value.dim() else
                          repr(value.item()).encode())  # fmt: skip
        return digest.hexdigest()


def reconstruction(
    encode_mean: nn.Module | Callable, decode: nn.Module | Callable, images: Tensor, over: str = "all"
) -> Reconstruction:
    """Return f, checked on ``images`` (N, C, H, W); ``over`` is ``all`` parameters or those of the ``decoder`` alone.

    Parameters that f does not depend on (the head of the encoder's variance) are left out. Raises UsageError where the
    model would not be a fixed, differentiable function: a part in training mode whose output then depends on the batch
    or on chance, an in-place operation, an output that is no image of the input's shape.
    """
    if over not in PARAMETERS:
        raise UsageError(f"params is '{over}'; expected one of {', '.join(PARAMETERS)}")
    check_images(images, "the first batch")
    chain = Chain(_module(encode_mean, "encode_mean"), _module(decode, "decode"))
    _check_modes(chain)
    everything = {name: value.detach() for name, value in _named(chain, over).items()}
    buffers = {name: value.detach() for name, value in chain.named_buffers()}
    if not everything:
        raise UsageError("the model has no parameters; expected torch modules with weights")
    odd = sorted({str(value.dtype) for value in everything.values()} - {"torch.float32", "torch.float64"})
    if odd:
        raise UsageError(f"the model has parameters of {odd[0]}; expected float32 or float64: call .float() on it")
    like = next(iter(everything.values()))
    images = in_order(images.to(like.device, like.dtype))
    _check_outputs(chain, images[:2])
    used = _used(chain, images[:2], over)
    if not used:
        raise UsageError(
            f"no parameter of the {over} parts changes the reconstruction; is the model's output detached?"
        )
    # A tensor that both parts own has one name here; `called` gives its value to both.
    return Reconstruction(
        chain,
        over,
        {name: value for name, value in everything.items() if name in used},
        {**{name: value for name, value in everything.items() if name not in used}, **buffers},
        tuple(images.shape[1:]),
    )


def check_images(images: Any, where: str) -> None:
    """Raise DataError where ``images`` are no finite floating-point tensor (N, C, H, W)."""
    if not isinstance(images, Tensor) or images.dim() != 4 or not images.is_floating_point():
        kind = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise DataError(f"{where} is {kind}; expected floating-point images (N, C, H, W)")
    if not len(images):
        raise DataError(f"{where} has no images")
    bad = ~torch.isfinite(images).flatten(1).all(dim=1)
    if bool(bad.any()):
        raise DataError(f"{where}: image {int(bad.nonzero()[0])} has a value that is not finite; mend or drop it")


def in_order(images: Tensor) -> Tensor:
    """Return images with the plain strides of their shape.

    Channels-last images make convolutions answer channels-last, which GroupNorm's forward derivative refuses. Those of
    one channel can pass for either, and ``contiguous`` then leaves them as they are.
    """
    return images.contiguous().view(-1).view(images.shape)


def batches_of(loader: Iterable[Any] | Tensor, batch_size: int = 64) -> Iterator[Tensor]:
    """Yield the images of a loader: tensors, tuples that begin with one, or mappings with ``image``."""
    if isinstance(loader, Tensor):
        check_images(loader, "the images")
        yield from loader.split(batch_size)
        return
    if not isinstance(loader, Iterable):
        raise DataError(f"the images are {type(loader).__name__}; expected a tensor or a loader of batches")
    for number, batch in enumerate(loader):
        if isinstance(batch, Mapping):
            if "image" not in batch:
                raise DataError(
                    f"batch {number} has the keys {', '.join(map(str, batch))}; expected 'image' among them"
                )
            batch = batch["image"]
        elif isinstance(batch, (tuple, list)):
            if not batch:
                raise DataError(f"batch {number} is an empty {type(batch).__name__}; expected images first")
            batch = batch[0]
        check_images(batch, f"batch {number}")
        yield batch


def _module(part: Any, name: str) -> nn.Module:
    if isinstance(part, nn.Module):
        return part
    owner = getattr(part, "__self__", None)
    if isinstance(owner, nn.Module):
        return _Bound(owner, part.__name__)
    raise UsageError(
        f"{name} is a {type(part).__name__}; expected a torch module or a method of one, whose weights can be found"
    )


def _check_modes(chain: nn.Module) -> None:
    for name, module in chain.named_modules():
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            raise UsageError(
                f"{name} is a {type(module).__name__} that uses the batch's own statistics; call .eval() on the model, "
                "or use GroupNorm: one image's reconstruction must not depend on others"
            )
        elif isinstance(module, _NormBase) and module.training and module.track_running_stats:
            raise UsageError(
                f"{name} is a {type(module).__name__} that counts the images it sees, so that every pass would make it "
                "another model; call .eval() on the model"
            )
        if isinstance(module, _DropoutNd) and module.training and module.p > 0:
            raise UsageError(f"{name} is a {type(module).__name__} that is on; call .eval() on the model")


def _check_outputs(chain: Chain, images: Tensor) -> None:
    try:
        with torch.no_grad():
            given = images.clone()
            codes = chain.encode(given)
            if not torch.equal(given, images):
                raise UsageError("encode_mean changes its images by an in-place operation; write x = x + y for x += y")
            if isinstance(codes, (tuple, list)):
                raise UsageError(
                    f"encode_mean returns {len(codes)} things; expected the mean alone: wrap the encoder so that the "
                    "variance is left away"
                )
            made = chain(images)
            again = chain(images)
            alone = chain(images[:1])
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"the model cannot reconstruct the images: {_first_line(error)}") from None
    if not isinstance(made, Tensor) or made.shape != images.shape:
        shape = tuple(made.shape[1:]) if isinstance(made, Tensor) else type(made).__name__
        raise UsageError(
            f"the reconstruction of an image {tuple(images.shape[1:])} is {shape}; expected the same shape"
        )
    if not torch.equal(made, again):
        raise UsageError(
            "two reconstructions of one image differ: the model draws something at random; encode_mean must return the "
            "mean, not a sample"
        )
    if not torch.allclose(alone, made[:1], rtol=1e-3, atol=1e-3 * float(made.abs().max())):
        raise UsageError(
            "the reconstruction of an image depends on the other images of its batch; does a layer use the batch's "
            "own statistics?"
        )
    if not bool(torch.isfinite(made).all()):
        raise UsageError("the reconstruction of the first images is not finite; look at the model's weights")


def _used(chain: Chain, images: Tensor, over: str) -> set[str]:
    """Return the names of the parameters that the reconstruction depends on, by trying both kinds of derivative."""
    part = "decode." if over == "decoder" else ""
    names = {name: value for name, value in chain.named_parameters() if name.startswith(part)}
    if over == "decoder":
        names = {f"decode.{name}": value for name, value in chain.decode.named_parameters()}
    values = {name: value.detach().clone().requires_grad_() for name, value in names.items()}
    try:
        with torch.enable_grad():
            inputs = chain.encode(images).detach() if over == "decoder" else images
            target, prefix = (chain.decode, "decode.") if over == "decoder" else (chain, "")
            made = called(target, {n.removeprefix(prefix): v for n, v in values.items()}, inputs)
            if not made.requires_grad:
                return set()
            found = torch.autograd.grad(made.square().sum() + made.sum(), list(values.values()), allow_unused=True)
        used = {name for name, gradient in zip(values, found, strict=True) if gradient is not None}
        if used:
            base = {name: values[name].detach() for name in used}
            rest = {name: value.detach() for name, value in values.items() if name not in used}

            def f(parameters: Mapping[str, Tensor]) -> Tensor:
                both = {**rest, **parameters}
                return called(target, {n.removeprefix(prefix): v for n, v in both.items()}, inputs)

            with torch.no_grad():
                jvp(f, (base,), ({name: torch.ones_like(value) for name, value in base.items()},))
    except (RuntimeError, NotImplementedError) as error:
        text = _first_line(error)
        hint = next((said for words, said in _HINTS if any(word in text.lower() for word in words)), _OTHERWISE)
        raise UsageError(f"the model cannot be differentiated ({text}); most often {hint}") from None
    if over == "decoder" and (tied := _reached(chain, images) & used):
        raise UsageError(
            f"with params='decoder' encoder and decoder share weights ({min(tied).removeprefix('decode.')}); use "
            "params='all', or give the decoder weights of its own"
        )
    return used


def _named(chain: nn.Module, over: str) -> dict[str, Tensor]:
    """Return the parameters by name; over the decoder alone by the part that uses them, whoever owns them."""
    if over == "all":
        return dict(chain.named_parameters())
    return {f"{part}.{name}": value for part in ("encode", "decode")
            for name, value in chain.get_submodule(part).named_parameters()}  # fmt: skip


def _reached(chain: Chain, images: Tensor) -> set[str]:
    """Return which of the decoder's parameters the codes depend on."""
    owned = {id(value): name for name, value in chain.encode.named_parameters()}
    ours = {f"decode.{name}": owned[id(value)] for name, value in chain.decode.named_parameters() if id(value) in owned}
    if not ours:
        return set()
    encodes = dict(chain.encode.named_parameters())
    values = {name: encodes[name].detach().clone().requires_grad_() for name in ours.values()}
    with torch.enable_grad():
        codes = called(chain.encode, values, images)
        if not codes.requires_grad:
            return set()
        found = torch.autograd.grad(codes.sum(), [values[name] for name in ours.values()], allow_unused=True)
    return {name for name, gradient in zip(ours, found, strict=True) if gradient is not None}


def called(part: nn.Module, values: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Return ``part`` of ``inputs`` with ``values`` for its parameters by name; it has its own ones again afterwards.

    A tensor that two modules own is given to both. A module that is reached by two ways (two methods of one model, a
    layer that is an attribute and in a list) is given its weights once: told of both ways, functional_call takes what
    it has put there first for the module's own, and leaves it there.
    """
    names = {id(value): name for name, value in part.named_parameters()}
    places = {}
    for path, module in part.named_modules():
        for own, value in module._parameters.items():
            if value is not None and names[id(value)] in values:
                places[f"{path}.{own}" if path else own] = values[names[id(value)]]
    return functional_call(part, places, (inputs,), tie_weights=False)


def _below(named: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}


def _mapped(one: Callable[[Tensor], Tensor], rows: Tensor, at_once: int) -> Tensor:
    if at_once == 1:
        return torch.stack([one(row) for row in rows])
    return vmap(one, chunk_size=at_once)(rows)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]
