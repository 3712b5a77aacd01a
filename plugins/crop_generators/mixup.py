"""Mixtures of two cells (Zhang et al. 2017) across batches (Caicedo et al. 2018, Figure 4)."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from deepprofiler.learning.crop_generator import CropGenerator
from deepprofiler.learning.sampling import Cells, balanced, partners
from deepprofiler.registry import CROP_GENERATORS


@CROP_GENERATORS.register("mixup")
class Mixup(CropGenerator):
    """λ × one cell + (1 − λ) × another, with λ ~ Beta(α, α); their labels likewise.

    The first cell is drawn class-balanced. The label of the second is drawn uniformly, then a cell
    of that label from another batch or, where there is none, from another replicate.

    Parameters
    ----------
    alpha : float
        α; smaller values mix less.
    """

    def __init__(self, *, alpha: float = 0.2) -> None:
        if not 0.02 <= alpha < float("inf"):
            raise ValueError(f"alpha must be finite and at least 0.02, not {alpha}")
        self.alpha = alpha

    def draw(self, cells: Cells, size: int, rng: np.random.Generator) -> np.ndarray:
        """See :meth:`CropGenerator.draw`."""
        first = balanced(cells, size, rng)
        return np.stack([first, partners(cells, first, rng)], axis=1)

    def combine(self, crops: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
        """Blend the two cells of each example; a single cell is not changed."""
        if crops.shape[1] == 1:
            return crops[:, 0], labels[:, 0]
        # In float64, and each share by itself: at small α a share is often too close to 0 or 1 for
        # float32.
        shape = [tf.shape(crops)[0], 2]
        gammas = tf.random.stateless_gamma(shape, seed, self.alpha, dtype=tf.float64)
        shares = tf.cast(gammas / tf.reduce_sum(gammas, axis=1, keepdims=True), tf.float32)
        return (
            tf.einsum("bt,bt...->b...", shares, crops),
            tf.einsum("bt,bt...->b...", shares, labels),
        )
