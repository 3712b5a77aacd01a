"""Illumination: against the original program's files and closed forms."""

from __future__ import annotations

import pickle
import time
from dataclasses import replace

import h5py
import numpy as np
import pytest

from deepprofiler.errors import DataError
from deepprofiler.imaging.illumination import (
    Illumination,
    IlluminationStatistics,
    correct,
    load,
    require_usable,
    save,
    save_clipped,
)
from deepprofiler.imaging.intensities import image_limits, to_8bit
from deepprofiler.imaging.read import ImageFile, read_site

CHANNELS = ("DNA", "RNA", "ER", "AGP", "Mito")


def vignette(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return 1 - 0.35 * (rows**2 + columns**2) / 2


def finished(
    images, channels=("DNA",), down_scale=4, median_size=24, percentiles=(0.01, 99.99)
) -> Illumination:
    statistics = IlluminationStatistics(channels, down_scale)
    for number, image in enumerate(images):
        statistics.add(image, f"site {number}")
    return statistics.finish(median_size, percentiles)


@pytest.fixture(scope="module")
def original(shared_data):
    folder = shared_data / "original_deepprofiler"
    images = {
        well: read_site(
            [ImageFile(folder / f"inputs/images/P001/{well}_s1_{name}.tif") for name in CHANNELS]
        )
        for well in ("A01", "A02")
    }
    return folder, images


def test_equals_the_original(original):
    folder, images = original
    ours = finished(images.values(), CHANNELS)
    with np.load(folder / "outputs/intensities/P001/P001.npz") as theirs:
        function = theirs["illum_correction_function"]
        assert np.abs(ours.function / function - 1).max() < 0.01
        np.testing.assert_allclose(ours.mean_image, theirs["mean_image"], rtol=1e-5)
        np.testing.assert_array_equal(ours.percentiles[:, 0], theirs["lower_percentiles"])
        np.testing.assert_array_equal(ours.percentiles[:, 1], theirs["upper_percentiles"])


def test_8bit_copies_equal_the_original(original):
    folder, images = original
    function = finished(images.values(), CHANNELS).function
    for well, image in images.items():
        corrected = correct(image, function)
        ours, clipped = to_8bit(corrected, image_limits(corrected, (0.05, 99.95)))
        assert np.all(np.abs(clipped - 0.001) < 1e-4)
        theirs = read_site(
            [
                ImageFile(folder / f"outputs/compressed/images/P001/{well}_s1_{name}.png")
                for name in CHANNELS
            ]
        )
        difference = np.abs(ours.astype(int) - theirs.astype(int))
        assert np.all(np.mean(difference <= 1, axis=(0, 1)) >= 0.999)


@pytest.mark.parametrize("shape", [(256, 320), (257, 203)])
def test_vignetting_is_recovered(shape):
    lamp = vignette(*shape)
    rng = np.random.default_rng(0)
    images = [rng.poisson(2000 * lamp[..., None]).astype(np.uint16) for _ in range(8)]
    illumination = finished(images, median_size=6)
    assert illumination.function.shape == (*shape, 1)
    assert illumination.function.dtype == np.float32
    assert illumination.function.min() == 1
    expected = np.maximum(lamp / np.percentile(lamp, 2), 1)
    assert np.abs(illumination.function[:, :, 0] / expected - 1).max() < 0.02
    flattened = correct(images[0], illumination.function)[:, :, 0]
    outer, centre = flattened[:40].mean(), flattened[100:140, 80:120].mean()
    assert (
        abs(outer / centre - 1) < 0.06 < abs(images[0][:40].mean() / images[0][100:140].mean() - 1)
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float32])
def test_function_does_not_depend_on_the_type(dtype):
    rng = np.random.default_rng(0)
    images = [rng.integers(5, 120, (64, 80, 2)) for _ in range(3)]
    reference = finished(images, ("DNA", "ER"), percentiles=(1, 99))
    ours = finished([image.astype(dtype) for image in images], ("DNA", "ER"), percentiles=(1, 99))
    np.testing.assert_array_equal(ours.function, reference.function)
    np.testing.assert_array_equal(ours.percentiles, reference.percentiles)
    ranked = np.percentile(np.stack(images), (1, 99), axis=(0, 1, 2), method="inverted_cdf")
    np.testing.assert_array_equal(ours.percentiles, ranked.T)


