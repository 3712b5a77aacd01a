"""Sequences and partners, against exhaustive search and exact probabilities."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
import pytest
from scipy.stats import chisquare

from deepprofiler.learning.sampling import Cells, partners, sequence

LEVELS = ("batch", "replicate", "plate", "well")


def make_cells(
    batch: list[int],
    replicate: list[int],
    plate: list[int],
    well: list[int],
    label: list[int] | None = None,
) -> Cells:
    return Cells.from_columns(
        row=np.arange(len(batch)),
        label=label or [0] * len(batch),
        classes=max(label or [0]) + 1,
        plate=[f"P{code}" for code in plate],
        well=[f"A{code:02d}" for code in well],
        batch=[str(code) for code in batch],
        replicate=[str(code) for code in replicate],
    )


def distinct(cells: Cells, rows: np.ndarray) -> tuple[int, ...]:
    """How many batches, replicates, plates, wells and cells there are."""
    return (*(len(set(getattr(cells, level)[rows].tolist())) for level in LEVELS), len(set(rows)))


@pytest.mark.parametrize("length", [2, 3, 5, 8])
def test_no_batch_nor_replicate_is_repeated_where_that_can_be_avoided(length: int) -> None:
    rng = np.random.default_rng(length)
    # The exhaustive search takes long for eight.
    for _ in range(60 if length < 8 else 15):
        count = int(rng.integers(2, 7))
        batch, replicate = rng.integers(0, 4, count).tolist(), rng.integers(0, 4, count).tolist()
        # Plates within batches, wells within plates.
        plate = [10 * code + int(rng.integers(2)) for code in batch]
        cells = make_cells(batch, replicate, plate, rng.integers(0, 3, count).tolist())
        best = max(
            distinct(cells, np.array(rows))[:2]
            for rows in combinations_with_replacement(range(count), length)
        )
        for _ in range(5):
            found = sequence(cells, 0, length, rng)
            assert found.shape == (length,)
            assert found.dtype == np.int64
            assert distinct(cells, found)[:2] == best


def test_then_plates_wells_and_cells_are_not_repeated() -> None:
    # One batch and replicate; 2 plates of 2 wells of 2 cells.
    plate, well = [0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0, 1, 1]
    cells = make_cells([0] * 8, [0] * 8, plate, well)
    rng = np.random.default_rng(0)
    for length, expected in ((2, (1, 1, 2, 2, 2)), (4, (1, 1, 2, 4, 4)), (8, (1, 1, 2, 4, 8))):
        for _ in range(50):
            assert distinct(cells, sequence(cells, 0, length, rng)) == expected


def test_a_well_with_few_cells_does_not_repeat_them_while_others_are_left() -> None:
    cells = make_cells([0] * 6, [0] * 6, [0] * 6, [0, 1, 1, 1, 1, 1])
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert len(set(sequence(cells, 0, 6, rng))) == 6
    assert sorted(np.bincount(sequence(cells, 0, 12, rng), minlength=6).tolist())[0] >= 1


def test_a_class_with_one_cell_repeats_it() -> None:
    cells = make_cells([0, 0], [0, 0], [0, 0], [0, 1], label=[0, 1])
    assert sequence(cells, 1, 5, np.random.default_rng(0)).tolist() == [1] * 5


def test_the_order_is_uniform_and_so_are_the_cells() -> None:
    batch = np.repeat([0, 1, 2], 4).tolist()
    cells = make_cells(batch, [0] * 12, batch, [0, 0, 1, 1] * 3)
    rng = np.random.default_rng(1)
    drawn = np.stack([sequence(cells, 0, 3, rng) for _ in range(35_000)])
    order = cells.batch[drawn] @ np.array([9, 3, 1])
    kinds, counts = np.unique(order, return_counts=True)
    assert len(kinds) == 6, "each batch once, in all orders"
    assert chisquare(counts).pvalue > 0.001
    assert chisquare(np.bincount(drawn.reshape(-1), minlength=12)).pvalue > 0.001


def test_every_batch_is_drawn_where_there_are_more_than_cells() -> None:
    batch = np.arange(7).tolist()
    cells = make_cells(batch, [0, 1, 0, 1, 0, 1, 0], batch, [0] * 7)
    rng = np.random.default_rng(2)
    drawn = np.stack([sequence(cells, 0, 2, rng) for _ in range(20_000)])
    assert (cells.replicate[drawn].sum(axis=1) == 1).all(), "two replicates where there are two"
    found = np.bincount(drawn.reshape(-1), minlength=7)
    # Each replicate half of the time; which of its batches is a matter of the matching's order.
    assert found[::2].sum() == found[1::2].sum() == 20_000
    assert found.min() > 20_000 / 7 / 2


def test_partners_are_of_any_label_and_of_another_batch_or_replicate() -> None:
    rng = np.random.default_rng(3)
    count = 4000
    # Label 0: three batches. 1: batch 0 alone, two replicates. 2: batch 0, replicate 0 alone.
    label = rng.choice(3, count, p=[0.9, 0.08, 0.02])
    batch = np.where(label == 0, rng.integers(0, 3, count), 0)
    replicate = np.where(label == 2, 0, rng.integers(0, 2, count))
    cells = make_cells(
        batch.tolist(), replicate.tolist(), batch.tolist(), replicate.tolist(), label.tolist()
    )
    first = rng.integers(count, size=120_000)
    second = partners(cells, first, rng)
    assert second.shape == first.shape
    assert chisquare(np.bincount(label[second])).pvalue > 0.001, "labels are drawn uniformly"
    same_batch = batch[first] == batch[second]
    same_replicate = replicate[first] == replicate[second]
    in_zero = batch[first] == 0
    assert not same_batch[label[second] == 0].any()
    of_one = (label[second] == 1) & in_zero
    assert of_one.any()
    assert not same_replicate[of_one].any()
    # Uniform over all that may be chosen, from the view of one kind of first cell.
    seen = (batch[first] == 1) & (label[second] == 0)
    found = np.bincount(second[seen], minlength=count)[(label == 0) & (batch != 1)]
    assert found.sum() == seen.sum()
    assert chisquare(found).pvalue > 0.001
    seen = in_zero & (replicate[first] == 0) & (label[second] == 1)
    found = np.bincount(second[seen], minlength=count)[(label == 1) & (replicate == 1)]
    assert found.sum() == seen.sum()
    assert chisquare(found).pvalue > 0.001


def test_a_lone_cell_is_its_own_partner() -> None:
    cells = make_cells([0], [0], [0], [0])
    assert partners(cells, np.array([0, 0]), np.random.default_rng(0)).tolist() == [0, 0]
