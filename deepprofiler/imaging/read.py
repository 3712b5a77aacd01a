"""Image files: the channels of a site, label images and 8-bit copies, read and written.

TIFF and grey PNG files are read as stored, or inverted where the least value is white. Whatever is
wrong with a file is an :class:`~deepprofiler.imaging.image_errors.ImageError` that holds its path.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import imagecodecs
import numpy as np
import tifffile
from scipy import ndimage

from deepprofiler.errors import counted
from deepprofiler.files import replacing
from deepprofiler.imaging.image_errors import ImageError, MissingImage
from deepprofiler.imaging.tiff import (
    channel_series,
    decode,
    open_tiff,
    pixel_size,
    plane_shape,
    software,
)

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER = 33  # bytes of the signature and of the first chunk, IHDR
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEAD = 512  # bytes that tell what a file is
_NUMBER_OBJECTS = (
    "give each object its number (skimage.measure.label, or Analyze Particles with Count Masks in "
    "Fiji)"
)
_BITS = f"a mask of 1 bit a pixel and not a label image; {_NUMBER_OBJECTS}"
_WHITE = (255, 65535)  # values of masks where there is an object
# What files of this program name as their software. They are recognised by it when they come back
# as images.
_COPY = "deepprofiler-keras 8-bit copy"
_LABELS = "deepprofiler-keras labels"


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
        Width of a pixel in µm, where the file says it.
    axes : str
        Axes in tifffile's letters, such as ``YX`` or ``CYX``.
    written_as : {"", "copy", "labels"}
        What this program wrote the file as: by :func:`write_copy`, by :func:`write_labels`, or
        empty for files of other programs.
    """

    shape: tuple[int, int]
    pages: int
    dtype: np.dtype
    pixel_size: float | None
    axes: str
    written_as: Literal["", "copy", "labels"] = ""


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
    ImageError
        A file does not exist, is empty, damaged, or neither TIFF nor PNG; holds another number of
        pages than channels, a z-stack, a time series, interleaved or indexed colour; holds values
        that are not finite; or the channels differ in size.
    """
    stacks: dict[Path, np.ndarray] = {}
    for file in files:
        if file.path not in stacks:
            stacks[file.path] = _read(file.path)
        _require_pages(file, len(stacks[file.path]))
    planes = [stacks[file.path][file.page] for file in files]
    _require_one_size(files, planes)
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
    ImageError
        As for :func:`read_site`, as far as headers and the file's size tell.
    """
    head = _head(path)
    if _format(path, head) == "png":
        return _png_info(path, head)
    with open_tiff(path) as tiff:
        series = channel_series(path, tiff)
        height, width = plane_shape(path, series)
        pages = sum(part.size // (height * width) for part in series)
        axes = "YX" if pages == 1 else series[0].axes if len(series) == 1 else "IYX"
        written_as: Literal["", "labels"] = "labels" if software(tiff) == _LABELS else ""
        size = pixel_size(tiff, series)
        return ImageInfo((height, width), pages, series[0].dtype, size, axes, written_as)


def read_labels(path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Read a label image.

    Parameters
    ----------
    path : Path
    shape : tuple of int, optional
        Height and width that it must have: those of the site's images.

    Returns
    -------
    numpy.ndarray
        (H, W) int32, 0 is background.

    Raises
    ------
    ImageError
        As for :func:`read_site`; or the values do not number objects on a background of 0, and were
        not written by :func:`write_labels`; or the size is another one.
    """
    labels = read_site([ImageFile(path)])[:, :, 0]
    if shape is not None and labels.shape != tuple(shape):
        detail = (
            f"{labels.shape[0]} × {labels.shape[1]} pixels, the site's images are {shape[0]} × "
            f"{shape[1]}: draw the labels on these images, or delete the file and run "
            "`locate --labels`"
        )
        raise ImageError(path, "wrong-size", detail)
    header = inspect(path)
    if header.written_as != "labels":
        problem = _BITS if header.dtype == bool else _label_problem(labels)
        if problem:
            raise ImageError(path, "labels", problem)
    return labels.astype(np.int32)


def write_labels(path: Path, labels: np.ndarray) -> None:
    """Write a label image as compressed TIFF; the file appears whole or not at all.

    Parameters
    ----------
    path : Path
    labels : numpy.ndarray
        (H, W) integers, 0 is background; stored as uint16, or uint32 where they need it.
    """
    dtype = np.uint16 if labels.max(initial=0) <= np.iinfo(np.uint16).max else np.uint32
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary,
            labels.astype(dtype),
            compression="zlib",
            photometric="minisblack",
            software=_LABELS,
        )


def write_copy(path: Path, image: np.ndarray) -> None:
    """Write the 8-bit copy of one channel as PNG; the file appears whole or not at all.

    Parameters
    ----------
    path : Path
    image : numpy.ndarray
        (H, W) uint8.
    """
    if image.ndim != 2 or image.dtype != np.uint8:
        raise ValueError(f"an 8-bit copy is (H, W) uint8, not {image.shape} {image.dtype}")
    data = imagecodecs.png_encode(np.ascontiguousarray(image))
    with replacing(path) as temporary:
        temporary.write_bytes(data[:_PNG_HEADER] + _png_text(_COPY) + data[_PNG_HEADER:])


# -- any file ----------------------------------------------------------------------------------


def _read(path: Path) -> np.ndarray:
    """Read all channels of a file, (C, H, W)."""
    head = _head(path)
    if _format(path, head) == "png":
        stack = _read_png(path, head)
    else:
        with open_tiff(path) as tiff:
            series = channel_series(path, tiff)
            stack = decode(path, series, plane_shape(path, series))
    return _usable_values(path, stack)


def _head(path: Path) -> bytes:
    """Read the first bytes of a file."""
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except FileNotFoundError:
        raise MissingImage(path) from None
    except OSError as error:
        raise ImageError(path, "unreadable", f"cannot be opened: {error.strerror}") from None


def _format(path: Path, head: bytes) -> Literal["tiff", "png"]:
    """Distinguish TIFF from PNG by the first bytes; the error says what else the file is."""
    if head.startswith(_TIFF):
        return "tiff"
    if head.startswith(_PNG):
        return "png"
    if not head:
        raise ImageError(path, "empty", "the file is empty (0 bytes)")
    if not any(head):
        if not any(path.read_bytes()):
            detail = f"no TIFF header, all {path.stat().st_size} bytes are zero; fetch it again"
            raise ImageError(path, "no-header", detail)
        detail = f"no TIFF or PNG header, the first {len(head)} bytes are zero"
        raise ImageError(path, "no-header", detail)
    if all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in head):
        beginning = f"it is a text file that begins with {head[:20].decode()!r}"
    else:
        beginning = f"it begins with the bytes {head[:4].hex(' ')}"
    raise ImageError(path, "not-an-image", f"no TIFF or PNG header, {beginning}")


def _usable_values(path: Path, stack: np.ndarray) -> np.ndarray:
    """Refuse pixels that are not finite grey levels; booleans become 0 and 1."""
    if stack.dtype == bool:
        return stack.astype(np.uint8)
    if stack.dtype.kind not in "uif":
        detail = f"pixels of type {stack.dtype}; integers and floats are read"
        raise ImageError(path, "wrong-type", detail)
    if stack.dtype.kind == "f":
        # Beyond float32 a value becomes infinite as soon as it is corrected.
        wrong = np.count_nonzero(~(np.abs(stack) <= np.finfo(np.float32).max))
        if wrong:
            detail = (
                f"{wrong} of {stack.size} pixels are NaN, infinite or beyond float32; export the "
                "image again"
            )
            raise ImageError(path, "not-finite", detail)
    return stack


def _require_pages(file: ImageFile, pages: int) -> None:
    if pages != file.pages:
        detail = (
            f"holds {counted(pages, 'page', 'pages')} and is named for "
            f"{counted(file.pages, 'channel', 'channels')}; a stack needs one page per channel"
        )
        raise ImageError(file.path, "wrong-pages", detail)


def _require_one_size(files: Sequence[ImageFile], planes: Sequence[np.ndarray]) -> None:
    height, width = planes[0].shape
    for file, plane in zip(files, planes, strict=True):
        if plane.shape != (height, width):
            detail = (
                f"{plane.shape[0]} × {plane.shape[1]} pixels, and another channel of the site, "
                f"{files[0].path}, is {height} × {width}"
            )
            raise ImageError(file.path, "wrong-size", detail)


# -- label images ------------------------------------------------------------------------------


def _label_problem(labels: np.ndarray) -> str:
    """Say why values are no numbers of objects on a background of 0; empty where they are."""
    low, high = labels.min(), labels.max()
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        divided = ", as when numbers are divided by 65535," if low >= 0 and high <= 1 else ""
        return (
            f"a label image with fractions{divided} from {low:g} to {high:g}; save the numbers of "
            "the objects as 16-bit integers"
        )
    if low < 0 or high > np.iinfo(np.int32).max:
        return (
            f"a label image with values from {low:.0f} to {high:.0f}; the background must be 0 and "
            "objects numbered from 1"
        )
    values, areas = np.unique(labels, return_counts=True)
    if values[0] > 0 and areas.max() > labels.size / 2:
        return (
            f"a label image without 0, of which {areas.max() / labels.size:.0%} is "
            f"{values[areas.argmax()]:.0f}; the background must be 0"
        )
    return _object_problem(labels, values[values > 0], areas[values > 0])


def _object_problem(labels: np.ndarray, numbers: np.ndarray, areas: np.ndarray) -> str:
    """Say why the pixels above 0 are no objects, each with its number."""
    if len(numbers) == 1:
        parts = ndimage.label(labels > 0, np.ones((3, 3)))[1]
        if parts > 1 or numbers[0] in _WHITE:
            return (
                f"a mask and not a label image: 0 and {numbers[0]:.0f} are its only values, in "
                f"{counted(parts, 'object', 'objects')}; {_NUMBER_OBJECTS}"
            )
    single = np.count_nonzero(areas == 1)
    if single > len(areas) / 2:
        return (
            f"{single} of {counted(len(areas), 'object has', 'objects have')} one pixel: centres "
            "and not outlines; save outlines, or write the centres to inputs/locations"
        )
    return ""


# -- PNG ---------------------------------------------------------------------------------------


def _read_png(path: Path, head: bytes) -> np.ndarray:
    """Read a grey PNG, (1, H, W)."""
    _png_info(path, head)
    try:
        return imagecodecs.png_decode(path.read_bytes())[None]
    except Exception as error:  # libpng's errors; each means a damaged file
        detail = f"the PNG is truncated or damaged ({error})"
        raise ImageError(path, "damaged", detail) from error


def _png_info(path: Path, head: bytes) -> ImageInfo:
    """Read the first chunk of a PNG, and whether it is a copy of this program."""
    if len(head) < _PNG_HEADER:
        detail = f"the PNG header needs {_PNG_HEADER} bytes and {len(head)} are there"
        raise ImageError(path, "truncated", detail)
    width, height, bits, colour = struct.unpack(">IIBB", head[16:26])
    if colour != 0:
        detail = f"a colour PNG (colour type {colour}); save each channel as a grey image"
        raise ImageError(path, "colour", detail)
    if bits < 8:
        raise ImageError(path, "wrong-type", f"a PNG of {bits} bits a pixel; 8 or 16 are read")
    dtype = np.dtype(np.uint8 if bits == 8 else np.uint16)
    written_as: Literal["", "copy"] = "copy" if _png_text(_COPY) in head else ""
    return ImageInfo((height, width), 1, dtype, None, "YX", written_as)


def _png_text(name: str) -> bytes:
    """Make the chunk of a PNG that names the software which wrote it."""
    body = b"tEXt" + b"Software\0" + name.encode("latin-1")
    length, checksum = len(body) - 4, zlib.crc32(body)
    return struct.pack(">I", length) + body + struct.pack(">I", checksum)
