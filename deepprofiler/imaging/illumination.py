"""Illumination of a plate: measured over its sites, divided out of images, kept in a file.

The method is that of Singh et al. (2014): the mean of all images of a channel, smoothed, is the
lamp's shape. The percentiles of intensity are measured in the same pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import scipy.ndimage

from deepprofiler.errors import DataError, require_system
from deepprofiler.files import open_versioned, replacing
from deepprofiler.imaging.intensities import Histogram

FORMAT = "deepprofiler-illumination"
VERSION = 3
_READABLE = range(2, VERSION + 1)
_ADVICE = "delete it and run `prepare`"
# The share of darkest pixels of a smoothed mean that does not decide what a function of 1 means.
_ROBUST_MINIMUM = 2.0  # percent
# No lamp fades so much: a larger ratio means that a channel has no background to divide by.
_LARGEST_RATIO = 1000.0


@dataclass(frozen=True)
class Illumination:
    """What one plate's images have in common.

    Attributes
    ----------
    channels : tuple of str
        C names.
    function : numpy.ndarray
        (H, W, C) float32, minimum exactly 1 in each channel.
    percentiles : numpy.ndarray
        (C, 2) float64: grey levels at the two ranks over all pixels as stored.
    percentile_ranks : tuple of float
        The two ranks, in percent.
    mean_image : numpy.ndarray
        (H / down_scale, W / down_scale, C) float32, mean over the sites.
    count : int
        Number of sites.
    flat : tuple of str
        Channels left uncorrected (their function is 1 everywhere), since their robust minimum is
        not above 0, or so small that dividing by it means nothing.
    failed : tuple of (str, str)
        Well and site of those that could not be read.
    percentiles_of : {"plate", "image"}
        Whether the 8-bit copies lie between ``percentiles`` or between those of each image.
    corrected : bool
        Whether the 8-bit copies are divided by the function.
    clipped : numpy.ndarray or None
        (C,) share of pixels outside the percentiles in the 8-bit copies; None if none were made.
    made_from : str
        What the plate was measured on, as a JSON text of the caller; empty in files of version 2.
    """

    channels: tuple[str, ...]
    function: np.ndarray
    percentiles: np.ndarray
    percentile_ranks: tuple[float, float]
    mean_image: np.ndarray
    count: int
    flat: tuple[str, ...]
    failed: tuple[tuple[str, str], ...] = ()
    percentiles_of: str = "plate"
    corrected: bool = True
    clipped: np.ndarray | None = None
    made_from: str = ""


# -- measuring ---------------------------------------------------------------------------------


class IlluminationStatistics:
    """Sums and histograms over the sites of one plate; parts of a plate can be merged.

    Parameters
    ----------
    channels : sequence of str
        C names.
    down_scale : int
        Factor by which the mean image is reduced.
    """

    def __init__(self, channels: Sequence[str], down_scale: int):
        self.channels = tuple(channels)
        self.down_scale = down_scale
        self.count = 0
        self._sum = np.zeros((0, 0, len(self.channels)))
        self._histograms = [Histogram() for _ in self.channels]
        self._first = ""

    def add(self, image: np.ndarray, name: str = "") -> None:
        """Add one site.

        Parameters
        ----------
        image : numpy.ndarray
            (H, W, C), integers or finite floats.
        name : str
            What to call the site in an error, such as a file's path.

        Raises
        ------
        DataError
            The size differs from that of the sites before, or the image has another number of
            channels.
        """
        if image.ndim != 3 or image.shape[2] != len(self.channels):
            raise DataError(
                f"{name}: shape {image.shape} where {len(self.channels)} channels are expected"
            )
        self._require_shape(image.shape, name)
        self._sum += image
        for channel, histogram in enumerate(self._histograms):
            histogram.add(image[:, :, channel])
        self.count += 1

    def merge(self, other: IlluminationStatistics) -> None:
        """Add the sites of another part of the same plate.

        Parameters
        ----------
        other : IlluminationStatistics
            Of the same channels and ``down_scale``.

        Raises
        ------
        DataError
            The two parts hold images of different sizes.
        """
        if (self.channels, self.down_scale) != (other.channels, other.down_scale):
            raise ValueError("statistics of different channels or down_scale cannot be merged")
        if not other.count:
            return
        self._require_shape(other._sum.shape, other._first)
        self._sum += other._sum
        self.count += other.count
        for histogram, added in zip(self._histograms, other._histograms, strict=True):
            histogram.merge(added)

    def finish(self, median_size: int, percentiles: tuple[float, float]) -> Illumination:
        """Compute the correction functions and the percentiles.

        Parameters
        ----------
        median_size : int
            Diameter of the median's disk, in pixels of the down-scaled mean.
        percentiles : tuple of float
            Lower and upper rank in percent.

        Returns
        -------
        Illumination

        Raises
        ------
        DataError
            No site was added.
        """
        if not self.count:
            raise DataError("no site of the plate could be read: it has no illumination function")
        height, width, _ = self._sum.shape
        reduced = [max(round(length / self.down_scale), 1) for length in (height, width)]
        # Resizing is linear: the reduced mean is the mean of the reduced images.
        mean = _resize(self._sum / self.count, (reduced[0], reduced[1]))
        function = np.ones(self._sum.shape, dtype=np.float32)
        flat = []
        for channel, name in enumerate(self.channels):
            plane = correction_function(mean[:, :, channel], median_size, (height, width))
            if plane is None:
                flat.append(name)
            else:
                function[:, :, channel] = plane
        limits = [
            [histogram.percentile(rank) for rank in percentiles] for histogram in self._histograms
        ]
        return Illumination(
            channels=self.channels,
            function=function,
            percentiles=np.array(limits),
            percentile_ranks=(float(percentiles[0]), float(percentiles[1])),
            mean_image=mean.astype(np.float32),
            count=self.count,
            flat=tuple(flat),
        )

    def _require_shape(self, shape: tuple[int, ...], name: str) -> None:
        """Take the first site's shape, and refuse another one after it."""
        if not self.count:
            self._sum = np.zeros(shape)
            self._first = name
        elif shape != self._sum.shape:
            height, width, _ = self._sum.shape
            raise DataError(
                f"a plate's images must have one size: {self._first} is {height} × {width} "
                f"pixels, {name} is {shape[0]} × {shape[1]}"
            )


