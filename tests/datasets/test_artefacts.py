"""Foreign content: where the mask says, with soft edges, in many styles, on colour and grey; and a control."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion

from medaudit.datasets.artefacts import ARTEFACTS, with_artefact
from medaudit.datasets.skin_phantom import draw_skin, render
from medaudit.errors import DataError, UsageError

SHAPES = [(32, 32), (64, 64), (64, 48), (96, 128), (256, 256)]
FOREIGN = [kind for kind in ARTEFACTS if kind != "control"]


def skin(shape: tuple[int, int], seed: int = 0, tone: float = 0.04) -> np.ndarray:
    rows, columns = shape
    return render(draw_skin(max(shape), "nevus", np.random.default_rng(seed)), tone)[:rows, :columns]


def edited(image: np.ndarray, kind: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return with_artefact(image, kind, np.random.default_rng(seed))


def change(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return by how many levels the channel that moved most did, (H, W)."""
    difference = np.abs(image.astype(int) - other)
    return difference.max(axis=-1) if image.ndim == 3 else difference


@pytest.mark.parametrize("grey", [False, True], ids=["colour", "grey"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ARTEFACTS)
def test_a_picture_stays_one_and_the_mask_lies_where_it_changed(kind: str, shape: tuple[int, int], grey: bool) -> None:
    for seed in range(4 if max(shape) < 256 else 1):
        image = skin(shape, seed)
        if grey:
            image = image[..., 1]
        before = image.copy()
        made, mask = edited(image, kind, seed)
        assert np.array_equal(image, before)
        assert (made.dtype, made.shape) == (np.uint8, image.shape)
        assert (mask.dtype, mask.shape) == (np.bool_, shape)
        assert 0.01 < mask.mean() < 0.5
        moved = change(image, made)
        far = ~binary_dilation(mask, iterations=max(3, round(0.06 * min(shape))))
        assert far.any()
        # A shadow's foot, or a round edge that just reaches in.
        assert (moved[far] > 4).mean() < (0.05 if kind == "dark_corner" else 0.01)
        if kind == "control" or (kind == "patch" and grey):
            continue  # skin that looks like skin, a patch as light as skin: either may hardly change a thing
        around = binary_dilation(mask, iterations=1)
        assert (moved > 12)[around].sum() > 0.85 * (moved > 12).sum() - 3
        assert moved[mask].mean() > 10 * moved[~mask].mean()
        # A bubble's middle is clear and so is a plastic ruler between its ticks; the rest changes throughout.
        least = {"gel_bubbles": 0.3, "ruler": 0.3}.get(kind, 0.8)
        assert (moved[mask] > 6).mean() > least


@pytest.mark.parametrize("kind", ARTEFACTS)
def test_a_seed_is_an_artefact_and_another_seed_another(kind: str) -> None:
    image = skin((64, 64))
    first, mask = edited(image, kind, 1)
    again, same_mask = edited(image, kind, 1)
    assert np.array_equal(first, again)
    assert np.array_equal(mask, same_mask)
    masks = [edited(image, kind, seed)[1] for seed in range(12)]
    overlap = [(a & b).sum() / (a | b).sum() for i, a in enumerate(masks) for b in masks[:i]]
    # A dark corner is round every time; what else is drawn lies elsewhere.
    assert max(overlap) < 1
    assert np.mean(overlap) < (0.9 if kind == "dark_corner" else 0.4)


@pytest.mark.parametrize("kind", ["ink", "ruler", "patch"])
def test_styles_differ_in_colour_too(kind: str) -> None:
    image = np.full((64, 64, 3), 170, np.uint8)
    colours = np.asarray(
        [np.median(edited(image, kind, seed)[0][edited(image, kind, seed)[1]], 0) for seed in range(20)]
    )
    assert np.ptp(colours, axis=0).max() > (15 if kind == "ink" else 40)  # all ink is violet


@pytest.mark.parametrize("kind", ARTEFACTS)
def test_nothing_is_a_box_of_one_colour(kind: str) -> None:
    image = np.full((64, 64, 3), 150, np.uint8) if kind != "control" else skin((64, 64))
    boxes = 0
    for seed in range(20):
        made, mask = edited(image, kind, seed)
        _, counts = np.unique(made[mask], axis=0, return_counts=True)
        assert len(counts) >= 10
        assert counts.max() < 0.85 * mask.sum()
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes += mask.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert boxes <= 2  # a ruler that happens to lie straight


@pytest.mark.parametrize("kind", FOREIGN)
def test_edges_are_soft(kind: str) -> None:
    # On a flat picture a hard edge would leave nothing in the two rows of pixels about it that is changed by half.
    half = []
    for seed in range(30):
        image = np.full((64, 64, 3), 150, np.uint8)
        made, mask = edited(image, kind, seed)
        moved = change(image, made)
        edge = binary_dilation(mask) & ~binary_erosion(mask, border_value=1)
        half.append(((moved[edge] > 0.1 * moved.max()) & (moved[edge] < 0.8 * moved.max())).mean())
    assert np.median(half) > 0.4
    hard = np.where(mask[..., None], np.uint8(20), image)
    assert not ((change(image, hard)[edge] > 13) & (change(image, hard)[edge] < 104)).any()


def test_ink_takes_light_away_and_is_violet() -> None:
    for seed in range(8):
        image = skin((64, 64), seed, tone=0.02)
        made, mask = edited(image, "ink", seed)
        assert np.all(made[mask].mean(0)[:2] < 0.8 * image[mask].mean(0)[:2])  # and of blue least
        moved = change(image, made)
        red, green, blue = made[moved >= 0.8 * moved.max()].mean(0)
        assert blue > red + 20 > green + 40  # gentian violet is 58 30 140
        assert image[..., 0].mean() > image[..., 2].mean()


def test_a_dark_corner_is_dark_and_leaves_the_middle() -> None:
    for seed in range(8):
        image = skin((64, 64), seed)
        made, mask = edited(image, "dark_corner", seed)
        deep = binary_erosion(mask, iterations=2, border_value=1)
        assert made[deep].max() < 40
        assert np.array_equal(made[16:48, 16:48], image[16:48, 16:48])
        assert mask[[0, 0, -1, -1], [0, -1, 0, -1]].all()


def test_bubbles_have_bright_rims() -> None:
    made, mask = edited(np.full((128, 128, 3), 120, np.uint8), "gel_bubbles", 3)
    assert made[mask].max() > 170
    assert (made[mask] == 120).any()


def test_a_rulers_ticks_come_at_even_distances() -> None:
    for seed in range(12):
        made, mask = edited(np.full((256, 256), 160, np.uint8), "ruler", seed)
        assert 0.05 < mask.mean() < 0.3
        axis = 0 if mask.any(1).sum() < mask.any(0).sum() else 1
        covered = mask.sum(axis)
        along = ((made * mask).sum(axis) / np.maximum(covered, 1))[covered > 0][20:-20]
        power = np.abs(np.fft.rfft((along - along.mean()) * np.hanning(len(along)))) ** 2
        # 0.035 to 0.06 of the side apart are 16.7 to 28.6 in a side.
        assert 15 < (3 + power[3:].argmax()) * 256 / len(along) < 30


@pytest.mark.parametrize("grey", [False, True], ids=["colour", "grey"])
@pytest.mark.parametrize("shape", [(32, 32), (64, 64), (64, 96)], ids=str)
def test_the_control_brings_in_no_foreign_colour(shape: tuple[int, int], grey: bool) -> None:
    for seed in range(10):
        image = skin(shape, seed)
        if grey:
            image = image[..., 0]
        made, mask = edited(image, "control", seed)
        low, high = image.min(axis=(0, 1)), image.max(axis=(0, 1))
        assert np.all(made >= low)
        assert np.all(made <= high)
        assert 0.01 < mask.mean() < 0.2


def test_the_control_is_an_edit_all_the_same_and_of_like_size() -> None:
    moved, area = [], {kind: [] for kind in ARTEFACTS}
    for seed in range(30):
        image = skin((64, 64), seed)
        made, mask = edited(image, "control", seed)
        moved.append(change(image, made)[mask].mean())
        for kind, sizes in area.items():
            sizes.append(edited(image, kind, seed)[1].mean())
    assert np.median(moved) > 6
    for kind in FOREIGN:
        assert 0.4 < np.median(area["control"]) / np.median(area[kind]) < 2.5


@pytest.mark.parametrize("kind", ARTEFACTS)
@pytest.mark.parametrize("shape", [(16, 16), (17, 40), (33, 31)], ids=str)
def test_there_is_always_something_to_find(kind: str, shape: tuple[int, int]) -> None:
    for seed in range(15):
        made, mask = edited(np.full(shape, 120, np.uint8), kind, seed)
        assert mask.any()
        assert not mask.all()
        assert kind == "control" or (made[mask] != 120).any()


def test_a_ruler_lies_along_a_side_of_a_long_picture_too() -> None:
    assert max(edited(np.full((64, 256), 150, np.uint8), "ruler", seed)[1].mean() for seed in range(12)) < 0.3


def test_the_control_may_lie_anywhere_in_a_long_picture() -> None:
    found = [edited(np.full((64, 256), 150, np.uint8), "control", seed)[1] for seed in range(40)]
    assert any(mask[:, 128:].any() for mask in found)


def test_what_cannot_be_drawn_is_said() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    rng = np.random.default_rng(0)
    with pytest.raises(UsageError, match="no artefact is called 'sticker'; there are: ink, ruler, patch, gel_bubbles"):
        with_artefact(image, "sticker", rng)
    for wrong in (
        image.astype(np.float32),
        image[..., :2],
        image[None],
        image[:, 0, 0],
        np.zeros((32, 32, 4), np.uint8),
    ):
        with pytest.raises(DataError, match=r"expected uint8 \(H, W, 3\) or \(H, W\)"):
            with_artefact(wrong, "ink", rng)
    with pytest.raises(DataError, match="the image is 12 x 64; expected 16 pixels or more on a side"):
        with_artefact(np.zeros((12, 64), np.uint8), "ink", rng)
