"""Crops to features, in batches of one size."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from deepprofiler.learning.augment import rescale, resize
from deepprofiler.learning.devices import enough_memory
from deepprofiler.learning.network import Network


def feature_function(
    network: Network, layers: Sequence[str], rule: str, size: int | None = None
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
        Side S of the crops in pixels. They are resized to the backbone's input, after they are
        scaled, where that has another side; None: it has the same.

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
    function always sees one shape. No more crops are held than those of one site and one batch.

    Parameters
    ----------
    sites : iterable of (n_i, S, S, C) arrays
        One array a site, of any real type; n_i may be 0.
    function : callable
        Maps (B, S, S, C) float32 to (B, D); see :func:`feature_function`.
    batch_size : int
        B.

    Yields
    ------
    (n_i, D) float32 array
        One a site, in order; a site is yielded as soon as its last crop is done.

    Raises
    ------
    ConfigError
        A batch does not fit into the device's memory.
    """
    batch: np.ndarray | None = None
    filled = 0
    width: int | None = None
    # Sites not yet yielded: how many crops they have, and the features there are by now.
    waiting: deque[tuple[int, list[np.ndarray]]] = deque()
    todo: deque[tuple[list[np.ndarray], int]] = deque()

    def run(crops: np.ndarray) -> None:
        nonlocal width
        with enough_memory("profile.batch_size", batch_size):
            features = np.asarray(function(crops), dtype=np.float32)
        width = features.shape[1]
        first = 0
        while todo:
            parts, count = todo.popleft()
            # Copied, so that a site does not keep whole batches alive.
            parts.append(features[first : first + count].copy())
            first += count

    def finished() -> Iterator[np.ndarray]:
        while waiting and width is not None:
            count, parts = waiting[0]
            if sum(map(len, parts)) < count:
                return
            waiting.popleft()
            yield np.concatenate([np.empty((0, width), np.float32), *parts])

    for crops in sites:
        if batch is None:
            batch = np.zeros((batch_size, *crops.shape[1:]), np.float32)
        parts: list[np.ndarray] = []
        waiting.append((len(crops), parts))
        used = 0
        while used < len(crops):
            count = min(batch_size - filled, len(crops) - used)
            batch[filled : filled + count] = crops[used : used + count]
            todo.append((parts, count))
            filled += count
            used += count
            if filled == batch_size:
                run(batch)
                filled = 0
        yield from finished()
    if batch is not None and (filled or width is None):
        batch[filled:] = 0
        run(batch)
    yield from finished()
