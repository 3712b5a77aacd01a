"""The original DeepProfiler's crop geometry: windows between pixels, sampled bilinearly.

It follows ``tf.image.crop_and_resize`` with boxes in shares of the image's sides, and rounds to
float32 where that does, so that features are those of the original.
"""

from __future__ import annotations

import numpy as np

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
