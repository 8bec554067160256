"""Student and teacher, and DINOv2's objective between them (arXiv 2304.07193, section 4; weights of the released code).

Total = L_dino(local) + L_dino(global) + L_ibot + 0.1 L_koleo, with G = 2 global and L local crops of B images:

    L_dino = 1 / (2 + 2 L) * sum over pairs (teacher's crop g, student's crop != g) of mean_b CE(p_g, q)
    L_ibot = 1 / (2 B) * sum over global crops of the mean CE over the masked patches (0 where none is masked)
    L_koleo = sum over the two global crops of KoLeo of the student's class tokens
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from medaudit.networks.dino_head import DinoHead
from medaudit.networks.vit import ViT
from medaudit.training.dinov2 import rates
from medaudit.training.dinov2.crops import views
from medaudit.training.dinov2.cross_entropy import soft_cross_entropy
from medaudit.training.dinov2.masks import masks_of
from medaudit.training.dinov2.recipe import Recipe
from medaudit.training.dinov2.targets import koleo, mean_logits, sinkhorn_bias
from medaudit.training.steering import Steering

_MASKS = 2  # so that masks and crops never draw the same numbers


class BackboneAndHead(nn.Module):
    """What student and teacher each are."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.backbone = ViT(recipe.shape)
        self.head = DinoHead(
            recipe.shape.dim, recipe.prototypes, recipe.hidden, recipe.bottleneck, recipe.batch_norm
        )  # fmt: skip


