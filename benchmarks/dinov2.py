"""Time a training step of DINOv2, its views and its losses beside lightly's example: the same nets, crops and batches.

    MEDAUDIT_PEERS=/tmp/peers python -m benchmarks.dinov2 [--rounds 5] [--quick]

Each side runs in a process and an environment of its own, ours in this Python and the peer's in
$MEDAUDIT_PEERS/lightly/bin/python, both on one thread. They take turns: a round is one step of every way, in
alternating order, and what is printed is the median of the rounds' ratios of processor time, with the lowest and the
highest. First it is checked that both do the same work: losses from the same tensors, then losses, centres and
gradients of whole nets with the same weights, views and masks. The peer's step is driven as in lightly's
examples/pytorch/dinov2.py, with one channel and with our law of crops.

This file is run by both Pythons: at its top it imports what both have.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

MEAN, STD = 0.184, 0.219
HIDDEN, BOTTLENECK = 2_048, 256  # of the heads of both
STEP, STEPS = 50_000, 100_000  # every schedule stands at the middle of a training
TEMPERATURE = 0.07
LOSS_ROWS, LOSS_CROPS = 512, 16
GEMM = 2_048


@dataclass(frozen=True)
class Scene:
    """A net and its crops; one channel, no registers, which the peer's example has not."""

    dim: int
    depth: int
    heads: int
    patch: int
    side: int
    local_side: int
    locals: int
    prototypes: int
    batch: int
    stored: int
    drop_path: float = 0.0
    layer_scale: float = 1e-5

    @property
    def grid(self) -> int:
        return self.side // self.patch

    def masks(self) -> Tensor:
        """Return masks (2 * batch, patches): half of the crops, in shares from 0.1 to 0.5, always the same."""
        rng = np.random.default_rng(0)
        masks = np.zeros((2 * self.batch, self.grid**2), dtype=bool)
        for row, share in zip(masks[::2], np.linspace(0.1, 0.5, self.batch), strict=True):
            row[rng.permutation(len(row))[: int(share * len(row))]] = True
        return torch.from_numpy(masks)

    def views(self) -> tuple[Tensor, Tensor]:
        """Return global and local views, all the first ones before all the second ones."""
        rng = torch.Generator().manual_seed(1)
        return (
            torch.randn(2 * self.batch, 1, self.side, self.side, generator=rng),
            torch.randn(self.locals * self.batch, 1, self.local_side, self.local_side, generator=rng),
        )

    def frames(self) -> np.ndarray:
        """Return stored frames (batch, side, side), uint8."""
        across = np.linspace(0, 9, self.stored)
        waves = np.sin(across[:, None] * np.arange(1, self.batch + 1)[:, None, None] / self.batch + across)
        noise = np.random.default_rng(2).normal(0, 20, waves.shape)
        return (127 + 80 * waves + noise).clip(0, 255).astype(np.uint8)

    def flop(self) -> float:
        """Return the operations of a step as the notes count them (section 6.4): the linear layers' products alone.

        Forward and backward of the student are three times its forward pass; the teacher has one. Products of
        attention (8 % more at 224 pixels), the embedding and everything that is no product are left out.
        """
        wide, narrow = 2 * (1 + self.grid**2), self.locals * (1 + (self.local_side // self.patch) ** 2)
        token = 2 * 12 * self.dim**2 * self.depth
        kept = 1 - self.drop_path
        masked = int(self.masks().sum())
        row = 2 * (self.dim * HIDDEN + HIDDEN**2 + HIDDEN * BOTTLENECK + BOTTLENECK * self.prototypes)
        rows = 3 * ((2 + self.locals) * self.batch + masked) + 2 * self.batch + masked
        return self.batch * token * (3 * kept * (wide + narrow) + wide) + rows * row


SMALL = Scene(192, 6, 3, patch=8, side=64, local_side=32, locals=4, prototypes=4_096, batch=32, stored=80)
VIT_S = Scene(384, 12, 6, patch=16, side=224, local_side=96, locals=8, prototypes=65_536, batch=2, stored=256)
CHECKED = replace(SMALL, batch=8, layer_scale=0.5)
"""With LayerScale at 1e-5 the blocks would have no part in the losses that are compared."""


class Ours:
    """A step as `medaudit pretrain` takes it: rates, losses, gradients cut by parts, AdamW in groups, the teacher."""

    def __init__(self, scene: Scene) -> None:
        from medaudit.networks.vit import ViTShape
        from medaudit.training.dinov2.crops import CropLaw
        from medaudit.training.dinov2.model import DinoV2, Objective
        from medaudit.training.dinov2.recipe import Recipe
        from medaudit.training.loop import optimizer_of
        from medaudit.training.memory import keep_memory

        keep_memory()  # as the loop does on a CPU
        self.scene = scene
        shape = ViTShape(
            scene.dim, scene.depth, scene.heads, scene.patch, scene.side, registers=0, offset=0.0,
            layer_scale=scene.layer_scale, drop_path=scene.drop_path,
        )  # fmt: skip
        crops = CropLaw(scene.side, scene.local_side, scene.locals)
        self.recipe = Recipe(
            shape=shape, crops=crops, prototypes=scene.prototypes, hidden=HIDDEN, bottleneck=BOTTLENECK,
            batch_size=scene.batch, steps=STEPS,
        )  # fmt: skip
        torch.manual_seed(0)
        self.model = DinoV2(self.recipe).train()
        self.objective = Objective(self.recipe, 0, MEAN, STD)
        self.steering, self.settings = self.objective.steering(), self.recipe.settings(0)
        self.optimizer = optimizer_of(self.model, self.settings, self.steering)
        self.rng = np.random.default_rng(0)
        self.frames, self.views, self.masks = scene.frames(), scene.views(), scene.masks()

    def losses(self) -> dict[str, Tensor]:
        return self.model(*self.views, self.masks, TEMPERATURE)

    def step(self, precision: str) -> None:
        with autocast(precision):
            losses = self.losses()
        self._learn(losses["loss"])

    def augment(self) -> None:
        from medaudit.training.dinov2.crops import views

        batch = self._batch()
        views(batch["image"], batch["drawn"], self.recipe.crops, MEAN, STD)
        self.objective.masks(STEP, self.scene.batch)

    def whole(self, precision: str) -> None:
        def network(*inputs: Any) -> dict[str, Tensor]:
            with autocast(precision):
                return self.model(*inputs)

        self._learn(self.objective.loss_of(network, self._batch())["loss"])  # type: ignore[arg-type]

    def _batch(self) -> dict[str, Any]:
        from medaudit.training.dinov2.crops import draw

        drawn = [torch.from_numpy(draw(self.recipe.crops, self.rng)) for _ in self.frames]
        images = [torch.from_numpy(np.array(frame)) for frame in self.frames]
        return {"image": torch.stack(images), "drawn": torch.stack(drawn), "progress": STEP / STEPS}

    def _learn(self, loss: Tensor) -> None:
        self.steering.rates(self.optimizer.param_groups, self.settings.learning_rate, STEP, STEPS)
        float(loss)
        loss.backward()
        for part in self.steering.parts(self.model) or ():
            nn.utils.clip_grad_norm_(part.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.steering.after_step(self.model, STEP, STEPS)

    def leave(self, path: str) -> dict[str, Any]:
        """Write weights, centres, and what they gave: losses, moved centres, gradients."""
        rng = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for weight in self.model.teacher.parameters():  # no longer the student's
                weight.add_(0.02 * torch.randn(weight.shape, generator=rng))
            self.model.centre.copy_(0.1 * torch.randn(self.model.centre.shape, generator=rng))
        before = copy.deepcopy(self.model.state_dict())
        losses = self.losses()
        losses["loss"].backward()
        kept = {
            "weights": before,
            "losses": {name: float(losses[name]) for name in ("dino", "ibot", "koleo")},
            "centre": self.model.centre,
            "gradients": {name: weight.grad for name, weight in self.model.student.named_parameters()},
        }
        torch.save(kept, path)
        return {}

    @staticmethod
    def of_tensors() -> dict[str, float]:
        """Return the three losses of drawn tensors."""
        from medaudit.training.dinov2.cross_entropy import soft_cross_entropy
        from medaudit.training.dinov2.targets import koleo

        t = drawn_tensors()
        at = {"student_temperature": 0.1, "teacher_temperature": TEMPERATURE}
        views, n = t["student"].shape[:2]
        pairs = torch.ones(views, 2)
        pairs[0, 0] = pairs[1, 1] = 0.0
        weights = torch.full((n,), 1 / (n * (2 * views - 2)))
        dino, _ = soft_cross_entropy(
            t["student"].transpose(0, 1), t["ours"], weights, t["teacher"].transpose(0, 1), t["theirs"],
            -t["centre"][0] / TEMPERATURE, pairs, **at,
        )  # fmt: skip
        mask = t["mask"].flatten(1)
        share = (1 / mask.sum(1).clamp(min=1))[torch.nonzero(mask)[:, 0]] / len(mask)
        ibot, _ = soft_cross_entropy(
            t["student_patches"][:, None], t["ours"], share, t["teacher_patches"][:, None], t["theirs"],
            -t["centre"][1] / TEMPERATURE, torch.ones(1, 1), **at,
        )  # fmt: skip
        return {"DINO": float(dino), "iBOT": float(ibot), "KoLeo": float(koleo(t["cls"]))}

    @staticmethod
    def loss_alone() -> Callable[[], float]:
        """Return what takes the patches' loss of 512 rows and 65,536 prototypes, and its gradients."""
        from medaudit.networks.dino_head import Prototypes
        from medaudit.training.dinov2.cross_entropy import soft_cross_entropy
        from medaudit.training.dinov2.targets import mean_logits

        student, teacher, ours, theirs = loss_inputs()
        layers = [Prototypes(BOTTLENECK, VIT_S.prototypes) for _ in range(2)]
        for layer, weight in zip(layers, (ours, theirs), strict=True):
            layer.weight_v = nn.Parameter(weight)
        layers[1].requires_grad_(False)
        centre = torch.zeros(VIT_S.prototypes)
        share = torch.full((LOSS_ROWS,), 1 / LOSS_ROWS)

        def work() -> float:
            target = layers[1]()
            loss, _ = soft_cross_entropy(
                student[:, None], layers[0](), share, teacher[:, None], target, -centre / TEMPERATURE,
                torch.ones(1, 1), student_temperature=0.1, teacher_temperature=TEMPERATURE,
            )  # fmt: skip
            loss.backward()
            centre.lerp_(mean_logits(teacher, target), 0.1)
            student.grad = layers[0].weight_v.grad = layers[0].weight_g.grad = None
            return float(loss)

        return work


class Lightly:
    """A step as lightly's example takes it, from lightly's and timm's parts."""

    def __init__(self, scene: Scene) -> None:
        importable_torchvision()
        from lightly.loss import DINOLoss, IBOTPatchLoss, KoLeoLoss
        from lightly.models.modules import DINOv2ProjectionHead, MaskedVisionTransformerTIMM
        from lightly.models.utils import update_drop_path_rate
        from lightly.transforms.dino_transform import DINOTransform
        from timm.models.vision_transformer import VisionTransformer

        self.scene = scene
        torch.manual_seed(0)
        vit = VisionTransformer(
            img_size=scene.side, patch_size=scene.patch, in_chans=1, num_classes=0, embed_dim=scene.dim,
            depth=scene.depth, num_heads=scene.heads, init_values=scene.layer_scale, pos_embed="learn",
            dynamic_img_size=True,
        )  # fmt: skip
        self.teacher = nn.ModuleDict(
            {
                "backbone": MaskedVisionTransformerTIMM(vit=vit, antialias=False, pos_embed_initialization="skip"),
                "head": DINOv2ProjectionHead(scene.dim, HIDDEN, BOTTLENECK, scene.prototypes),
            }
        )
        # torch's older weight norm keeps a tensor that cannot be copied deeply: a student's head is made anew.
        head = DINOv2ProjectionHead(scene.dim, HIDDEN, BOTTLENECK, scene.prototypes)
        self.student = nn.ModuleDict({"backbone": copy.deepcopy(self.teacher["backbone"]), "head": head})
        if scene.drop_path:
            update_drop_path_rate(self.student["backbone"].vit, scene.drop_path, mode="uniform")
        self.teacher.requires_grad_(False).eval()
        self.student.train()
        self.dino = DINOLoss(scene.prototypes)
        self.ibot = IBOTPatchLoss(scene.prototypes)
        self.koleo = KoLeoLoss()
        self.optimizer = torch.optim.AdamW([*self.teacher.parameters(), *self.student.parameters()], lr=1e-3)
        self.frames, self.views, self.masks = scene.frames(), scene.views(), scene.masks()
        # Our law: one channel has no colour to jitter; the odds of flips and blur are those of our default.
        self.transform = DINOTransform(
            global_crop_size=scene.side, global_crop_scale=(0.32, 1.0), local_crop_size=scene.local_side,
            local_crop_scale=(0.05, 0.32), n_local_views=scene.locals, hf_prob=0.0, vf_prob=0.5, cj_strength=1.0,
            cj_bright=0.4, cj_contrast=0.4, cj_sat=0.0, cj_hue=0.0, random_gray_scale=0.0,
            gaussian_blur=(0.0, 0.9, 0.5), normalize={"mean": [MEAN], "std": [STD]},
        )  # fmt: skip

    def losses(self, wide: Tensor, narrow: Tensor, masks: Tensor) -> dict[str, Tensor]:
        crops = self.scene.locals + 2
        tokens = torch.cat([masks.new_zeros(len(masks), 1), masks.flatten(1)], dim=1)
        with torch.no_grad():
            seen = self.teacher["backbone"].encode(wide)
            their_cls = self.teacher["head"](seen[:, 0])
            their_patches = self.teacher["head"](seen[tokens])
        made = self.student["backbone"].encode(wide, mask=tokens)
        wide_cls = made[:, 0]
        wide_logits = self.student["head"](wide_cls)
        patches = self.student["head"](made[tokens])
        narrow_logits = self.student["head"](self.student["backbone"].encode(narrow)[:, 0])
        both = torch.cat([wide_logits, narrow_logits])
        return {
            "dino": self.dino(list(their_cls.chunk(2)), list(both.chunk(crops)), teacher_temp=TEMPERATURE),
            "ibot": self.ibot(their_patches, patches, mask=masks, teacher_temp=TEMPERATURE),
            "koleo": sum(self.koleo(some) for some in wide_cls.chunk(2)),
        }

    def step(self, precision: str) -> None:
        self._learn(*self.views, self.masks.unflatten(1, (self.scene.grid, -1)), precision)

    def augment(self) -> tuple[Tensor, Tensor, Tensor]:
        from lightly.models.utils import random_block_mask
        from PIL import Image

        by_image = [self.transform(Image.fromarray(frame)) for frame in self.frames]
        by_view = [torch.stack(some) for some in zip(*by_image, strict=True)]
        masks = random_block_mask(size=(2 * self.scene.batch, self.scene.grid, self.scene.grid))
        return torch.cat(by_view[:2]), torch.cat(by_view[2:]), masks

    def whole(self, precision: str) -> None:
        self._learn(*self.augment(), precision)

    def _learn(self, wide: Tensor, narrow: Tensor, masks: Tensor, precision: str) -> None:
        from lightly.models.utils import update_momentum
        from lightly.utils.scheduler import cosine_schedule

        with autocast(precision):
            losses = self.losses(wide, narrow, masks)
            loss = losses["dino"] + losses["ibot"] + 0.1 * losses["koleo"]
        float(loss)
        loss.backward()
        for group in self.optimizer.param_groups:
            group["weight_decay"] = cosine_schedule(STEP, STEPS, 0.04, 0.4)
        self.optimizer.step()
        self.optimizer.zero_grad()
        momentum = cosine_schedule(STEP, STEPS, 0.992, 1.0)
        for part in ("backbone", "head"):
            update_momentum(self.student[part], self.teacher[part], m=momentum)

    def differ(self, path: str) -> dict[str, float]:
        """Return the largest differences from what ours left in a file."""
        kept = torch.load(path, weights_only=True)
        for name, module in (("teacher", self.teacher), ("student", self.student)):
            state = module.state_dict()
            for key in state:
                state[key] = kept["weights"][f"{name}.{_our_name(key)}"].view_as(state[key])
            module.load_state_dict(state)
        self.dino.center = kept["weights"]["centre"][0].view(1, 1, -1).clone()
        self.ibot.center.center = kept["weights"]["centre"][1].view(1, -1).clone()
        losses = self.losses(*self.views, self.masks.unflatten(1, (self.scene.grid, -1)))
        (losses["dino"] + losses["ibot"] + 0.1 * losses["koleo"]).backward()
        moved = torch.stack([self.dino.center.flatten(), self.ibot.center.center.flatten()])
        apart = [
            float((weight.grad - theirs.view_as(weight)).abs().max() / theirs.abs().max().clamp(min=1e-20))
            for key, weight in self.student.named_parameters()
            if (theirs := kept["gradients"][_our_name(key)]) is not None
        ]
        return {
            **{said: abs(float(losses[name]) - kept["losses"][name]) for name, said in NAMES.items()},
            "centres": float((moved - kept["centre"]).abs().max()),
            "gradients": max(apart),
            "weights": len(apart),
        }

    @staticmethod
    def of_tensors() -> dict[str, float]:
        """Return the three losses of drawn tensors."""
        importable_torchvision()
        from lightly.loss import DINOLoss, IBOTPatchLoss, KoLeoLoss

        t = drawn_tensors()
        k = len(t["ours"])
        dino, ibot = DINOLoss(k), IBOTPatchLoss(k)
        dino.center, ibot.center.center = t["centre"][0].view(1, 1, -1), t["centre"][1].view(1, -1)
        return {
            "DINO": float(dino(list(t["teacher"] @ t["theirs"].T), list(t["student"] @ t["ours"].T), TEMPERATURE)),
            "iBOT": float(
                ibot(t["teacher_patches"] @ t["theirs"].T, t["student_patches"] @ t["ours"].T, t["mask"], TEMPERATURE)
            ),
            "KoLeo": float(KoLeoLoss()(t["cls"])),
        }

    @staticmethod
    def loss_alone() -> Callable[[], float]:
        """Return what takes the patches' loss of 512 rows and 65,536 prototypes, and its gradients."""
        importable_torchvision()
        from lightly.loss import IBOTPatchLoss

        student, teacher, ours, theirs = loss_inputs()
        layers = []
        for weight in (ours, theirs):
            linear = nn.Linear(1, 1, bias=False)
            linear.weight = nn.Parameter(weight)
            layer = nn.utils.weight_norm(linear)  # as in DINOv2ProjectionHead
            layer.weight_g.data.fill_(1)
            layers.append(layer)
        layers[1].requires_grad_(False)
        ibot = IBOTPatchLoss(VIT_S.prototypes)
        mask = torch.zeros(LOSS_CROPS, VIT_S.grid**2, dtype=torch.bool)
        mask[:, : LOSS_ROWS // LOSS_CROPS] = True
        mask = mask.unflatten(1, (VIT_S.grid, -1))

        def work() -> float:
            with torch.no_grad():
                target = layers[1](teacher)
            loss = ibot(target, layers[0](student), mask, teacher_temp=TEMPERATURE)
            loss.backward()
            student.grad = layers[0].weight_v.grad = layers[0].weight_g.grad = None
            return float(loss)

        return work


NAMES = {"dino": "DINO", "ibot": "iBOT", "koleo": "KoLeo"}


def _our_name(key: str) -> str:
    return key.replace("backbone.vit.", "backbone.").replace("head.layers.", "head.mlp.")


def drawn_tensors() -> dict[str, Tensor]:
    """Return tokens, prototypes, centres and a mask, the same in every process."""
    rng = torch.Generator().manual_seed(4)
    mask = torch.rand(8, 4, 4, generator=rng) < 0.3
    mask[::2] = False

    def points(*shape: int) -> Tensor:
        return nn.functional.normalize(torch.randn(*shape, generator=rng), dim=-1)

    return {
        "student": points(6, 4, 64),
        "teacher": points(2, 4, 64),
        "student_patches": points(int(mask.sum()), 64),
        "teacher_patches": points(int(mask.sum()), 64),
        "ours": points(4_096, 64),
        "theirs": points(4_096, 64),
        "centre": 0.1 * torch.randn(2, 4_096, generator=rng),
        "cls": torch.randn(16, 192, generator=rng),
        "mask": mask,
    }


def loss_inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return student and teacher (512, 256), and the directions of the prototypes of each (65,536, 256)."""
    rng = torch.Generator().manual_seed(5)
    student, teacher = (
        nn.functional.normalize(torch.randn(LOSS_ROWS, BOTTLENECK, generator=rng), dim=-1) for _ in range(2)
    )
    ours, theirs = (torch.randn(VIT_S.prototypes, BOTTLENECK, generator=rng) for _ in range(2))
    return student.requires_grad_(), teacher, ours, theirs


def importable_torchvision() -> None:
    """Import torchvision also where it was built for another torch: nothing here calls its compiled operators."""
    with contextlib.suppress(RuntimeError):
        import torchvision  # noqa: F401

        return
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    _operators.append(torch.library.Library("torchvision", "DEF"))
    for name in ("roi_align", "ps_roi_align", "roi_pool", "ps_roi_pool", "deform_conv2d"):
        _operators[0].define(f"{name}(Tensor a) -> Tensor")
        _operators[0].define(f"_{name}_backward(Tensor a) -> Tensor")
    for name in ("nms", "qnms", "qroi_align"):
        _operators[0].define(f"{name}(Tensor a) -> Tensor")


_operators: list[Any] = []  # gone as soon as nothing holds them


def autocast(precision: str) -> contextlib.AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


def gemm() -> float:
    """Return the operations a second of a float32 product of 2048 x 2048 with its like."""
    a, b = torch.randn(2, GEMM, GEMM)
    start = time.process_time()
    a @ b
    return 2 * GEMM**3 / (time.process_time() - start)


class Memory:
    """The largest resident memory of this process from here on, above what it is now, in MiB."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
        self.before = self._of("VmRSS")

    def now(self) -> float:
        return self._of("VmRSS") - self.before

    def peak(self) -> float:
        return self._of("VmHWM") - self.before

    @staticmethod
    def _of(name: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def serve(side: type[Ours] | type[Lightly]) -> None:
    """Answer each line of standard input, a call, with a line: what it found and its processor seconds."""
    torch.set_num_threads(1)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - lightly draws from it
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes elsewhere
    it: list[Any] = []
    alone: list[Callable[[], float]] = []

    def build(**scene: Any) -> None:
        it.clear()
        it.append(side(Scene(**scene)))

    def loss() -> float:
        return alone[0]()

    def loss_memory() -> float:
        alone.append(side.loss_alone())
        memory = Memory()
        alone[0]()
        return memory.peak()

    def step_memory(**scene: Any) -> dict[str, float]:
        side.of_tensors()  # what is imported, and what torch takes for itself
        memory = Memory()
        build(**scene)
        it[0].step("32")
        held = memory.now()
        it[0].step("32")
        return {"held": held, "peak": memory.peak()}

    calls = {
        "build": build, "loss": loss, "loss_memory": loss_memory, "step_memory": step_memory, "gemm": gemm,
        "of_tensors": side.of_tensors,
    }  # fmt: skip
    for line in sys.stdin:
        asked = json.loads(line)
        what = asked.pop("what")
        start = time.process_time()
        try:
            found = (calls[what] if what in calls else getattr(it[0], what))(**asked)
            seconds = time.process_time() - start
            answer = {"found": found if what in calls or what == "differ" else None, "seconds": seconds}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:100]}"}
        print(json.dumps(answer), file=answers, flush=True)


class Side:
    """A process of one side, which does one thing at a time."""

    def __init__(self, python: str, which: str) -> None:
        few = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        # -P: not from this folder, whose modules a peer must not see.
        self.process = subprocess.Popen(
            [python, "-P", "-W", "ignore", str(Path(__file__).resolve()), "--serve", which], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, **few},
        )  # fmt: skip

    def ask(self, what: str, **options: Any) -> dict[str, Any]:
        """Return what it found, and the processor seconds that this took; ends the benchmark where it failed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"what": what, **options}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline() or '{"error": "the process ended"}')
        if "error" in answer:
            raise SystemExit(f"{what}: {answer['error']}")
        return answer

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


PYTHONS = {
    "ours": sys.executable,
    "peer": str(Path(os.environ.get("MEDAUDIT_PEERS", "/nowhere")) / "lightly" / "bin" / "python"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small batches, one round: only to see that it runs")
    parser.add_argument("--serve", choices=["ours", "peer"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve({"ours": Ours, "peer": Lightly}[options.serve])
        return
    rounds, small, large = options.rounds, SMALL, VIT_S
    if options.quick:
        rounds, small = 1, replace(SMALL, batch=4)
    few = max(1, rounds - 1)  # a step of ViT-S takes seconds
    dropped = replace(large, drop_path=0.3)
    which = [name for name in PYTHONS if Path(PYTHONS[name]).exists()]

    sides = {name: Side(PYTHONS[name], name) for name in which}
    said = same_work(sides)
    print("| processor time, one thread | medaudit, s | lightly, s | times faster | lowest to highest |")
    print("|---|---:|---:|---:|---|", flush=True)
    words = f"{small.dim} x {small.depth}, {small.side} + {small.locals} x {small.local_side} px, batch {small.batch}"
    build(sides, small)
    times = in_turn(
        sides, {"step": {"precision": "32"}, "augment": {}, "whole": {"precision": "32"}, "gemm": {}}, rounds
    )
    row(f"{words}: step", times["step"])
    row("... views and masks alone", times["augment"])
    row("... both together", times["whole"])
    shares = [share_of_gemm(words, small, times)]

    words = f"ViT-S/16, {large.side} + {large.locals} x {large.local_side} px, batch {large.batch}"
    build(sides, large)
    times = in_turn(sides, {"step": {"precision": "32"}, "augment": {}, "gemm": {}}, few)
    row(f"{words}: step", times["step"])
    row("... views and masks alone", times["augment"])
    shares.append(share_of_gemm(words, large, times))
    build(sides, dropped)
    half = in_turn(sides, {"step": {"precision": "bf16"}}, few)["step"]
    times = in_turn(sides, {"step": {"precision": "32"}, "whole": {"precision": "32"}}, few)
    row("... step, drop path 0.3", times["step"])
    row("... the same, with views and masks", times["whole"])
    row("... step, drop path 0.3, bfloat16 autocast", half)
    row("... ours in bfloat16 as `vit-s` has it, lightly in float32 as its example has it",
        {**times["step"], "ours": half["ours"]})  # fmt: skip
    finish(sides)

    sides = {name: Side(PYTHONS[name], name) for name in which}
    memory = {name: side.ask("loss_memory")["found"] for name, side in sides.items()}
    times = in_turn(sides, {"loss": {}}, rounds)
    row(f"patches' loss alone, {LOSS_ROWS} rows x {VIT_S.prototypes:,} prototypes, and its gradients", times["loss"])
    finish(sides)
    sides = {name: Side(PYTHONS[name], name) for name in which}
    whole = {name: side.ask("step_memory", **asdict(large))["found"] for name, side in sides.items()}
    finish(sides)

    print("\n| peak memory, MiB | medaudit | lightly | times less |")
    print("|---|---:|---:|---:|")
    memory_row("patches' loss alone, above its inputs", memory)
    memory_row(f"{words}: weights, optimiser and a step", {name: found["peak"] for name, found in whole.items()})
    memory_row(
        "... above what stays between steps", {name: found["peak"] - found["held"] for name, found in whole.items()}
    )
    print()
    print("\n\n".join([*said, *shares]))
    print(
        f"\n{rounds} rounds of one step, of ViT-S {few}; medians, and of the ratios the lowest and the highest. "
        "float32 where no other is named. medaudit's step also cuts gradients and has a rate for each layer, which the "
        "example has not."
    )


def same_work(sides: dict[str, Side]) -> list[str]:
    """Return sentences on how far both are apart where they should not be."""
    if "peer" not in sides:
        return ["lightly is not measured: $MEDAUDIT_PEERS/lightly/bin/python is not there."]
    ours, peer = sides["ours"], sides["peer"]
    one, other = ours.ask("of_tensors")["found"], peer.ask("of_tensors")["found"]
    apart = ", ".join(f"{name} {abs(one[name] - other[name]):.0e} (of {other[name]:.4g})" for name in one)
    build(sides, CHECKED)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "step.pt")
        ours.ask("leave", path=path)
        found = peer.ask("differ", path=path)["found"]
    losses = ", ".join(f"{name} {found[name]:.0e}" for name in NAMES.values())
    alike = all(abs(one[name] - other[name]) <= 1e-5 and found[name] <= 1e-5 for name in one)
    if not (alike and found["gradients"] <= 1e-4 and found["centres"] <= 1e-5):
        raise SystemExit(f"the two do not do the same work: {apart}; {losses}; gradients {found['gradients']:.1e}")
    return [
        f"The same work: from the same tensors the losses differ by {apart}; of nets with the same weights, views and "
        f"masks by {losses}, the moved centres by {found['centres']:.0e}, and the gradients of {found['weights']} "
        f"weights by at most {found['gradients']:.0e} of their largest number."
    ]


def build(sides: dict[str, Side], scene: Scene) -> None:
    for side in sides.values():
        side.ask("build", **asdict(scene))


def in_turn(sides: dict[str, Side], ways: dict[str, dict[str, Any]], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return the processor seconds of each way of each side; the first, which warms up, is left out."""
    times: dict[str, dict[str, list[float]]] = {way: {name: [] for name in sides} for way in ways}
    for turn in range(rounds + 1):
        for way, options in ways.items():
            for name in list(sides)[:: 1 if turn % 2 else -1]:
                answer = sides[name].ask(way, **options)
                if turn:
                    times[way][name].append(answer["seconds"] if way != "gemm" else answer["found"])
    return times


def row(words: str, times: dict[str, list[float]]) -> None:
    ours, peer = times["ours"], times.get("peer")
    shown = f"| {words} | {statistics.median(ours):.3g} | "
    if peer:
        ratios = [theirs / own for own, theirs in zip(ours, peer, strict=True)]
        shown += f"{statistics.median(peer):.3g} | {statistics.median(ratios):.2f} | "
        shown += f"{min(ratios):.2f} to {max(ratios):.2f} |"
    print(shown if peer else f"{shown}not measured | | |", flush=True)


def memory_row(words: str, found: dict[str, float]) -> None:
    compared = f"{found['peer']:,.0f} | {found['peer'] / found['ours']:.2f}" if "peer" in found else "not measured | "
    print(f"| {words} | {found['ours']:,.0f} | {compared} |")


def share_of_gemm(words: str, scene: Scene, times: dict[str, dict[str, list[float]]]) -> str:
    shares = {
        name: statistics.median(scene.flop() / s / g for s, g in zip(times["step"][name], rates, strict=True))
        for name, rates in times["gemm"].items()
    }
    rate = statistics.median(times["gemm"]["ours"])
    said = (
        f"{words}: {scene.flop() / 1e9:,.0f} GFLOP a step ({scene.flop() / 1e9 / scene.batch:.3g} an image), done at "
    )
    said += f"{shares['ours']:.0%} of the rate of a float32 product of {GEMM:,} x {GEMM:,} in the same process "
    said += f"({rate / 1e9:.0f} GFLOP/s)"
    return said + (f"; lightly at {shares['peer']:.0%}." if "peer" in shares else ".")


def finish(sides: dict[str, Side]) -> None:
    for side in sides.values():
        side.end()


if __name__ == "__main__":
    main()