@pytest.mark.parametrize("value", [0, -500])
def test_channel_without_light_is_left_uncorrected_and_named(value):
    image = np.full((64, 64, 2), 200, np.int16)
    image[..., 1] = value
    illumination = finished([image], ("DNA", "ER"))
    assert illumination.flat == ("ER",)
    np.testing.assert_array_equal(illumination.function, 1)


def test_mixed_sizes_name_a_file_of_each():
    statistics = IlluminationStatistics(("DNA",), 4)
    statistics.add(np.ones((256, 256, 1), np.uint16), "P1/A01.tif")
    with pytest.raises(DataError, match=r"P1/A01\.tif is 256 × 256 .*P1/B07\.tif is 240 × 240"):
        statistics.add(np.ones((240, 240, 1), np.uint16), "P1/B07.tif")
    other = IlluminationStatistics(("DNA",), 4)
    other.add(np.ones((240, 240, 1), np.uint16), "P1/B07.tif")
    with pytest.raises(DataError, match=r"P1/A01\.tif is 256 × 256 .*P1/B07\.tif is 240 × 240"):
        statistics.merge(other)


def test_merged_parts_equal_the_whole():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 4000, (64, 64, 3)).astype(np.uint16) for _ in range(5)]
    images.append(images[0].astype(np.float32))
    parts = [IlluminationStatistics(CHANNELS[:3], 2) for _ in range(4)]
    for number, image in enumerate(images):
        parts[number % 3].add(image, str(number))
    merged = IlluminationStatistics(CHANNELS[:3], 2)
    for part in parts:
        merged.merge(pickle.loads(pickle.dumps(part)))
    ours, whole = merged.finish(12, (0.01, 99.99)), finished(images, CHANNELS[:3], 2, 12)
    assert ours.count == 6
    np.testing.assert_array_equal(ours.function, whole.function)
    np.testing.assert_array_equal(ours.percentiles, whole.percentiles)


def test_nothing_to_finish_and_wrong_channels():
    with pytest.raises(DataError, match="no site"):
        IlluminationStatistics(("DNA",), 4).finish(24, (0.01, 99.99))
    with pytest.raises(DataError, match=r"a\.tif: shape \(9, 9, 2\) where 1 channels"):
        IlluminationStatistics(("DNA",), 4).add(np.ones((9, 9, 2)), "a.tif")


def test_hot_pixels_hardly_move_the_top():
    rng = np.random.default_rng(0)
    images = [rng.integers(100, 4101, (512, 512, 1)).astype(np.uint16) for _ in range(3)]
    calm = finished(images, percentiles=(0.05, 99.95)).percentiles
    assert abs(calm - [[100, 4100]]).max() <= 4
    images[0].ravel()[:10] = 65535
    hot = finished(images, percentiles=(0.05, 99.95)).percentiles
    assert abs(hot - calm).max() < 4000 / 255


def test_saturated_pixels_are_kept_as_float():
    image = np.zeros((64, 64, 1), np.uint16)
    image[:8, :8] = 65535
    function = np.ones((64, 64, 1), np.float32)
    function[:8, :8] = 0.8
    corrected = correct(image, function)
    assert corrected.dtype == np.float32
    assert corrected.max() == pytest.approx(65535 / 0.8)
    assert corrected.min() == 0
    pixels, clipped = to_8bit(corrected, np.array([[0, 65535]]))
    assert pixels.max() == pixels[0, 0, 0] == 255
    assert clipped[0] == 64 / 4096
    assert not correct(np.zeros_like(image), function).any()


@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf])
def test_function_that_is_not_above_zero_is_refused(value):
    function = np.ones((64, 64, 1), np.float32)
    function[3, 4] = value
    with pytest.raises(DataError, match="finite and above 0"):
        require_usable(function)


