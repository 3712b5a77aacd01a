"""Single cells: each is one training example."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepprofiler.learning.crop_generator import CropGenerator
from deepprofiler.learning.sampling import Cells, balanced
from deepprofiler.registry import CROP_GENERATORS


@CROP_GENERATORS.register("single")
class Single(CropGenerator):
    """Class-balanced single cells: a label uniformly, then a cell of that label uniformly."""

    def draw(self, cells: Cells, size: int, rng: np.random.Generator) -> np.ndarray:
        """See :meth:`CropGenerator.draw`."""
        return balanced(cells, size, rng)[:, np.newaxis]

    def combine(self, crops: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
        """See :meth:`CropGenerator.combine`."""
        return crops[:, 0], labels[:, 0]
