"""The B-mode simulator obeys the physics of speckle and attenuation, and keeps its factors apart."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from medaudit.datasets.bmode import (
    BEAMS,
    COLUMNS,
    DEPTHS,
    ROWS,
    attenuation_db,
    compressed,
    envelope,
    grid,
    scan_converted,
)
from medaudit.datasets.simulate_ultrasound import DEVICES, ULTRASOUND_PLANTS, simulate_ultrasound
from medaudit.errors import UsageError

SHAPE = (DEPTHS, BEAMS)


@pytest.mark.parametrize("name", list(DEVICES))
def test_uniform_tissue_has_fully_developed_speckle(name: str) -> None:
    echo = np.stack([envelope(np.ones(SHAPE), DEVICES[name], 14.0, np.random.default_rng(seed)) for seed in range(12)])
    assert (echo**2).mean() == pytest.approx(1.0, rel=0.03)
    # Rayleigh: mean/SD = sqrt(pi / (4 - pi)) = 1.913; SD of 20 log10 = 5.57 dB.
    assert echo.mean() / echo.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.02)
    assert (20 * np.log10(echo)).std() == pytest.approx(5.57, rel=0.02)


def test_attenuation_comes_back_by_regression() -> None:
    device = DEVICES["A"]
    lost = attenuation_db(np.full(SHAPE, 0.7), device, 14.0)
    depth = (np.arange(DEPTHS) + 1) * 14.0 / DEPTHS
    rows = []
    for seed in range(8):
        echo = envelope(np.ones(SHAPE), device, 14.0, np.random.default_rng(seed))
        rows.append((20 * np.log10(echo) - lost).mean(1))
    slope = np.polyfit(depth, np.mean(rows, axis=0), 1)[0]
    assert slope == pytest.approx(-2 * 0.7 * device.frequency_mhz, rel=0.02)


def test_tgc_undoes_the_tissue_it_expects_and_the_range_is_in_decibels() -> None:
    device = DEVICES["A"]
    flat = np.full(SHAPE, 3.0 * 10 ** (-20 / 20))  # 20 dB below white
    lost = attenuation_db(np.full(SHAPE, 0.5), device, 14.0)
    shown = compressed(flat, lost, device, 14.0, tissue=0.5)
    wanted = 255 * (1 - 20 / device.dynamic_range_db)
    assert np.abs(shown - wanted).max() < 255 / device.dynamic_range_db * 0.1
    brighter = compressed(flat, lost, device, 14.0, tissue=0.5, gain_db=6.0)
    np.testing.assert_allclose(brighter - shown, 255 * 6 / device.dynamic_range_db, rtol=1e-9)


def test_scan_conversion_keeps_a_constant_and_puts_depth_on_arcs() -> None:
    device = DEVICES["B"]
    fan = scan_converted(np.full(SHAPE, 200.0), device)
    assert fan.shape == (ROWS, COLUMNS)
    assert set(np.unique(fan)) == {0, 200}
    share = (fan > 0).mean()
    assert 0.4 < share < 0.9
    ring = np.zeros(SHAPE)
    ring[DEPTHS // 2 - 4 : DEPTHS // 2 + 4] = 255
    where = np.argwhere(scan_converted(ring, device) > 128)
    middle = where[np.abs(where[:, 1] - COLUMNS / 2) < 3][:, 0].mean()
    edge = where[np.abs(where[:, 1] - COLUMNS / 2) > 60][:, 0].mean()
    assert edge < middle - 3  # an arc around the probe bends up to the sides


def test_grid_is_in_centimetres() -> None:
    where = grid(DEVICES["C"], 15.0)
    assert where.z.max() == pytest.approx(15.0, abs=0.05)
    assert where.x.min() == pytest.approx(-where.x.max())


def test_cohort_crosses_its_factors_and_goes_on(tmp_path: Path) -> None:
    cohort = simulate_ultrasound(tmp_path / "us", n=60, seed=1)
    assert len(cohort) == 60
    table = cohort.table
    assert table.group_by("patient_id").agg(pl.col("device").n_unique())["device"].max() == 1
    assert set(table["device"]) == set("ABCD")
    assert table["plane"].n_unique() == 5
    first = tmp_path / "us" / "images" / "US_00001.png"
    before = {path.name: path.read_bytes() for path in (tmp_path / "us" / "images").iterdir()}
    first.unlink()
    again = simulate_ultrasound(tmp_path / "us", n=60, seed=1, jobs=2)
    assert {path.name: path.read_bytes() for path in (tmp_path / "us" / "images").iterdir()} == before
    assert again.table.equals(table)
    with pytest.raises(UsageError, match="other settings"):
        simulate_ultrasound(tmp_path / "us", n=60, seed=2)


def test_plants(tmp_path: Path) -> None:
    nested = simulate_ultrasound(tmp_path / "nested", n=90, seed=1, plant=ULTRASOUND_PLANTS["nested"]).table
    of = dict(nested.group_by("device").agg(pl.col("operator").unique().sort()).iter_rows())
    assert of["D"] == ["4"]
    assert of["C"] == ["3"]
    assert set(of["A"]) | set(of["B"]) == {"1", "2"}
    sizes = simulate_ultrasound(tmp_path / "sizes", n=40, seed=1, plant=ULTRASOUND_PLANTS["sizes"])
    shapes = {
        (row["device"], Image.open(tmp_path / "sizes" / row["image_path"]).size) for row in sizes.table.to_dicts()
    }
    assert len(shapes) == sizes.table["device"].n_unique()
