"""Segmentation of nuclei: Otsu's threshold, holes filled, touching nuclei split by a watershed.

The segmenter ``otsu`` is registered as plugins are; another one is any function with the same
arguments. One set of constants serves all images: lengths are relative to the typical diameter of
the objects above Otsu's threshold, so that neither pixel size nor bit depth has to be given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from deepprofiler.errors import PluginError
from deepprofiler.imaging.imaging_settings import Border
from deepprofiler.registry import SEGMENTERS

_SMOOTHING = 1.0  # pixels
# Noise and slow gradients, cut in two by Otsu, differ by less than 3 standard deviations of their
# darker part; nuclei and background by 4.5 and more in the images of tests/imaging.
_LEAST_CONTRAST = 3.5
# A pixel that may belong to a nucleus is brighter, above the background, than this share of Otsu's
# threshold, and than this share of the mean around it; the mean is taken over so many diameters.
_SHARE_OF_THRESHOLD = 0.4
_SHARE_OF_SURROUNDING = 0.9
_SURROUNDING = 0.75
# Seeds lie in what is brighter than the mean closer around, so that a bright nucleus beside a dim
# one gets its own. Depth below the shape's edge is smoothed; two seeds are separated by a neck
# that is this much less deep than both. All three are shares of a typical diameter.
_SEED_SURROUNDING = 0.5
_SEED_SMOOTHING = 0.05
_NECK = 0.05
# A pixel belongs to its nucleus if it is brighter than this share of the nucleus's own mean: the
# outline of a bright nucleus is not drawn in its glare, nor that of a dim one omitted.
_SHARE_OF_OWN_MEAN = 0.5
# A nucleus is so many times brighter than the rim just outside of it, which a lump of stained
# cytoplasm is not; the rim's width is a share of a typical diameter.
_LEAST_ABOVE_RIM = 2.0
_RIM = 0.25
# Shares of a typical diameter: the size limits where none are given.
_SMALLEST = 0.4
_LARGEST = 3.0


def segment(
    image: np.ndarray,
    segmenter: str,
    params: Mapping[str, Any] | None = None,
    *,
    min_diameter: float | None,
    max_diameter: float | None,
    border: Border,
) -> np.ndarray:
    """Find the nuclei in one image with the segmenter of a name.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W), any numeric type.
    segmenter : str
        Registered name.
    params : mapping, optional
        Values of the segmenter's own parameters.
    min_diameter, max_diameter : float or None
        Size limits in pixels, passed to a segmenter that has this parameter.
    border : {"drop", "keep"}
        What to do with nuclei that touch the image's edge, passed likewise.

    Returns
    -------
    numpy.ndarray
        (H, W) integers; 0 is background.

    Raises
    ------
    PluginError
        The segmenter does not exist, fails, or returns something else.
    """
    labels: np.ndarray = SEGMENTERS.build(
        segmenter,
        image,
        params=params,
        min_diameter=min_diameter,
        max_diameter=max_diameter,
        border=border,
    )
    _require_labels(labels, image.shape, segmenter)
    return labels


@SEGMENTERS.register
def otsu(
    image: np.ndarray,
    *,
    min_diameter: float | None = None,
    max_diameter: float | None = None,
    border: Border = "drop",
) -> np.ndarray:
    """Find the nuclei in one image of the DNA channel.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W), bright nuclei on dark background, any numeric type.
    min_diameter, max_diameter : float, optional
        Pixels; objects whose area is that of a smaller or larger disk are left out. By default
        0.4 and 3 times the typical diameter in this image; a typical diameter beyond a given
        limit is taken to be that limit.
    border : {"drop", "keep"}
        What to do with nuclei that touch the image's edge.

    Returns
    -------
    numpy.ndarray
        (H, W) int32; 0 is background, nuclei are numbered from 1 in reading order. All 0 where
        nothing stands out from the background.
    """
    from skimage.filters import threshold_otsu

    smooth = ndimage.gaussian_filter(image.astype(np.float64), _SMOOTHING)
    if smooth.min() == smooth.max():
        return np.zeros(image.shape, dtype=np.int32)
    threshold = threshold_otsu(smooth)
    bright = smooth > threshold
    dark = smooth[~bright]
    if smooth[bright].mean() - dark.mean() < _LEAST_CONTRAST * dark.std():
        return np.zeros(image.shape, dtype=np.int32)
    diameter = _typical_diameter(ndimage.binary_fill_holes(bright))
    diameter = float(np.clip(diameter, min_diameter or 0.0, max_diameter or np.inf))
    background = np.median(dark)
    signal = smooth - background
    surrounding = ndimage.gaussian_filter(signal, _SURROUNDING * diameter)
    mask = signal > _SHARE_OF_THRESHOLD * (threshold - background)
    mask &= signal > _SHARE_OF_SURROUNDING * surrounding
    mask = ndimage.binary_fill_holes(ndimage.binary_opening(mask))
    labels = _trim(_split(mask, signal, diameter), signal)
    labels = _drop_lumps(labels, signal, diameter)
    smallest = _SMALLEST * diameter if min_diameter is None else min_diameter
    largest = _LARGEST * diameter if max_diameter is None else max_diameter
    return _select(labels, smallest, largest, border)


def centers(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre and area of each object.

    Parameters
    ----------
    labels : numpy.ndarray
        (H, W) integers, 0 is background.

    Returns
    -------
    x, y : numpy.ndarray
        (N,) float64 pixels, means of the objects' pixels, in the order of the labels.
    area : numpy.ndarray
        (N,) int64 pixels.
    """
    rows, columns = np.nonzero(labels)
    _, position = np.unique(labels[rows, columns], return_inverse=True)
    area = np.bincount(position)
    x = np.bincount(position, weights=columns) / area
    y = np.bincount(position, weights=rows) / area
    return x, y, area


