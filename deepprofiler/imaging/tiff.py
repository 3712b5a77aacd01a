"""TIFF files of microscopes: which pages are channels, whether all bytes are there, pixel size.

A file of its own, though only :mod:`deepprofiler.imaging.read` imports it: it alone knows the
series, axes and tags of tifffile, and how headers of ImageJ and OME differ.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tifffile

from deepprofiler.imaging.image_errors import ImageError

# Letters of tifffile for axes along which a file holds channels: channel, sequence of pages,
# unknown, and sample.
_CHANNEL_AXES = "CIQS"
_OTHER_STACKS = {"Z": "a z-stack", "T": "a time series"}
_MICROMETRES = {"µm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "nm": 1e-3, "mm": 1e3}
# Widths in µm of the units of the resolution tag: inch and centimetre.
_RESOLUTION_UNITS = {2: 25_400.0, 3: 10_000.0}
# Bits of NewSubfileType: a smaller copy of another page (a thumbnail, a level of a pyramid), and a
# transparency mask of one.
_REDUCED_OR_MASK = 1 | 4
# A pixel wider than this many µm is that of a screen or a printer, not of a microscope.
_WIDEST_PIXEL = 100.0


@contextlib.contextmanager
def open_tiff(path: Path) -> Iterator[tifffile.TiffFile]:
    """Open a TIFF file that holds an image.

    Raises
    ------
    ImageError
        The headers are truncated or damaged, or describe no image.
    """
    try:
        tiff = tifffile.TiffFile(path)
        if tiff.is_ome and sum(len(series.pages) for series in tiff.series) != len(tiff.pages):
            # One file of a set whose header names all others: only this file is wanted.
            tiff.close()
            tiff = tifffile.TiffFile(path, is_ome=False)
        is_empty = not tiff.series
    except Exception as error:  # damaged headers fail in many ways
        raise _directory_error(path, str(error)) from error
    with tiff:
        if is_empty:
            raise _directory_error(path, "the TIFF holds no image")
        yield tiff


def channel_series(path: Path, tiff: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    """Give the series whose planes are channels; smaller copies of pages are left out.

    Raises
    ------
    ImageError
        The file holds interleaved or indexed colour, a stack along another axis than channels, or
        fewer bytes than its headers say.
    """
    main = [part for part in tiff.series if not part.keyframe.subfiletype & _REDUCED_OR_MASK]
    series = main or list(tiff.series)
    for part in series:
        _require_grey(path, part.keyframe)
        _require_channels(path, part)
    _require_bytes(path, tiff, series)
    return series


def plane_shape(path: Path, series: Sequence[tifffile.TiffPageSeries]) -> tuple[int, int]:
    """Give the height and width in pixels that all planes have.

    Raises
    ------
    ImageError
        The planes differ in size.
    """
    shapes = {
        (part.shape[part.axes.index("Y")], part.shape[part.axes.index("X")]) for part in series
    }
    if len(shapes) > 1:
        sizes = ", ".join(f"{height} × {width}" for height, width in sorted(shapes))
        raise ImageError(path, "wrong-size", f"pages of different sizes: {sizes}")
    return shapes.pop()


def pixel_size(tiff: tifffile.TiffFile, series: Sequence[tifffile.TiffPageSeries]) -> float | None:
    """Width of a pixel in µm from OME-XML, ImageJ's description or the resolution tags."""
    size = _ome_pixel_size(tiff)
    tags = series[0].keyframe.tags
    if size is None and "XResolution" in tags and tags["XResolution"].value[0]:
        numerator, denominator = tags["XResolution"].value
        unit = tags["ResolutionUnit"].value if "ResolutionUnit" in tags else 2
        unit_of_imagej = (tiff.imagej_metadata or {}).get("unit", "")
        scale = _MICROMETRES.get(unit_of_imagej, _RESOLUTION_UNITS.get(int(unit)))
        size = scale * denominator / numerator if scale else None
    return size if size is not None and 0 < size < _WIDEST_PIXEL else None


def software(tiff: tifffile.TiffFile) -> str:
    """Name of the program that wrote the file, as it says; empty if it does not."""
    tag = tiff.pages[0].tags.get("Software")
    return str(tag.value) if tag is not None else ""


def decode(
    path: Path, series: Sequence[tifffile.TiffPageSeries], shape: tuple[int, int]
) -> np.ndarray:
    """Decode the planes of some series into one array (planes, H, W), in the file's type.

    Where the file says that its least value is white, values are inverted: more is brighter.

    Raises
    ------
    ImageError
        The pixels are damaged.
    """
    try:
        stacks = [
            _brightness(part.asarray(maxworkers=1), part.keyframe).reshape(-1, *shape)
            for part in series
        ]
    except Exception as error:  # decoders fail in many ways; each means a damaged file
        raise ImageError(path, "damaged", f"cannot be decoded ({error})") from error
    return stacks[0] if len(stacks) == 1 else np.concatenate(stacks)


