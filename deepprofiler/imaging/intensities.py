"""Intensities of pixels: percentiles over a plate or an image, and images of 8 bits between them.

Percentiles over a plate are those of a :class:`Histogram`, which never needs the range of the
values in advance. Integers of up to 16 bits, signed or not, are counted value by value. Everything
else is counted in bins of relative width: the upper 20 bits of its float32 form, which are the
sign, the exponent and 11 bits of the fraction; a bin stands for its value nearest to 0. A
percentile of such values is thus exact to 0.05 %, and exact for whole numbers up to 4096, whatever
the range and however bright a hot pixel is.
"""

from __future__ import annotations

import numpy as np

_LOWEST_INTEGER = -(2**15)  # int16
_HIGHEST_INTEGER = 2**16 - 1  # uint16
_DROPPED_BITS = 12  # of the 32 of a float32
_SIGN_BIT = np.uint32(2**31)


class Histogram:
    """Counts of pixel values of any numeric type; histograms can be merged."""

    def __init__(self) -> None:
        self._integers = np.zeros(0, dtype=np.int64)
        self._floats = np.zeros(0, dtype=np.int64)

    def add(self, values: np.ndarray) -> None:
        """Count values.

        Parameters
        ----------
        values : numpy.ndarray
            Any shape; integers, or finite floats within the range of float32.
        """
        values = values.ravel()
        if values.dtype.kind in "ui" and values.dtype.itemsize <= 2:
            # int64, since bincount takes no negative indices and int16 would wrap.
            indices = values.astype(np.int64) - _LOWEST_INTEGER
            counts = np.bincount(indices, minlength=_HIGHEST_INTEGER - _LOWEST_INTEGER + 1)
            self._integers = _sum(self._integers, counts)
        else:
            bins = _ordered_keys(values) >> _DROPPED_BITS
            counts = np.bincount(bins, minlength=2 ** (32 - _DROPPED_BITS))
            self._floats = _sum(self._floats, counts)

    def merge(self, other: Histogram) -> None:
        """Add the counts of another histogram."""
        self._integers = _sum(self._integers, other._integers)
        self._floats = _sum(self._floats, other._floats)

    def percentile(self, rank: float) -> float:
        """Give the smallest value v such that more than ``rank`` percent of all values are ≤ v.

        Rank 0 is the minimum, rank 100 the maximum. This is the definition of the original
        DeepProfiler.

        Parameters
        ----------
        rank : float
            In percent.

        Raises
        ------
        ValueError
            The histogram is empty.
        """
        values, counts = self._occupied()
        total = np.cumsum(counts)
        if not len(total):
            raise ValueError("an empty histogram has no percentiles")
        position = np.searchsorted(total, rank / 100 * total[-1], side="right")
        return float(values[min(position, len(values) - 1)])

    def _occupied(self) -> tuple[np.ndarray, np.ndarray]:
        """Values in ascending order, and how often each occurs."""
        integers = np.flatnonzero(self._integers)
        bins = np.flatnonzero(self._floats)
        values = np.concatenate([integers + float(_LOWEST_INTEGER), _values_of_bins(bins)])
        counts = np.concatenate([self._integers[integers], self._floats[bins]])
        order = np.argsort(values, kind="stable")
        return values[order], counts[order]


def image_limits(image: np.ndarray, percentiles: tuple[float, float]) -> np.ndarray:
    """Grey levels at two ranks within each channel of one image, interpolated between pixels.

    The original DeepProfiler compresses each corrected image between its own ranks 0.05 and 99.95.

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
    channels = np.moveaxis(image, -1, 0)
    return np.array([np.percentile(plane.astype(np.float64), percentiles) for plane in channels])


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
        (C,) float64, share of the pixels that lay outside the limits.

    Raises
    ------
    ValueError
        The limits of a channel are reversed.
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


def _sum(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Sum of two arrays of counts, of which either may still be empty."""
    if not len(first) or not len(second):
        return first if len(first) else second
    counts: np.ndarray = first + second
    return counts


def _ordered_keys(values: np.ndarray) -> np.ndarray:
    """Map values to uint32 in the order of their float32 forms."""
    # Adding 0 turns -0.0 into 0.0.
    bits = (values.astype(np.float32) + np.float32(0)).view(np.uint32)
    keys: np.ndarray = np.where(bits & _SIGN_BIT, ~bits, bits | _SIGN_BIT)
    return keys


def _values_of_bins(bins: np.ndarray) -> np.ndarray:
    """Give the value nearest to 0 of each bin of :func:`_ordered_keys`, as float64."""
    keys = bins.astype(np.uint32) << np.uint32(_DROPPED_BITS)
    negative = (keys & _SIGN_BIT) == 0
    bits = np.where(negative, ~(keys | np.uint32(2**_DROPPED_BITS - 1)), keys & ~_SIGN_BIT)
    values: np.ndarray = bits.view(np.float32).astype(np.float64)
    return values