def _require_labels(labels: Any, shape: tuple[int, ...], segmenter: str) -> None:
    """Refuse what a segmenter returned where it is not a label image of that shape."""
    if not isinstance(labels, np.ndarray):
        returned = f"a {type(labels).__name__}"
    elif labels.dtype.kind not in "iu" or labels.shape != shape:
        returned = f"{labels.dtype} of shape {labels.shape}"
    elif labels.min(initial=0) < 0:
        returned = f"a label {labels.min()}"
    else:
        return
    raise PluginError(
        f"segmenter `{segmenter}` returned {returned}; it must return an array of the image's "
        f"shape {shape} with integers: 0 for background, and a number above 0 for each nucleus"
    )


def _typical_diameter(mask: np.ndarray) -> float:
    """Twice the greatest depth of a typical object, touching others or not, in pixels.

    Half of the area of all objects lies in deeper ones.
    """
    from skimage.feature import peak_local_max

    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), _SMOOTHING)
    objects, _ = ndimage.label(mask)
    peaks = peak_local_max(depth, min_distance=2, labels=objects, exclude_border=False)
    depths = np.sort(depth[tuple(peaks.T)])
    depths = depths[depths > 1.5]
    if not len(depths):
        return 4.0
    area = np.cumsum(depths**2)
    return 2 * float(depths[np.searchsorted(area, area[-1] / 2)])


def _split(mask: np.ndarray, signal: np.ndarray, diameter: float) -> np.ndarray:
    """Split objects at the necks of their shape and at dim lines, (H, W) int32."""
    from skimage.morphology import reconstruction
    from skimage.segmentation import watershed

    surrounding = ndimage.gaussian_filter(signal, _SEED_SURROUNDING * diameter)
    cores = ndimage.binary_fill_holes(mask & (signal > surrounding))
    depth = ndimage.distance_transform_edt(cores)
    depth = ndimage.gaussian_filter(depth, _SEED_SMOOTHING * diameter)
    neck = _NECK * diameter
    # Tops that rise by at least a neck's depth above the pass to any higher top.
    tops = depth - reconstruction(depth - neck, depth) > neck * (1 - 1e-6)
    seeds, _ = ndimage.label(tops & mask)
    labels: np.ndarray = watershed(-depth, seeds, mask=mask)
    return labels


def _trim(labels: np.ndarray, signal: np.ndarray) -> np.ndarray:
    """Remove pixels that are dim for their own nucleus; pieces that fall apart become objects."""
    from skimage.measure import label

    mean = _mean_of_each(labels, signal, labels.max() + 1)
    kept = ndimage.binary_fill_holes((labels > 0) & (signal > _SHARE_OF_OWN_MEAN * mean[labels]))
    trimmed: np.ndarray = label(np.where(kept, labels, 0), connectivity=1)
    return trimmed


def _drop_lumps(labels: np.ndarray, signal: np.ndarray, diameter: float) -> np.ndarray:
    """Remove objects that are hardly brighter than what is directly around them."""
    from skimage.segmentation import expand_labels

    rims = np.where(labels > 0, 0, expand_labels(labels, max(2.0, _RIM * diameter)))
    rim, inside = (_mean_of_each(part, signal, labels.max() + 1) for part in (rims, labels))
    return np.where((inside > _LEAST_ABOVE_RIM * rim)[labels], labels, 0)


def _mean_of_each(labels: np.ndarray, signal: np.ndarray, count: int) -> np.ndarray:
    """Mean signal under each label 0 … count − 1; 0 where a label has no pixel."""
    pixels = np.bincount(labels.ravel(), minlength=count)
    sums = np.bincount(labels.ravel(), weights=signal.ravel(), minlength=count)
    means: np.ndarray = sums / np.maximum(pixels, 1)
    return means


def _select(labels: np.ndarray, smallest: float, largest: float, border: Border) -> np.ndarray:
    """Keep objects of the right size and place, numbered in reading order, (H, W) int32."""
    area = np.bincount(labels.ravel())
    keep = (area >= np.pi / 4 * smallest**2) & (area <= np.pi / 4 * largest**2)
    keep[0] = False
    if border == "drop":
        edges = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
        keep[np.concatenate(edges)] = False
    present, first = np.unique(labels, return_index=True)
    order = present[np.argsort(first)]
    order = order[keep[order]]
    numbers = np.zeros(len(area), dtype=np.int32)
    numbers[order] = np.arange(1, len(order) + 1)
    selected: np.ndarray = numbers[labels]
    return selected