def test_function_of_another_shape_is_refused():
    with pytest.raises(DataError, match=r"\(64, 64, 1\).*\(60, 64, 1\)"):
        correct(np.ones((64, 64, 1)), np.ones((60, 64, 1)))


def test_one_scene_in_five_types():
    """Camera data of 12 and 14 bits, signed, on a pedestal and as floats differ by nothing."""
    scene = np.random.default_rng(0).integers(0, 4096, (50, 60, 1))
    forms = [
        scene.astype(np.uint16),
        (scene * 4).astype(np.uint16),
        (scene - 32768).astype(np.int16),
        (scene + 32768).astype(np.uint16),
        scene.astype(np.float32),
    ]
    ones = np.ones(scene.shape, np.float32)
    for form in forms:
        corrected = correct(form, ones)
        assert corrected.min() == form.min()
        assert corrected.max() == form.max()
        scaled = (corrected - corrected.min()) / np.ptp(corrected)
        assert np.abs(scaled - scene / scene.max()).max() < 1 / 4095
        statistics = IlluminationStatistics(("DNA",), 1)
        statistics.add(form)
        low, high = statistics.finish(3, percentiles=(0, 100)).percentiles[0]
        assert low == form.min()
        # Floats are binned to 11 bits of their fraction.
        assert high == form.max()


def test_file_survives(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(50, 90, (40, 50, 2)).astype(np.uint8)
    long_text = "α" * 100_000
    measured = replace(finished([image], ("DNA", "α 2")), made_from=long_text)
    path = tmp_path / "plates" / "P1.h5"
    save(path, measured)
    again = load(path)
    for name, value in vars(measured).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    save_clipped(path, np.array([0.5, 0.25]), [("A01", "α/1")])
    save_clipped(path, np.array([0.5, 0.25]), [("B01", "2")])
    np.testing.assert_array_equal(load(path).clipped, [0.5, 0.25])
    assert load(path).failed == (("A01", "α/1"), ("B01", "2"))
    header = load(path, images=False)
    assert header.function.size == header.mean_image.size == 0
    assert (header.channels, header.made_from) == (measured.channels, long_text)
    assert [entry.name for entry in path.parent.iterdir()] == ["P1.h5"]


def test_file_of_version_2(tmp_path):
    path = tmp_path / "P1.h5"
    measured = finished([np.full((40, 50, 1), 9, np.uint8)])
    save(path, replace(measured, made_from="{}"))
    with h5py.File(path, "r+") as file:
        del file["made_from"]
        file.attrs.update({"version": 2, "down_scale": 4, "median_size": 24})
    again = load(path)
    assert again.made_from == ""
    for name, value in vars(measured).items():
        np.testing.assert_array_equal(getattr(again, name), value)


def test_broken_files_are_named(tmp_path):
    path = tmp_path / "P1.h5"
    with pytest.raises(DataError, match=r"P1\.h5 does not exist; run `prepare`"):
        load(path)
    save(path, finished([np.full((40, 50, 1), 9, np.uint8)]))
    with h5py.File(path, "r+") as file:
        file["function"][3, 4] = 0
    with pytest.raises(DataError, match=r"P1\.h5: .*above 0"):
        load(path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DataError, match=r"P1\.h5 is not a readable HDF5 file"):
        load(path)
    with h5py.File(path, "w") as file:
        file["crops"] = 1
    with pytest.raises(
        DataError, match=r"P1\.h5 is not a file of the format deepprofiler-illumination"
    ):
        load(path)


@pytest.mark.parametrize(("dtype", "least"), [(np.uint16, 20), (np.float32, 10)])
def test_speed(dtype, least):
    image = np.random.default_rng(0).integers(0, 4000, (1080, 1080, 5)).astype(dtype)
    statistics = IlluminationStatistics(CHANNELS, 4)
    statistics.add(image)
    # Processor time, so that a busy machine does not matter.
    start = time.process_time()
    statistics.add(image)
    assert image.size / 1e6 / (time.process_time() - start) > least
