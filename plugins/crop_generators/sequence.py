"""Sequences of cells of one treatment, for recurrent models (Caicedo et al. 2018, Figure 3)."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepprofiler.learning.crop_generator import CropGenerator
from deepprofiler.learning.sampling import Cells, sequence
from deepprofiler.registry import CROP_GENERATORS


@CROP_GENERATORS.register("sequence")
class Sequence(CropGenerator):
    """T cells of one label in random order, from as many batches and replicates as possible.

    The label is drawn uniformly. In validation a cell is repeated ``length`` times, as in the
    paper.

    Parameters
    ----------
    length : int
        Number of cells T; the paper tried 3, 5 and 8.
    """

    def __init__(self, *, length: int = 5) -> None:
        if length < 1:
            raise ValueError(f"length must be at least 1, not {length}")
        self.length = length

    def draw(self, cells: Cells, size: int, rng: np.random.Generator) -> np.ndarray:
        """See :meth:`CropGenerator.draw`."""
        labels = rng.integers(cells.classes, size=size).tolist()
        return np.stack([sequence(cells, label, self.length, rng) for label in labels])

    def combine(self, crops: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
        """Return the crops (B, T, S, S, C); those of an example have one label."""
        return crops, labels[:, 0]

    def show(self, rows: np.ndarray) -> np.ndarray:
        """See :meth:`CropGenerator.show`."""
        return np.repeat(rows[:, np.newaxis], self.length, axis=1)
