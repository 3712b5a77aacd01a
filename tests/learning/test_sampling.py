"""Which cells are drawn, against their exact probabilities."""

from __future__ import annotations

import numpy as np
from scipy.stats import chisquare

from deepprofiler.learning.sampling import Cells, balanced


def make_cells(counts: list[int]) -> Cells:
    label = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    return Cells.from_columns(
        row=np.arange(len(label)) + 1000,
        label=label,
        classes=len(counts),
        plate=["P"] * len(label),
        well=["A01"] * len(label),
    )


def test_labels_are_drawn_uniformly_and_cells_within_a_label() -> None:
    counts = [1, 10, 300, 2000, 7]
    cells = make_cells(counts)
    drawn = balanced(cells, 200_000, np.random.default_rng(5))
    found = np.bincount(drawn, minlength=len(cells))
    assert chisquare(np.bincount(cells.label[drawn])).pvalue > 0.001
    expected = 200_000 / len(counts) / np.array(counts)[cells.label]
    assert chisquare(found, expected).pvalue > 0.001
    # The test can tell: uniform over cells is refused.
    uniform = np.random.default_rng(5).integers(len(cells), size=200_000)
    assert chisquare(np.bincount(cells.label[uniform])).pvalue < 1e-10


def test_a_seed_decides_the_draw() -> None:
    cells = make_cells([5, 50])
    first = balanced(cells, 100, np.random.default_rng((1, 2, 3)))
    np.testing.assert_array_equal(first, balanced(cells, 100, np.random.default_rng((1, 2, 3))))
    assert (first != balanced(cells, 100, np.random.default_rng((1, 2, 4)))).any()


def test_codes_and_places() -> None:
    cells = Cells.from_columns(
        row=[5, 6, 7, 8],
        label=[1, 0, 1, 1],
        classes=3,
        plate=["P2", "P1", "P2", "P10"],
        well=["A01", "A01", "B01", "A01"],
        replicate=["x", "y", "x", "y"],
    )
    assert cells.plate.tolist() == [2, 0, 2, 1]
    assert cells.batch.tolist() == cells.plate.tolist(), "without batches the plate is the batch"
    assert cells.replicate.tolist() == [0, 1, 0, 1]
    assert [tuple(cells.places[code]) for code in cells.well] == [
        ("P2", "A01"), ("P1", "A01"), ("P2", "B01"), ("P10", "A01"),
    ]  # fmt: skip
    assert cells.counts.tolist() == [1, 3, 0]
    assert [rows.tolist() for rows in cells.by_label] == [[1], [0, 2, 3], []]
