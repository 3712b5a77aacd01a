"""What a TIFF file holds, told from its headers: which planes are channels, and are they whole."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path

import tifffile

from deepprofiler.errors import DataError

_CHANNEL_AXES = "CIQS"
_MICROMETRES = {"µm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "nm": 1e-3, "mm": 1e3}
# A pixel wider than this many µm tells of a screen or a printer, not of a microscope.
_WIDEST_PIXEL = 100.0


@contextlib.contextmanager
def open_tiff(path: Path) -> Iterator[tifffile.TiffFile]:
    """Open a TIFF file that holds an image, or raise a DataError that says what is wrong."""
    try:
        tiff = tifffile.TiffFile(path)
        if tiff.is_ome and sum(len(one.pages) for one in tiff.series) != len(tiff.pages):
            # One file of a set whose header names all the others: only this file is meant.
            tiff.close()
            tiff = tifffile.TiffFile(path, is_ome=False)
        empty = not tiff.series
    except Exception as error:  # damaged headers fail in many ways
        raise DataError(f"{path}: {_directory_problem(path) or error}") from error
    with tiff:
        if empty:
            raise DataError(f"{path}: {_directory_problem(path) or 'the TIFF holds no image'}")
        yield tiff


def _directory_problem(path: Path) -> str:
    """Say whether the first page's description lies beyond the end of the file."""
    with path.open("rb") as file:
        head = file.read(16)
    order = "<" if head[:1] == b"I" else ">"
    form, start, end = ("Q", 8, 16) if head[2:4] in (b"+\0", b"\0+") else ("I", 4, 8)
    size = path.stat().st_size
    if len(head) < end:
        return f"the TIFF header needs {end} bytes and {size} are there"
    (offset,) = struct.unpack(order + form, head[start:end])
    if offset + 2 > size:
        return (
            f"the file is truncated: its first page needs more than {offset} bytes and "
            f"{size} are there"
        )
    return ""


def channel_series(path: Path, tiff: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    """Give the series whose planes are channels, after refusing what is not."""
    series = list(tiff.series)
    for one in series:
        extra = [
            (letter, length)
            for letter, length in zip(one.axes, one.shape, strict=True)
            if letter not in "YX" and length > 1
        ]
        if "Y" not in one.axes or "X" not in one.axes:
            raise DataError(f"{path}: axes {one.axes} of shape {one.shape} are no image")
        if one.axes.endswith("S") and one.shape[-1] > 1:
            raise DataError(
                f"{path} is a colour image ({one.shape[-1]} interleaved samples a pixel); save "
                "each channel as a grey image or as a page of its own"
            )
        stack = [(letter, length) for letter, length in extra if letter not in _CHANNEL_AXES]
        if stack:
            letter, length = stack[0]
            kind = {"Z": "a z-stack", "T": "a time series"}.get(letter, f"a stack along {letter}")
            raise DataError(
                f"{path} is {kind} of {length} planes (axes {one.axes}); project it, or save the "
                "wanted plane of each channel"
            )
        if len(extra) > 1:
            raise DataError(f"{path}: axes {one.axes} of shape {one.shape} are more than channels")
    _require_bytes(path, tiff, series)
    return series


def _require_bytes(
    path: Path, tiff: tifffile.TiffFile, series: list[tifffile.TiffPageSeries]
) -> None:
    """Refuse a file that ends before its pixels do: decoders would fill in black."""
    size = tiff.filehandle.size
    for number, page in enumerate(tiff.pages, start=1):
        pairs = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        need = sum(count for _, count in pairs)
        there = sum(max(0, min(size, start + count) - start) for start, count in pairs)
        if there < need or not all(count for _, count in pairs):
            raise DataError(
                f"{path}: page {number} needs {need} bytes and {there} are there; the file is "
                "truncated or has missing strips"
            )
    for one in series:
        # Stacks of ImageJ describe only their first page.
        if one.dataoffset is not None and one.dataoffset + one.nbytes > size:
            there = max(0, size - one.dataoffset)
            raise DataError(
                f"{path}: the stack needs {one.nbytes} bytes and {there} are there; the file is "
                "truncated"
            )


def plane_shape(series: list[tifffile.TiffPageSeries]) -> tuple[int, int]:
    """Give the height and width that all planes have, or raise a DataError."""
    shapes = [(one.shape[one.axes.index("Y")], one.shape[one.axes.index("X")]) for one in series]
    if len(set(shapes)) > 1:
        sizes = ", ".join(f"{height} × {width}" for height, width in sorted(set(shapes)))
        raise DataError(f"{series[0].parent.filename}: pages of different sizes: {sizes}")
    return shapes[0]


def pixel_size(tiff: tifffile.TiffFile) -> float | None:
    """Width of a pixel in µm from OME-XML, ImageJ's description or the resolution tags."""
    size = _ome_pixel_size(tiff)
    tags = tiff.pages[0].tags
    if size is None and "XResolution" in tags and tags["XResolution"].value[0]:
        numerator, denominator = tags["XResolution"].value
        imagej = (tiff.imagej_metadata or {}).get("unit", "")
        unit = tags["ResolutionUnit"].value if "ResolutionUnit" in tags else 2
        scale = _MICROMETRES.get(imagej, {2: 25_400.0, 3: 10_000.0}.get(int(unit)))
        size = scale * denominator / numerator if scale else None
    return size if size is not None and 0 < size < _WIDEST_PIXEL else None


def _ome_pixel_size(tiff: tifffile.TiffFile) -> float | None:
    if not tiff.ome_metadata:
        return None
    image = tifffile.xml2dict(tiff.ome_metadata).get("OME", {}).get("Image", {})
    image = image[0] if isinstance(image, list) else image
    pixels = image.get("Pixels", {})
    scale = _MICROMETRES.get(pixels.get("PhysicalSizeXUnit", "µm"))
    size = pixels.get("PhysicalSizeX")
    return float(size) * scale if size and scale else None
