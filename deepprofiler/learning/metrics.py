"""Metrics of training: classification figures, the metrics of an epoch, and what follows from them.

Free of TensorFlow: :mod:`deepprofiler.learning.fit` computes and stores them, and what reads a
checkpoint or tells a user how training goes needs nothing else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deepprofiler.learning.learning_settings import EarlyStopping


@dataclass(frozen=True)
class Classification:
    """How well classes are told apart.

    Attributes
    ----------
    accuracy : float
        Share of cells whose class has the largest logit, the first of equals.
    macro_accuracy : float
        Mean recall of the classes that have cells.
    macro_precision : float
        Mean over these classes of the share of correct predictions; 0 for a class that is never
        predicted.
    macro_f1 : float
        Mean over these classes of the harmonic mean of recall and precision.
    top_k : int, optional
        The k of ``top_k_accuracy``; None where there are no more than k classes.
    top_k_accuracy : float, optional
        Share of cells whose class is among those of the k largest logits.
    """

    accuracy: float
    macro_accuracy: float
    macro_precision: float
    macro_f1: float
    top_k: int | None = None
    top_k_accuracy: float | None = None

    @classmethod
    def of(cls, logits: np.ndarray, label: np.ndarray, top_k: int) -> Classification:
        """Compare predictions with true classes.

        Parameters
        ----------
        logits : (N, K) array
        label : (N,) int array
            True classes, 0 … K − 1.
        top_k : int
        """
        # Only training needs scikit-learn, and its import takes a second.
        from sklearn.metrics import accuracy_score, precision_recall_fscore_support

        # Not scikit-learn's top-k accuracy: of equal logits it takes the last, `argmax` the first,
        # and it refuses logits of two classes.
        largest = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]
        predicted = largest[:, 0]
        precision, recall, f1, _ = precision_recall_fscore_support(
            label, predicted, labels=np.unique(label), average="macro", zero_division=0
        )
        is_informative = top_k < logits.shape[1]
        among = (largest == label[:, np.newaxis]).any(axis=1)
        return cls(
            accuracy=float(accuracy_score(label, predicted)),
            macro_accuracy=float(recall),
            macro_precision=float(precision),
            macro_f1=float(f1),
            top_k=top_k if is_informative else None,
            top_k_accuracy=float(among.mean()) if is_informative else None,
        )


@dataclass(frozen=True)
class ValidationMetrics:
    """Metrics of the validation cells after an epoch.

    Attributes
    ----------
    loss : float
        Mean over cells.
    classification : Classification, optional
        None where the network reconstructs its input.
    """

    loss: float
    classification: Classification | None = None

    def to_row(self) -> dict[str, float]:
        """Name the metrics as in ``history.csv``."""
        row = {"val_loss": self.loss}
        if self.classification is None:
            return row
        row["val_accuracy"] = self.classification.accuracy
        if self.classification.top_k_accuracy is not None:
            name = f"val_top_{self.classification.top_k}_accuracy"
            row[name] = self.classification.top_k_accuracy
        return row | {
            "val_macro_accuracy": self.classification.macro_accuracy,
            "val_macro_precision": self.classification.macro_precision,
            "val_macro_f1": self.classification.macro_f1,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, float]) -> ValidationMetrics | None:
        """Read what :meth:`to_row` gave; None where it is not among the metrics."""
        if "val_loss" not in row:
            return None
        if "val_accuracy" not in row:
            return cls(row["val_loss"])
        ranks = [int(k) for k in re.findall(r"val_top_(\d+)_accuracy", " ".join(row))]
        top_k = ranks[0] if ranks else None
        return cls(
            row["val_loss"],
            Classification(
                accuracy=row["val_accuracy"],
                macro_accuracy=row.get("val_macro_accuracy", math.nan),
                macro_precision=row.get("val_macro_precision", math.nan),
                macro_f1=row.get("val_macro_f1", math.nan),
                top_k=top_k,
                top_k_accuracy=row[f"val_top_{top_k}_accuracy"] if ranks else None,
            ),
        )


@dataclass(frozen=True)
class EpochMetrics:
    """Metrics of a finished epoch.

    Attributes
    ----------
    epoch : int
        From 1.
    loss : float
        Mean over steps, on augmented training cells.
    accuracy : float, optional
        On the same cells; None where the network reconstructs its input.
    validation : ValidationMetrics, optional
        None without validation cells.
    learning_rate : float
        Of the last step.
    flat_crops : int
        Crops of the epoch in which a channel is constant.
    seconds, cells_per_second : float
        Time and speed of training, without validation.
    waiting : float
        Share of that time spent waiting for batches.
    """

    epoch: int
    loss: float
    accuracy: float | None = None
    validation: ValidationMetrics | None = None
    learning_rate: float = math.nan
    flat_crops: int = 0
    seconds: float = math.nan
    cells_per_second: float = math.nan
    waiting: float = math.nan

    @property
    def monitored_loss(self) -> float:
        """The loss that decides: of the validation cells if there are any."""
        return self.loss if self.validation is None else self.validation.loss

    def to_row(self) -> dict[str, float]:
        """Name the metrics as in ``history.csv``; those without a value are left out."""
        row: dict[str, float] = {"epoch": self.epoch, "loss": self.loss}
        if self.accuracy is not None:
            row["accuracy"] = self.accuracy
        if self.validation is not None:
            row |= self.validation.to_row()
        return row | {
            "learning_rate": self.learning_rate,
            "flat_crops": self.flat_crops,
            "seconds": self.seconds,
            "cells_per_second": self.cells_per_second,
            "waiting": self.waiting,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, float]) -> EpochMetrics:
        """Read what :meth:`to_row` gave."""
        others = ("learning_rate", "flat_crops", "seconds", "cells_per_second", "waiting")
        return cls(
            int(row["epoch"]),
            row["loss"],
            row.get("accuracy"),
            ValidationMetrics.from_row(row),
            **{name: row[name] for name in others if name in row},  # type: ignore[arg-type]
        )


def best_epoch(history: Sequence[EpochMetrics]) -> int:
    """Return the epoch with the lowest monitored loss, the first of equals; 0 before the first."""
    losses = [metrics.monitored_loss for metrics in history]
    return losses.index(min(losses)) + 1 if losses else 0


def stops_early(history: Sequence[EpochMetrics], stopping: EarlyStopping | None) -> bool:
    """Tell whether the monitored loss has not fallen for as many epochs as patience allows."""
    return stopping is not None and len(history) - best_epoch(history) >= stopping.patience
