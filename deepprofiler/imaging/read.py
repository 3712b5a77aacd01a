"""Image files to arrays (H, W, C), as stored: never rescaled, never reordered by a guess.

What counts as a channel: every page of a TIFF file, every plane of an axis that tifffile calls
C (channel), I (sequence) or Q (unknown), and every plane of a colour file whose samples are stored
as separate planes; page k is channel k. A stack along Z or T, and colour samples that are
interleaved pixel by pixel, are refused, since nothing tells which of their values are meant.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

from deepprofiler.errors import DataError
from deepprofiler.files import replacing
from deepprofiler.imaging import tiff

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
    with tiff.open_tiff(path) as opened:
        series = tiff.channel_series(path, opened)
        height, width = tiff.plane_shape(series)
        pages = sum(one.size // (height * width) for one in series)
        axes = "YX" if pages == 1 else series[0].axes if len(series) == 1 else "IYX"
        return ImageInfo((height, width), pages, series[0].dtype, tiff.pixel_size(opened), axes)


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
        with tiff.open_tiff(path) as opened:
            series = tiff.channel_series(path, opened)
            shape = tiff.plane_shape(series)
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