def correction_function(
    mean: np.ndarray, median_size: int, shape: tuple[int, int]
) -> np.ndarray | None:
    """Compute the correction function of one channel.

    Parameters
    ----------
    mean : numpy.ndarray
        (h, w) mean of the channel's images, reduced.
    median_size : int
        Diameter of the median's disk, in pixels of ``mean``.
    shape : tuple of int
        Height and width of the function.

    Returns
    -------
    numpy.ndarray or None
        (H, W) float64, minimum exactly 1; None where the robust minimum is not above a thousandth
        of the maximum, as in an empty channel or one with negative values.
    """
    from skimage.morphology import disk

    footprint = disk(median_size / 2)
    smooth = scipy.ndimage.median_filter(mean, footprint=footprint, mode="nearest")
    smooth = _resize(smooth, shape)
    floor = np.percentile(smooth, _ROBUST_MINIMUM)
    if floor <= smooth.max() / _LARGEST_RATIO:
        return None
    function: np.ndarray = np.maximum(smooth, floor) / floor
    return function


def _resize(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resample an image (h, w) or (h, w, C) to ``shape``, smoothed first where it shrinks."""
    from skimage.transform import resize

    shrinks = shape[0] < image.shape[0] or shape[1] < image.shape[1]
    resized: np.ndarray = resize(
        image, shape, mode="reflect", anti_aliasing=shrinks, preserve_range=True
    )
    return resized


# -- correcting --------------------------------------------------------------------------------


def correct(image: np.ndarray, function: np.ndarray) -> np.ndarray:
    """Divide an image by a correction function.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, C), any numeric type.
    function : numpy.ndarray
        (H, W, C), finite and above 0; see :func:`require_usable`.

    Returns
    -------
    numpy.ndarray
        (H, W, C) float32; where a function is below 1, values beyond the image's type are kept.

    Raises
    ------
    DataError
        The shapes differ.
    """
    if image.shape != function.shape:
        raise DataError(
            f"an image of shape {image.shape} cannot be corrected by a function of shape "
            f"{function.shape}; run `prepare` again"
        )
    corrected: np.ndarray = np.divide(image, function, dtype=np.float32, casting="unsafe")
    return corrected


def require_usable(function: np.ndarray) -> None:
    """Refuse a function that is not finite and above 0 everywhere.

    Parameters
    ----------
    function : numpy.ndarray
        Of any shape; an empty one is usable.

    Raises
    ------
    DataError
        A value is 0, negative, NaN or infinite.
    """
    if not (np.min(function, initial=1) > 0 and np.max(function, initial=1) < np.inf):
        raise DataError("an illumination function must be finite and above 0 everywhere")


# -- files -------------------------------------------------------------------------------------


def save(path: Path, illumination: Illumination) -> None:
    """Write a plate's illumination as HDF5; the file appears whole or not at all.

    Parameters
    ----------
    path : Path
    illumination : Illumination
    """
    text = h5py.string_dtype()
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = VERSION
        for name in ("percentile_ranks", "count", "percentiles_of", "corrected"):
            file.attrs[name] = getattr(illumination, name)
        for name in ("channels", "flat"):
            names = getattr(illumination, name)
            file.attrs.create(name, names, (len(names),), text)
        for name in ("function", "percentiles", "mean_image", "clipped"):
            values = getattr(illumination, name)
            if values is not None:
                file.create_dataset(name, data=values, compression="lzf", shuffle=True)
        failed = illumination.failed
        file.create_dataset("failed", (len(failed), 2), text, data=failed or None)
        # A dataset, since an attribute holds at most 64 kB.
        file.create_dataset("made_from", data=illumination.made_from, dtype=text)


def save_clipped(path: Path, clipped: np.ndarray, failed: Sequence[tuple[str, str]] = ()) -> None:
    """Add to a plate's file how much its 8-bit copies clipped.

    Parameters
    ----------
    path : Path
    clipped : numpy.ndarray
        (C,) share of pixels.
    failed : sequence of (str, str)
        Well and site of those for which no copy could be written.

    Raises
    ------
    DataError
        As for :func:`load`.
    """
    before = load(path)
    clipped = np.asarray(clipped, dtype=np.float64)
    save(path, replace(before, clipped=clipped, failed=(*before.failed, *failed)))


def load(path: Path, *, images: bool = True) -> Illumination:
    """Read a plate's illumination.

    Parameters
    ----------
    path : Path
    images : bool
        Without them, ``function`` and ``mean_image`` stay empty and reading takes no time.

    Returns
    -------
    Illumination

    Raises
    ------
    DataError
        The file does not exist, is damaged, is of another kind or another version, or its
        function is not finite and above 0 everywhere.
    """
    with open_versioned(
        path, FORMAT, versions=_READABLE, advice=_ADVICE, missing="run `prepare`"
    ) as file:
        try:
            illumination = _parse(file, images=images)
        except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
            require_system(path, error)
            raise DataError(f"{path} is damaged ({error}); {_ADVICE}") from None
    try:
        require_usable(illumination.function)
    except DataError as error:
        raise DataError(f"{path}: {error}; {_ADVICE}") from None
    return illumination


def _parse(file: h5py.File, *, images: bool) -> Illumination:
    lower, upper = file.attrs["percentile_ranks"]
    rows = slice(None) if images else slice(0)
    return Illumination(
        channels=tuple(file.attrs["channels"]),
        function=file["function"][rows],
        percentiles=file["percentiles"][:],
        percentile_ranks=(float(lower), float(upper)),
        mean_image=file["mean_image"][rows],
        count=int(file.attrs["count"]),
        flat=tuple(file.attrs["flat"]),
        failed=tuple((well, site) for well, site in file["failed"].asstr()[:].tolist()),
        percentiles_of=str(file.attrs["percentiles_of"]),
        corrected=bool(file.attrs["corrected"]),
        clipped=file["clipped"][:] if "clipped" in file else None,
        made_from=file["made_from"].asstr()[()] if "made_from" in file else "",
    )
