"""Quality of images: how bright and how sharp each channel is, so that bad sites stand out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

_TILE = 256  # side in pixels
_SMALLEST_TILE = 16
# Wavelengths in pixels that the slope is taken over: longer ones are cells and uneven light,
# shorter ones the camera's noise.
_LONGEST_WAVE, _SHORTEST_WAVE = 64, 4


@dataclass(frozen=True)
class Quality:
    """Quality of one image.

    Attributes
    ----------
    intensity : numpy.ndarray
        (C,) float64, mean grey level of each channel as stored.
    focus : numpy.ndarray
        (C,) float64, see :func:`focus`.
    """

    intensity: np.ndarray
    focus: np.ndarray


def quality(image: np.ndarray) -> Quality:
    """Measure an image.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, C), finite numbers of any type.

    Returns
    -------
    Quality
    """
    return Quality(image.mean(axis=(0, 1), dtype=np.float64), focus(image))


def focus(image: np.ndarray) -> np.ndarray:
    """Slope of the power spectrum: how fast fine structure fades; lower means more blurred.

    The measure that Bray et al. (2012) recommend for screens, on the spectrum of Welch (1967): the
    mean over tiles of up to 256 pixels, each under a Hann window. The slope of log power against
    log frequency is fitted between wavelengths of 64 and 4 pixels. It does not depend on the
    brightness or contrast; it depends on what is seen, so that images compare with those of the
    same channel and magnification only.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, C), finite numbers of any type.

    Returns
    -------
    numpy.ndarray
        (C,) float64; 0 for noise without structure, about -2 for sharp edges. NaN for a channel
        of one value everywhere, or an image under 16 pixels, which have no spectrum.
    """
    height, width, channels = image.shape
    side = min(_TILE, height, width)
    if side < _SMALLEST_TILE:
        return np.full(channels, np.nan)
    power = (_power(image[:, :, channel], side) for channel in range(channels))
    return np.array([_slope(channel_power, side) for channel_power in power])


def _power(plane: np.ndarray, side: int) -> np.ndarray:
    """Mean power of the tiles of a plane (H, W) by frequency, in whole periods per tile."""
    from scipy.fft import rfft2

    window, ring, weights = _tile_constants(side)
    down, across = (length // side for length in plane.shape)
    covered = plane[: down * side, : across * side].astype(np.float32)
    tiles = covered.reshape(down, side, across, side).swapaxes(1, 2).reshape(-1, side, side)
    spectra = rfft2((tiles - tiles.mean(axis=(1, 2), keepdims=True)) * window)
    power = (spectra.real**2 + spectra.imag**2).mean(axis=0, dtype=np.float64)
    sums = np.bincount(ring.ravel(), (power * weights).ravel())
    return sums / np.bincount(ring.ravel(), weights.ravel())


def _slope(power: np.ndarray, side: int) -> float:
    """Slope of log power against log frequency; NaN where a frequency has no power."""
    frequencies = np.arange(max(2, round(side / _LONGEST_WAVE)), side // _SHORTEST_WAVE + 1)
    power = power[frequencies]
    if not (power > 0).all():
        return np.nan
    return float(np.polyfit(np.log(frequencies), np.log(power), 1)[0])


@lru_cache(maxsize=4)
def _tile_constants(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Window of a tile, ring of each frequency, and how often a half spectrum holds it."""
    from scipy.signal.windows import hann

    window = hann(side, sym=False)
    rows = np.fft.fftfreq(side, 1 / side)
    columns = np.fft.rfftfreq(side, 1 / side)
    ring = np.rint(np.hypot(rows[:, None], columns)).astype(np.intp)
    weights = np.full(ring.shape, 2.0)
    weights[:, 0] = 1
    if side % 2 == 0:
        weights[:, -1] = 1
    return np.outer(window, window).astype(np.float32), ring, weights
