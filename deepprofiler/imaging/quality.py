"""How bright and how sharp an image is: what tells a bad site from a good one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

TILE = 256
# Wavelengths in pixels that the slope is taken over: longer ones are cells and uneven light,
# shorter ones the camera's noise.
_LONGEST, _SHORTEST = 64, 4


@dataclass(frozen=True)
class Quality:
    """Quality of one image.

    Attributes
    ----------
    intensity : ndarray
        (C,) float64, mean grey level of each channel as stored.
    focus : ndarray
        (C,) float64, see :func:`focus`.
    """

    intensity: np.ndarray
    focus: np.ndarray


def quality(image: np.ndarray) -> Quality:
    """Measure an image (H, W, C) of finite numbers."""
    return Quality(image.mean(axis=(0, 1), dtype=np.float64), focus(image))


def focus(image: np.ndarray) -> np.ndarray:
    """Slope of the power spectrum: how fast fine structure fades; the lower, the more blurred.

    The measure that Bray et al. (2012) recommend for screens, on the spectrum of Welch (1967): the
    mean over tiles of up to 256 pixels, each under a Hann window. The slope of log power against
    log frequency is fitted between wavelengths of 64 and 4 pixels. It does not depend on the
    brightness or contrast; it depends on what is seen, so that images compare with those of the
    same channel and magnification only.

    Parameters
    ----------
    image : ndarray
        (H, W, C), finite numbers of any type.

    Returns
    -------
    ndarray
        (C,) float64; 0 for noise without structure, about -2 for sharp edges. NaN for an even
        channel, or an image under 16 pixels, which have no spectrum.
    """
    from scipy.fft import rfft2

    height, width, channels = image.shape
    side = min(TILE, height, width)
    slopes = np.full(channels, np.nan)
    if side < 16:
        return slopes
    window, ring, weights = _rings(side)
    down, across = height // side, width // side
    for channel in range(channels):
        part = image[: down * side, : across * side, channel].astype(np.float32)
        tiles = part.reshape(down, side, across, side).swapaxes(1, 2).reshape(-1, side, side)
        tiles = (tiles - tiles.mean(axis=(1, 2), keepdims=True)) * window
        spectra = rfft2(tiles)
        power = (spectra.real**2 + spectra.imag**2).mean(axis=0, dtype=np.float64)
        rings = np.bincount(ring.ravel(), (power * weights).ravel())
        mean = rings / np.bincount(ring.ravel(), weights.ravel())
        first, last = max(2, round(side / _LONGEST)), side // _SHORTEST
        chosen = mean[first : last + 1]
        if (chosen > 0).all():
            frequencies = np.arange(first, last + 1)
            slopes[channel] = np.polyfit(np.log(frequencies), np.log(chosen), 1)[0]
    return slopes


@lru_cache(maxsize=4)
def _rings(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Window of a tile, ring of each frequency, and how often a half spectrum stands for it."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(side) / side)
    rows = np.fft.fftfreq(side, 1 / side)
    columns = np.arange(side // 2 + 1)
    ring = np.rint(np.hypot(rows[:, None], columns)).astype(np.intp)
    weights = np.full(ring.shape, 2.0)
    weights[:, 0] = 1
    if side % 2 == 0:
        weights[:, -1] = 1
    return np.outer(hann, hann).astype(np.float32), ring, weights
