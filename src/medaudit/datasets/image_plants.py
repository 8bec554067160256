"""What can be planted in simulated images, and the named plants that ``--plant`` takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from medaudit.datasets.label_errors import LabelError
from medaudit.datasets.simulated_patients import AGE_GROUPS, ETHNICITIES, SOURCES
from medaudit.errors import UsageError

GROUPS = {"age": AGE_GROUPS, "ethnicity": ETHNICITIES, "source": SOURCES}

USUAL_ERROR = LabelError(shift_mm=2.1, missed=0.02, missed_satellites=0.3, false_positive=0.06, untouched=0.08)
"""What every automated mask suffers: a mean Dice of about 0.8 at 64 x 64 x 64 voxels."""

_MODEL_ERROR = replace(USUAL_ERROR, untouched=0.0)  # no expert left a prediction as it was


@dataclass(frozen=True)
class Difficulty:
    """How tumours of a group differ, as factors of the rest: less ``contrast`` or more ``irregularity`` is harder."""

    contrast: float = 1.0
    irregularity: float = 1.0
    volume: float = 1.0
    volume_sd: float = 1.0


@dataclass(frozen=True)
class ModelPlant:
    """A model whose predictions stand beside the automated masks, so that these can be a ruler for it.

    Its masks err by ``error``, by random numbers of their own; ``bias`` adds to it for a group (attribute, group,
    what). Of a ``twin`` the automated masks err from the predictions instead of from the experts' masks.
    """

    error: LabelError = _MODEL_ERROR
    bias: tuple[tuple[str, str, LabelError], ...] = ()
    twin: bool = False


@dataclass(frozen=True)
class ImagePlant:
    """What is planted. ``difficulty`` and ``label_bias`` are (attribute, group, what): ``("age", "<=40", ...)``.

    Every automated mask errs by ``error``. ``label_bias`` adds to it for a group, ``difficulty`` multiplies what a
    tumour is; a case in two such groups suffers both. Planted by source together with ``age_by_source`` (SDs of age
    rank) they confound age. ``morphology`` gives the shares of ``MORPHOLOGIES``.

    In every group some cases are hard and the others easy: ``hard_share`` of them, or that of ``hard_share_of``
    (attribute, group, share), are as ``hard`` says. Inside these strata the groups are alike.
    """

    error: LabelError = USUAL_ERROR
    difficulty: tuple[tuple[str, str, Difficulty], ...] = ()
    label_bias: tuple[tuple[str, str, LabelError], ...] = ()
    hard: Difficulty = Difficulty()
    hard_share: float = 0.0
    hard_share_of: tuple[tuple[str, str, float], ...] = ()
    model: ModelPlant | None = None
    volume_ml: tuple[float, float] = (18.0, 16.0)
    """Mean and SD, lognormal."""
    contrast: float = 0.9
    irregularity: float = 0.15
    morphology: tuple[float, float, float] = (0.5, 0.3, 0.2)
    satellite: float = 0.25
    """The probability of a satellite lesion."""
    vessels: int = 3
    age_by_source: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    ethnicity_follows_source: bool = True

    def __post_init__(self) -> None:
        of_model = self.model.bias if self.model else ()
        for attribute, group, _ in (*self.difficulty, *self.label_bias, *self.hard_share_of, *of_model):
            if group not in GROUPS.get(attribute, ()):
                known = "; ".join(f"{name}: {', '.join(groups)}" for name, groups in GROUPS.items())
                raise UsageError(f"cannot plant anything for {attribute} '{group}'; there are {known}")


# Of less contrast only: a tumour of another shape would change what its automated mask is worth.
_FAINT = Difficulty(contrast=0.25)
_HARD = (("age", "<=40", _FAINT),)
_BIASED = (("age", "<=40", LabelError(erode_mm=1.8)),)
_LOST_RIM = (("age", "<=40", LabelError(erode_mm=3.0)),)
_WANDERING = (("age", "<=40", LabelError(shift_mm=1.0)),)
# What two masks lose alike they agree on. They wander less, so that they disagree no more than those of other groups.
_SHARED_LOSS = (("age", "<=40", LabelError(erode_mm=2.6, shift_mm=-1.0)),)

IMAGE_PLANTS: dict[str, ImagePlant] = {
    "none": ImagePlant(),
    "label": ImagePlant(label_bias=_BIASED),
    "representation": ImagePlant(difficulty=_HARD),
    "both": ImagePlant(label_bias=_BIASED, difficulty=_HARD),
    "confounded": ImagePlant(
        label_bias=(("source", "DUKE", LabelError(erode_mm=1.8)),), age_by_source=(0.35, -1.3, 0.3, 0.0)
    ),
    "imbalance": ImagePlant(hard=_FAINT, hard_share=0.25, hard_share_of=(("age", "<=40", 0.75),)),
    "false-magnitude": ImagePlant(label_bias=_LOST_RIM, model=ModelPlant(bias=_WANDERING)),
    "false-confidence": ImagePlant(error=LabelError(shift_mm=0.55), model=ModelPlant(twin=True)),
    "masking": ImagePlant(label_bias=_SHARED_LOSS, model=ModelPlant(bias=_SHARED_LOSS)),
    # Volumes by age as printed for MAMA-MIA (29 and 59, 22 and 32, 17.5 and 35 mL; arXiv 2511.00477); their labels are
    # worse for the young, although larger tumours are the easier ones. How much worse is our choice.
    "mama-mia": ImagePlant(
        error=replace(USUAL_ERROR, shift_mm=1.8),
        volume_ml=(22.0, 32.0),
        difficulty=(
            ("age", "<=40", Difficulty(volume=29 / 22, volume_sd=59 / 32)),
            ("age", ">55", Difficulty(volume=17.5 / 22, volume_sd=35 / 32)),
        ),
        label_bias=(
            ("age", "<=40", LabelError(erode_mm=0.9, missed=0.01)),
            ("age", "(40, 55]", LabelError(erode_mm=0.4)),
            ("age", ">55", LabelError(shift_mm=-0.5)),
        ),
    ),
}
"""Named plants: the 2 x 2 of label bias and difficulty of the young, more hard cases among the young, a bias of one
source that has many young, the three modes in which a ruler lies, and the look of the real cohort.
"""


def planted_causes(plant: ImagePlant) -> dict[str, str]:
    """Return what makes the groups of each attribute differ: none, or the causes joined by ``+``.

    Causes are label, representation, imbalance and confounded. What a model's predictions suffer is none of them.
    """
    everything = (plant.label_bias, plant.difficulty, plant.hard_share_of)
    by_label, by_difficulty, by_share = ({by for by, _, _ in planted} for planted in everything)
    through_source = "source" in by_label | by_difficulty | by_share
    associated = {
        "age": max(plant.age_by_source) > min(plant.age_by_source),
        "ethnicity": plant.ethnicity_follows_source,
        "source": False,
    }
    causes = {}
    for by in GROUPS:
        found = {
            "label": by in by_label,
            "representation": by in by_difficulty,
            "imbalance": by in by_share,
            "confounded": through_source and associated[by],
        }
        causes[by] = "+".join(cause for cause, planted in found.items() if planted) or "none"
    return causes
