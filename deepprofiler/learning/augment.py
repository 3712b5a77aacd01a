"""Augmentation, resizing and rescaling of crops, whole batches in TensorFlow.

Stored crops have a margin; they are rotated and shifted, cut to their centre, rescaled and resized.
All of the geometry is one resampling. Flips are part of it, since no rescale rule depends on the
order of a crop's pixels.
"""

from __future__ import annotations

import math
from typing import Any, get_args

import tensorflow as tf

from deepprofiler.learning.learning_settings import Augmentation, Rescale


def centre(crops: Any, size: int) -> Any:
    """Cut (N, M, M, C) crops to their central (N, S, S, C)."""
    first = (crops.shape[1] - size) // 2
    return crops[:, first : first + size, first : first + size]


def augment(crops: Any, size: int, augmentation: Augmentation, seed: Any) -> Any:
    """Rotate, flip and shift each crop at random and cut it to its centre.

    Parameters
    ----------
    crops : (N, M, M, C) uint8 tensor
        Crops with the margin of :func:`deepprofiler.learning.cell_store.margin`.
    size : int
        Side S of the result.
    augmentation : Augmentation
        Which random changes are made; each cell is changed by itself.
    seed : (2,) int32 tensor
        The same seed gives the same result.

    Returns
    -------
    (N, S, S, C) tensor
        uint8, or float32 with rotations by any angle (bilinear).
    """
    count = tf.shape(crops)[0]
    seeds = tf.unstack(tf.random.split(seed, 5))
    shape = [count, 1]
    across, down = (
        tf.random.stateless_uniform(
            shape, seeds[k], -augmentation.shift, augmentation.shift + 1, tf.int32
        )
        for k in (0, 1)
    )
    mirror_x, mirror_y = (
        tf.random.stateless_uniform(shape, seeds[k], 0, 2, tf.int32)
        if augmentation.flips
        else tf.zeros(shape, tf.int32)
        for k in (2, 3)
    )
    if augmentation.rotations:
        angle = tf.random.stateless_uniform(shape, seeds[4], 0.0, 2 * math.pi)
        return _rotate(crops, size, angle, across, down, mirror_x, mirror_y)
    turns = (
        tf.random.stateless_uniform(shape, seeds[4], 0, 4, tf.int32)
        if augmentation.turns
        else tf.zeros(shape, tf.int32)
    )
    # A quarter turn is a transposition and a mirror image.
    transposed = tf.reshape(turns % 2 == 1, [count, 1, 1, 1])
    mirror_x = (mirror_x + tf.cast(turns >= 2, tf.int32)) % 2
    mirror_y = (mirror_y + tf.cast((turns == 1) | (turns == 2), tf.int32)) % 2
    if augmentation.turns:
        crops = tf.where(transposed, tf.transpose(crops, [0, 2, 1, 3]), crops)
    first = (crops.shape[1] - size) // 2
    rows = _line(size, mirror_y) + first + down
    columns = _line(size, mirror_x) + first + across
    crops = tf.gather(crops, rows, axis=1, batch_dims=1)
    return tf.gather(crops, columns, axis=2, batch_dims=1)


def _line(size: int, mirrored: Any) -> Any:
    """Indices 0 … S − 1 of each crop, backwards where mirrored: (N, S)."""
    forward = tf.range(size)[tf.newaxis]
    return tf.where(mirrored == 1, size - 1 - forward, forward)


def _rotate(
    crops: Any, size: int, angle: Any, across: Any, down: Any, mirror_x: Any, mirror_y: Any
) -> Any:
    """Sample each crop on a rotated, shifted grid of S × S points, bilinear."""
    cosine, sine = tf.cos(angle), tf.sin(angle)
    flip_x = tf.cast(1 - 2 * mirror_x, tf.float32)
    flip_y = tf.cast(1 - 2 * mirror_y, tf.float32)
    from_centre, to_centre = (size - 1) / 2, (crops.shape[1] - 1) / 2
    a, b = cosine * flip_x, -sine * flip_y
    c, d = sine * flip_x, cosine * flip_y
    x0 = to_centre + tf.cast(across, tf.float32) - (a + b) * from_centre
    y0 = to_centre + tf.cast(down, tf.float32) - (c + d) * from_centre
    zero = tf.zeros_like(a)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(crops, tf.float32),
        transforms=tf.concat([a, b, x0, c, d, y0, zero, zero], axis=1),
        output_shape=[size, size],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def resize(crops: Any, side: int | None) -> Any:
    """Resize crops bilinearly, averaging where they shrink.

    Pixels are squares of equal size that fill the crop (their centres lie at ½, 1½ …). Where crops
    shrink, the bilinear kernel is widened by S/R, so that every pixel counts and nothing is aliased
    (``antialias`` of ``tf.image.resize``).

    Parameters
    ----------
    crops : (N, S, S, C) float32 tensor
    side : int, optional
        Side R of the result; where it is that of the crops, or None, they are left as they are.

    Returns
    -------
    (N, R, R, C) float32 tensor
    """
    if side in (None, crops.shape[1]):
        return crops
    return tf.image.resize(crops, [side, side], method="bilinear", antialias=True)


def rescale(crops: Any, rule: Rescale, minimum: Any = None, maximum: Any = None) -> Any:
    """Scale each channel of each crop by a rule, in float32.

    ========== ==========================================================================
    min-max    (x − min) / (max − min + 1e-7)
    max        x / max
    legacy-0.3 (x − min) / max: DeepProfiler from September 2021 to August 2024
    standardize (x − mean) / standard deviation: DeepProfiler before that
    none       x
    ========== ==========================================================================

    A constant channel becomes 0 under each of them.

    Parameters
    ----------
    crops : (N, S, S, C) tensor of any real type
        Crops as read from images, or as stored.
    rule : str
        One of the rules above.
    minimum, maximum : (N, C) float32 tensors, optional
        For crops stored in 8 bits: what 0 and 255 stand for. All rules but ``min-max``, which
        does not depend on them, first undo that scaling.

    Returns
    -------
    (N, S, S, C) float32 tensor
    """
    crops = tf.cast(crops, tf.float32)
    if minimum is not None and rule != "min-max":
        low = minimum[:, tf.newaxis, tf.newaxis, :]
        crops = low + crops * ((maximum[:, tf.newaxis, tf.newaxis, :] - low) / 255.0)
    low = tf.reduce_min(crops, axis=[1, 2], keepdims=True)
    high = tf.reduce_max(crops, axis=[1, 2], keepdims=True)
    # Exactly 0 for a constant channel, whatever its value: a mean of equal floats need not be.
    above = crops - low
    if rule == "min-max":
        # Not high − low + 1e-7, which TensorFlow's optimizer turns into high − (low − 1e-7): 0 for
        # a constant channel of some hundreds and more.
        return above / (tf.reduce_max(above, axis=[1, 2], keepdims=True) + 1e-7)
    if rule == "max":
        scaled = tf.math.divide_no_nan(crops, high)
    elif rule == "legacy-0.3":
        scaled = tf.math.divide_no_nan(above, high)
    elif rule == "standardize":
        centred = above - tf.reduce_mean(above, axis=[1, 2], keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), axis=[1, 2], keepdims=True)
        scaled = tf.math.divide_no_nan(centred, tf.sqrt(variance))
    elif rule == "none":
        scaled = crops
    else:
        raise ValueError(
            f"there is no rescale rule {rule!r}; there are {', '.join(get_args(Rescale))}"
        )
    # Not `high > low`: what is not a number must stay so, for training to stop.
    return tf.where(high == low, 0.0, scaled)
