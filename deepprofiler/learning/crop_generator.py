"""What a crop generator is: which cells go together, and how they become one example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from deepprofiler.learning.sampling import Cells


class CropGenerator:
    """Base of all crop generators.

    :meth:`draw` chooses cells with NumPy, :meth:`combine` turns their crops into one training
    example with TensorFlow, a batch at a time. In between, the core reads the crops, augments
    each by itself and rescales it. A generator keeps no state between calls.

    A generator may also define ``epoch_end(predict, labels) -> labels``, called after each
    epoch's validation: ``predict(rows)`` gives class probabilities (n, K) of cells shown without
    augmentation; ``labels`` (N, K) float32 are the current training labels of all N cells.
    """

    def draw(self, cells: Cells, size: int, rng: np.random.Generator) -> np.ndarray:
        """Choose the cells of one batch.

        Parameters
        ----------
        cells : Cells
            The N training cells.
        size : int
            Number of examples B.
        rng : numpy.random.Generator
            Seeded by (seed, epoch, step): the only source of randomness.

        Returns
        -------
        (B, T) int array
            Positions in ``cells``, 0 … N − 1; T cells, each time as many, make one example.
        """
        raise NotImplementedError

    def combine(self, crops: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
        """Make network inputs and targets of the crops of each example.

        Parameters
        ----------
        crops : (B, T, S, S, C) float32 tensor
            Augmented and rescaled crops.
        labels : (B, T, K) float32 tensor
            One row of class probabilities per cell.
        seed : (2,) int32 tensor
            For ``tf.random.stateless_*``.

        Returns
        -------
        x, y : tensors
            What the network takes, and labels (B, K).
        """
        raise NotImplementedError

    def show(self, rows: np.ndarray) -> np.ndarray:
        """Say how single cells are shown in validation: (B,) positions to (B, T)."""
        return rows[:, np.newaxis]
