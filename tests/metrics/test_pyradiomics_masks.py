"""Five real masks that PyRadiomics publishes with their shape features, and numbers printed for perturbations of them.

The masks are in the source distribution of pyradiomics 3.0.1 (BSD-3). Unpack it and set MEDAUDIT_PYRADIOMICS to its
``data`` folder; without it these tests are skipped.
"""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from medaudit.metrics import challenge_hd95_voxels, segmentation

DATA = Path(os.environ.get("MEDAUDIT_PYRADIOMICS", ""))
NAMES = ("brain1", "brain2", "breast1", "lung1", "lung2")
pytestmark = [
    pytest.mark.skipif(
        not (DATA / "breast1_label.nrrd").exists(), reason="set MEDAUDIT_PYRADIOMICS to the data of pyradiomics 3.0.1"
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:surface_distance"),
]


def mask_of(name):
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.ReadImage(str(DATA / f"{name}_label.nrrd"))
    return sitk.GetArrayFromImage(image) == 1, image.GetSpacing()[::-1]


def perturbed(mask):
    """The mask grown by a voxel, moved, and with a false positive in the far corner."""
    far = mask.copy()
    far[:3, :3, :3] = True
    return ndimage.binary_dilation(mask), np.roll(mask, (0, 2, 1), (0, 1, 2)), far


def test_breast1_against_its_dilation_has_the_printed_numbers():
    mask, spacing = mask_of("breast1")
    grown = ndimage.binary_dilation(mask)
    voxel = segmentation(mask, grown, spacing)
    assert voxel["dice"] == pytest.approx(0.5837, abs=5e-5)
    assert voxel["hd95_mm"] == pytest.approx(2.1, abs=5e-3)
    assert voxel["nsd_1mm"] == pytest.approx(0.5378, abs=5e-5)
    assert segmentation(mask, grown, spacing, surface="area")["nsd_1mm"] == pytest.approx(0.7662, abs=5e-5)


def test_breast1_against_its_shift_has_the_printed_numbers():
    mask, spacing = mask_of("breast1")
    moved = np.roll(mask, (0, 2, 1), (0, 1, 2))
    for hd95 in ("pooled", "max"):
        result = segmentation(mask, moved, spacing, hd95=hd95)
        assert result["dice"] == pytest.approx(0.6084, abs=5e-5)
        assert result["hd95_mm"] == pytest.approx(1.4849, abs=5e-5)
    area = segmentation(mask, moved, spacing, surface="area", hd95="max")
    assert area["hd95_mm"] == pytest.approx(1.3281, abs=5e-5)
    assert challenge_hd95_voxels(mask, moved) == pytest.approx(1.9196, abs=5e-5)


@pytest.mark.parametrize("name", NAMES)
def test_shape_features_are_those_of_the_baseline(name):
    with (DATA / "baseline" / "baseline_shape.csv").open() as file:
        rows = list(csv.reader(file))
    column = rows[0].index(name)
    baseline = {row[0].removeprefix("original_shape_"): row[column] for row in rows}
    mask, spacing = mask_of(name)
    shape = segmentation(mask, mask, spacing)
    exact = {
        "elongation": "Elongation",
        "flatness": "Flatness",
        "major_axis_mm": "MajorAxisLength",
        "minor_axis_mm": "MinorAxisLength",
        "least_axis_mm": "LeastAxisLength",
    }
    for ours, theirs in exact.items():
        assert shape[f"reference_{ours}"] == pytest.approx(float(baseline[theirs]), rel=1e-9)
    assert 1000 * shape["reference_volume_ml"] == pytest.approx(float(baseline["VoxelVolume"]), rel=1e-9)
    # Their table resolves some ambiguous neighbourhoods otherwise, which moves the mesh a little.
    assert shape["reference_surface_area_mm2"] == pytest.approx(float(baseline["SurfaceArea"]), rel=1.5e-3)
    assert 1000 * shape["reference_mesh_volume_ml"] == pytest.approx(float(baseline["MeshVolume"]), rel=1e-3)
    assert shape["reference_sphericity"] == pytest.approx(float(baseline["Sphericity"]), rel=1.5e-3)


@pytest.mark.parametrize("name", NAMES)
def test_perturbed_masks_agree_with_medpy_and_surface_distance(name):
    binary = pytest.importorskip("medpy.metric.binary")
    surface_distance = pytest.importorskip("surface_distance")
    mask, spacing = mask_of(name)
    inside = tuple(slice(max(0, s.start - 8), s.stop + 8) for s in ndimage.find_objects(mask.astype(np.uint8))[0])
    mask = mask[inside]
    for other in perturbed(mask):
        pooled = segmentation(mask, other, spacing)
        assert pooled["hd95_mm"] == pytest.approx(binary.hd95(other, mask, voxelspacing=spacing), abs=1e-6)
        assert pooled["assd_mm"] == pytest.approx(binary.assd(other, mask, voxelspacing=spacing), abs=1e-6)
        area = segmentation(mask, other, spacing, surface="area", hd95="max")
        sets = surface_distance.compute_surface_distances(mask, other, spacing)
        assert area["hd95_mm"] == pytest.approx(surface_distance.compute_robust_hausdorff(sets, 95), abs=1e-6)
        nsd = surface_distance.compute_surface_dice_at_tolerance(sets, 1.0)
        assert area["nsd_1mm"] == pytest.approx(nsd, abs=1e-6)


def test_lung2_with_a_far_blob_shows_it_in_hd_and_not_in_hd95():
    mask, spacing = mask_of("lung2")
    far = mask.copy()
    far[:2, :10, :10] = True
    result = segmentation(mask, far, spacing)
    assert result["dice"] == pytest.approx(0.996, abs=5e-4)
    assert result["hd95_mm"] == 0
    from_the_corner = np.sqrt(((np.argwhere(mask) * spacing) ** 2).sum(axis=1)).min()
    assert result["hd_mm"] == pytest.approx(from_the_corner)
    assert result["false_positive_lesions"] == 1
