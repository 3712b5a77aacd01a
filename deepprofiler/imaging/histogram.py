"""Histograms that never need the range of the values in advance, and their percentiles.

Integers of up to 16 bits, signed or not, are counted value by value. Everything else is counted in
bins of relative width: the upper 20 bits of its float32 form, which are the sign, the exponent and
11 bits of the fraction; a bin stands for its value nearest to 0. A percentile of such values is
thus exact to 0.05 %, and exact for whole numbers up to 4096, whatever the range and however bright
a hot pixel is.
"""

from __future__ import annotations

import numpy as np

_LOWEST = -(2**15)  # int16
_HIGHEST = 2**16 - 1  # uint16
_DROPPED_BITS = 12
_SIGN = np.uint32(2**31)


class Histogram:
    """Counts of pixel values."""

    def __init__(self) -> None:
        self._integers = np.zeros(0, dtype=np.int64)
        self._floats = np.zeros(0, dtype=np.int64)

    def add(self, values: np.ndarray) -> None:
        """Count values: integers or finite floats within the range of float32."""
        values = values.ravel()
        if values.dtype.kind in "ui" and values.dtype.itemsize <= 2:
            # int64 indices, since bincount takes no negative ones and int16 would wrap.
            found = np.bincount(values.astype(np.int64) - _LOWEST, minlength=_HIGHEST - _LOWEST + 1)
            self._integers = _sum(self._integers, found)
        else:
            found = np.bincount(
                _ordered(values) >> _DROPPED_BITS, minlength=2 ** (32 - _DROPPED_BITS)
            )
            self._floats = _sum(self._floats, found)

    def merge(self, other: Histogram) -> None:
        """Add the counts of another histogram."""
        self._integers = _sum(self._integers, other._integers)
        self._floats = _sum(self._floats, other._floats)

    def percentile(self, rank: float) -> float:
        """Give the smallest value below or at which lie more than ``rank`` percent of all.

        Rank 0 is the minimum, rank 100 the maximum. This is the original's definition.
        """
        values, counts = self._occupied()
        total = np.cumsum(counts)
        if not len(total):
            raise ValueError("an empty histogram has no percentiles")
        position = np.searchsorted(total, rank / 100 * total[-1], side="right")
        return float(values[min(position, len(values) - 1)])

    def _occupied(self) -> tuple[np.ndarray, np.ndarray]:
        """Values in rising order, and how often each occurs."""
        whole = np.flatnonzero(self._integers)
        broken = np.flatnonzero(self._floats)
        values = np.concatenate([whole + float(_LOWEST), _restored(broken)])
        counts = np.concatenate([self._integers[whole], self._floats[broken]])
        order = np.argsort(values, kind="stable")
        return values[order], counts[order]


def _sum(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Sum of two arrays of counts, of which either may still be empty."""
    if not len(first) or not len(second):
        return first if len(first) else second
    return first + second


def _ordered(values: np.ndarray) -> np.ndarray:
    """Map float32 to uint32 so that the order is kept."""
    # Adding 0 turns -0.0 into 0.0.
    bits = (values.astype(np.float32) + np.float32(0)).view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _restored(bins: np.ndarray) -> np.ndarray:
    """Give the value nearest to 0 of each bin of ordered keys."""
    keys = bins.astype(np.uint32) << np.uint32(_DROPPED_BITS)
    negative = (keys & _SIGN) == 0
    bits = np.where(negative, ~(keys | np.uint32(2**_DROPPED_BITS - 1)), keys & ~_SIGN)
    return bits.view(np.float32).astype(np.float64)
