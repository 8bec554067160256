"""The same numbers as the tools in use, to 1e-6, wherever they compute what they say.

Where a tool means something else by the same name the test says so.
"""

import numpy as np
import pytest
from made_masks import blob_pair
from scipy import ndimage

from medaudit.metrics import challenge_hd95_voxels, segmentation


def far_blob(pair):
    """A false positive in the far corner."""
    a, b = (np.pad(mask, 6) for mask in pair)
    b[(slice(0, 3),) * b.ndim] = True
    return a, b


CASES = {
    "3-D": (blob_pair(0, (24, 20, 16)), (1.0, 1.0, 1.0)),
    "3-D anisotropic": (blob_pair(1, (20, 26, 12)), (0.7, 0.8, 2.5)),
    "3-D dense": (blob_pair(2, (14, 14, 14), share=0.8), (1.5, 0.5, 1.0)),
    "3-D shifted": ((m := blob_pair(3, (18, 18, 18))[0], np.roll(m, (1, 2, 0), (0, 1, 2))), (2.1, 0.664, 0.664)),
    "3-D far false positive": (far_blob(blob_pair(4, (16, 18, 14))), (1.1, 0.804, 0.804)),
    "3-D one slice": (blob_pair(5, (1, 30, 30)), (4.0, 0.5, 0.5)),
    "2-D": (blob_pair(6, (60, 50)), (1.0, 1.0)),
    "2-D anisotropic": (blob_pair(7, (60, 50), smooth=3), (0.31, 0.9)),
    "2-D far false positive": (far_blob(blob_pair(8, (40, 60), smooth=3)), (0.2, 0.2)),
}
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:surface_distance"),
    pytest.mark.filterwarnings("ignore::FutureWarning:monai"),
]
every_case = pytest.mark.parametrize(("pair", "spacing"), CASES.values(), ids=CASES.keys())


def directed_by_distance_transform(a, b, spacing):
    """Both directed sets of surface distances, by scipy's erosion and exact distance transform."""

    def border(mask):
        return mask & ~ndimage.binary_erosion(mask)

    to_b = ndimage.distance_transform_edt(~border(b), sampling=spacing)[border(a)]
    to_a = ndimage.distance_transform_edt(~border(a), sampling=spacing)[border(b)]
    return to_b, to_a


@every_case
def test_scipy_distance_transform(pair, spacing):
    to_b, to_a = directed_by_distance_transform(*pair, spacing)
    both = np.concatenate((to_b, to_a))
    result = segmentation(*pair, spacing, tolerances_mm=(0.5, 1, 2))
    assert result["hd_mm"] == pytest.approx(both.max(), abs=1e-9)
    assert result["hd95_mm"] == pytest.approx(np.percentile(both, 95), abs=1e-9)
    assert result["assd_mm"] == pytest.approx(both.mean(), abs=1e-9)
    assert result["masd_mm"] == pytest.approx((to_b.mean() + to_a.mean()) / 2, abs=1e-9)
    for tolerance in (0.5, 1, 2):
        assert result[f"nsd_{tolerance:g}mm"] == np.mean(both <= tolerance)
    larger = max(np.percentile(to_b, 95), np.percentile(to_a, 95))
    assert segmentation(*pair, spacing, hd95="max")["hd95_mm"] == pytest.approx(larger, abs=1e-9)


@every_case
def test_medpy(pair, spacing):
    """Its HD95 is pooled, and since 0.5 its ``assd`` the mean over both sets together; ``asd`` is one directed mean."""
    binary = pytest.importorskip("medpy.metric.binary")
    a, b = pair
    result = segmentation(a, b, spacing)
    assert result["hd95_mm"] == pytest.approx(binary.hd95(b, a, voxelspacing=spacing), abs=1e-6)
    assert result["hd_mm"] == pytest.approx(binary.hd(b, a, voxelspacing=spacing), abs=1e-6)
    assert result["assd_mm"] == pytest.approx(binary.assd(b, a, voxelspacing=spacing), abs=1e-6)
    directed = binary.asd(b, a, voxelspacing=spacing), binary.asd(a, b, voxelspacing=spacing)
    assert result["masd_mm"] == pytest.approx(np.mean(directed), abs=1e-6)
    for ours, theirs in (("dice", "dc"), ("iou", "jc"), ("precision", "precision"), ("recall", "recall")):
        assert result[ours] == pytest.approx(getattr(binary, theirs)(b, a), abs=1e-12)


