"""Square windows around cells, cut from the nearest pixel, with zeros beyond the image."""

from __future__ import annotations

import numpy as np


def cut(image: np.ndarray, centers: np.ndarray, size: int) -> np.ndarray:
    """Cut one crop around each centre.

    Pixel centres lie at whole numbers, the first at 0; the crop's first row is
    ⌊y − size/2 + ½⌋ and its first column ⌊x − size/2 + ½⌋.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, C).
    centers : numpy.ndarray
        (N, 2) x and y in pixels; every box must overlap the image (see :func:`overlaps`).
    size : int
        Crop side S in pixels.

    Returns
    -------
    numpy.ndarray
        (N, S, S, C) in the image's type; 0 outside of the image.

    Raises
    ------
    ValueError
        A box does not overlap the image.
    """
    height, width, channels = image.shape
    inside = overlaps(centers, (height, width), size)
    if not inside.all():
        first = int(np.flatnonzero(~inside)[0])
        raise ValueError(f"the crop of cell {first} at {centers[first]} lies off the image")
    crops = np.zeros((len(inside), size, size, channels), dtype=image.dtype)
    corners = _corners(centers, size).astype(np.int64)
    for crop, (left, top) in zip(crops, corners.tolist(), strict=True):
        rows = slice(max(top, 0), min(top + size, height))
        columns = slice(max(left, 0), min(left + size, width))
        crop[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = (
            image[rows, columns]
        )
    return crops


def overlaps(centers: np.ndarray, shape: tuple[int, int], size: int) -> np.ndarray:
    """Tell which crops hold at least one pixel of the image.

    Parameters
    ----------
    centers : numpy.ndarray
        (N, 2) x and y in pixels; NaN and infinite values count as off the image.
    shape : tuple of int
        Height and width of the image.
    size : int
        Crop side in pixels.

    Returns
    -------
    numpy.ndarray
        (N,) bool.
    """
    corners = _corners(centers, size)
    height, width = shape
    # Comparisons with NaN are false.
    return np.all((corners > -size) & (corners < (width, height)), axis=1)


def mask_neighbours(crops: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Blank the objects that are not the cell's own; background stays.

    A cell's own object is the one nearest to the crop's centre, usually the one that covers it.

    Parameters
    ----------
    crops : numpy.ndarray
        (N, S, S, C).
    labels : numpy.ndarray
        (N, S, S) integers, cut with the same centres; 0 is background.

    Returns
    -------
    numpy.ndarray
        (N, S, S, C), a copy with 0 where another object lies.
    """
    if labels.shape != crops.shape[:3]:
        raise ValueError(f"labels {labels.shape} do not fit crops {crops.shape}")
    count, size = labels.shape[:2]
    if not count:
        return crops.copy()
    offsets = np.arange(size) - size // 2
    distance = np.hypot(offsets[:, None], offsets[None, :])
    nearest = np.where(labels > 0, distance, np.inf).reshape(count, -1).argmin(axis=1)
    own = labels.reshape(count, -1)[np.arange(count), nearest]
    foreign = (labels > 0) & (labels != own[:, None, None])
    return np.where(foreign[..., None], np.zeros((), dtype=crops.dtype), crops)


def quantize(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scale each channel of each crop from its minimum and maximum to 0…255.

    Parameters
    ----------
    crops : numpy.ndarray
        (N, S, S, C), finite values of any numeric type.

    Returns
    -------
    pixels : numpy.ndarray
        (N, S, S, C) uint8, rounded; a constant channel becomes 0.
    minimum, maximum : numpy.ndarray
        (N, C) float32, the values before scaling.
    """
    count, _, _, channels = crops.shape
    pixels = np.empty(crops.shape, dtype=np.uint8)
    minimum = np.empty((count, channels), dtype=np.float32)
    maximum = np.empty((count, channels), dtype=np.float32)
    # Channel by channel: reducing beside a short last axis is ten times slower.
    for channel in range(channels):
        values = crops[..., channel].astype(np.float32)
        low = values.min(axis=(1, 2), keepdims=True)
        high = values.max(axis=(1, 2), keepdims=True)
        span = np.where(high > low, high - low, 1)
        values -= low
        values *= 255 / span
        np.rint(values, out=values)
        pixels[..., channel] = values
        minimum[:, channel] = low[:, 0, 0]
        maximum[:, channel] = high[:, 0, 0]
    return pixels, minimum, maximum


def _corners(centers: np.ndarray, size: int) -> np.ndarray:
    """First column and row of each crop, (N, 2) whole floats."""
    return np.floor(np.asarray(centers, dtype=np.float64).reshape(-1, 2) - size / 2 + 0.5)


_REAL = np.float32


def cut_resampled(
    image: np.ndarray, centers: np.ndarray, size: int, *, margin: int = 0, nearest: bool = False
) -> np.ndarray:
    """Cut one crop around each centre.

    Row i samples the image at y₁(H − 1) + i·S(H − 1)/(H(S − 1)), where y₁ = (y − S/2)/H, and
    columns likewise: about half a pixel beside the centre, and slightly shrunk.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, C).
    centers : numpy.ndarray
        (N, 2) x and y in pixels.
    size : int
        S, at least 2.
    margin : int
        Further rows and columns, even: half of them before the first and half after the last, in
        the same steps.
    nearest : bool
        Take the nearest pixel instead, for images of labels.

    Returns
    -------
    numpy.ndarray
        (N, S + margin, S + margin, C) float32, or the image's type with ``nearest``; 0 outside of
        the image's outermost pixel centres.
    """
    height, width, channels = image.shape
    steps = np.arange(-(margin // 2), size + margin // 2).astype(_REAL)
    kind = image.dtype if nearest else _REAL
    crops = np.zeros((len(centers), len(steps), len(steps), channels), dtype=kind)
    rows = _positions(centers[:, 1], height, size, steps)
    columns = _positions(centers[:, 0], width, size, steps)
    for crop, y, x in zip(crops, rows, columns, strict=True):
        inside_y, inside_x = (y >= 0) & (y <= height - 1), (x >= 0) & (x <= width - 1)
        if inside_y.any() and inside_x.any():
            sampled = _nearest if nearest else _bilinear
            crop[np.ix_(inside_y, inside_x)] = sampled(image, y[inside_y], x[inside_x])
    return crops


def _positions(centers: np.ndarray, length: int, size: int, steps: np.ndarray) -> np.ndarray:
    """Where each crop's rows, or columns, lie in the image: (N, M) float32."""
    centers = np.asarray(centers, dtype=np.float64)
    first = (centers - size / 2).astype(_REAL) / _REAL(length)
    last = (centers + size / 2).astype(_REAL) / _REAL(length)
    step = (last - first) * _REAL(length - 1) / _REAL(size - 1)
    return first[:, None] * _REAL(length - 1) + steps * step[:, None]


def _bilinear(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Sample at the crossings of some rows and columns."""
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    bottom, right = np.ceil(y).astype(np.int64), np.ceil(x).astype(np.int64)
    # Only this window is needed, and made float32.
    window = image[top[0] : bottom[-1] + 1, left[0] : right[-1] + 1].astype(_REAL)
    down, across = (y - top.astype(_REAL))[:, None, None], (x - left.astype(_REAL))[:, None]
    top, bottom, left, right = top - top[0], bottom - top[0], left - left[0], right - left[0]

    def between(rows: np.ndarray) -> np.ndarray:
        before, after = window[np.ix_(rows, left)], window[np.ix_(rows, right)]
        return before + (after - before) * across

    above = between(top)
    return above + (between(bottom) - above) * down


def _nearest(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return image[np.ix_(np.rint(y).astype(np.int64), np.rint(x).astype(np.int64))]
