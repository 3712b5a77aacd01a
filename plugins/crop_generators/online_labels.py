"""Labels softened by the network's own predictions, as in the original DeepProfiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deepprofiler.learning.crop_generator import CropGenerator
from deepprofiler.learning.sampling import Cells, balanced
from deepprofiler.registry import CROP_GENERATORS


@CROP_GENERATORS.register("online_labels")
class OnlineLabels(CropGenerator):
    """Class-balanced single cells whose labels move towards the network's predictions.

    After each epoch a cell's label becomes (1 − blend) × label + blend × prediction. Cells are
    balanced by their original labels. ``train.label_smoothing`` softens labels from the start.

    Parameters
    ----------
    blend : float
        Share of the predictions, 0 … 1; 0.01 in the original.
    """

    def __init__(self, *, blend: float = 0.01) -> None:
        if not 0 <= blend <= 1:
            raise ValueError(f"blend must be from 0 to 1, not {blend}")
        self.blend = blend

    def draw(self, cells: Cells, size: int, rng: np.random.Generator) -> np.ndarray:
        """See :meth:`CropGenerator.draw`."""
        return balanced(cells, size, rng)[:, np.newaxis]

    def combine(self, crops: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
        """See :meth:`CropGenerator.combine`."""
        return crops[:, 0], labels[:, 0]

    def epoch_end(
        self, predict: Callable[[np.ndarray], np.ndarray], labels: np.ndarray
    ) -> np.ndarray:
        """See :class:`CropGenerator`."""
        predictions = predict(np.arange(len(labels)))
        return ((1 - self.blend) * labels + self.blend * predictions).astype(np.float32)
