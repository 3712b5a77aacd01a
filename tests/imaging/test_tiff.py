"""Tags of TIFF files that say what the values and the pages are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from deepprofiler.imaging.image_errors import ImageError
from deepprofiler.imaging.read import ImageFile, inspect, read_site

VALUES = np.random.default_rng(3).integers(0, 256, (60, 80)).astype(np.uint8)


def _read(path: Path) -> np.ndarray:
    return read_site([ImageFile(path)])[:, :, 0]


def test_palette_is_never_read_as_grey(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 2**16, (3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "tifffile.tif", VALUES, photometric="palette", colormap=colours)
    indexed = Image.fromarray(VALUES).convert("RGB").quantize(16)
    indexed.save(tmp_path / "pillow.tif")
    indexed.save(tmp_path / "pillow.png")
    for path in tmp_path.iterdir():
        for look in (inspect, _read):
            with pytest.raises(ImageError, match="save") as error:
                look(path)
            assert (error.value.path, error.value.problem) == (path, "colour")


@pytest.mark.parametrize("tint", [(1, 1, 1), (0, 0, 1), (1, 0.5, 0)])
def test_palette_that_only_tints(tmp_path: Path, tint: tuple[float, ...]) -> None:
    # As ImageJ stores 8-bit images that are shown in grey, blue or orange.
    colours = (np.outer(tint, np.arange(256)).astype(int) * 257).astype(np.uint16)
    path = tmp_path / "tinted.tif"
    tifffile.imwrite(path, VALUES, photometric="palette", colormap=colours)
    np.testing.assert_array_equal(_read(path), VALUES)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_least_value_is_white(tmp_path: Path, dtype: type) -> None:
    brightness = VALUES.astype(dtype) * dtype(np.iinfo(dtype).max // 255)
    stored = np.iinfo(dtype).max - brightness
    path = tmp_path / "inverted.tif"
    tifffile.imwrite(path, stored, photometric="miniswhite")
    image = _read(path)
    assert image.dtype == dtype
    np.testing.assert_array_equal(image, brightness)
    if dtype is np.uint8:  # Pillow inverts such files too
        np.testing.assert_array_equal(image, np.asarray(Image.open(path)))


def test_least_value_is_white_in_one_bit(tmp_path: Path) -> None:
    bright = VALUES > 100
    tifffile.imwrite(tmp_path / "bits.tif", ~bright, photometric="miniswhite")
    np.testing.assert_array_equal(_read(tmp_path / "bits.tif"), bright)


def test_least_value_is_white_without_a_greatest(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "f.tif", VALUES.astype(np.float32), photometric="miniswhite")
    with pytest.raises(ImageError, match=r"least value is white .*float32") as error:
        inspect(tmp_path / "f.tif")
    assert error.value.problem == "wrong-type"


@pytest.mark.parametrize("thumbnail_first", [False, True])
def test_smaller_copies_are_no_channels(tmp_path: Path, thumbnail_first: bool) -> None:
    path = tmp_path / "site.tif"
    main = [(VALUES, 0), (255 - VALUES, 0)]
    small = [(VALUES[::2, ::2], 1), (VALUES[::4, ::4], 1)]
    with tifffile.TiffWriter(path) as writer:
        for plane, kind in small + main if thumbnail_first else main + small:
            writer.write(
                plane,
                subfiletype=kind,
                photometric="minisblack",
                resolution=(20_000, 20_000) if kind == 0 else (10_000, 10_000),
                resolutionunit="CENTIMETER",
            )
    image = read_site([ImageFile(path, page, 2) for page in range(2)])
    np.testing.assert_array_equal(image, np.stack([VALUES, 255 - VALUES], axis=-1))
    info = inspect(path)
    assert (info.shape, info.pages, info.pixel_size) == (VALUES.shape, 2, 0.5)


def test_levels_below_a_page_are_no_channels(tmp_path: Path) -> None:
    for name, options in {"plain.tif": {}, "levels.ome.tif": {"ome": True}}.items():
        with tifffile.TiffWriter(tmp_path / name, **options) as writer:
            writer.write(VALUES, subifds=2, photometric="minisblack")
            for step in (2, 4):
                writer.write(VALUES[::step, ::step], subfiletype=1, photometric="minisblack")
        np.testing.assert_array_equal(_read(tmp_path / name), VALUES)


def test_a_file_of_one_page_is_read_whatever_its_tag(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "one.tif", VALUES, subfiletype=1)
    np.testing.assert_array_equal(_read(tmp_path / "one.tif"), VALUES)
