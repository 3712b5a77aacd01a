"""Crops: geometry pixel by pixel, borders, masks and the 8-bit form."""

from __future__ import annotations

import time

import numpy as np
import pytest

from deepprofiler.imaging.crop import (
    cut,
    mask_neighbours,
    overlaps,
    quantize,
)


def numbered(height: int, width: int, channels: int = 2, dtype: type = np.uint16) -> np.ndarray:
    """Image whose every value tells its place; none is 0."""
    return (1 + np.arange(height * width * channels)).reshape(height, width, channels).astype(dtype)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 65, 300])
def test_each_pixel_comes_from_its_place(size):
    image = numbered(100, 120)
    rng = np.random.default_rng(size)
    centers = np.column_stack([rng.uniform(-0.5, 119.5, 40), rng.uniform(-0.5, 99.5, 40)])
    centers[:4] = [[0, 0], [119, 99], [31.5, 32.5], [60, 0.49]]
    crops = cut(image, centers, size)
    assert crops.shape == (40, size, size, 2)
    assert crops.dtype == image.dtype
    for crop, (x, y) in zip(crops, centers, strict=True):
        top, left = int(np.floor(y - size / 2 + 0.5)), int(np.floor(x - size / 2 + 0.5))
        for row in range(0, size, max(1, size // 9)):
            for column in range(0, size, max(1, size // 9)):
                r, c = top + row, left + column
                inside = 0 <= r < 100 and 0 <= c < 120
                expected = image[r, c] if inside else [0, 0]
                np.testing.assert_array_equal(crop[row, column], expected)


def test_square_is_centred():
    image = np.zeros((240, 240, 1), np.uint16)
    image[196:205, 196:205] = 9
    crop = cut(image, np.array([[200.0, 200.0]]), 65)[0, :, :, 0]
    rows, columns = np.nonzero(crop)
    assert (rows.mean(), columns.mean()) == (32, 32)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.float32])
def test_type_and_values_are_kept(dtype):
    image = numbered(9, 9, 1, dtype)
    np.testing.assert_array_equal(cut(image, np.array([[4, 4]]), 9)[0], image)


def test_boxes_off_the_image():
    centers = [(0, 0), (255, 255), (-10, 40), (300, 300), (np.nan, 20), (1e9, 1), (np.inf, 4)]
    inside = overlaps(np.array(centers), (256, 256), 64)
    assert inside.tolist() == [True] * 3 + [False] * 4
    crops = cut(numbered(256, 256), np.array(centers)[inside], 64)
    assert crops.shape == (3, 64, 64, 2)
    assert crops.any(axis=(1, 2, 3)).all()
    assert not crops[0, :32, :32].any()
    for wrong in centers[3:]:
        with pytest.raises(ValueError, match=r"cell 0 .* off the image"):
            cut(numbered(256, 256), np.array([wrong]), 64)


@pytest.mark.parametrize(
    ("x", "inside"), [(-32.51, False), (-31.5, True), (287.49, True), (287.5, False)]
)
def test_last_pixel_that_counts(x, inside):
    # ⌊x − 32 + ½⌋ must lie in −63 … 255.
    assert overlaps(np.array([[x, 5.0]]), (256, 256), 64).tolist() == [inside]


def test_no_cells():
    nothing = np.zeros((0, 2))
    assert overlaps(nothing, (9, 9), 4).shape == (0,)
    crops = cut(numbered(9, 9), nothing, 4)
    assert crops.shape == (0, 4, 4, 2)
    assert quantize(crops)[0].shape == (0, 4, 4, 2)
    assert mask_neighbours(crops, crops[..., 0]).shape == (0, 4, 4, 2)


def test_neighbours_are_blanked_and_background_stays():
    labels = np.zeros((2, 9, 9), np.int32)
    labels[0, 2:7, 2:5] = 7  # covers the centre
    labels[0, 2:7, 5:8] = 3
    labels[1, 0:2, 0:2] = 5
    labels[1, 5:8, 5:8] = 9  # nearest to the centre, which is background
    crops = np.full((2, 9, 9, 3), 4, np.uint8)
    masked = mask_neighbours(crops, labels)
    np.testing.assert_array_equal(masked[0] == 0, np.repeat((labels[0] == 3)[..., None], 3, 2))
    np.testing.assert_array_equal(masked[1] == 0, np.repeat((labels[1] == 5)[..., None], 3, 2))
    assert masked.dtype == np.uint8
    assert crops.all()
    np.testing.assert_array_equal(mask_neighbours(crops, np.zeros_like(labels)), crops)
    with pytest.raises(ValueError, match="do not fit"):
        mask_neighbours(crops, labels[:1])


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.uint32, np.float32])
def test_quantized_crops_can_be_restored(dtype):
    rng = np.random.default_rng(0)
    crops = rng.integers(100, 4000, (20, 16, 16, 3)).astype(dtype)
    if dtype is np.int16:
        crops -= 32000
    pixels, minimum, maximum = quantize(crops)
    assert pixels.dtype == np.uint8
    assert minimum.dtype == maximum.dtype == np.float32
    np.testing.assert_array_equal(minimum, crops.min(axis=(1, 2)))
    np.testing.assert_array_equal(maximum, crops.max(axis=(1, 2)))
    assert (pixels.min(axis=(1, 2)) == 0).all()
    assert (pixels.max(axis=(1, 2)) == 255).all()
    step = ((maximum - minimum) / 255)[:, None, None]
    restored = pixels * step + minimum[:, None, None]
    assert np.all(np.abs(restored - crops) <= 0.5001 * step)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([100, 150, 200], [0, 128, 255]),
        ([0, 0, 0], [0, 0, 0]),
        ([65535, 65535, 65535], [0, 0, 0]),
        ([65534, 65535, 65534], [0, 255, 0]),
    ],
)
def test_flat_and_nearly_flat_crops(values, expected):
    crops = np.tile(np.array(values, np.uint16), (3, 1))[None, ..., None]
    pixels, _, _ = quantize(crops)
    np.testing.assert_array_equal(pixels[0, 0, :, 0], expected)


def test_five_camera_types_give_one_crop():
    scene = np.random.default_rng(0).integers(0, 4096, (1, 32, 32, 1))
    scene[0, 0, :2, 0] = 0, 4095
    forms = [
        scene.astype(np.uint16),
        (scene * 4).astype(np.uint16),
        (scene - 32768).astype(np.int16),
        (scene + 32768).astype(np.uint16),
        scene.astype(np.float32),
    ]
    first = quantize(forms[0])[0]
    for form in forms[1:]:
        np.testing.assert_array_equal(quantize(form)[0], first)


def test_speed():
    image = np.random.default_rng(0).integers(0, 4000, (1080, 1080, 5)).astype(np.uint16)
    centers = np.random.default_rng(0).uniform(0, 1080, (200, 2))
    cut(image, centers, 128)
    start = time.process_time()
    quantize(cut(image, centers, 128))
    assert 200 / (time.process_time() - start) > 800
