"""Nuclei of a DNA image: Otsu's threshold, holes filled, touching nuclei split by a watershed.

One set of parameters serves all images. Lengths are relative to the typical diameter of the
objects above Otsu's threshold, so that neither pixel size nor bit depth has to be told.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import ndimage

_SMOOTHING = 1.0  # pixels
# Noise and slow gradients, cut in two by Otsu, differ by less than 3 standard deviations of their
# darker part; nuclei and background by 4.5 and more in the images of tests/imaging.
_LEAST_CONTRAST = 3.5
# A pixel that may belong to a nucleus is brighter, above the background, than this share of Otsu's
# threshold, and than this share of the mean around it; "around" spreads over so many diameters.
_GLOBAL = 0.4
_LOCAL = 0.9
_AROUND = 0.75
# A pixel does belong to its nucleus if it is brighter than this share of the nucleus's own mean:
# the outline of a bright nucleus is not drawn in its glare, nor that of a dim one left out.
_OWN = 0.6
# Of a typical diameter: smoothing before seeds are sought, and the least distance between them.
_SEED_SMOOTHING = 0.1
_SEED_DISTANCE = 0.25
# Of a typical diameter: the size limits where none are given.
_SMALLEST = 0.4
_LARGEST = 3.0


def segment_nuclei(
    image: np.ndarray,
    *,
    min_diameter: float | None = None,
    max_diameter: float | None = None,
    border: Literal["drop", "keep"] = "drop",
) -> np.ndarray:
    """Find the nuclei in one image of the DNA channel.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W), bright nuclei on dark background, any numeric type.
    min_diameter, max_diameter : float, optional
        Pixels; objects whose area is that of a smaller or larger disk are left out. By default
        0.4 and 3 times the typical diameter in this image.
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
    background = np.median(dark)
    signal = smooth - background
    around = ndimage.gaussian_filter(signal, _AROUND * diameter)
    mask = (signal > _GLOBAL * (threshold - background)) & (signal > _LOCAL * around)
    mask = ndimage.binary_fill_holes(ndimage.binary_opening(mask))
    labels = _sharpen(_split(mask, diameter), signal)
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
        (N,) float64, means of the objects' pixels, in the order of the labels.
    area : numpy.ndarray
        (N,) int64 pixels.
    """
    rows, columns = np.nonzero(labels)
    _, position = np.unique(labels[rows, columns], return_inverse=True)
    area = np.bincount(position)
    x = np.bincount(position, weights=columns) / area
    y = np.bincount(position, weights=rows) / area
    return x, y, area


def _typical_diameter(mask: np.ndarray) -> float:
    """Twice the depth of objects, touching or not, such that half of the area lies in deeper."""
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), _SMOOTHING)
    depths = np.sort(depth[_peaks(depth, mask, 2)])
    depths = depths[depths > 1.5]
    if not len(depths):
        return 4.0
    area = np.cumsum(depths**2)
    return 2 * float(depths[np.searchsorted(area, area[-1] / 2)])


def _peaks(height: np.ndarray, mask: np.ndarray, distance: int) -> tuple[np.ndarray, ...]:
    """Positions of local maxima in each object, at least ``distance`` pixels apart."""
    from skimage.feature import peak_local_max

    objects, _ = ndimage.label(mask)
    found = peak_local_max(height, min_distance=distance, labels=objects, exclude_border=False)
    return tuple(found.T)


def _split(mask: np.ndarray, diameter: float) -> np.ndarray:
    """Split objects at the necks of their shape, (H, W) int32."""
    from skimage.segmentation import watershed

    depth = ndimage.distance_transform_edt(mask)
    depth = ndimage.gaussian_filter(depth, _SEED_SMOOTHING * diameter)
    peaks = _peaks(depth, mask, max(1, round(_SEED_DISTANCE * diameter)))
    seeds = np.zeros(mask.shape, dtype=np.int32)
    seeds[peaks] = np.arange(1, len(peaks[0]) + 1)
    return watershed(-depth, seeds, mask=mask)


def _sharpen(labels: np.ndarray, signal: np.ndarray) -> np.ndarray:
    """Give up what is dim for its own nucleus; pieces that fall apart become objects."""
    from skimage.measure import label

    pixels = np.bincount(labels.ravel())
    mean = np.bincount(labels.ravel(), weights=signal.ravel()) / np.maximum(pixels, 1)
    kept = ndimage.binary_fill_holes((labels > 0) & (signal > _OWN * mean[labels]))
    return label(np.where(kept, labels, 0), connectivity=1)


def _select(
    labels: np.ndarray, smallest: float, largest: float, border: Literal["drop", "keep"]
) -> np.ndarray:
    """Keep what has the right size and place, numbered in reading order."""
    area = np.bincount(labels.ravel())
    keep = (area >= np.pi / 4 * smallest**2) & (area <= np.pi / 4 * largest**2)
    keep[0] = False
    if border == "drop":
        edges = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
        keep[np.concatenate(edges)] = False
    found, first = np.unique(labels, return_index=True)
    order = found[np.argsort(first)]
    order = order[keep[order]]
    numbers = np.zeros(len(area), dtype=np.int32)
    numbers[order] = np.arange(1, len(order) + 1)
    return numbers[labels]
