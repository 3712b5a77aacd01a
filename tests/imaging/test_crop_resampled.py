"""The original's crop geometry, against the function of TensorFlow that it calls."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from deepprofiler.imaging.crop import cut_resampled


def boxes(centers: np.ndarray, shape: tuple[int, int], size: int) -> np.ndarray:
    """Boxes as the original makes them: subtracted, rounded to float32, then divided."""
    corners = np.zeros((len(centers), 4), np.float32)
    x, y = centers.T
    corners[:, 0], corners[:, 1] = y - size / 2, x - size / 2
    corners[:, 2], corners[:, 3] = y + size / 2, x + size / 2
    corners[:, [0, 2]] /= shape[0]
    corners[:, [1, 3]] /= shape[1]
    return corners


@pytest.mark.parametrize("size", [2, 31, 64])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_equals_crop_and_resize(size, kind):
    rng = np.random.default_rng(size)
    height, width = 90, 120
    image = rng.integers(0, 250, (height, width, 3)).astype(kind)
    x, y = rng.uniform(0, width, 60), rng.uniform(0, height, 60)
    centers = np.column_stack([x, y])
    # Corners, just inside and just outside, and whole numbers.
    centers[:6] = [[0, 0], [119, 89], [-20, 30], [139, 95], [60, 45], [60.5, 44.5]]
    expected = tf.image.crop_and_resize(
        image[np.newaxis].astype(np.float32),
        boxes(centers, (height, width), size),
        np.zeros(60, np.int32),
        [size, size],
    )
    crops = cut_resampled(image, centers, size)
    assert crops.dtype == np.float32
    # One rounding more or less (fused multiplication) moves a sample by about 1e-5 pixels.
    np.testing.assert_allclose(crops, expected, atol=0.01)
    assert np.quantile(np.abs(crops - expected), 0.99) <= 1e-3


def test_a_margin_goes_on_in_the_same_steps():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 60000, (100, 100, 2)).astype(np.uint16)
    centers = rng.uniform(0, 100, (20, 2))
    wide = cut_resampled(image, centers, 32, margin=8)
    assert wide.shape == (20, 40, 40, 2)
    np.testing.assert_array_equal(wide[:, 4:-4, 4:-4], cut_resampled(image, centers, 32))
    ramp = np.broadcast_to(np.arange(100.0)[:, None, None], (100, 100, 1))
    rows = cut_resampled(ramp, np.array([[50.0, 50.0]]), 32, margin=8)[0, :, 20, 0]
    np.testing.assert_allclose(np.diff(rows), 32 * 99 / (100 * 31), rtol=1e-4)


def test_labels_are_not_blended():
    labels = np.zeros((80, 80, 1), np.int32)
    labels[:, 40:] = 1000
    crops = cut_resampled(labels, np.array([[40.3, 40.7]]), 16, nearest=True)
    assert crops.dtype == np.int32
    assert set(np.unique(crops)) == {0, 1000}
    soft = cut_resampled(labels, np.array([[40.3, 40.7]]), 16)
    np.testing.assert_array_equal(crops, np.where(soft >= 500, 1000, 0))


def test_no_cells():
    assert cut_resampled(np.zeros((50, 60, 4)), np.empty((0, 2)), 8).shape == (0, 8, 8, 4)
