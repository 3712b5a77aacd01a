"""Reading: every layout and every kind of broken file, against arrays that the test wrote."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import imageio.v3
import numpy as np
import pytest
import tifffile

from deepprofiler.imaging.image_errors import ImageError, MissingImage
from deepprofiler.imaging.read import (
    ImageFile,
    inspect,
    read_labels,
    read_site,
    write_copy,
    write_labels,
)

SHAPE = (200, 256)


def planes(count: int, dtype: type = np.uint16) -> np.ndarray:
    rng = np.random.default_rng(count)
    return rng.integers(0, 200, (count, *SHAPE)).astype(dtype)


def stack_files(path: Path, count: int) -> list[ImageFile]:
    return [ImageFile(path, page, count) for page in range(count)]


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "zstd"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.uint32, np.float32])
def test_one_file_per_channel_is_read_as_stored(tmp_path, compression, dtype):
    stack = planes(2, dtype) * (-3 if dtype is np.int16 else 1)
    files = [ImageFile(tmp_path / f"{channel}.tif") for channel in range(2)]
    for file, plane in zip(files, stack, strict=True):
        tifffile.imwrite(file.path, plane, compression=compression)
    image = read_site(files)
    assert image.dtype == dtype
    np.testing.assert_array_equal(image, np.moveaxis(stack, 0, -1))
    info = inspect(files[0].path)
    assert (info.shape, info.pages, info.dtype, info.axes) == (SHAPE, 1, np.dtype(dtype), "YX")


def _pages(path: Path, stack: np.ndarray) -> None:
    tifffile.imwrite(path, stack, photometric="minisblack")


def _separate_writes(path: Path, stack: np.ndarray) -> None:
    with tifffile.TiffWriter(path) as writer:
        for plane in stack:
            writer.write(plane, photometric="minisblack")


def _planar_colour(path: Path, stack: np.ndarray) -> None:
    tifffile.imwrite(path, stack, photometric="rgb", planarconfig="separate")


def _imagej(path: Path, stack: np.ndarray) -> None:
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "CYX"})


def _ome(path: Path, stack: np.ndarray) -> None:
    tifffile.imwrite(path, stack, ome=True, metadata={"axes": "CYX"}, photometric="minisblack")


def _big(path: Path, stack: np.ndarray) -> None:
    tifffile.imwrite(path, stack, bigtiff=True, byteorder=">", photometric="minisblack")


@pytest.mark.parametrize(
    ("write", "count"),
    [
        (_pages, 3),
        (_pages, 4),
        (_separate_writes, 3),
        (_planar_colour, 3),
        (_imagej, 3),
        (_ome, 5),
        (_big, 4),
    ],
)
def test_page_k_is_channel_k(tmp_path, write, count):
    path = tmp_path / "stack.tif"
    stack = planes(count)
    write(path, stack)
    image = read_site(stack_files(path, count))
    assert image.shape == (*SHAPE, count)
    np.testing.assert_array_equal(image, np.moveaxis(stack, 0, -1))
    assert inspect(path).pages == count
    only = read_site([ImageFile(path, 1, count)])
    np.testing.assert_array_equal(only[:, :, 0], stack[1])


@pytest.mark.parametrize(("pages", "wanted"), [(4, 3), (3, 1), (1, 5)])
def test_page_count_must_be_the_channel_count(tmp_path, pages, wanted):
    path = tmp_path / "stack.tif"
    _pages(path, planes(pages))
    with pytest.raises(ImageError, match=rf"holds {pages} page.* {wanted} channel") as error:
        read_site(stack_files(path, wanted))
    assert (error.value.path, error.value.problem) == (path, "wrong-pages")


@pytest.mark.parametrize(
    ("axes", "count", "stack"), [("ZYX", 5, "z-stack of 5"), ("TYX", 4, "time series of 4")]
)
@pytest.mark.parametrize("flavour", ["imagej", "ome"])
def test_other_stacks_are_refused(tmp_path, axes, count, stack, flavour):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(
        path, planes(count), metadata={"axes": axes}, photometric="minisblack", **{flavour: True}
    )
    for look in (inspect, lambda path: read_site(stack_files(path, count))):
        with pytest.raises(ImageError, match=stack) as error:
            look(path)
        assert (error.value.path, error.value.problem) == (path, "stack")


def test_interleaved_colour_is_refused(tmp_path):
    colour = np.moveaxis(planes(3, np.uint8), 0, -1)
    tifffile.imwrite(tmp_path / "colour.tif", colour, photometric="rgb")
    imageio.v3.imwrite(tmp_path / "colour.png", colour)
    for name in ("colour.tif", "colour.png"):
        with pytest.raises(ImageError, match="colour") as error:
            read_site(stack_files(tmp_path / name, 3))
        assert (error.value.path, error.value.problem) == (tmp_path / name, "colour")


def test_file_of_an_ome_set_is_read_by_itself(tmp_path):
    # Each file of such a set describes all of them; tifffile would return the whole set.
    stack = planes(2)
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, metadata={"axes": "CYX"}, ome=True)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tiff:
        description = tiff.ome_metadata
    tifffile.imwrite(tmp_path / "b.ome.tif", stack[0], description=description, metadata=None)
    image = read_site([ImageFile(tmp_path / "b.ome.tif")])
    np.testing.assert_array_equal(image[:, :, 0], stack[0])


def _whole(path: Path, at_end: bool) -> bytes:
    """Bytes of a TIFF file whose page description lies before or behind the pixels."""
    plane = planes(1)[0]
    if not at_end:
        tifffile.imwrite(path, plane)
        return path.read_bytes()
    tifffile.imwrite(path, plane)
    data = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        start = tiff.pages[0].offset
    return data[:4] + len(data).to_bytes(4, "little") + data[8:] + data[start : start + 400]


@pytest.mark.parametrize(
    ("make", "problem", "reason"),
    [
        (lambda data: bytes(len(data)), "no-header", "no TIFF header, all .* bytes are zero"),
        (
            lambda data: data[: len(data) // 2],
            "truncated",
            "page 1 needs 102400 bytes and .* are there",
        ),
        (lambda data: b"", "empty", r"empty \(0 bytes\)"),
        (lambda data: b"<html>Not found</html>\n", "not-an-image", "begins with '<html>"),
        (lambda data: bytes(600) + data, "no-header", "the first 512 bytes are zero"),
        (
            lambda data: b"\xff\xd8\xff\xe0" + data,
            "not-an-image",
            "begins with the bytes ff d8 ff e0",
        ),
        (lambda data: data[:6], "truncated", "header needs 8 bytes and 6 are there"),
        (
            lambda data: data[:4] + b"\xff\xff\xff\x00" + data[8:],
            "truncated",
            "needs more than .* are there",
        ),
        (lambda data: data[:8], "truncated", "are there"),
    ],
)
def test_broken_tiff_is_named_with_its_reason(tmp_path, make, problem, reason):
    path = tmp_path / "broken.tif"
    data = _whole(path, at_end=False)
    path.write_bytes(make(data))
    for look in (inspect, lambda path: read_site([ImageFile(path)])):
        with pytest.raises(ImageError, match=rf"broken\.tif.*{reason}") as error:
            look(path)
        assert (error.value.path, error.value.problem) == (path, problem)


def test_tiff_cut_before_its_description_is_named(tmp_path):
    path = tmp_path / "cut.tif"
    data = _whole(path, at_end=True)
    path.write_bytes(data)
    np.testing.assert_array_equal(read_site([ImageFile(path)])[:, :, 0], planes(1)[0])
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=r"cut\.tif: the file is truncated.*are there"):
        inspect(path)


@pytest.mark.parametrize("write", [_pages, _imagej, _separate_writes])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_cut_stack_is_never_black(tmp_path, write, share):
    path = tmp_path / "stack.tif"
    write(path, planes(5))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ImageError, match=r"stack\.tif"):
        read_site(stack_files(path, 5))


@pytest.mark.parametrize("compression", ["lzw", "zlib"])
def test_damaged_compression_is_an_error(tmp_path, compression):
    path = tmp_path / "damaged.tif"
    tifffile.imwrite(path, planes(1)[0], compression=compression)
    with tifffile.TiffFile(path) as tiff:
        start = tiff.pages[0].dataoffsets[0]
    data = bytearray(path.read_bytes())
    data[start : start + 500] = b"\xff" * 500
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"damaged\.tif: cannot be decoded"):
        read_site([ImageFile(path)])


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(MissingImage, match=r"none\.tif does not exist") as error:
        read_site([ImageFile(tmp_path / "none.tif")])
    assert (error.value.path, error.value.problem) == (tmp_path / "none.tif", "missing")
    with pytest.raises(ImageError, match="cannot be opened") as error:
        inspect(tmp_path)
    assert error.value.problem == "unreadable"


@pytest.mark.parametrize(
    "error", [MissingImage(Path("a.tif")), ImageError(Path("a.tif"), "truncated", "it ends early")]
)
def test_errors_travel_between_processes(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_channels_of_different_sizes(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((20, 30), np.uint16))
    tifffile.imwrite(tmp_path / "b.tif", np.ones((30, 20), np.uint16))
    with pytest.raises(ImageError, match=r"b\.tif: 30 × 20 pixels, .*a\.tif, is 20 × 30") as error:
        read_site([ImageFile(tmp_path / "a.tif"), ImageFile(tmp_path / "b.tif")])
    assert (error.value.path, error.value.problem) == (tmp_path / "b.tif", "wrong-size")
    _separate_writes(tmp_path / "c.tif", [np.ones((20, 30)), np.ones((30, 20))])
    for look in (inspect, lambda path: read_site(stack_files(path, 2))):
        with pytest.raises(ImageError, match=r"c\.tif: .*20 × 30, 30 × 20"):
            look(tmp_path / "c.tif")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    plane = np.ones((20, 30))
    plane[3, 4] = value
    tifffile.imwrite(tmp_path / "float.tif", plane)
    with pytest.raises(ImageError, match=r"float\.tif: 1 of 600 pixels"):
        read_site([ImageFile(tmp_path / "float.tif")])


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"resolution": (10_000 / 0.65, 10_000 / 0.65), "resolutionunit": "CENTIMETER"}, 0.65),
        ({"resolution": (25_400 / 0.7, 25_400 / 0.7), "resolutionunit": "INCH"}, 0.7),
        ({"imagej": True, "resolution": (1 / 0.3, 1 / 0.3), "metadata": {"unit": "um"}}, 0.3),
        (
            {"ome": True, "metadata": {"PhysicalSizeX": 215.0, "PhysicalSizeXUnit": "nm"}},
            0.215,
        ),
        ({}, None),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
    ],
)
def test_pixel_size(tmp_path, options, size):
    tifffile.imwrite(tmp_path / "sized.tif", planes(1)[0], **options)
    stored = inspect(tmp_path / "sized.tif").pixel_size
    assert stored == (None if size is None else pytest.approx(size, rel=1e-4))


def test_copy_agrees_with_another_library(tmp_path):
    plane = planes(1, np.uint8)[0]
    ours, theirs = tmp_path / "ours.png", tmp_path / "theirs.png"
    write_copy(ours, plane)
    imageio.v3.imwrite(theirs, plane)
    np.testing.assert_array_equal(imageio.v3.imread(ours), plane)
    image = read_site([ImageFile(theirs), ImageFile(ours)])
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.stack([plane, plane], axis=-1))
    assert inspect(ours).shape == SHAPE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours.png", "theirs.png"]
    for wrong in (plane.astype(np.uint16), plane[None]):
        with pytest.raises(ValueError, match="uint8"):
            write_copy(ours, wrong)


def test_png_of_16_bits(tmp_path):
    plane = planes(1)[0] * np.uint16(300)
    imageio.v3.imwrite(tmp_path / "theirs.png", plane)
    image = read_site([ImageFile(tmp_path / "theirs.png")])
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image[:, :, 0], plane)
    assert inspect(tmp_path / "theirs.png").dtype == np.uint16


@pytest.mark.parametrize("keep", [20, 200, -30])
def test_cut_png_is_an_error(tmp_path, keep):
    path = tmp_path / "cut.png"
    write_copy(path, planes(1, np.uint8)[0])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ImageError, match=r"cut\.png"):
        read_site([ImageFile(path)])


@pytest.mark.parametrize("count", [3, 70_000])
def test_labels_survive(tmp_path, count):
    labels = np.zeros((300, 300), np.int32)
    labels.ravel()[: count + 1] = np.arange(count + 1)
    write_labels(tmp_path / "labels.tif", labels)
    again = read_labels(tmp_path / "labels.tif")
    assert again.dtype == np.int32
    np.testing.assert_array_equal(again, labels)


def test_own_files_are_recognised(tmp_path):
    plane = planes(1, np.uint8)[0]
    write_copy(tmp_path / "copy.png", plane)
    write_labels(tmp_path / "labels.tif", plane)
    imageio.v3.imwrite(tmp_path / "other.png", plane)
    tifffile.imwrite(tmp_path / "other.tif", plane, software="another program")
    tifffile.imwrite(tmp_path / "none.tif", plane, software=False)
    written_as = {path.name: inspect(path).written_as for path in tmp_path.iterdir()}
    assert written_as == {
        "copy.png": "copy",
        "labels.tif": "labels",
        "other.png": "",
        "other.tif": "",
        "none.tif": "",
    }


def test_real_lzw_field(shared_data):
    paths = sorted((shared_data / "jump_site").glob("*.tiff"))
    image = read_site([ImageFile(path) for path in paths])
    assert image.shape == (1080, 1080, 5)
    for channel, path in enumerate(paths):
        plane = imageio.v3.imread(path, plugin="pillow")
        np.testing.assert_array_equal(image[:, :, channel], plane)


@pytest.mark.skipif(os.sep != "/", reason="there the paths are right")
@pytest.mark.parametrize("source", ["P1\\a.tif", "D:\\screens\\P1\\a.tif", "D:/P1/a.tif"])
def test_a_path_of_windows_is_named_as_such(source):
    text = MissingImage(Path("/images") / source).in_index(["DNA"], source)
    assert text.startswith(
        f"channel DNA names {source}, which does not exist: it is a path of Windows"
    )
    assert "Windows" not in MissingImage(Path("/images/P1/a.tif")).in_index(["DNA"], "P1/a.tif")
