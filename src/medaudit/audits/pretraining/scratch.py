"""The opponent that needs no pretraining: the same net, trained from scratch with the labels there are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from medaudit.audits.pretraining.contenders import Contender
from medaudit.audits.pretraining.design import Plan
from medaudit.audits.pretraining.settings import ProbeSettings
from medaudit.audits.pretraining.study import Judged, of_probabilities
from medaudit.networks.backbones import open_backbone
from medaudit.networks.vit import ViT, ViTShape
from medaudit.training.probes.finetune import FineTuning, fine_tune_classifier, fine_tuned_probabilities


def shape_of(own: tuple[str, ...]) -> tuple[str, ViTShape] | None:
    """Return the first own folder that says its net's shape, and the shape."""
    for where in own:
        record = Path(where) / "backbone.json"
        if record.is_file():
            return where, ViTShape(**json.loads(record.read_text())["shape"])
    return None


def from_scratch(
    known: tuple[str, ViTShape], plan: Plan, settings: ProbeSettings, images: np.ndarray, folder: Path
) -> Judged:
    """Return the same net trained on the training cases from random weights, ``settings.seeds`` times.

    Images as the own backbone sees them. No layer decay: there are no early layers to spare.
    """
    where, shape = known
    seen = open_backbone(where, device="cpu").prepared(images).numpy()
    train, validation, test = (plan.rows(p).tolist() for p in range(3))
    how = FineTuning(
        epochs=settings.scratch, warmup_epochs=max(1, settings.scratch // 10), batch_size=64, learning_rate=1e-3,
        weight_decay=0.05, layer_decay=1.0, smoothing=0.0, mixup=0.0, cutmix=0.0,
    )  # fmt: skip
    probabilities = []
    for k in range(settings.seeds):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed + k)
            vit = ViT(shape)
        tuned = fine_tune_classifier(
            vit, seen, plan.codes, train, validation, len(plan.classes), how, folder / str(k),
            seed=settings.seed + k, device=settings.device,
        )  # fmt: skip
        probabilities.append(fine_tuned_probabilities(tuned, seen, test))
    contender = Contender("scratch", "the same net from scratch", f"{len(train)} labelled images", (), False)
    return of_probabilities(
        contender, plan, settings, np.stack(probabilities), np.full(settings.seeds, np.nan), {}, tuned.notes
    )
