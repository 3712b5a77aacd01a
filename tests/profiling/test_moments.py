"""Streamed moments against NumPy on all cells at once."""

from __future__ import annotations

import numpy as np
import pytest

from deepprofiler.errors import DataError
from deepprofiler.profiling import CellMoments, Moments
from deepprofiler.profiling.normalizer import AffineMap


def test_merged_moments_are_those_of_all_rows() -> None:
    rng = np.random.default_rng(0)
    # A mean far from zero: sums of squares would lose half their digits.
    parts = [rng.normal(1e4, 1, size=(n, 5)).astype(np.float32) for n in (3, 0, 200, 1)]
    total = Moments.empty(5)
    for part in parts:
        total = total + Moments.of(part)
    whole = np.concatenate(parts).astype(np.float64)
    assert total.n == 204
    np.testing.assert_allclose(total.mean, whole.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(total.covariance, np.cov(whole.T, bias=True), rtol=1e-9)
    assert total.rank == 5
    assert Moments.of(whole[:3]).rank == 2


@pytest.mark.parametrize("diagonal", [True, False])
def test_moments_follow_an_affine_map(diagonal: bool) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, 4)) @ rng.normal(size=(4, 4)) + 2
    given = rng.normal(size=4) if diagonal else rng.normal(size=(4, 3))
    mapping = AffineMap(given, rng.normal(size=given.shape[-1]))
    mapped = mapping.moments(Moments.of(rows))
    direct = Moments.of(mapping(rows))
    np.testing.assert_allclose(mapped.mean, direct.mean)
    np.testing.assert_allclose(mapped.scatter, direct.scatter)


def test_cells_are_added_by_plate_and_merged_by_batch() -> None:
    rng = np.random.default_rng(0)
    cells = CellMoments(["a", "b"])
    blocks = {}
    for plate, batch in (("P1", "1"), ("P2", "1"), ("P3", "2"), ("P1", "1")):
        block = rng.normal(size=(20, 2))
        blocks.setdefault(batch, []).append(block)
        assert cells.add({"Metadata_Plate": plate, "Metadata_Batch": batch}, block) == 0
    assert len(cells) == 3
    by_batch = cells.by("Metadata_Batch")
    assert {key: one.n for key, one in by_batch.items()} == {"1": 60, "2": 20}
    np.testing.assert_allclose(
        by_batch["1"].covariance, np.cov(np.concatenate(blocks["1"]).T, bias=True)
    )
    assert cells.by(None)[""].n == 80
    with pytest.raises(DataError, match="group them by Metadata_Week"):
        cells.by("Metadata_Week")


def test_broken_cells_are_left_out_and_counted() -> None:
    cells = CellMoments(["a"])
    assert cells.add({}, np.array([[1.0], [np.nan], [3.0]])) == 1
    assert cells.by(None)[""].mean == 2


def test_changed_cells_are_made_when_asked_for() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 3))
    cells, asked = CellMoments(["a", "b", "c"]), []

    def first_twice(group: tuple, moments: Moments) -> Moments:
        asked.append(group)
        kept = np.ix_([0, 1], [0, 1])
        return Moments(moments.n, 2 * moments.mean[:2], 4 * moments.scatter[kept])

    changed = cells.changed(["a2", "b2"], first_twice)
    assert not changed
    cells.add({"Metadata_Plate": "P1"}, rows[:12])
    cells.add({"Metadata_Plate": "P2"}, rows[12:])
    assert len(changed) == 2
    assert not asked
    (found,) = changed.by(None).values()
    expected = Moments.of(2 * rows[:, :2])
    np.testing.assert_allclose(found.mean, expected.mean)
    np.testing.assert_allclose(found.scatter, expected.scatter)
    with pytest.raises(TypeError, match="before they are changed"):
        changed.add({"Metadata_Plate": "P1"}, rows[:, :2])
