from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from deepprofiler.imaging.quality import focus, quality


def power_law(exponent, side=1024, seed=0):
    """An image whose power spectrum is the frequency to a known exponent."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(rng.normal(size=(side, side)))
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    frequency[0, 0] = 1
    return np.fft.irfft2(spectrum * frequency ** (exponent / 2), (side, side))


@pytest.mark.parametrize("exponent", [0.0, -1.0, -2.0, -3.0])
def test_slope_of_a_known_spectrum(exponent):
    image = power_law(exponent)[:, :, None]
    assert focus(image)[0] == pytest.approx(exponent, abs=0.1)
    assert focus(image[:700, :500])[0] == pytest.approx(exponent, abs=0.15)


def test_brightness_and_contrast_do_not_matter():
    image = power_law(-2.0, 512)[:, :, None]
    first = focus(image)[0]
    assert focus(1000 + 37 * image)[0] == pytest.approx(first, abs=1e-3)


def test_blur_lowers_the_slope():
    image = power_law(-1.0, 512)
    slopes = [focus(gaussian_filter(image, sigma)[:, :, None])[0] for sigma in (0, 1, 2, 3)]
    assert (np.diff(slopes) < -0.3).all()


def test_channels_and_sizes():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 4000, (100, 130, 2)).astype(np.uint16)
    image[:, :, 1] = 7
    measured = quality(image)
    assert measured.intensity == pytest.approx([image[:, :, 0].mean(), 7])
    assert measured.focus[0] == pytest.approx(0, abs=0.15)
    assert np.isnan(measured.focus[1])
    assert np.isnan(focus(image[:10])).all()
