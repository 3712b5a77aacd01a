"""What a TIFF file holds, told from its headers: which planes are channels, and are they whole."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

from deepprofiler.errors import DataError
from deepprofiler.files import replacing

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


_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class ImageFile:
    """Where one channel of a site lies.

    Attributes
    ----------
    path : Path
    page : int
        Position of the channel within the file; 0 for a file of one channel.
    pages : int
        Number of channels that the file must hold.
    """

    path: Path
    page: int = 0
    pages: int = 1


@dataclass(frozen=True)
class ImageInfo:
    """What the headers of an image file say.

    Attributes
    ----------
    shape : tuple of int
        Height and width in pixels.
    pages : int
        Number of channels.
    dtype : numpy.dtype
    pixel_size : float or None
        Width of a pixel in µm, where the file tells it.
    axes : str
        Axes in tifffile's letters, such as ``YX`` or ``CYX``.
    """

    shape: tuple[int, int]
    pages: int
    dtype: np.dtype
    pixel_size: float | None
    axes: str


def read_site(files: Sequence[ImageFile]) -> np.ndarray:
    """Read the channels of one site.

    Parameters
    ----------
    files : sequence of ImageFile
        One for each channel, in the wanted order.

    Returns
    -------
    numpy.ndarray
        (H, W, C) in the files' own type; files of different types are widened to a common one.

    Raises
    ------
    DataError
        A file does not exist, is empty, damaged or no TIFF or PNG; holds another number of pages
        than channels, a Z-stack, a time series or interleaved colour; holds values that are not
        finite; or the channels differ in size.
    """
    stacks: dict[Path, np.ndarray] = {}
    for file in files:
        if file.path not in stacks:
            stacks[file.path] = _read(file.path)
        _require_pages(file, len(stacks[file.path]))
    planes = [stacks[file.path][file.page] for file in files]
    _require_one_size(files, [plane.shape for plane in planes])
    return np.stack(planes, axis=-1)


def inspect(path: Path) -> ImageInfo:
    """Read only the headers of an image file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    ImageInfo

    Raises
    ------
    DataError
        As for :func:`read_site`, as far as headers and the file's size tell.
    """
    if _kind(path) == "png":
        return _png_info(path, path.read_bytes()[:33])
    with open_tiff(path) as opened:
        series = channel_series(path, opened)
        height, width = plane_shape(series)
        pages = sum(one.size // (height * width) for one in series)
        axes = "YX" if pages == 1 else series[0].axes if len(series) == 1 else "IYX"
        return ImageInfo((height, width), pages, series[0].dtype, pixel_size(opened), axes)


def write_png(path: Path, image: np.ndarray) -> None:
    """Write one channel as PNG; the file appears whole or not at all.

    Parameters
    ----------
    path : Path
    image : numpy.ndarray
        (H, W) uint8 or uint16.
    """
    if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"a PNG of one channel is (H, W) uint8 or uint16, not {image.dtype}")
    data = imagecodecs.png_encode(np.ascontiguousarray(image))
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_labels(path: Path, labels: np.ndarray) -> None:
    """Write a label image as compressed TIFF; the file appears whole or not at all.

    Parameters
    ----------
    path : Path
    labels : numpy.ndarray
        (H, W) integers, 0 is background.
    """
    dtype = np.uint16 if labels.max(initial=0) <= np.iinfo(np.uint16).max else np.uint32
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary, labels.astype(dtype), compression="zlib", photometric="minisblack"
        )


def read_labels(path: Path) -> np.ndarray:
    """Read a label image.

    Returns
    -------
    numpy.ndarray
        (H, W) int32, 0 is background.

    Raises
    ------
    DataError
        As for :func:`read_site`.
    """
    return read_site([ImageFile(path)])[:, :, 0].astype(np.int32)


def _read(path: Path) -> np.ndarray:
    """Read all channels of a file, (C, H, W)."""
    if _kind(path) == "png":
        data = path.read_bytes()
        _png_info(path, data[:33])
        try:
            stack = imagecodecs.png_decode(data)[None]
        except Exception as error:
            raise DataError(f"{path}: the PNG is truncated or damaged ({error})") from error
    else:
        with open_tiff(path) as opened:
            series = channel_series(path, opened)
            shape = plane_shape(series)
            try:
                parts = [one.asarray(maxworkers=1).reshape(-1, *shape) for one in series]
            except Exception as error:  # decoders fail in many ways; each means a damaged file
                raise DataError(f"{path}: cannot be decoded ({error})") from error
            stack = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return _usable_values(path, stack)


def _usable_values(path: Path, stack: np.ndarray) -> np.ndarray:
    if stack.dtype == bool:
        return stack.astype(np.uint8)
    if stack.dtype.kind not in "uif":
        raise DataError(f"{path}: pixels of type {stack.dtype} are no intensities")
    if stack.dtype.kind == "f":
        # Beyond float32 a value becomes infinite as soon as it is corrected.
        wrong = np.count_nonzero(~(np.abs(stack) <= np.finfo(np.float32).max))
        if wrong:
            raise DataError(
                f"{path}: {wrong} of {stack.size} pixels are NaN, infinite or beyond float32; "
                "export the image again"
            )
    return stack


def _kind(path: Path) -> str:
    """Tell TIFF from PNG by the first bytes; say what else the file is."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror}") from None
    if not head:
        raise DataError(f"{path} is empty (0 bytes)")
    if head.startswith(_TIFF):
        return "tiff"
    if head.startswith(_PNG):
        return "png"
    if not any(head):
        if not any(path.read_bytes()):
            size = path.stat().st_size
            raise DataError(f"{path}: no TIFF header, all {size} bytes are zero; fetch it again")
        found = f"the first {len(head)} bytes are zero"
    elif all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in head):
        found = f"it is a text file that begins with {head[:20].decode()!r}"
    else:
        found = f"it begins with the bytes {head[:4].hex(' ')}"
    raise DataError(f"{path}: no TIFF or PNG header, {found}")


def _png_info(path: Path, head: bytes) -> ImageInfo:
    if len(head) < 33:
        raise DataError(f"{path}: the PNG header needs 33 bytes and {len(head)} are there")
    width, height, bits, colour = struct.unpack(">IIBB", head[16:26])
    if colour != 0:
        raise DataError(
            f"{path} is a colour PNG (colour type {colour}); save each channel as a grey image"
        )
    if bits < 8:
        raise DataError(f"{path}: a PNG of {bits} bits a pixel; 8 or 16 are read")
    dtype = np.dtype(np.uint8 if bits == 8 else np.uint16)
    return ImageInfo((height, width), 1, dtype, None, "YX")


def _require_pages(file: ImageFile, found: int) -> None:
    if found != file.pages:
        raise DataError(
            f"{file.path} holds {found} page{'s' * (found != 1)} and the index names it for "
            f"{file.pages} channel{'s' * (file.pages != 1)}; a stack needs one page per channel"
        )


def _require_one_size(files: Sequence[ImageFile], shapes: Sequence[tuple[int, ...]]) -> None:
    for file, shape in zip(files, shapes, strict=True):
        if shape != shapes[0]:
            raise DataError(
                f"the channels of a site differ in size: {files[0].path} is {shapes[0][0]} × "
                f"{shapes[0][1]} pixels, {file.path} is {shape[0]} × {shape[1]}"
            )