@every_case
def test_surface_distance(pair, spacing):
    """Area mode. Its HD95 is the larger of two directed percentiles by area, its ASD a pair of directed means."""
    surface_distance = pytest.importorskip("surface_distance")
    a, b = pair
    sets = surface_distance.compute_surface_distances(a, b, spacing)
    result = segmentation(a, b, spacing, surface="area", hd95="max", tolerances_mm=(0.5, 1, 2))
    assert result["hd95_mm"] == pytest.approx(surface_distance.compute_robust_hausdorff(sets, 95), abs=1e-6)
    assert result["hd_mm"] == pytest.approx(surface_distance.compute_robust_hausdorff(sets, 100), abs=1e-6)
    directed = surface_distance.compute_average_surface_distance(sets)
    assert result["masd_mm"] == pytest.approx(np.mean(directed), abs=1e-6)
    sizes = sets["surfel_areas_gt"].sum(), sets["surfel_areas_pred"].sum()
    assert result["assd_mm"] == pytest.approx(np.average(directed, weights=sizes), abs=1e-6)
    for tolerance in (0.5, 1, 2):
        theirs = surface_distance.compute_surface_dice_at_tolerance(sets, tolerance)
        assert result[f"nsd_{tolerance:g}mm"] == pytest.approx(theirs, abs=1e-6)
    name = "surface_area_mm2" if a.ndim == 3 else "perimeter_mm"
    assert result[f"reference_{name}"] == pytest.approx(sizes[0], rel=1e-9)
    assert result[f"prediction_{name}"] == pytest.approx(sizes[1], rel=1e-9)


def test_area_tables_are_those_of_surface_distance_for_every_neighbourhood():
    tables = pytest.importorskip("surface_distance.lookup_tables")
    from medaudit.metrics.area import surface_by_code

    rng = np.random.default_rng(0)
    for spacing in ((1.0, 1.0, 1.0), (2.0, 1.0, 0.5), *rng.uniform(0.1, 9, size=(20, 3))):
        theirs = tables.create_table_neighbour_code_to_surface_area(spacing)
        corners = (np.arange(256)[:, None] >> np.arange(8) & 1).reshape(-1, 2, 2, 2)
        codes = (corners * tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL).sum(axis=(1, 2, 3))
        assert surface_by_code(tuple(spacing)) == pytest.approx(theirs[codes], rel=1e-9)
        flat = tables.create_table_neighbour_code_to_contour_length(spacing[:2])
        corners = (np.arange(16)[:, None] >> np.arange(4) & 1).reshape(-1, 2, 2)
        codes = (corners * tables.ENCODE_NEIGHBOURHOOD_2D_KERNEL).sum(axis=(1, 2))
        assert surface_by_code(tuple(spacing[:2])) == pytest.approx(flat[codes], rel=1e-9)


@every_case
def test_monai(pair, spacing):
    """Max of directed percentiles. Its symmetric average distance is over both sets together, which we call ASSD."""
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    a, b = (torch.from_numpy(mask[None, None].astype(np.float32)) for mask in pair)
    result = segmentation(*pair, spacing, hd95="max")
    options = {"include_background": True, "spacing": list(spacing)}
    hd95 = metrics.compute_hausdorff_distance(b, a, percentile=95, **options).item()
    assert result["hd95_mm"] == pytest.approx(hd95, rel=1e-6)
    assert result["hd_mm"] == pytest.approx(metrics.compute_hausdorff_distance(b, a, **options).item(), rel=1e-6)
    mean = metrics.compute_average_surface_distance(b, a, symmetric=True, **options).item()
    assert result["assd_mm"] == pytest.approx(mean, rel=1e-6)
    assert result["dice"] == pytest.approx(metrics.compute_dice(b, a).item(), rel=1e-6)
    for tolerance in (1.0, 2.0):
        nsd = metrics.compute_surface_dice(b, a, [tolerance], **options).item()
        assert result[f"nsd_{tolerance:g}mm"] == pytest.approx(nsd, rel=1e-6)


