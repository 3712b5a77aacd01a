"""Figures of validation against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as oracle

from deepprofiler.learning.metrics import Classification, EpochMetrics, ValidationMetrics


@pytest.mark.parametrize("seed", range(4))
def test_against_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes, count = 9, 200
    label = rng.choice(7, count)  # Two classes have no cells, one is never chosen.
    logits = rng.normal(size=(count, classes)).astype(np.float32)
    logits[np.arange(count), label] += 1
    logits[:, 3] -= 20
    chosen, present = logits.argmax(axis=1), np.unique(label)
    row = ValidationMetrics(0.0, Classification.of(logits, label, 3)).to_row()
    options = {"labels": present, "average": "macro", "zero_division": 0}
    assert row == pytest.approx(
        {
            "val_loss": 0.0,
            "val_accuracy": oracle.accuracy_score(label, chosen),
            "val_top_3_accuracy": oracle.top_k_accuracy_score(
                label, logits, k=3, labels=np.arange(classes)
            ),
            "val_macro_accuracy": oracle.balanced_accuracy_score(label, chosen)
            if set(chosen) <= set(present)
            else oracle.recall_score(label, chosen, **options),
            "val_macro_precision": oracle.precision_score(label, chosen, **options),
            "val_macro_f1": oracle.f1_score(label, chosen, **options),
        }
    )


def test_small_numbers_by_hand() -> None:
    logits = np.array([[3.0, 2, 1], [3, 2, 1], [1, 2, 3], [2, 2, 2]])
    label = np.array([0, 1, 2, 1])
    # Predicted are 0, 0, 2 and, the first of equals, 0.
    found = Classification.of(logits, label, 2)
    assert found.accuracy == 2 / 4
    assert (found.top_k, found.top_k_accuracy) == (2, 4 / 4)
    assert found.macro_accuracy == pytest.approx((1 + 0 + 1) / 3)
    assert found.macro_precision == pytest.approx((1 / 3 + 0 + 1) / 3)
    assert found.macro_f1 == pytest.approx((2 / 4 + 0 + 1) / 3)
    all_classes = Classification.of(logits, label, 3)
    assert (all_classes.top_k, all_classes.top_k_accuracy) == (None, None)


def test_equal_logits_count_from_the_first_class() -> None:
    """As `argmax` does; the second of two classes is not among the first."""
    logits = np.zeros((2, 2), np.float32)
    found = Classification.of(logits, np.array([0, 1]), 1)
    assert found.accuracy == found.top_k_accuracy == 0.5


@pytest.mark.parametrize("top_k", [1, 5])
def test_rows_come_back(top_k: int) -> None:
    rng = np.random.default_rng(0)
    classification = Classification.of(rng.normal(size=(20, 4)), rng.integers(4, size=20), top_k)
    for validation in (None, ValidationMetrics(0.5), ValidationMetrics(0.5, classification)):
        metrics = EpochMetrics(3, 0.7, 0.4, validation, 0.01, 2, 1.5, 60.0, 0.25)
        row = metrics.to_row()
        assert EpochMetrics.from_row(row) == metrics
        assert list(row)[:3] == ["epoch", "loss", "accuracy"]
        assert ("val_top_1_accuracy" in row) == (top_k == 1 and "val_accuracy" in row)
