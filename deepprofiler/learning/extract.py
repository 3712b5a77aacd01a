"""From crops to features of single cells, in batches of one size."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from deepprofiler.learning.augment import rescale, resize
from deepprofiler.learning.devices import enough_memory
from deepprofiler.learning.learning_settings import Rescale
from deepprofiler.learning.network import Network


def feature_function(
    network: Network, layers: Sequence[str], rule: Rescale, size: int | None = None
) -> Callable[[Any], Any]:
    """Compile rescaling, resizing and the backbone up to the deepest layer into one graph.

    Parameters
    ----------
    network : Network
        Built, with its weights loaded.
    layers : sequence of str
        See :meth:`Network.features`.
    rule : str
        How crops are scaled; see :func:`deepprofiler.learning.augment.rescale`.
    size : int, optional
        Side S of the crops in pixels; None: that of the backbone's input. Crops of another side
        are resized to it after they are scaled.

    Returns
    -------
    function
        (B, S, S, C) float32 crops as read from images to (B, D) float32 features.
    """
    model = network.features(layers)
    _, side, _, channels = network.backbone.input_shape
    size = size or side
    signature = tf.TensorSpec((None, size, size, channels), tf.float32)

    @tf.function(input_signature=[signature])
    def function(crops: Any) -> Any:
        return tf.cast(model(resize(rescale(crops, rule), side), training=False), tf.float32)

    return function


def extract(
    sites: Iterable[np.ndarray], function: Callable[[Any], Any], batch_size: int
) -> Iterator[np.ndarray]:
    """Compute the features of each site's crops.

    Batches are filled across the borders of sites and the last one is padded, so that the
    function is always called with one shape. No more crops are held than those of one site and
    one batch.

    Parameters
    ----------
    sites : iterable of (n_i, S, S, C) arrays
        The crops of each site, of any real type; n_i may be 0.
    function : callable
        Maps (B, S, S, C) float32 to (B, D); see :func:`feature_function`.
    batch_size : int
        B.

    Yields
    ------
    (n_i, D) float32 array
        The features of each site, in order, as soon as those of its last crop are computed.

    Raises
    ------
    ConfigError
        A batch does not fit into the device's memory.
    """
    extraction = _Extraction(function, batch_size)
    for crops in sites:
        extraction.add(crops)
        yield from extraction.finished_sites()
    extraction.compute_rest()
    yield from extraction.finished_sites()


class _Extraction:
    """A batch that is being filled, and the sites whose features are not yet complete."""

    def __init__(self, function: Callable[[Any], Any], batch_size: int) -> None:
        self._function = function
        self._batch_size = batch_size
        self._batch: np.ndarray | None = None
        self._filled = 0
        self._width: int | None = None
        # Number of crops and the features so far of each site that was not yet yielded.
        self._sites: deque[tuple[int, list[np.ndarray]]] = deque()
        # Where the features of the batch go, in order, and how many to each.
        self._targets: list[tuple[list[np.ndarray], int]] = []

    def add(self, crops: np.ndarray) -> None:
        """Add a site's crops; compute each batch that is full."""
        if self._batch is None:
            self._batch = np.zeros((self._batch_size, *crops.shape[1:]), np.float32)
        parts: list[np.ndarray] = []
        self._sites.append((len(crops), parts))
        first = 0
        while first < len(crops):
            count = min(self._batch_size - self._filled, len(crops) - first)
            self._batch[self._filled : self._filled + count] = crops[first : first + count]
            self._targets.append((parts, count))
            self._filled += count
            first += count
            if self._filled == self._batch_size:
                self._compute(self._batch)

    def compute_rest(self) -> None:
        """Compute the last batch, padded; without any crops, an empty one for the width D."""
        if self._batch is not None and (self._filled or self._width is None):
            self._batch[self._filled :] = 0
            self._compute(self._batch)

    def finished_sites(self) -> Iterator[np.ndarray]:
        """Yield the features of the first sites that are complete."""
        while self._sites and self._width is not None:
            count, parts = self._sites[0]
            if sum(map(len, parts)) < count:
                return
            self._sites.popleft()
            yield np.concatenate([np.empty((0, self._width), np.float32), *parts])

    def _compute(self, batch: np.ndarray) -> None:
        with enough_memory("profile.batch_size", self._batch_size):
            features = np.asarray(self._function(batch), dtype=np.float32)
        self._width = features.shape[1]
        first = 0
        for parts, count in self._targets:
            # Copied, so that a site does not keep whole batches in memory.
            parts.append(features[first : first + count].copy())
            first += count
        self._targets.clear()
        self._filled = 0
