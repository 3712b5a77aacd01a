"""Crops: square windows of an image, around cells or as views of the whole field.

The functions are in the order of their use: where views lie, which crops overlap the image, two
ways to cut (from the nearest pixel, or resampled as the original DeepProfiler does), blanking of
neighbouring cells, and the 8-bit form in which crops are stored.
"""

from __future__ import annotations

import math

import numpy as np

from deepprofiler.errors import DataError


def grid_views(
    shape: tuple[int, int], size: int, coverage: float, rng: np.random.Generator
) -> np.ndarray:
    """Lay views over an image, row by row.

    ⌈H/S⌉ rows of ⌈W/S⌉ views are spaced evenly from border to border: every pixel is in a view,
    and in just one where S divides H and W. Of these n views ⌈coverage · n⌉ are kept, drawn at
    random, in their order. The places are those of the original DeepProfiler's ``full_image``
    mode.

    Parameters
    ----------
    shape : tuple of int
        Height H and width W of the image in pixels.
    size : int
        Side S of a view in pixels.
    coverage : float
        Share of the views that are kept, above 0 and at most 1.
    rng : numpy.random.Generator
        Draws those that are kept.

    Returns
    -------
    numpy.ndarray
        (n, 2) float64, x and y of the centres for :func:`cut`. A view whose first column is l has
        x = l + S/2.

    Raises
    ------
    DataError
        The image is smaller than a view.
    """
    _require_room(shape, size)
    y, x = (np.linspace(size / 2, side - size / 2, math.ceil(side / size)) for side in shape)
    views = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    kept = rng.choice(len(views), _rounded_share(coverage, len(views)), replace=False)
    return views[np.sort(kept)]


def random_views(
    shape: tuple[int, int], size: int, coverage: float, rng: np.random.Generator
) -> np.ndarray:
    """Lay views at random, wholly inside an image, each place as probable as any other.

    Their number is such that their areas add up to ``coverage`` times the image's, rounded up;
    they may overlap.

    Parameters
    ----------
    shape : tuple of int
        Height H and width W of the image in pixels.
    size : int
        Side S of a view in pixels.
    coverage : float
        Area of all views as a share of the image's, above 0.
    rng : numpy.random.Generator
        Draws the places.

    Returns
    -------
    numpy.ndarray
        (n, 2) float64, x and y as those of :func:`grid_views`.

    Raises
    ------
    DataError
        The image is smaller than a view.
    """
    _require_room(shape, size)
    height, width = shape
    count = _rounded_share(coverage, height * width / size**2)
    corners = rng.integers(0, (width - size + 1, height - size + 1), (count, 2))
    return corners + size / 2


def overlaps(centers: np.ndarray, shape: tuple[int, int], size: int) -> np.ndarray:
    """Whether each crop holds at least one pixel of the image.

    Parameters
    ----------
    centers : numpy.ndarray
        (N, 2) x and y in pixels; NaN and infinite values count as off the image.
    shape : tuple of int
        Height and width of the image.
    size : int
        Side of a crop in pixels.

    Returns
    -------
    numpy.ndarray
        (N,) bool.
    """
    corners = _corners(centers, size)
    height, width = shape
    # Comparisons with NaN are false.
    inside: np.ndarray = np.all((corners > -size) & (corners < (width, height)), axis=1)
    return inside


