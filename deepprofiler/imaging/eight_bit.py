"""Images in 8 bits: between which grey levels, and how much that cuts off."""

from __future__ import annotations

import numpy as np


def image_limits(image: np.ndarray, percentiles: tuple[float, float]) -> np.ndarray:
    """Grey levels at two ranks within one image, interpolated between pixels.

    The original compresses each corrected image between its own ranks 0.05 and 99.95.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, C).
    percentiles : tuple of float
        Lower and upper rank in percent.

    Returns
    -------
    numpy.ndarray
        (C, 2) float64.
    """
    channels = [image[:, :, channel].ravel() for channel in range(image.shape[2])]
    return np.array([np.percentile(one.astype(np.float64), percentiles) for one in channels])


def to_8bit(image: np.ndarray, limits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Map each channel linearly to 0…255, clipped.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, C), any numeric type.
    limits : numpy.ndarray
        (C, 2): the values that become 0 and 255. A channel whose limits are equal becomes 0.

    Returns
    -------
    pixels : numpy.ndarray
        (H, W, C) uint8, rounded.
    clipped : numpy.ndarray
        (C,) share of the pixels that lay outside the limits.
    """
    pixels = np.zeros(image.shape, dtype=np.uint8)
    clipped = np.zeros(image.shape[2])
    for channel, (low, high) in enumerate(np.asarray(limits, dtype=np.float64)):
        if low > high:
            raise ValueError(f"limits of channel {channel} are reversed: {low}, {high}")
        values = image[:, :, channel].astype(np.float64)
        clipped[channel] = np.mean((values < low) | (values > high))
        if high > low:
            scaled = (np.clip(values, low, high) - low) * (255 / (high - low))
            pixels[:, :, channel] = np.rint(scaled)
    return pixels, clipped
