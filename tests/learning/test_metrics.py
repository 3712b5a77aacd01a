"""Figures of validation against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as oracle

from deepprofiler.learning.fit import accuracies


@pytest.mark.parametrize("seed", range(4))
def test_against_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes, count = 9, 200
    label = rng.choice(7, count)  # Two classes have no cells, one is never chosen.
    logits = rng.normal(size=(count, classes)).astype(np.float32)
    logits[np.arange(count), label] += 1
    logits[:, 3] -= 20
    chosen, present = logits.argmax(axis=1), np.unique(label)
    found = accuracies(logits, label, 3)
    options = {"labels": present, "average": "macro", "zero_division": 0}
    assert found == pytest.approx(
        {
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
    found = accuracies(logits, np.array([0, 1, 2, 1]), 2)
    # Chosen are 0, 0, 2 and, the first of equals, 0.
    assert found == pytest.approx(
        {
            "val_accuracy": 2 / 4,
            "val_top_2_accuracy": 4 / 4,
            "val_macro_accuracy": (1 + 0 + 1) / 3,
            "val_macro_precision": (1 / 3 + 0 + 1) / 3,
            "val_macro_f1": (2 / 4 + 0 + 1) / 3,
        }
    )
    assert "val_top_3_accuracy" not in accuracies(logits, np.array([0, 1, 2, 1]), 3)
