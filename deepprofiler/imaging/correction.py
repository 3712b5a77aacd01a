"""The illumination correction function of one channel (Singh et al. 2014).

The correction function of a channel is the mean of all its images, made smaller, smoothed by a
median over a disk, brought back to full size, and divided by its own robust minimum (the 2nd
percentile), below which it is flat. Its minimum is exactly 1: correcting never makes a pixel
brighter. These are the steps of the original program, but for one: the mean stays a float, where
the original cuts it to whole grey levels, which in 8-bit images is coarse.
"""

from __future__ import annotations

import numpy as np
import scipy.ndimage

_ROBUST_MINIMUM = 2.0  # percent
# No lamp fades so much: a larger ratio means that a channel has no background to divide by.
_LARGEST_RATIO = 1000.0


def correction_function(
    mean: np.ndarray, median_size: int, shape: tuple[int, int]
) -> np.ndarray | None:
    """Compute a correction function.

    Parameters
    ----------
    mean : numpy.ndarray
        (h, w) mean of the channel's images, made smaller.
    median_size : int
        Diameter of the median's disk, in pixels of ``mean``.
    shape : tuple of int
        Height and width of the function.

    Returns
    -------
    numpy.ndarray or None
        (H, W) float64, minimum exactly 1; None where the robust minimum is not above a thousandth
        of the maximum, as in an empty channel or one with negative values.
    """
    from skimage.morphology import disk

    footprint = disk(median_size / 2)
    smooth = scipy.ndimage.median_filter(mean, footprint=footprint, mode="nearest")
    smooth = resize(smooth, shape)
    floor = np.percentile(smooth, _ROBUST_MINIMUM)
    if floor <= smooth.max() / _LARGEST_RATIO:
        return None
    return np.maximum(smooth, floor) / floor


def resize(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resample an image (h, w) or (h, w, C) to ``shape``, smoothed first where it shrinks."""
    from skimage.transform import resize as resample

    shrinks = shape[0] < image.shape[0] or shape[1] < image.shape[1]
    return resample(image, shape, mode="reflect", anti_aliasing=shrinks, preserve_range=True)
