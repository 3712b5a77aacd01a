"""CropGenerator: the base class of what chooses cells and makes training examples of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from deepprofiler.learning.sampling import Cells


class CropGenerator:
    """Base of all crop generators.

    :meth:`draw` chooses the cells of a batch with NumPy; :meth:`combine` makes training examples of
    their crops with TensorFlow. In between, the core reads the crops, augments each by itself and
    rescales it. A generator keeps no state between calls.

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
            Positions in ``cells``, 0 … N − 1; T cells make one example, the same T in each call.
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
        """Make validation examples of single cells: (B,) positions to (B, T)."""
        return rows[:, np.newaxis]