def _directory_error(path: Path, otherwise: str) -> ImageError:
    """Error of a file without a readable page; says if its description lies beyond the end."""
    with path.open("rb") as file:
        head = file.read(16)
    order = "<" if head[:1] == b"I" else ">"
    is_big = head[2:4] in (b"+\0", b"\0+")
    form, start, end = ("Q", 8, 16) if is_big else ("I", 4, 8)
    size = path.stat().st_size
    if len(head) < end:
        return ImageError(
            path, "truncated", f"the TIFF header needs {end} bytes and {size} are there"
        )
    (offset,) = struct.unpack(order + form, head[start:end])
    if offset + 2 > size:
        detail = (
            f"the file is truncated: its first page needs more than {offset} bytes and "
            f"{size} are there"
        )
        return ImageError(path, "truncated", detail)
    return ImageError(path, "damaged", otherwise)


def _require_grey(path: Path, page: tifffile.TiffPage) -> None:
    """Refuse values that stand for no brightness."""
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and not _is_ramp(page.colormap):
        detail = (
            "a palette image (its values number colours, PhotometricInterpretation 3); save it as "
            "a grey image, from the original if there is one"
        )
        raise ImageError(path, "colour", detail)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and page.dtype.kind not in "ub":
        detail = (
            f"its least value is white (PhotometricInterpretation 0), and {page.dtype} has no "
            "greatest value to invert it by; save it with 0 as black"
        )
        raise ImageError(path, "wrong-type", detail)


def _is_ramp(colours: np.ndarray | None) -> bool:
    """Tell whether a palette only tints: colours from black on, in proportion to the value.

    ImageJ stores 8-bit images with such a palette when they are shown in a colour.
    """
    if colours is None or not colours.any():
        return False
    ramp = np.linspace(0, 1, colours.shape[1]) * colours[:, -1:]
    return bool((np.abs(colours - ramp) <= 257).all())


def _brightness(values: np.ndarray, page: tifffile.TiffPage) -> np.ndarray:
    if page.photometric != tifffile.PHOTOMETRIC.MINISWHITE:
        return values
    if values.dtype == bool:
        return ~values
    white = np.array(2**page.bitspersample - 1, values.dtype)
    return np.asarray(white - values)


def _require_channels(path: Path, series: tifffile.TiffPageSeries) -> None:
    """Refuse planes that are not the channels of one field."""
    axes, shape = series.axes, series.shape
    if "Y" not in axes or "X" not in axes:
        raise ImageError(path, "wrong-axes", f"axes {axes} of shape {shape} are not an image")
    if axes.endswith("S") and shape[-1] > 1:
        detail = (
            f"a colour image ({shape[-1]} interleaved samples a pixel); save each channel as a "
            "grey image or as a page of its own"
        )
        raise ImageError(path, "colour", detail)
    others = [
        (letter, length)
        for letter, length in zip(axes, shape, strict=True)
        if letter not in "YX" and length > 1
    ]
    for letter, length in others:
        if letter not in _CHANNEL_AXES:
            kind = _OTHER_STACKS.get(letter, f"a stack along {letter}")
            detail = (
                f"{kind} of {length} planes (axes {axes}); project it, or save the wanted plane "
                "of each channel"
            )
            raise ImageError(path, "stack", detail)
    if len(others) > 1:
        detail = f"axes {axes} of shape {shape} are more than channels"
        raise ImageError(path, "wrong-axes", detail)


def _require_bytes(
    path: Path, tiff: tifffile.TiffFile, series: Sequence[tifffile.TiffPageSeries]
) -> None:
    """Refuse a file that ends before its pixels do: decoders would fill in black."""
    size = tiff.filehandle.size
    for number, page in enumerate(tiff.pages, start=1):
        segments = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        needed = sum(count for _, count in segments)
        present = sum(max(0, min(size, start + count) - start) for start, count in segments)
        if present < needed or not all(count for _, count in segments):
            detail = (
                f"page {number} needs {needed} bytes and {present} are there; the file is "
                "truncated or has missing strips"
            )
            raise ImageError(path, "truncated", detail)
    for part in series:
        # Stacks of ImageJ describe only their first page.
        if part.dataoffset is not None and part.dataoffset + part.nbytes > size:
            present = max(0, size - part.dataoffset)
            detail = (
                f"the stack needs {part.nbytes} bytes and {present} are there; the file is "
                "truncated"
            )
            raise ImageError(path, "truncated", detail)


def _ome_pixel_size(tiff: tifffile.TiffFile) -> float | None:
    if not tiff.ome_metadata:
        return None
    image = tifffile.xml2dict(tiff.ome_metadata).get("OME", {}).get("Image", {})
    image = image[0] if isinstance(image, list) else image
    pixels = image.get("Pixels", {})
    scale = _MICROMETRES.get(pixels.get("PhysicalSizeXUnit", "µm"))
    size = pixels.get("PhysicalSizeX")
    return float(size) * scale if size and scale else None