def seg_metrics_distances(a, b, spacing):
    """Pooled distances between contours of voxels with an outside neighbour through a face, an edge or a corner."""
    everywhere = np.ones((3,) * a.ndim)

    def contour(mask):
        return mask & ~ndimage.binary_erosion(mask, everywhere)

    to_b = ndimage.distance_transform_edt(~contour(b), sampling=spacing)[contour(a)]
    to_a = ndimage.distance_transform_edt(~contour(a), sampling=spacing)[contour(b)]
    return np.concatenate((to_b, to_a))


@pytest.mark.parametrize("name", ["3-D", "3-D anisotropic", "3-D far false positive"])
def test_seg_metrics_by_its_own_contour(name):
    """Its contour is thicker than ours (26 neighbours, not 6), so its numbers are others; Dice is the same."""
    pytest.importorskip("SimpleITK")
    seg_metrics = pytest.importorskip("seg_metrics.seg_metrics")
    (a, b), spacing = CASES[name]
    a, b = np.pad(a, 2), np.pad(b, 2)  # at the edge of the image its contour has gaps
    theirs = seg_metrics.write_metrics(
        labels=[1], gdth_img=a.astype(np.uint8), pred_img=b.astype(np.uint8), spacing=spacing
    )
    theirs = theirs[0] if isinstance(theirs, list) else theirs
    thick = seg_metrics_distances(a, b, spacing)
    assert theirs["hd95"][0] == pytest.approx(np.percentile(thick, 95), rel=1e-6)
    assert theirs["msd"][0] == pytest.approx(thick.mean(), rel=1e-5)
    result = segmentation(a, b, spacing)
    assert theirs["hd"][0] == pytest.approx(thick.max(), rel=1e-6)
    assert result["dice"] == pytest.approx(theirs["dice"][0], abs=1e-12)
    assert result["assd_mm"] != pytest.approx(theirs["msd"][0], rel=1e-3)


def test_seg_metrics_scores_a_missed_lesion_zero_millimetres_and_we_do_not():
    seg_metrics = pytest.importorskip("seg_metrics.seg_metrics")
    a = CASES["3-D"][0][0]
    nothing = np.zeros_like(a)
    theirs = seg_metrics.write_metrics(
        labels=[1], gdth_img=a.astype(np.uint8), pred_img=nothing.astype(np.uint8), spacing=(1, 1, 1), metrics=["hd95"]
    )
    theirs = theirs[0] if isinstance(theirs, list) else theirs
    assert theirs["hd95"][0] == 0
    assert segmentation(a, nothing, 1)["hd95_mm"] == np.inf


@pytest.mark.parametrize("name", ["3-D", "3-D anisotropic", "2-D"])
def test_challenge_distance_is_that_between_itk_contours_in_voxels(name):
    sitk = pytest.importorskip("SimpleITK")
    from scipy.spatial import cKDTree

    a, b = (np.pad(mask, 1) for mask in CASES[name][0])
    points = [
        np.argwhere(sitk.GetArrayFromImage(sitk.LabelContour(sitk.GetImageFromArray(mask.astype(np.uint8)))))
        for mask in (a, b)
    ]
    directed = [cKDTree(points[1]).query(points[0])[0], cKDTree(points[0]).query(points[1])[0]]
    expected = max(np.percentile(distances, 95) for distances in directed)
    assert challenge_hd95_voxels(a, b) == pytest.approx(expected, abs=1e-9)