def cut(image: np.ndarray, centers: np.ndarray, size: int) -> np.ndarray:
    """Cut one crop around each centre, in whole pixels.

    Pixel centres lie at whole numbers, the first at 0; the crop's first row is
    ⌊y − size/2 + ½⌋ and its first column ⌊x − size/2 + ½⌋.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, C).
    centers : numpy.ndarray
        (N, 2) x and y in pixels; every crop must overlap the image (see :func:`overlaps`).
    size : int
        Side S of a crop in pixels.

    Returns
    -------
    numpy.ndarray
        (N, S, S, C) in the image's type; 0 outside of the image.

    Raises
    ------
    ValueError
        A crop does not overlap the image.
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


def cut_resampled(
    image: np.ndarray, centers: np.ndarray, size: int, *, margin: int = 0, nearest: bool = False
) -> np.ndarray:
    """Cut one crop around each centre, resampled as the original DeepProfiler does.

    Row i samples the image at y₁(H − 1) + i·S(H − 1)/(H(S − 1)), where y₁ = (y − S/2)/H, and
    columns likewise: about half a pixel beside the centre, and slightly shrunk. This is what
    ``tf.image.crop_and_resize`` makes of the original's boxes.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, C).
    centers : numpy.ndarray
        (N, 2) x and y in pixels.
    size : int
        Side S of a crop in pixels, at least 2.
    margin : int
        Further rows and columns, even: half of them before the first and half after the last, in
        the same steps.
    nearest : bool
        Take the nearest pixel instead of a bilinear mean, for label images.

    Returns
    -------
    numpy.ndarray
        (N, S + margin, S + margin, C) float32, or the image's type with ``nearest``; 0 outside of
        the image's outermost pixel centres.
    """
    height, width, channels = image.shape
    steps = np.arange(-(margin // 2), size + margin // 2).astype(np.float32)
    dtype = image.dtype if nearest else np.float32
    crops = np.zeros((len(centers), len(steps), len(steps), channels), dtype=dtype)
    sample = _sample_nearest if nearest else _sample_bilinear
    rows = _sample_positions(centers[:, 1], height, size, steps)
    columns = _sample_positions(centers[:, 0], width, size, steps)
    for crop, y, x in zip(crops, rows, columns, strict=True):
        inside_y, inside_x = (y >= 0) & (y <= height - 1), (x >= 0) & (x <= width - 1)
        if inside_y.any() and inside_x.any():
            crop[np.ix_(inside_y, inside_x)] = sample(image, y[inside_y], x[inside_x])
    return crops


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

    Raises
    ------
    ValueError
        The shapes do not fit each other.
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


def _require_room(shape: tuple[int, int], size: int) -> None:
    if min(shape) < size:
        raise DataError(
            f"the image is {shape[0]} × {shape[1]} pixels, smaller than a view of {size} × {size}"
        )


def _rounded_share(coverage: float, number: float) -> int:
    """Round a share of a number of views up; at least one."""
    # 0.07 · 100 is a little more than 7 in binary, and still means 7.
    return max(1, math.ceil(coverage * number - 1e-9))


def _corners(centers: np.ndarray, size: int) -> np.ndarray:
    """First column and row of each crop, (N, 2) whole numbers as float64."""
    return np.floor(np.asarray(centers, dtype=np.float64).reshape(-1, 2) - size / 2 + 0.5)


def _sample_positions(centers: np.ndarray, length: int, size: int, steps: np.ndarray) -> np.ndarray:
    """Where the rows, or columns, of each crop lie in an image of that length: (N, M) float32.

    Every operation is rounded to float32 as in TensorFlow's kernel.
    """
    centers = np.asarray(centers, dtype=np.float64)
    first = (centers - size / 2).astype(np.float32) / np.float32(length)
    last = (centers + size / 2).astype(np.float32) / np.float32(length)
    step = (last - first) * np.float32(length - 1) / np.float32(size - 1)
    positions: np.ndarray = first[:, None] * np.float32(length - 1) + steps * step[:, None]
    return positions


def _sample_bilinear(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Sample at the crossings of some rows and columns, (len(y), len(x), C) float32."""
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    bottom, right = np.ceil(y).astype(np.int64), np.ceil(x).astype(np.int64)
    # Only this window is needed as float32.
    window = image[top[0] : bottom[-1] + 1, left[0] : right[-1] + 1].astype(np.float32)
    down = (y - top.astype(np.float32))[:, None, None]
    across = (x - left.astype(np.float32))[:, None]
    top, bottom, left, right = top - top[0], bottom - top[0], left - left[0], right - left[0]

    def interpolated(rows: np.ndarray) -> np.ndarray:
        before, after = window[np.ix_(rows, left)], window[np.ix_(rows, right)]
        between: np.ndarray = before + (after - before) * across
        return between

    above = interpolated(top)
    samples: np.ndarray = above + (interpolated(bottom) - above) * down
    return samples


def _sample_nearest(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Take the pixels nearest to the crossings, in the image's type."""
    return image[np.ix_(np.rint(y).astype(np.int64), np.rint(x).astype(np.int64))]