class DinoV2(nn.Module):
    """A student that learns and a teacher that follows it: backbones and heads, and the two centres.

    The teacher is always in evaluation mode and has no gradient. Everything that a step depends on is in the state
    dict: ``student.*`` and ``teacher.*`` with ``backbone`` and ``head``, ``centre`` (2, K) of class tokens and patches.
    """

    centre: Tensor

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.student = BackboneAndHead(recipe)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False).eval()
        self.register_buffer("centre", torch.zeros(2, recipe.prototypes))

    def train(self, mode: bool = True) -> DinoV2:
        """Set the student's mode; the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(
        self, global_views: Tensor, local_views: Tensor | None = None, masks: Tensor | None = None,
        temperature: float = 1.0,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Return ``loss`` and its parts, and the teacher's mean entropy in nats.

        ``global_views`` (2 B, C, H, W), all first ones before all second ones; ``local_views`` (L * B, C, h, w), crop
        by crop; ``masks`` (2 B, patches). In training the centres move, after they were used. With images alone:
        the teacher's ``cls`` and mean ``patch`` (N, d), by this way because sharded weights are gathered on it alone.
        """
        if local_views is None or masks is None:
            tokens = self.teacher.backbone(global_views)
            return {"cls": tokens.cls, "patch": tokens.patches.mean(1)}
        r = self.recipe
        n, locals_ = len(global_views) // 2, len(local_views) // max(1, len(global_views) // 2)
        rows = torch.nonzero(masks)[:, 0]
        share = masks.sum(1).clamp(min=1)[rows].reciprocal().float() / (2 * n)

        with torch.no_grad():
            seen = self.teacher.backbone.asked([global_views], [None], [masks])[0]
            cls, patches = self._projected(self.teacher.head, *seen)
            theirs = self.teacher.head.prototypes()
            bias = self._bias(cls, patches, theirs, temperature)

        student = self.student.backbone
        if locals_ and global_views.device.type == "cuda":
            parts = student.asked([global_views, local_views], [masks, None], [masks, None])
        else:  # on a CPU packing gains nothing, and costs a copy
            parts = student.asked([global_views], [masks], [masks])
            parts += student.asked([local_views], [None], [None]) if locals_ else []
        wide_cls, masked = parts[0]
        z_cls, z_patches = self._projected(self.student.head, torch.cat([cls_ for cls_, _ in parts]), masked)
        ours = self.student.head.prototypes()

        views_ = 2 + locals_
        pairs = torch.ones(views_, 2, device=cls.device)
        pairs[0, 0] = pairs[1, 1] = 0.0  # a crop is not its own teacher
        cross_entropy = partial(
            soft_cross_entropy, student_temperature=r.student_temperature, teacher_temperature=temperature
        )
        dino, entropy = cross_entropy(
            z_cls.view(views_, n, -1).transpose(0, 1), ours, cls.new_full((n,), 1 / (n * (2 + 2 * locals_))).float(),
            cls.view(2, n, -1).transpose(0, 1), theirs, bias[0], pairs,
        )  # fmt: skip
        ibot, patch_entropy = cross_entropy(
            z_patches[:, None], ours, share, patches[:, None], theirs, bias[1], pairs.new_ones(1, 1)
        )
        spread = koleo(wide_cls[:n]) + koleo(wide_cls[n:])
        if self.training:
            self._move_centres(cls, patches, theirs)
        return {
            "loss": r.dino * dino + r.ibot * ibot + r.koleo * spread,
            "dino": dino.detach(),
            "ibot": ibot.detach(),
            "koleo": spread.detach(),
            "teacher_entropy": entropy / (2 * n),
            "teacher_patch_entropy": patch_entropy / max(1, len(rows)),
        }

    def _projected(self, head: DinoHead, cls: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Return class tokens and patches on the head's sphere."""
        if self.recipe.batch_norm:  # each kind by its own statistics
            return head(cls), head(patches) if len(patches) > 1 else head.mlp[-1](patches.new_zeros(
                len(patches), self.recipe.hidden))  # fmt: skip
        z = head(torch.cat([cls, patches]))
        return z[: len(cls)], z[len(cls) :]

    def _bias(self, cls: Tensor, patches: Tensor, prototypes: Tensor, temperature: float) -> Tensor:
        if self.recipe.centring == "centre":
            return -self.centre / temperature
        some = [sinkhorn_bias(z, prototypes, temperature) for z in (cls, patches)]
        return torch.stack(some)

    @torch.no_grad()
    def _move_centres(self, cls: Tensor, patches: Tensor, prototypes: Tensor) -> None:
        if self.recipe.centring != "centre":
            return
        batch = torch.stack([mean_logits(cls, prototypes), mean_logits(patches, prototypes)])
        self.centre.lerp_(batch, 1 - self.recipe.centre_momentum)

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Move the teacher: ``momentum`` of itself and the rest of the student, every parameter and every buffer."""
        pairs = list(zip(self.teacher.parameters(), self.student.parameters(), strict=True))
        torch._foreach_lerp_([t.data for t, _ in pairs], [s.data for _, s in pairs], 1 - momentum)
        for theirs, ours in zip(self.teacher.buffers(), self.student.buffers(), strict=True):
            theirs.copy_(ours)


@dataclass(frozen=True)
class Objective:
    """The loop's view of a pretraining: loss, rates, groups, and the teacher's step."""

    recipe: Recipe
    seed: int
    mean: float
    std: float

    def loss_of(self, network: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return the losses of a batch of ``image`` (N, S, S) uint8 and ``drawn`` (N, views, 19)."""
        r = self.recipe
        step = round(batch["progress"] * r.steps)
        wide, narrow = views(batch["image"], batch["drawn"], r.crops, self.mean, self.std)
        channels = r.shape.channels
        if channels > 1:
            wide, narrow = (some.expand(-1, channels, -1, -1) for some in (wide, narrow))
        masks = torch.from_numpy(self.masks(step, len(batch["image"]))).to(wide.device)
        return network(wide, narrow, masks, self.temperature(step))

    def masks(self, step: int, images: int) -> np.ndarray:
        """Return this process's masks (2 * images, patches): a part of those of the whole batch."""
        r = self.recipe
        grid = r.crops.global_side // r.shape.patch
        rng = np.random.default_rng((self.seed, _MASKS, step))
        several = dist.is_available() and dist.is_initialized()
        ranks, rank = (dist.get_world_size(), dist.get_rank()) if several else (1, 0)
        whole = masks_of(2 * images * ranks, grid, r.masks, rng).reshape(2, images * ranks, -1)
        return whole[:, rank * images : (rank + 1) * images].reshape(2 * images, -1)

    def temperature(self, step: int) -> float:
        """Return the teacher's temperature."""
        start, end = self.recipe.teacher_temperature
        return rates.linear(step, start, end, round(self.recipe.teacher_warmup * self.recipe.steps))

    def momentum(self, step: int) -> float:
        """Return the teacher's momentum."""
        return rates.cosine(step, self.recipe.steps, self.recipe.momentum, 1.0)

    def steering(self) -> Steering:
        """Return what the loop does beyond its settings."""
        r = self.recipe

        def groups(model: nn.Module) -> list[dict[str, Any]]:
            student = _of(model).student
            return rates.groups_of(student.backbone, student.head, r.shape.depth, r.layer_decay, r.patch_embed)

        def set_rates(param_groups: Any, highest: float, step: int, steps: int) -> float:
            warmup = round(r.warmup * r.steps)
            rate = rates.cosine(step, r.steps, highest, r.least_rate, warmup=warmup)
            decay = rates.cosine(step, r.steps, *r.weight_decay)
            rates.set_rates(param_groups, rate, decay, 0.0 if step < round(r.freeze_last * r.steps) else 1.0)
            return rate

        return Steering(
            groups=groups,
            rates=set_rates,
            parts=lambda model: [_of(model).student.backbone, _of(model).student.head],
            after_step=lambda model, step, steps: _of(model).follow(self.momentum(step)),
        )


def _of(model: nn.Module) -> DinoV2:
    assert isinstance(model, DinoV2)
    return model
