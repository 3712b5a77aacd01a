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
        ``accuracy``, with validation cells ``val_loss`` and those of
        :func:`deepprofiler.learning.metrics.accuracies`, ``learning_rate`` (of the last step),
        ``flat_crops``, ``seconds``, ``cells_per_second``, ``waiting`` (share of time spent on
        data).
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


def watched_losses(history: Sequence[Mapping[str, float]]) -> list[float]:
    """Loss of each epoch, on validation cells if there are any: what every decision is based on."""
    return [row.get("val_loss", row["loss"]) for row in history]


def best_epoch(history: Sequence[Mapping[str, float]]) -> int:
    """Epoch with the lowest loss, the first of equals; 0 before the first."""
    losses = watched_losses(history)
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
    parts += [
        f"{name.removeprefix('val_').replace('_', ' ')} {value:.3f}"
        for name, value in row.items()
        if name.startswith("val_") and name != "val_loss"
    ]
    parts.append(f"{row['flat_crops']} crops with a flat channel")
    parts.append(f"{row['cells_per_second']:.0f} cells/s, {row['waiting']:.0%} waiting for data")
    return ", ".join(parts)
