"""Figures of the epochs: what they say, and how they are written down."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deepprofiler.files import replacing


@dataclass(frozen=True)
class History:
    """What training came to.

    Attributes
    ----------
    epochs : list of dict
        Figures of every finished epoch, those of earlier runs too: ``epoch``, ``loss``,
        ``accuracy``, with validation cells ``val_loss``, ``val_accuracy`` (micro: of cells),
        ``val_macro_accuracy`` (mean over classes), ``learning_rate``, ``flat_crops``,
        ``seconds``, ``cells_per_second``, ``waiting`` (share of time spent on data).
    best : int
        The epoch with the lowest loss, on validation cells if there are any.
    resumed : int
        Epochs that were finished before.
    stopped : bool
        Training ended early, since the loss did not fall any more.
    """

    epochs: list[dict[str, float]]
    best: int
    resumed: int
    stopped: bool


def best_epoch(history: Sequence[Mapping[str, float]]) -> int:
    """Epoch with the lowest loss, the first of equals; 0 before the first."""
    losses = [row.get("val_loss", row["loss"]) for row in history]
    return losses.index(min(losses)) + 1 if losses else 0


def is_over(history: Sequence[Mapping[str, float]], patience: int | None) -> bool:
    """Whether the loss has not fallen for so many epochs."""
    return patience is not None and len(history) - best_epoch(history) >= patience


def write_csv(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write one line an epoch."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, list(history[-1]), restval="", extrasaction="ignore")
        table.writeheader()
        table.writerows(history)


def log_line(row: Mapping[str, float], epochs: int) -> str:
    """One log line of an epoch."""
    parts = [f"epoch {row['epoch']} of {epochs}: loss {row['loss']:.4g}"]
    if "accuracy" in row:
        parts.append(f"accuracy {row['accuracy']:.3f}")
    if "val_loss" in row:
        parts.append(f"validation loss {row['val_loss']:.4g}")
    if "val_accuracy" in row:
        parts.append(f"accuracy {row['val_accuracy']:.3f} (macro {row['val_macro_accuracy']:.3f})")
    parts.append(f"{row['flat_crops']} crops with a flat channel")
    parts.append(f"{row['cells_per_second']:.0f} cells/s, {row['waiting']:.0%} waiting for data")
    return ", ".join(parts)
