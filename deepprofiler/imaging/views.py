"""Where the views of a whole field lie: square windows that need no cells."""

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
        (n, 2) float64, x and y of the centres for :func:`deepprofiler.imaging.crop.cut`. A view
        whose first column is l has x = l + S/2.

    Raises
    ------
    DataError
        The image is smaller than a view.
    """
    _require_room(shape, size)
    y, x = (np.linspace(size / 2, side - size / 2, math.ceil(side / size)) for side in shape)
    views = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    kept = rng.choice(len(views), _number(coverage, len(views)), replace=False)
    return views[np.sort(kept)]


def random_views(
    shape: tuple[int, int], size: int, coverage: float, rng: np.random.Generator
) -> np.ndarray:
    """Lay views wholly inside an image, each place as probable as any other.

    There are as many as have together ``coverage`` times the image's area, rounded up; they may
    overlap.

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
    count = _number(coverage, height * width / size**2)
    corners = rng.integers(0, (width - size + 1, height - size + 1), (count, 2))
    return corners + size / 2


def _require_room(shape: tuple[int, int], size: int) -> None:
    if min(shape) < size:
        raise DataError(
            f"the image is {shape[0]} × {shape[1]} pixels, smaller than a view of {size} × {size}"
        )


def _number(coverage: float, whole: float) -> int:
    """Round a share of so many views up; at least one."""
    # 0.07 · 100 is a little more than 7 in binary, and still means 7.
    return max(1, math.ceil(coverage * whole - 1e-9))
