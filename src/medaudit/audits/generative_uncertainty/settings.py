"""What the study of a generator's uncertainty was asked: every choice that its findings depend on."""

from __future__ import annotations

from dataclasses import dataclass

from medaudit.errors import UsageError

EDITS = ("ink", "ruler", "patch", "gel_bubbles", "dark_corner", "control")
"""What can be painted on test images (``datasets.artefacts``); ``control`` is an edit that is no foreign content."""


ALSO = ("swag", "online_laplace", "dropout")
"""Scores that need a further training for each model."""


@dataclass(frozen=True)
class Settings:
    """The options of ``medaudit slug``; see its help for what each means."""

    shares: tuple[float, ...] | None = None
    """Of the run's; ``None``: its lowest and its balanced one."""
    edits: tuple[str, ...] = ("ink", "ruler", "patch", "control")
    edited_images: int = 100
    artefacts: tuple[str, ...] = ()
    """Columns of the run's cohort that say ``yes`` where an artefact is in the image."""
    rank: int = 50
    images: int = 1_000
    also: tuple[str, ...] = ()
    """Scores that need trainings of their own: of :data:`ALSO`."""
    params: tuple[str, ...] = ("all", "decoder")
    weights: str = "eigenvalue"
    probes: int = 32
    latent_draws: int = 32
    pixel_maps: bool = False
    metric: str | None = None
    """``None``: the run's."""
    device: str = "cpu"
    seed: int = 0
    resamples: int = 2_000
    min_patients: int = 20

    def __post_init__(self) -> None:
        if self.shares is not None and list(self.shares) != sorted(set(self.shares)):
            raise UsageError("--shares must rise, each once, as 0,0.5")
        for edit in self.edits:
            if edit not in EDITS:
                raise UsageError(f"no edit is called '{edit}'; there are: {', '.join(EDITS)}")
        if len(set(self.edits)) < len(self.edits):
            raise UsageError(f"an edit is named twice: {', '.join(self.edits)}")
        for name in self.also:
            if name not in ALSO:
                raise UsageError(f"--also {name}: expected some of {', '.join(ALSO)}")
        if not self.params or any(one not in ("all", "decoder") for one in self.params):
            raise UsageError("--params needs 'all', 'decoder' or both, as all,decoder")
        if self.weights not in ("eigenvalue", "projector"):
            raise UsageError(f"--weights {self.weights}: expected 'eigenvalue' or 'projector'")
        if self.rank < 1 or self.probes < 4 or self.images < 1 or self.edited_images < 1 or self.latent_draws < 2:
            raise UsageError(
                "expected --rank, --images, --edited-images 1 or more, --probes 4 or more, draws 2 or more"
            )
